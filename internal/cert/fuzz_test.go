package cert_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/veripath/aes-appliance/internal/cert"
)

func FuzzParseOCSPRequest(f *testing.F) {
	fix := newOCSPFixture(f)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA512} {
		id := fix.single(f, h).CertID
		der, err := cert.OCSPRequest{CertIDs: []cert.CertID{id, id}, Nonce: []byte("nonce")}.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add(request(tlv(0xa0, []byte{2, 1, 0}), tlv(0xa1, tlv(0xa4, tlv(0x30))), tlv(0x30, tlv(0x30, certID, tlv(0xa0, tlv(0x30, tlv(0x30, oid(1, 2, 3), tlv(4))))))))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := cert.ParseOCSPRequest(der)
		if err != nil {
			return
		}
		again, err := r.Marshal()
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		s, err := cert.ParseOCSPRequest(again)
		if err != nil || len(s.CertIDs) != len(r.CertIDs) || !bytes.Equal(s.Nonce, r.Nonce) {
			t.Fatalf("%+v became %+v, %v", r, s, err)
		}
		// Whatever may be asked can be answered.
		var singles []cert.SingleResponse
		for _, id := range r.CertIDs {
			singles = append(singles, cert.SingleResponse{CertID: id, Status: cert.OCSPUnknown, ThisUpdate: noon, NextUpdate: noon})
		}
		answer, err := fix.signer.Sign(rand.Reader, cert.OCSPTemplate{ProducedAt: noon, Singles: singles, Nonce: r.Nonce})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.ParseOCSPResponse(answer); err != nil {
			t.Fatalf("cannot read an answer: %v", err)
		}
	})
}

func FuzzParseOCSPResponse(f *testing.F) {
	fix := newOCSPFixture(f)
	s := fix.single(f, crypto.SHA1)
	s.Status, s.RevokedAt, s.Reason, s.ArchiveCutoff = cert.OCSPRevoked, noon, 1, noon
	der, err := fix.signer.Sign(rand.Reader, cert.OCSPTemplate{ProducedAt: noon, Singles: []cert.SingleResponse{s, fix.single(f, crypto.SHA256)}, Nonce: []byte("n")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(basic(data(byKey, at, list(one)), ecAlg, bits))
	f.Add(basic(data(tlv(0xa1, tlv(0x30)), at, list(one)), ecAlg, bits, tlv(0xa0, tlv(0x30, tlv(0x30)))))
	f.Add(cert.OCSPFailure(cert.OCSPTryLater))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := cert.ParseOCSPResponse(der)
		if err != nil {
			return
		}
		if r.Status != cert.OCSPSuccessful && len(r.Singles) > 0 {
			t.Fatal("an error with answers")
		}
		r.Names(fix.ca.cert)
		if got, err := r.VerifyFrom(fix.ca.cert); err == nil && !got.Equal(fix.responder.cert) {
			t.Fatalf("verified by %v", got.Subject)
		}
		for _, s := range r.Singles {
			s.CertID.Matches(fix.leaf.cert, fix.ca.cert)
		}
	})
}

func FuzzCleanText(f *testing.F) {
	for _, s := range []string{"Doctor Clinician", "Zoe\u0308", "\u202e", "ﬁ", "e\u0301\u0302", " x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cert.Skeleton(s)
		clean, err := cert.CleanText("text", s)
		if err != nil {
			return
		}
		again, err := cert.CleanText("text", clean)
		if err != nil || again != clean || !norm.NFC.IsNormalString(clean) || utf8.RuneCountInString(clean) > 64 {
			t.Fatalf("%q became %q, then %q, %v", s, clean, again, err)
		}
	})
}

func FuzzDecodeOCSPPath(f *testing.F) {
	f.Add("/MEowSDBGMEQwQjAJBgUrDgMCGgUABBQ%2B")
	f.Fuzz(func(t *testing.T, path string) {
		if der, err := cert.DecodeOCSPPath(path); err == nil && len(der) > 2*cert.MaxOCSPRequest {
			t.Fatal("too long")
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	der, err := cert.CreateRequest(rand.Reader, cert.Subject{Country: "GB", CommonName: "x"}, newKey(f, cert.ECDSAP256))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		if r, err := cert.ParseRequest(der); err == nil {
			if _, err := cert.AlgorithmOf(r.PublicKey); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseCRL(f *testing.F) {
	f.Add(mustCRL(f, newPKI(f, settings(), cert.ECDSAP256)))
	f.Fuzz(func(t *testing.T, der []byte) {
		list, err := cert.ParseCRL(der)
		if err != nil {
			return
		}
		cert.ExpiredCertsOnCRL(list)
		for _, e := range list.RevokedCertificateEntries {
			if _, ok := cert.FindRevocation(list, e.SerialNumber); !ok {
				t.Fatal("an entry that cannot be found")
			}
			break
		}
	})
}
