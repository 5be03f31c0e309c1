package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"math/big"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
)

// ask lets openssl make the request and judge the answer.
func (m *machine) ask(args ...string) string {
	m.t.Helper()
	req := writeFile(m.t, nil)
	mustOpenSSL(m.t, append([]string{"ocsp", "-reqout", req}, args...)...)
	resp := writeFile(m.t, m.ca.OCSP(context.Background(), readFile(m.t, req)))
	root := writePEM(m.t, "CERTIFICATE", m.ca.Root().Raw)
	// With -no_nonce it adds no other nonce to the request read back, and compares that one's with the answer's.
	return mustOpenSSL(m.t, append(append([]string{"ocsp", "-respin", resp, "-reqin", req, "-CAfile", root, "-resp_text"}, args...), "-no_nonce")...)
}

// issuerPEM writes the CA that issued a certificate.
func (m *machine) issuerPEM(serial string) string {
	m.t.Helper()
	chain, err := m.ca.Chain(serial)
	if err != nil {
		m.t.Fatal(err)
	}
	return writePEM(m.t, "CERTIFICATE", chain[1].Raw)
}

func TestOpenSSLAsksForStates(t *testing.T) {
	m := newAppliance(t)
	ctx := context.Background()
	a, b := m.issue(doctor("north", "Ann Good")), m.issue(doctor("north", "Bob Gone"))
	if _, err := m.ca.Revoke(ctx, b.Serial, cert.ReasonKeyCompromise, time.Time{}, "admin"); err != nil {
		t.Fatal(err)
	}
	issuer := m.issuerPEM(a.Serial)
	good, gone := writePEM(t, "CERTIFICATE", a.DER), writePEM(t, "CERTIFICATE", b.DER)
	for _, hash := range []string{"-sha1", "-sha256"} {
		out := m.ask("-issuer", issuer, hash, "-cert", good, hash, "-cert", gone, hash, "-serial", "0x1234", "-nonce")
		for _, want := range []string{"Response verify OK", good + ": good", gone + ": revoked", "0x1234: unknown", "Reason: keyCompromise", "OCSP Nonce", "OCSP Archive Cutoff", "Next Update"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is missing in\n%s", hash, want, out)
			}
		}
		if strings.Contains(out, "WARNING") {
			t.Error(out)
		}
	}
	for k, r := range map[cert.Kind]ca.Request{cert.TLSClient: {Kind: cert.TLSClient, Subject: cert.Subject{CommonName: "primary"}, Actor: "admin"}} {
		c := m.issue(r)
		if out := m.ask("-issuer", m.issuerPEM(c.Serial), "-cert", writePEM(t, "CERTIFICATE", c.DER), "-no_nonce"); !strings.Contains(out, ": good") || !strings.Contains(out, "verify OK") {
			t.Errorf("%s: %s", k, out)
		}
	}
	tsa, err := m.ca.TimeStamper()
	if err != nil {
		t.Fatal(err)
	}
	if out := m.ask("-issuer", m.issuerPEM(tsa.Serial), "-cert", writePEM(t, "CERTIFICATE", tsa.Certificate.Raw), "-nonce"); !strings.Contains(out, ": good") || !strings.Contains(out, "verify OK") {
		t.Error(out)
	}
}

