package signer

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// admin is who administers certificates.
type admin struct {
	actor  string
	clinic string // the only one that counts; "" = all, and the appliance's own certificates
}

// within says whether a clinic is the admin's to administer.
func (a admin) within(clinic string) bool { return a.clinic == "" || a.clinic == clinic }

// bearer is a request that carries a token.
type bearer interface{ Bearer() wire.Credentials }

// asAdmin makes an operation of one that an administrator's token is needed for.
func asAdmin[In bearer, Out any](v *Server, f func(context.Context, admin, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (out Out, err error) {
		c, err := v.authenticate(ctx, in.Bearer())
		if err != nil {
			return out, err
		}
		if err := v.s.gate.RequireAdmin(ctx, c, fmt.Sprintf("%T", in), v.s.clock.Estimate()); err != nil {
			return out, err
		}
		if err := v.mayAct(ctx, c, in.Bearer()); err != nil {
			return out, err
		}
		a := admin{actor: c.Actor(), clinic: c.Clinic}
		if own := v.settings.Load().AdminClinic; own != "" && own == c.Clinic {
			a.clinic = ""
		}
		return f(ctx, a, in)
	}
}

// asOperator makes the same operation available to whoever has the administrator's socket.
func asOperator[In, Out any](f func(context.Context, admin, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (Out, error) { return f(ctx, admin{actor: operatorActor}, in) }
}

// maxDays bounds a number of days well within what a time.Duration holds; what a certificate may have is its profile's to say.
const maxDays = 100_000

// certIssue answers OpCertIssue. A clinic's administrator gets clinicians' certificates for that clinic.
func (v *Server) certIssue(ctx context.Context, a admin, in wire.CertIssue) (wire.CertIssued, error) {
	r, err := issueRequest(in)
	if err != nil {
		return wire.CertIssued{}, err
	}
	if r.Kind == cert.Clinician && r.Clinic == "" {
		r.Clinic = a.clinic
	}
	if a.clinic != "" && r.Kind != cert.Clinician {
		return wire.CertIssued{}, fault.New(fault.Forbidden, "a clinic's administrator issues clinicians' certificates only").WithHint(`on the appliance: "appliance cert issue"`)
	}
	if !a.within(r.Clinic) {
		return wire.CertIssued{}, errOtherClinic()
	}
	if r.Kind == cert.Clinician && a.actor != operatorActor { // the operator may prepare a clinic's credentials before it is registered
		if _, err := v.s.gate.Clinic(r.Clinic); err != nil {
			return wire.CertIssued{}, err
		}
	}
	r.Actor = a.actor
	made, err := v.s.Issue(ctx, r)
	if err != nil {
		return wire.CertIssued{}, err
	}
	return v.issued(made)
}

func errOtherClinic() error {
	return fault.New(fault.Forbidden, "that clinic is not yours to administer").WithCode(activation.OtherClinic)
}

// issueRequest reads what is asked of the CA.
func issueRequest(in wire.CertIssue) (ca.Request, error) {
	invalid := func(text string) *fault.Error { return fault.New(fault.Invalid, text) }
	kind, err := cert.ParseKind(in.CertType)
	if err != nil || kind.IsCA() || kind == cert.OCSP {
		return ca.Request{}, invalid(fmt.Sprintf("cert_type %.40q is not clinician, tsa, tls-server or tls-client", in.CertType))
	}
	if in.ValidityDays < 0 || in.ValidityDays > maxDays {
		return ca.Request{}, invalid("validity_days is out of range")
	}
	country := in.Country
	if country == "" && kind == cert.Clinician {
		country = "GB"
	}
	r := ca.Request{
		Kind: kind, Clinic: in.Clinic, Sub: in.Sub, Algorithm: cert.Algorithm(in.Algorithm), CSR: in.CSR, DNSNames: in.DNSNames,
		Validity: time.Duration(in.ValidityDays) * 24 * time.Hour,
		Subject:  cert.Subject{Country: country, Organization: in.Org, CommonName: in.CommonName, GivenName: in.GivenName, Surname: in.Surname},
	}
	if in.Register != "" || in.RegistrationNumber != "" {
		id, err := cert.NewPersonID(in.Register, in.RegistrationNumber)
		if err != nil {
			return r, invalid(err.Error())
		}
		r.Subject.SerialNumber = id.String()
	}
	for _, text := range in.Addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return r, invalid(fmt.Sprintf("%.60q is not an IP address", text))
		}
		r.Addresses = append(r.Addresses, addr)
	}
	return r, nil
}

