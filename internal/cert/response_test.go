package cert_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
)

// The parts of a response, in the tests' own DER.
var (
	at       = tlv(0x18, []byte("20261120120000Z"))
	later    = tlv(0x18, []byte("20261121120000Z"))
	good     = tlv(0x80)
	byKey    = tlv(0xa2, tlv(4, make([]byte, 20)))
	ecAlg    = tlv(0x30, oid(1, 2, 840, 10045, 4, 3, 2))
	bits     = tlv(3, []byte{0, 1, 2, 3})
	basicOID = oid(1, 3, 6, 1, 5, 5, 7, 48, 1, 1)
	one      = single(certID, good, at)
)

func single(parts ...[]byte) []byte { return tlv(0x30, parts...) }

func list(singles ...[]byte) []byte { return tlv(0x30, singles...) }

func data(parts ...[]byte) []byte { return tlv(0x30, parts...) }

func basic(parts ...[]byte) []byte {
	return tlv(0x30, tlv(0x0a, []byte{0}), tlv(0xa0, tlv(0x30, basicOID, tlv(4, tlv(0x30, parts...)))))
}

func TestParseOCSPResponseRefuses(t *testing.T) {
	whole := func(parts ...[]byte) []byte { return basic(data(parts...), ecAlg, bits) }
	ok := whole(byKey, at, list(one))
	if _, err := cert.ParseOCSPResponse(ok); err != nil {
		t.Fatal("the base case is refused: ", err)
	}
	status := func(s ...byte) []byte { return tlv(0x30, tlv(0x0a, s)) }
	for _, c := range []struct {
		name, want string
		der        []byte
	}{
		{"nothing", "not exactly one", nil},
		{"trailing byte", "not exactly one", append(bytes.Clone(ok), 0)},
		{"cut", "not exactly one", ok[:len(ok)-1]},
		{"status not a number", "malformed", tlv(0x30, null)},
		{"status 4", "not defined", status(4)},
		{"status 7", "not defined", status(7)},
		{"status of two bytes", "malformed", status(0, 0)},
		{"negative status", "not defined", status(0xff)},
		{"error with body", "not defined", tlv(0x30, tlv(0x0a, []byte{1}), tlv(0xa0, tlv(0x30, basicOID, tlv(4))))},
		{"success without body", "no responseBytes", status(0)},
		{"other type", "id-pkix-ocsp-basic", tlv(0x30, tlv(0x0a, []byte{0}), tlv(0xa0, tlv(0x30, oid(1, 2, 3), tlv(4))))},
		{"empty body", "BasicOCSPResponse", tlv(0x30, tlv(0x0a, []byte{0}), tlv(0xa0, tlv(0x30, basicOID, tlv(4))))},
		{"no signature", "signature", basic(data(byKey, at, list(one)), ecAlg)},
		{"signature of 7 bits", "signature", basic(data(byKey, at, list(one)), ecAlg, tlv(3, []byte{1, 2}))},
		{"junk after signature", "follows the signature", basic(data(byKey, at, list(one)), ecAlg, bits, null)},
		{"certs not a SEQUENCE", "certs", basic(data(byKey, at, list(one)), ecAlg, bits, tlv(0xa0, null))},
		{"17 certs", "more than 16", basic(data(byKey, at, list(one)), ecAlg, bits, tlv(0xa0, tlv(0x30, bytes.Repeat(tlv(0x30), 17))))},
		{"version 2", "only v1", whole(tlv(0xa0, []byte{2, 1, 1}), byKey, at, list(one))},
		{"no responder", "responderID", whole(at, list(one))},
		{"short key hash", "20", whole(tlv(0xa2, tlv(4, make([]byte, 19))), at, list(one))},
		{"name not a SEQUENCE", "byName", whole(tlv(0xa1, null), at, list(one))},
		{"no producedAt", "producedAt", whole(byKey, list(one))},
		{"UTCTime", "producedAt", whole(byKey, tlv(0x17, []byte("261120120000Z")), list(one))},
		{"fraction of a second", "producedAt", whole(byKey, tlv(0x18, []byte("20261120120000.5Z")), list(one))},
		{"month 13", "producedAt", whole(byKey, tlv(0x18, []byte("20261320120000Z")), list(one))},
		{"no list", "responses", whole(byKey, at)},
		{"single not a SEQUENCE", "SingleResponse 0", whole(byKey, at, list(null))},
		{"no certStatus", "certStatus", whole(byKey, at, list(single(certID)))},
		{"status tag 3", "certStatus", whole(byKey, at, list(single(certID, tlv(0x83), at)))},
		{"good with content", "NULL belongs", whole(byKey, at, list(single(certID, tlv(0x80, []byte{0}), at)))},
		{"revoked without time", "revocationTime", whole(byKey, at, list(single(certID, tlv(0xa1), at)))},
		{"reason 7", "revocationReason", whole(byKey, at, list(single(certID, tlv(0xa1, at, tlv(0xa0, tlv(0x0a, []byte{7}))), at)))},
		{"reason 11", "revocationReason", whole(byKey, at, list(single(certID, tlv(0xa1, at, tlv(0xa0, tlv(0x0a, []byte{11}))), at)))},
		{"junk after reason", "RevokedInfo", whole(byKey, at, list(single(certID, tlv(0xa1, at, null), at)))},
		{"no thisUpdate", "thisUpdate", whole(byKey, at, list(single(certID, good)))},
		{"nextUpdate first", "before thisUpdate", whole(byKey, at, list(single(certID, good, later, tlv(0xa0, at))))},
		{"nextUpdate twice", "nextUpdate", whole(byKey, at, list(single(certID, good, at, tlv(0xa0, at, at))))},
		{"junk in single", "singleExtensions", whole(byKey, at, list(single(certID, good, at, null)))},
		{"critical stranger in single", "critical extension", whole(byKey, at, list(single(certID, good, at, tlv(0xa1, tlv(0x30, tlv(0x30, oid(1, 2, 3), []byte{1, 1, 0xff}, tlv(4)))))))},
		{"bad archiveCutoff", "archiveCutoff", whole(byKey, at, list(single(certID, good, at, tlv(0xa1, tlv(0x30, tlv(0x30, oid(1, 3, 6, 1, 5, 5, 7, 48, 1, 6), tlv(4, null)))))))},
		{"critical stranger", "critical extension", whole(byKey, at, list(one), tlv(0xa1, tlv(0x30, tlv(0x30, oid(1, 2, 3), []byte{1, 1, 0xff}, tlv(4)))))},
		{"empty nonce", "nonce has 0", whole(byKey, at, list(one), tlv(0xa1, tlv(0x30, tlv(0x30, nonceID, tlv(4, tlv(4))))))},
		{"junk after responses", "responseExtensions", whole(byKey, at, list(one), null)},
		{"1025 singles", "1024", whole(byKey, at, list(bytes.Repeat(one, 1025)))},
		{"too big", "are allowed", make([]byte, cert.MaxOCSPResponse+1)},
	} {
		_, err := cert.ParseOCSPResponse(c.der)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one about %q", c.name, err, c.want)
		}
	}
}

