package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/pdf"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// document checks that the PDF is the one that the core is about, followed by what the renewals that the summary names have appended, and nothing else.
func (v *verification) document() error {
	data := v.files[namePDF]
	states := append([]Revision{{SHA256: v.core.PDF.SHA256, Size: v.core.PDF.Size}}, v.live.Revisions...)
	for i, s := range states {
		if s.Size > int64(len(data)) || i > 0 && s.Size <= states[i-1].Size {
			return fmt.Errorf("document.pdf has %d bytes, the evidence is about %d", len(data), s.Size)
		}
		if got := SHA256(data[:s.Size]); got != s.SHA256 {
			return fmt.Errorf("document.pdf has SHA-256 %s, the evidence is about %s", got, s.SHA256)
		}
	}
	if last := states[len(states)-1].Size; last != int64(len(data)) {
		return fmt.Errorf("document.pdf has %d bytes, the evidence is about %d", len(data), last)
	}
	return nil
}

// signature checks that the PDF holds the signature that the core names, over the digest, with the certificate and the time stamps that it names.
// Whether that signature is valid JudgePDF says.
func (v *verification) signature() error {
	data := v.files[namePDF]
	f, err := pdf.Open(data, pdf.Limits{})
	if err != nil {
		return fmt.Errorf("document.pdf: %w", err)
	}
	signatures, err := f.Signatures()
	if err != nil {
		return fmt.Errorf("document.pdf: %w", err)
	}
	wanted := v.core.text(pillarCryptographic, "signature")
	var found *cms.SignedData
	var stamps []Stamp
	for _, s := range signatures {
		signed, err := openSignature(&s)
		if err != nil {
			continue // another's; JudgePDF judges them all
		}
		if s.Type == "DocTimeStamp" {
			if stamp, err := stampOf(signed); err == nil {
				stamps = append(stamps, stamp)
			}
			continue
		}
		if len(signed.Signers) != 1 || SHA256(signed.Signers[0].Signature) != wanted {
			continue
		}
		found = signed
		digest := sha256.New()
		digest.Write(data[s.ByteRange[0] : s.ByteRange[0]+s.ByteRange[1]])
		digest.Write(data[s.ByteRange[2] : s.ByteRange[2]+s.ByteRange[3]])
		if got := hex.EncodeToString(digest.Sum(nil)); got != v.core.text(pillarCryptographic, "document_digest") {
			return fmt.Errorf("the signature is over the digest %s, which is not the one in the evidence", got)
		}
	}
	if found == nil {
		return errors.New("document.pdf does not hold the signature that the evidence names")
	}
	if err := v.stored(f); err != nil {
		return err
	}
	return v.signedBy(found, stamps)
}

// stored checks that the document holds the statements on revocation that the core names, and the pack the chain.
func (v *verification) stored(f *pdf.File) error {
	dss, err := pdf.ReadDSS(f)
	if err != nil {
		return fmt.Errorf("document.pdf: %w", err)
	}
	held := map[string]bool{}
	for kind, list := range map[string][][]byte{"ocsp": dss.OCSPs, "crl": dss.CRLs} {
		for _, der := range list {
			held[kind+SHA256(der)] = true
		}
	}
	for _, c := range v.material.certs {
		held["certificate"+SHA256(c.Raw)] = true
	}
	var revocation []Revocation
	if err := v.core.value(pillarCryptographic, "revocation_material", &revocation); err != nil {
		return err
	}
	for _, r := range revocation {
		if !held[r.Type+r.SHA256] {
			return fmt.Errorf("the document does not hold the %s %s that the evidence names", r.Type, r.SHA256)
		}
	}
	var chain []Certificate
	if err := v.core.value(pillarCryptographic, "certificate_chain", &chain); err != nil {
		return err
	}
	for _, c := range chain {
		if !held["certificate"+c.SHA256] {
			return fmt.Errorf("the certificate of %q that the evidence names is missing", c.Name)
		}
	}
	return nil
}

// openSignature reads the CMS structure of a signature.
func openSignature(s *pdf.Signature) (*cms.SignedData, error) {
	if s.Problem != nil {
		return nil, s.Problem
	}
	der, err := cms.TrimPadding(s.Contents)
	if err != nil {
		return nil, err
	}
	return cms.Parse(der)
}

// stampOf reads a time-stamp token.
func stampOf(token *cms.SignedData) (Stamp, error) {
	info, err := tsp.ParseTSTInfo(token.Content)
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{Time: info.GenTime.UTC(), Serial: info.Serial.Text(16), Policy: info.Policy.String()}, nil
}

// signedBy checks the certificate of the signature, and its own time stamp followed by the document's.
func (v *verification) signedBy(signed *cms.SignedData, ofDocument []Stamp) error {
	crt, err := signed.SignerCertificate(0, v.material.certs...)
	if err != nil {
		return fmt.Errorf("the signer's certificate: %w", err)
	}
	c := v.core
	err = differences([]difference{
		{"the signer's certificate", SHA256(crt.Raw), c.text(pillarCryptographic, "certificate_sha256")},
		{"its serial number", crt.SerialNumber.Text(16), serial(c.text(pillarCryptographic, "certificate_serial"))},
		{"its common name", crt.Subject.CommonName, c.text(pillarIdentity, "certificate_common_name")},
		{"its common name", crt.Subject.CommonName, c.Prescription.ClinicianName},
		{"its registration number", crt.Subject.SerialNumber, c.text(pillarIdentity, "registration_number")},
	})
	if err != nil {
		return err
	}
	tokens, err := signed.TimeStamps(0)
	if err != nil {
		return fmt.Errorf("the signature's time stamp: %w", err)
	}
	var got []Stamp
	for _, der := range tokens {
		token, err := cms.Parse(der)
		if err != nil {
			return fmt.Errorf("the signature's time stamp: %w", err)
		}
		stamp, err := stampOf(token)
		if err != nil {
			return fmt.Errorf("the signature's time stamp: %w", err)
		}
		got = append(got, stamp)
	}
	return v.stamped(append(got, ofDocument...))
}