// issued describes a certificate with its chain.
func (v *Server) issued(made ca.Certificate) (wire.CertIssued, error) {
	chain, err := v.s.ca.Chain(made.Serial)
	if err != nil {
		return wire.CertIssued{}, err
	}
	out := wire.CertIssued{Certificate: describe(made)}
	for _, c := range chain {
		out.Chain = append(out.Chain, c.Raw)
	}
	return out, nil
}

// describe turns a certificate into what goes over the socket.
func describe(c ca.Certificate) wire.Certificate {
	d := wire.Certificate{
		Serial: c.Serial, CertType: string(c.Kind), CommonName: c.CommonName, Clinic: c.Clinic, Sub: c.Sub, Organization: c.Subject.Organization,
		Country: c.Subject.Country, SerialNumber: c.Subject.SerialNumber, Algorithm: string(c.Algorithm), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		Status: string(c.Status), KeyExists: c.KeyExists, IssuedAt: c.IssuedAt, Reason: c.Reason, Renews: c.Renews, RenewedBy: c.RenewedBy, Issuer: c.Issuer,
	}
	if c.RevokedAt != nil {
		d.RevokedAt = *c.RevokedAt
	}
	return d
}

func describeAll(list []ca.Certificate) []wire.Certificate {
	out := make([]wire.Certificate, 0, len(list))
	for _, c := range list {
		out = append(out, describe(c))
	}
	return out
}

// certList answers OpCertList.
func (v *Server) certList(_ context.Context, a admin, in wire.CertListRequest) (page wire.CertPage, err error) {
	if in.Clinic == "" {
		in.Clinic = a.clinic
	}
	if !a.within(in.Clinic) {
		return page, errOtherClinic()
	}
	if in.Expiring || in.ExpiringDays > 0 {
		var list []ca.Certificate
		for _, c := range v.s.ca.Expiring(time.Duration(min(max(in.ExpiringDays, 0), maxDays)) * 24 * time.Hour) {
			if (in.Clinic == "" || c.Clinic == in.Clinic) && (in.CertType == "" || string(c.Kind) == in.CertType) {
				list = append(list, c)
			}
		}
		page.Certificates = describeAll(list)
		return page, nil
	}
	list, more, err := v.s.ca.List(ca.Filter{
		Kind: cert.Kind(in.CertType), Clinic: in.Clinic, Status: ca.Status(in.Status), After: in.Cursor, Limit: in.Limit,
	})
	if err != nil {
		return page, err
	}
	if more {
		page.Next = list[len(list)-1].Serial
	}
	page.Certificates = describeAll(list)
	return page, nil
}

// ofClinic returns a certificate that is the admin's to administer; others do not exist.
func (v *Server) ofClinic(a admin, serial string) (ca.Certificate, error) {
	c, err := v.s.ca.Get(serial)
	if err != nil {
		return c, err
	}
	if !a.within(c.Clinic) {
		return c, fault.New(fault.NotFound, "the clinic has no certificate with that serial number")
	}
	return c, nil
}