// request builds an OCSP request about serials of a CA.
func request(t testing.TB, m *machine, h crypto.Hash, nonce []byte, about ...ca.Certificate) []byte {
	t.Helper()
	r := cert.OCSPRequest{Nonce: nonce}
	for _, c := range about {
		chain, err := m.ca.Chain(c.Serial)
		if err != nil {
			t.Fatal(err)
		}
		id, err := cert.NewCertID(h, chain[1], chain[0].SerialNumber)
		if err != nil {
			t.Fatal(err)
		}
		r.CertIDs = append(r.CertIDs, id)
	}
	der, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (m *machine) answer(request []byte) *cert.OCSPResponse {
	m.t.Helper()
	r, err := cert.ParseOCSPResponse(m.ca.OCSP(context.Background(), request))
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

func TestOCSPErrorsAreDER(t *testing.T) {
	m := newMachine(t)
	m.open()
	stranger := newAppliance(t)
	theirs := request(t, stranger, crypto.SHA1, nil, stranger.issue(doctor("x", "Y Z")))
	if r := m.answer(theirs); r.Status != cert.OCSPUnauthorized {
		t.Errorf("before the ceremony: %d", r.Status)
	}
	m.establish()
	mine := request(t, m, crypto.SHA1, nil, m.issue(doctor("north", "Ann Good")))
	for name, c := range map[string]struct {
		der  []byte
		want int
	}{
		"nothing": {nil, cert.OCSPMalformedRequest}, "junk": {[]byte("GET / HTTP/1.1"), cert.OCSPMalformedRequest},
		"trailing byte": {append(bytes.Clone(mine), 0), cert.OCSPMalformedRequest}, "a stranger's": {theirs, cert.OCSPUnauthorized}, "mine": {mine, cert.OCSPSuccessful},
	} {
		if r := m.answer(c.der); r.Status != c.want {
			t.Errorf("%s: %d, want %d", name, r.Status, c.want)
		}
	}
	m.advance(31 * 24 * time.Hour) // nobody did the upkeep
	if r := m.answer(mine); r.Status != cert.OCSPTryLater {
		t.Errorf("without a valid responder: %d", r.Status)
	}
}

func TestOneAnswerIsOneCAs(t *testing.T) {
	m := newAppliance(t)
	a := m.issue(doctor("north", "Ann Good"))
	b := m.issue(ca.Request{Kind: cert.TLSClient, Subject: cert.Subject{CommonName: "primary"}, Actor: "admin"})
	r := m.answer(request(t, m, crypto.SHA256, nil, a, b))
	if len(r.Singles) != 2 || r.Singles[0].Status != cert.OCSPGood || r.Singles[1].Status != cert.OCSPUnknown {
		t.Errorf("%+v", r.Singles)
	}
}

func TestCachedAnswerEndsWithRevocation(t *testing.T) {
	m := newAppliance(t)
	a := m.issue(doctor("north", "Ann Good"))
	q := request(t, m, crypto.SHA1, nil, a)
	first := m.answer(q)
	if again := m.answer(q); !bytes.Equal(first.Raw, again.Raw) {
		t.Error("not given again")
	}
	if fresh := m.answer(request(t, m, crypto.SHA1, []byte("nonce"), a)); !bytes.Equal(fresh.Nonce, []byte("nonce")) {
		t.Error("nonce is not echoed")
	}
	m.advance(2 * time.Minute)
	if again := m.answer(q); !again.ProducedAt.Equal(m.time()) {
		t.Error("given again for too long")
	}
	if _, err := m.ca.Revoke(context.Background(), a.Serial, cert.ReasonUnspecified, time.Time{}, "admin"); err != nil {
		t.Fatal(err)
	}
	if r := m.answer(q); r.Singles[0].Status != cert.OCSPRevoked || r.Singles[0].Reason != 0 {
		t.Errorf("%+v", r.Singles[0])
	}
}

func TestStatesOfOthersSerials(t *testing.T) {
	m := newAppliance(t)
	a := m.issue(doctor("north", "Ann Good"))
	chain, err := m.ca.Chain(a.Serial)
	if err != nil {
		t.Fatal(err)
	}
	tsa, err := m.ca.TimeStamper()
	if err != nil {
		t.Fatal(err)
	}
	for name, serial := range map[string]*big.Int{"of another CA": tsa.Certificate.SerialNumber, "of the CA itself": chain[1].SerialNumber, "zero": big.NewInt(0),
		"negative": new(big.Int).Neg(chain[0].SerialNumber), "huge": new(big.Int).Lsh(chain[0].SerialNumber, 999)} {
		id, err := cert.NewCertID(crypto.SHA1, chain[1], serial)
		if err != nil {
			t.Fatal(err)
		}
		der, err := cert.OCSPRequest{CertIDs: []cert.CertID{id}}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if r := m.answer(der); r.Status != cert.OCSPSuccessful || r.Singles[0].Status != cert.OCSPUnknown || r.Singles[0].CertID.Serial.Cmp(serial) != 0 {
			t.Errorf("serial %s: %+v", name, r)
		}
	}
}

func TestMaterialStandsBeforeOpenSSL(t *testing.T) {
	m := newAppliance(t)
	a := m.issue(doctor("north", "Ann Good"))
	tsa, err := m.ca.TimeStamper()
	if err != nil {
		t.Fatal(err)
	}
	mat, err := m.ca.Material(context.Background(), parse(t, a.DER), tsa.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if len(mat.Certs) != 5 || len(mat.OCSPs) != 2 || len(mat.CRLs) != 1 {
		t.Errorf("%d certificates, %d answers, %d lists", len(mat.Certs), len(mat.OCSPs), len(mat.CRLs))
	}
	for i, crt := range []string{writePEM(t, "CERTIFICATE", a.DER), writePEM(t, "CERTIFICATE", tsa.Certificate.Raw)} {
		issuer := m.issuerPEM([]string{a.Serial, tsa.Serial}[i])
		out := mustOpenSSL(t, "ocsp", "-respin", writeFile(t, mat.OCSPs[i]), "-issuer", issuer, "-cert", crt, "-CAfile", writePEM(t, "CERTIFICATE", m.ca.Root().Raw), "-no_nonce")
		if !strings.Contains(out, ": good") || !strings.Contains(out, "Response verify OK") {
			t.Error(out)
		}
	}
	list, err := cert.ParseCRL(mat.CRLs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range mat.Certs {
		if c := parse(t, der); list.ThisUpdate.Before(c.NotBefore) {
			t.Errorf("the root's CRL is older than %q", c.Subject)
		}
	}
	if _, err := m.ca.Revoke(context.Background(), a.Serial, cert.ReasonSuperseded, time.Time{}, "admin"); err != nil {
		t.Fatal(err)
	}
	_, err = m.ca.Material(context.Background(), parse(t, a.DER))
	wantKind(t, err, fault.Forbidden, "was revoked")
}

func TestChainAndCRLsStandBeforeOpenSSL(t *testing.T) {
	m := newAppliance(t)
	a, b := m.issue(doctor("north", "Ann Good")), m.issue(doctor("north", "Bob Gone"))
	if _, err := m.ca.Revoke(context.Background(), b.Serial, cert.ReasonPrivilegeWithdrawn, m.time(), "admin"); err != nil {
		t.Fatal(err)
	}
	rootCRL, err := m.ca.CRL(cert.Root)
	if err != nil {
		t.Fatal(err)
	}
	list, err := m.ca.CRL(cert.ClinicianCA)
	if err != nil {
		t.Fatal(err)
	}
	lists := writePEM(t, "X509 CRL", rootCRL, list)
	args := func(leaf string) []string {
		return []string{"verify", "-x509_strict", "-crl_check_all", "-extended_crl", "-explicit_policy", "-policy", m.ca.Profiles().Policy(cert.Clinician).String(), "-purpose", "any",
			"-CAfile", writePEM(t, "CERTIFICATE", m.ca.Root().Raw), "-CRLfile", lists, "-untrusted", m.issuerPEM(a.Serial), leaf}
	}
	mustOpenSSL(t, args(writePEM(t, "CERTIFICATE", a.DER))...)
	if out, err := openssl(t, args(writePEM(t, "CERTIFICATE", b.DER))...); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Error(out)
	}
	out := mustOpenSSL(t, "crl", "-in", writePEM(t, "X509 CRL", list), "-noout", "-text", "-CAfile", m.issuerPEM(a.Serial))
	for _, want := range []string{"verify OK", "CRL Number: \n                2", "Privilege Withdrawn", "Invalidity Date"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	leaf := parse(t, a.DER)
	chain, err := m.ca.Chain(a.Serial)
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range slices.Concat(leaf.CRLDistributionPoints, leaf.IssuingCertificateURL, chain[1].CRLDistributionPoints, chain[1].IssuingCertificateURL) {
		c := path.Base(url)
		if _, _, err := m.ca.Published(c); err != nil {
			t.Errorf("%s, which certificates point to: %v", c, err)
		}
	}
	_, _, err = m.ca.Published("clinician-ca-0000000000000000.crl")
	wantKind(t, err, fault.NotFound, "publishes")
}