func TestParseOCSPResponseErrors(t *testing.T) {
	for _, status := range []int{cert.OCSPMalformedRequest, cert.OCSPInternalError, cert.OCSPTryLater, cert.OCSPSigRequired, cert.OCSPUnauthorized} {
		r, err := cert.ParseOCSPResponse(cert.OCSPFailure(status))
		if err != nil || r.Status != status {
			t.Errorf("%d: %+v, %v", status, r, err)
			continue
		}
		if err := r.CheckSignatureFrom(nil); err == nil {
			t.Errorf("%d: has a signature", status)
		}
	}
}

func TestOCSPSignRefuses(t *testing.T) {
	f := newOCSPFixture(t)
	base := func() cert.OCSPTemplate {
		return cert.OCSPTemplate{ProducedAt: noon, Singles: []cert.SingleResponse{f.single(t, crypto.SHA1)}}
	}
	for want, change := range map[string]func(*cert.OCSPTemplate){
		"0 answers":            func(o *cert.OCSPTemplate) { o.Singles = nil },
		"33 answers":           func(o *cert.OCSPTemplate) { o.Singles = make([]cert.SingleResponse, 33) },
		"nonce of 129":         func(o *cert.OCSPTemplate) { o.Nonce = make([]byte, 129) },
		"not valid at":         func(o *cert.OCSPTemplate) { o.ProducedAt = noon.AddDate(2, 0, 0) },
		"CertID is incomplete": func(o *cert.OCSPTemplate) { o.Singles[0].CertID = cert.CertID{} },
		"out of order":         func(o *cert.OCSPTemplate) { o.Singles[0].NextUpdate = time.Time{} },
		"without a time":       func(o *cert.OCSPTemplate) { o.Singles[0].Status = cert.OCSPRevoked },
		"unknown OCSPStatus":   func(o *cert.OCSPTemplate) { o.Singles[0].Status = 9 },
	} {
		o := base()
		change(&o)
		if _, err := f.signer.Sign(rand.Reader, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
	if _, err := cert.NewOCSPSigner(f.responder.cert, f.ca.key); err == nil {
		t.Error("a signer with another's key")
	}
}

func TestOpenSSLReadsOCSPAnswers(t *testing.T) {
	f := newOCSPFixture(t)
	ca, leaf := writePEM(t, "ca.pem", "CERTIFICATE", f.ca.cert.Raw), writePEM(t, "leaf.pem", "CERTIFICATE", f.leaf.cert.Raw)
	s := f.single(t, crypto.SHA256)
	s.Status, s.RevokedAt, s.Reason, s.ArchiveCutoff = cert.OCSPRevoked, noon.Add(-time.Hour), 1, noon.AddDate(-1, 0, 0)
	resp := writeFile(t, f.sign(t, cert.OCSPTemplate{ProducedAt: noon, Singles: []cert.SingleResponse{s}, Nonce: []byte("nonce")}))
	out := mustOpenSSL(t, "ocsp", "-sha256", "-issuer", ca, "-cert", leaf, "-respin", resp, "-CAfile", ca, "-attime", "1795176000", "-validity_period", "1000000000", "-resp_text", "-no_nonce")
	for _, want := range []string{"Response verify OK", ": revoked", "Reason: keyCompromise", "Revocation Time: Nov 20 11:00:00 2026 GMT", "OCSP Archive Cutoff"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestOpenSSLAsksWhatWeRead(t *testing.T) {
	f := newOCSPFixture(t)
	ca, leaf := writePEM(t, "ca.pem", "CERTIFICATE", f.ca.cert.Raw), writePEM(t, "leaf.pem", "CERTIFICATE", f.leaf.cert.Raw)
	req := writeFile(t, nil)
	mustOpenSSL(t, "ocsp", "-issuer", ca, "-cert", leaf, "-sha256", "-serial", "0x1234", "-reqout", req, "-nonce")
	r, err := cert.ParseOCSPRequest(readFile(t, req))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.CertIDs) != 2 || r.CertIDs[0].Hash != crypto.SHA1 || r.CertIDs[1].Hash != crypto.SHA256 || len(r.Nonce) != 16 || !r.CertIDs[0].Matches(f.leaf.cert, f.ca.cert) {
		t.Errorf("%+v", r)
	}
}
