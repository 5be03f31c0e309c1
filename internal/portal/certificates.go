package portal

import (
	"context"
	"encoding/pem"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/veripath/aes-appliance/internal/wire"
)

type issueInput struct{ Body issueBody }

type issueBody struct {
	CommonName         string   `json:"common_name" minLength:"1" maxLength:"64" doc:"A clinician's full name, exactly as the booking app sends it." example:"Doctor Clinician"`
	Org                string   `json:"org,omitempty" maxLength:"64" example:"Wharf Lane Clinic"`
	Country            string   `json:"country,omitempty" minLength:"2" maxLength:"2" example:"GB"`
	CertType           string   `json:"cert_type" enum:"clinician,tls-client,tls-server,tsa,ocsp" example:"clinician"`
	ValidityDays       int      `json:"validity_days,omitempty" minimum:"1" maximum:"3660" doc:"Left out: what is usual for the type." example:"365"`
	GivenName          string   `json:"given_name,omitempty" maxLength:"64"`
	Surname            string   `json:"surname,omitempty" maxLength:"64"`
	Register           string   `json:"register,omitempty" enum:"GMC,NMC,GDC,GPhC" doc:"The clinician's professional register."`
	RegistrationNumber string   `json:"registration_number,omitempty" maxLength:"16" doc:"The clinician's number in it." example:"7654321"`
	Clinic             string   `json:"clinic,omitempty" maxLength:"64" doc:"The clinic's slug; left out, the administrator's own." example:"wharf-lane"`
	Sub                string   `json:"sub,omitempty" maxLength:"255" doc:"The clinician's sub in the clinic's realm: the certificate signs for that account alone. Without it, bind the certificate later; until then it does not sign."`
	Algorithm          string   `json:"algorithm,omitempty" enum:"ecdsa-p256,ecdsa-p384,rsa-3072,rsa-4096"`
	CSR                string   `json:"csr,omitempty" maxLength:"16384" doc:"For tls-client and tls-server: a PKCS#10 request, PEM."`
	DNSNames           []string `json:"dns_names,omitempty" maxItems:"100"`
	Addresses          []string `json:"addresses,omitempty" maxItems:"100"`
}

type issueOutput struct{ Body issued }

// issued is a new certificate. serial stands at the top, too, where existing clients look for it.
type issued struct {
	Serial         string           `json:"serial"`
	CommonName     string           `json:"common_name"`
	CertificatePEM string           `json:"certificate" doc:"PEM"`
	Chain          []string         `json:"chain" doc:"PEM, each certificate's issuer after it, the root last; the certificate itself is not repeated."`
	Details        certificateEntry `json:"details"`
}

// certificateEntry is wire.Certificate with what the API's description says of it.
type certificateEntry struct {
	Serial       string    `json:"serial"`
	CertType     string    `json:"cert_type"`
	CommonName   string    `json:"common_name"`
	Clinic       string    `json:"clinic,omitempty"`
	Sub          string    `json:"sub,omitempty" doc:"Whom it is bound to. Absent: nobody, and it does not sign."`
	Organization string    `json:"org,omitempty"`
	Country      string    `json:"country,omitempty"`
	SerialNumber string    `json:"subject_serial_number,omitempty" example:"GM:GB-7654321"`
	Algorithm    string    `json:"algorithm"`
	NotBefore    time.Time `json:"not_before"`
	NotAfter     time.Time `json:"not_after"`
	Status       string    `json:"status" enum:"valid,expired,revoked"`
	KeyExists    bool      `json:"key_exists"`
	IssuedAt     time.Time `json:"issued_at"`
	RevokedAt    time.Time `json:"revoked_at,omitzero"`
	Reason       string    `json:"reason,omitempty"`
	Renews       string    `json:"renews,omitempty"`
	RenewedBy    string    `json:"renewed_by,omitempty"`
	Issuer       string    `json:"issuer_serial"`
}