// stamped compares the document's time stamps with those in the core.
func (v *verification) stamped(got []Stamp) error {
	var want []Stamp
	if err := v.core.value(pillarTemporal, "time_stamps", &want); err != nil {
		return err
	}
	for _, r := range v.renewed { // one each; the lines name them
		at, err := time.Parse(time.RFC3339Nano, r.GenTime)
		if err != nil {
			return fmt.Errorf("the prescription_renewed line: %w", err)
		}
		if n := len(want); n > 0 { // one policy for all: the lines name none
			want = append(want, Stamp{Time: at, Serial: r.TimeStamp, Policy: want[n-1].Policy})
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("the document has %d time stamps, the evidence names %d", len(got), len(want))
	}
	for i := range got {
		if !got[i].Time.Equal(want[i].Time) || serial(got[i].Serial) != serial(want[i].Serial) || got[i].Policy != want[i].Policy {
			return fmt.Errorf("time stamp %d is not the one in the evidence", i+1)
		}
	}
	return nil
}

// serial returns a hexadecimal serial number without leading zeros.
func serial(s string) string { return strings.TrimLeft(strings.ToLower(s), "0") }

// material is the certificates and CRLs of a pack.
type material struct {
	certs []*x509.Certificate
	crls  []*x509.RevocationList
}

// check checks that each certificate is the root that the core names or was issued by another one, that each CRL is of one of them and of the time
// of the pack, that the one of the issuer of the signer's certificate is there, and that the summary says of that certificate what the list says.
func (m *material) check(c *core, live *Live, created time.Time) error {
	root := c.text(pillarCryptographic, "root_sha256")
	var signer *x509.Certificate
	hasRoot := false
	for _, crt := range m.certs {
		hash := SHA256(crt.Raw)
		if hash == c.text(pillarCryptographic, "certificate_sha256") {
			signer = crt
		}
		if hash == root {
			hasRoot = true
			continue
		}
		if m.issuer(crt) == nil {
			return fmt.Errorf("the issuer of the certificate of %q is not among the certificates", crt.Subject.CommonName)
		}
	}
	if signer == nil || !hasRoot {
		return errors.New("the signer's certificate or the root that the evidence names is missing")
	}
	issuer := m.issuer(signer)
	var its *x509.RevocationList
	for _, l := range m.crls {
		by := m.listIssuer(l)
		switch {
		case by == nil:
			return fmt.Errorf("no certificate is the issuer of the list of %q", l.Issuer.CommonName)
		case l.ThisUpdate.After(created) || l.NextUpdate.Before(created) && !m.retired(by, created):
			return fmt.Errorf("the list of %q is not of the time of the pack", l.Issuer.CommonName)
		case by != issuer:
		case its != nil:
			return errors.New("there are two lists of the issuer of the signer's certificate")
		default:
			its = l
		}
	}
	if its == nil {
		return errors.New("the list of revoked certificates of the issuer of the signer's certificate is missing")
	}
	return live.Certificate.is(StateOn(signer, its, live.GeneratedAt))
}

// retired reports whether a CA signs lists no more, so that its last one is the newest: it has expired, or a current list of its issuer has it.
func (m *material) retired(ca *x509.Certificate, at time.Time) bool {
	if at.After(ca.NotAfter) {
		return true
	}
	for _, l := range m.crls {
		if by := m.listIssuer(l); by == nil || by != m.issuer(ca) || l.ThisUpdate.After(at) || l.NextUpdate.Before(at) {
			continue
		}
		if slices.ContainsFunc(l.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(ca.SerialNumber) == 0 }) {
			return true
		}
	}
	return false
}

// is checks that a summary says of the certificate what its issuer's list says.
func (c CertificateNow) is(want CertificateNow) error {
	if serial(c.Serial) != serial(want.Serial) {
		return fmt.Errorf("the summary tells the state of certificate %s, not the signer's", c.Serial)
	}
	text := func(t *time.Time) string {
		if t == nil {
			return "never"
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	if c.List == nil {
		return errors.New("the summary does not name the list that it has the certificate's state from")
	}
	return differences([]difference{
		{"live.certificate.status", c.Status, want.Status},
		{"live.certificate.revoked_at", text(c.RevokedAt), text(want.RevokedAt)},
		{"live.certificate.reason", c.Reason, want.Reason},
		{"live.certificate.checked_at", text(&c.CheckedAt), text(&want.CheckedAt)},
		{"live.certificate.crl.number", c.List.Number, want.List.Number},
		{"live.certificate.crl.this_update", text(&c.List.ThisUpdate), text(&want.List.ThisUpdate)},
	})
}

// issuer returns the certificate that issued crt, nil when it is not there.
func (m *material) issuer(crt *x509.Certificate) *x509.Certificate {
	for _, i := range m.certs {
		if i != crt && i.IsCA && bytes.Equal(i.RawSubject, crt.RawIssuer) && crt.CheckSignatureFrom(i) == nil {
			return i
		}
	}
	return nil
}

func (m *material) listIssuer(l *x509.RevocationList) *x509.Certificate {
	for _, i := range m.certs {
		if i.IsCA && bytes.Equal(i.RawSubject, l.RawIssuer) && l.CheckSignatureFrom(i) == nil {
			return i
		}
	}
	return nil
}