// certRevoke answers OpCertRevoke.
func (v *Server) certRevoke(ctx context.Context, a admin, in wire.CertRevoke) (wire.Certificate, error) {
	c, err := v.ofClinic(a, in.Serial)
	if err != nil {
		return wire.Certificate{}, err
	}
	reason, err := cert.ParseReason(in.Reason)
	if err != nil {
		return wire.Certificate{}, fault.New(fault.Invalid, err.Error())
	}
	done, err := v.s.ca.Revoke(ctx, c.Serial, reason, in.InvalidityDate, a.actor)
	if err != nil {
		return wire.Certificate{}, err
	}
	if done.Kind == cert.TSA || done.Kind == cert.OCSP { // without a successor nothing is signed
		if _, err := v.s.Maintain(ctx); err != nil {
			v.log.ErrorContext(ctx, "upkeep tries again", "error", err)
		}
	}
	return describe(done), nil
}

// certBind answers OpCertBind.
func (v *Server) certBind(ctx context.Context, a admin, in wire.CertBind) (wire.Certificate, error) {
	c, err := v.ofClinic(a, in.Serial)
	if err != nil {
		return wire.Certificate{}, err
	}
	done, err := v.s.ca.Bind(ctx, c.Serial, in.Sub, a.actor)
	if err != nil {
		return wire.Certificate{}, err
	}
	return describe(done), nil
}

func (v *Server) certRenew(ctx context.Context, in wire.CertRef) (wire.CertIssued, error) {
	if in.ValidityDays < 0 || in.ValidityDays > maxDays {
		return wire.CertIssued{}, fault.New(fault.Invalid, "validity_days is out of range")
	}
	made, err := v.s.ca.Renew(ctx, in.Serial, time.Duration(in.ValidityDays)*24*time.Hour, operatorActor)
	if err != nil {
		return wire.CertIssued{}, err
	}
	if made.Kind == cert.TSA {
		if err := v.s.openTSA(); err != nil {
			return wire.CertIssued{}, err
		}
	}
	return v.issued(made)
}

func (v *Server) certGet(_ context.Context, in wire.CertRef) (wire.CertIssued, error) {
	c, err := v.s.ca.Get(in.Serial)
	if err != nil {
		return wire.CertIssued{}, err
	}
	return v.issued(c)
}

func clinicOf(c activation.Clinic) wire.Clinic {
	p := wire.Policy(c.Policy)
	return wire.Clinic{Slug: c.Slug, Name: c.Name, Policy: &p, AddedAt: c.AddedAt}
}

func (v *Server) clinicAdd(ctx context.Context, in wire.Clinic) (wire.Clinic, error) {
	p := activation.DefaultPolicy()
	if in.Policy != nil {
		p = activation.Policy(*in.Policy)
	}
	c, err := v.s.gate.AddClinic(ctx, activation.Clinic{Slug: in.Slug, Name: in.Name, Policy: p}, operatorActor)
	return clinicOf(c), err
}

func (v *Server) clinicList(context.Context, wire.Nothing) (wire.ClinicPage, error) {
	page := wire.ClinicPage{Clinics: []wire.Clinic{}}
	for _, c := range v.s.gate.Clinics() {
		page.Clinics = append(page.Clinics, clinicOf(c))
	}
	return page, nil
}

func (v *Server) clinicPolicy(ctx context.Context, in wire.ClinicPolicy) (wire.Clinic, error) {
	c, err := v.s.gate.SetPolicy(ctx, in.Slug, activation.Policy(in.Policy), operatorActor)
	return clinicOf(c), err
}

func (v *Server) realmAdd(ctx context.Context, in wire.Realm) (wire.Realm, error) {
	r, err := v.s.gate.AddRealm(ctx, activation.Realm(in), operatorActor)
	return wire.Realm(r), err
}

func (v *Server) realmRemove(ctx context.Context, in wire.RealmRef) (wire.Nothing, error) {
	return wire.Nothing{}, v.s.gate.RemoveRealm(ctx, in.Issuer, operatorActor)
}

func (v *Server) realmList(context.Context, wire.Nothing) (wire.RealmPage, error) {
	page := wire.RealmPage{Realms: []wire.Realm{}}
	for _, r := range v.s.gate.Realms() {
		page.Realms = append(page.Realms, wire.Realm(r))
	}
	return page, nil
}