type certificatesInput struct {
	Clinic       string `query:"clinic" maxLength:"64"`
	CertType     string `query:"cert_type" maxLength:"32"`
	Status       string `query:"status" enum:"valid,expired,revoked"`
	ExpiringDays int    `query:"expiring_days" minimum:"1" maximum:"3660" doc:"Only valid ones that end within so many days and have no successor."`
	Cursor       string `query:"cursor" maxLength:"256" doc:"next of the page before"`
	Limit        int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type certificatesOutput struct {
	Body struct {
		Certificates []certificateEntry `json:"certificates"`
		Next         string             `json:"next,omitempty" doc:"The cursor of the next page; absent on the last."`
	}
}

type revokeInput struct {
	Serial string `path:"serial" pattern:"^[0-9a-fA-F:]{1,64}$" example:"4b1f0c9d2a7e4d0f8c3b5a6978e1d2c3" doc:"Hexadecimal, with or without colons."`
	Body   struct {
		Reason         string    `json:"reason" enum:"unspecified,keyCompromise,affiliationChanged,superseded,cessationOfOperation,privilegeWithdrawn" doc:"RFC 5280 §5.3.1"`
		InvalidityDate time.Time `json:"invalidity_date,omitzero" doc:"When it is suspected to have gone wrong; the revocation itself is from now on."`
	}
}

type bindInput struct {
	Serial string `path:"serial" pattern:"^[0-9a-fA-F:]{1,64}$" example:"4b1f0c9d2a7e4d0f8c3b5a6978e1d2c3" doc:"Hexadecimal, with or without colons."`
	Body   struct {
		Sub string `json:"sub" minLength:"1" maxLength:"255" doc:"The clinician's sub in the clinic's realm."`
	}
}

type certificateOutput struct{ Body certificateEntry }

func (p *Portal) certificateRoutes(api huma.API) {
	register(p, api, operation{id: "issue-certificate", method: http.MethodPost, path: "/certificates/issue", tag: "certificates",
		summary: "Issue a certificate", text: "Needs the role aes-admin. A clinician's key is made in the appliance and never leaves it."}, p.issue)
	register(p, api, operation{id: "list-certificates", method: http.MethodGet, path: "/certificates", tag: "certificates",
		summary: "List certificates", text: "Those of the administrator's clinic, in the order of their issuance."}, p.certificates)
	register(p, api, operation{id: "revoke-certificate", method: http.MethodPost, path: "/certificates/{serial}/revoke", tag: "certificates",
		summary: "Revoke a certificate", text: "From now on and for good. Its CRL and OCSP answers say so at once."}, p.revoke)
	register(p, api, operation{id: "bind-certificate", method: http.MethodPost, path: "/certificates/{serial}/bind", tag: "certificates",
		summary: "Bind a clinician's certificate to an account", text: "Once: names can be edited by users, the sub cannot. A certificate that is bound to nobody does not sign."}, p.bind)
}

func (p *Portal) issue(ctx context.Context, in *issueInput) (*issueOutput, error) {
	b := in.Body
	ask := wire.CertIssue{Credentials: requestOf(ctx).credentials(), CertType: b.CertType, CommonName: b.CommonName, Org: b.Org, Country: b.Country,
		GivenName: b.GivenName, Surname: b.Surname, Register: b.Register, RegistrationNumber: b.RegistrationNumber, Clinic: b.Clinic, Sub: b.Sub,
		ValidityDays: b.ValidityDays, Algorithm: b.Algorithm, DNSNames: b.DNSNames, Addresses: b.Addresses}
	if b.CSR != "" {
		block, rest := pem.Decode([]byte(b.CSR))
		if block == nil || block.Type != "CERTIFICATE REQUEST" || strings.TrimSpace(string(rest)) != "" {
			t := problem("invalid-request", "csr is not one PEM block of a PKCS#10 request.")
			t.Errors = []FieldProblem{{Field: "csr", Code: "malformed", Text: "is not one PEM block CERTIFICATE REQUEST"}}
			return nil, t
		}
		ask.CSR = block.Bytes
	}
	var got wire.CertIssued
	if _, err := p.call(ctx, wire.OpCertIssue, ask, &got, nil); err != nil {
		return nil, err
	}
	out := &issueOutput{issued{Serial: got.Certificate.Serial, CommonName: got.Certificate.CommonName, Details: certificateEntry(got.Certificate), Chain: []string{}}}
	for i, der := range got.Chain {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if i == 0 {
			out.Body.CertificatePEM = text
			continue
		}
		out.Body.Chain = append(out.Body.Chain, text)
	}
	return out, nil
}

func (p *Portal) certificates(ctx context.Context, in *certificatesInput) (*certificatesOutput, error) {
	ask := wire.CertListRequest{Credentials: requestOf(ctx).credentials(), Clinic: in.Clinic, CertType: in.CertType, Status: in.Status,
		ExpiringDays: in.ExpiringDays, Cursor: in.Cursor, Limit: in.Limit}
	var page wire.CertPage
	if _, err := p.call(ctx, wire.OpCertList, ask, &page, nil); err != nil {
		return nil, err
	}
	out := &certificatesOutput{}
	out.Body.Certificates, out.Body.Next = []certificateEntry{}, page.Next
	for _, c := range page.Certificates {
		out.Body.Certificates = append(out.Body.Certificates, certificateEntry(c))
	}
	return out, nil
}

func (p *Portal) revoke(ctx context.Context, in *revokeInput) (*certificateOutput, error) {
	ask := wire.CertRevoke{Credentials: requestOf(ctx).credentials(), Serial: serial(in.Serial), Reason: in.Body.Reason, InvalidityDate: in.Body.InvalidityDate}
	var c wire.Certificate
	_, err := p.call(ctx, wire.OpCertRevoke, ask, &c, nil)
	return &certificateOutput{certificateEntry(c)}, err
}

func (p *Portal) bind(ctx context.Context, in *bindInput) (*certificateOutput, error) {
	var c wire.Certificate
	_, err := p.call(ctx, wire.OpCertBind, wire.CertBind{Credentials: requestOf(ctx).credentials(), Serial: serial(in.Serial), Sub: in.Body.Sub}, &c, nil)
	return &certificateOutput{certificateEntry(c)}, err
}

// serial takes a serial number as openssl and browsers show it, too.
func serial(s string) string { return strings.ToLower(strings.ReplaceAll(s, ":", "")) }
