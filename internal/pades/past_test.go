package pades

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
)

const day = 24 * time.Hour

// verdict is what is expected of the first signature in a file.
type verdict struct {
	indication Indication
	sub        SubIndication
	level      Level
	exit       int
}

var passedLTA = verdict{TotalPassed, "", LevelLTA, 0}

func expect(t *testing.T, r *Report, want verdict) {
	t.Helper()
	s := &r.Signatures[0]
	if got := (verdict{s.Indication, s.SubIndication, s.Level, r.ExitCode}); got != want {
		t.Errorf("%+v, want %+v\n%s", got, want, r.Text())
	}
}

// A signature lives as long as its time stamps are renewed: EN 319 102-1 §5.6.
func TestPastValidation(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	renewal := labTime.Add(4 * year)
	tsa2 := l.issue(l.times, "Lab TSA 2", renewal.Add(-day), renewal.Add(5*year), asTSA)
	renew := func(at time.Time, status func(*cert.SingleResponse)) []byte {
		responder := l.issue(l.times, "Lab OCSP 3", at.Add(-day), at.Add(30*day), asResponder)
		data := l.store(signed, [][]byte{tsa2.Raw, responder.Raw}, [][]byte{l.ocsp(responder, l.tsa, at, status), l.ocsp(responder, tsa2, at, nil)}, [][]byte{l.crl(l.root, at)})
		return l.sign(data, seal{field: "Renewal", stamp: true, at: at.Add(time.Minute), by: tsa2})
	}
	renewed := renew(renewal, nil)
	late := renew(labTime.Add(6*year), nil)
	revoked := func(at time.Time, reason cert.Reason) func(*cert.SingleResponse) {
		return func(s *cert.SingleResponse) { s.Status, s.RevokedAt, s.Reason = cert.OCSPRevoked, at, int(reason) }
	}
	for _, c := range []struct {
		name string
		data []byte
		at   time.Time
		want verdict
	}{
		{"an hour later", signed, labTime.Add(time.Hour), passedLTA},
		{"responders expired", signed, labTime.Add(60 * day), passedLTA},
		{"signer expired", signed, labTime.Add(2 * year), passedLTA},
		{"time stamp expired, not renewed", signed, labTime.Add(6 * year), verdict{Indeterminate, OutOfBoundsNoPOE, LevelLTA, 2}},
		{"renewed", renewed, renewal.Add(time.Hour), passedLTA},
		{"renewed, first time stamp expired", renewed, labTime.Add(8 * year), passedLTA},
		{"renewed too late", late, labTime.Add(6*year + time.Hour), verdict{Indeterminate, OutOfBoundsNoPOE, LevelLTA, 2}},
		{"TSA compromised after the renewal", renew(renewal, nil), labTime.Add(8 * year), passedLTA},
		{"TSA compromised before the renewal", renew(renewal, revoked(renewal.Add(-time.Hour), cert.ReasonKeyCompromise)), renewal.Add(time.Hour),
			verdict{Indeterminate, OutOfBoundsNoPOE, LevelLTA, 2}},
		{"TSA superseded before the renewal", renew(renewal, revoked(renewal.Add(-time.Hour), cert.ReasonSuperseded)), renewal.Add(time.Hour), passedLTA},
		{"judged before it was signed", signed, labTime.Add(-time.Hour), verdict{Indeterminate, TryLater, LevelLTA, 2}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, validate(t, c.data, l.roots(), c.at), c.want) })
	}
}

func TestLevels(t *testing.T) {
	l := newLab(t)
	base := labDocument(labObjects())
	soon, at := labTime.Add(time.Hour), labTime.Add(2*time.Second)
	certs, ocsps, crls := l.material(at)
	s := seal{field: "Signature1", at: labTime}
	bare := s
	bare.bare = true
	pkcs7 := s
	pkcs7.subFilter = "/adbe.pkcs7.detached"
	for _, c := range []struct {
		name string
		data []byte
		at   time.Time
		want verdict
	}{
		{"B-B without status", l.sign(base, bare), soon, verdict{Indeterminate, TryLater, LevelB, 2}},
		{"B-B with status", l.store(l.sign(base, bare), certs, ocsps, crls), soon, verdict{TotalPassed, "", LevelB, 0}},
		{"B-B with status of last week", l.store(l.sign(base, bare), certs, ocsps, crls), labTime.Add(8 * day), verdict{Indeterminate, TryLater, LevelB, 2}},
		{"B-T", l.sign(base, s), soon, verdict{Indeterminate, TryLater, LevelT, 2}},
		{"B-LT", l.store(l.sign(base, s), certs, ocsps, crls), soon, verdict{TotalPassed, "", LevelLT, 0}},
		{"B-LT a week later", l.store(l.sign(base, s), certs, ocsps, crls), labTime.Add(8 * day), verdict{TotalPassed, "", LevelLT, 0}},
		{"B-LT, responders expired", l.store(l.sign(base, s), certs, ocsps, crls), labTime.Add(60 * day), verdict{Indeterminate, TryLater, LevelLT, 2}},
		{"B-LT, signer expired", l.store(l.sign(base, s), certs, ocsps, crls), labTime.Add(2 * year), verdict{Indeterminate, OutOfBoundsNoPOE, LevelLT, 2}},
		{"status but no CRL of the root", l.store(l.sign(base, s), certs, ocsps, nil), soon, verdict{Indeterminate, TryLater, LevelT, 2}},
		{"plain PKCS #7", l.lta(base, pkcs7), soon, verdict{TotalPassed, "", LevelNone, 0}},
		{"document time stamp instead of a signature time stamp", l.lta(base, bare), labTime.Add(2 * year), passedLTA},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, validate(t, c.data, l.roots(), c.at), c.want) })
	}
	t.Run("no trust anchor", func(t *testing.T) {
		expect(t, validate(t, l.lta(base, s), nil, soon), verdict{Indeterminate, NoCertificateChainFound, LevelT, 2})
	})
	t.Run("another trust anchor", func(t *testing.T) {
		expect(t, validate(t, l.lta(base, s), newLab(t).roots(), soon), verdict{Indeterminate, NoCertificateChainFound, LevelT, 2})
	})
	t.Run("no signature", func(t *testing.T) {
		if r := validate(t, base, l.roots(), soon); r.Verdict != NoSignature || r.ExitCode != 2 {
			t.Errorf("%s, exit code %d", r.Verdict, r.ExitCode)
		}
	})
	t.Run("time stamp only", func(t *testing.T) {
		data := l.sign(base, seal{field: "Stamp", stamp: true, at: labTime})
		if r := validate(t, data, l.roots(), soon); r.Verdict != NoSignature || r.ExitCode != 2 {
			t.Errorf("%s, exit code %d", r.Verdict, r.ExitCode)
		}
	})
}

// Statuses that must not be taken for one, and certificates that may not do what they did.
func TestRevocation(t *testing.T) {
	l := newLab(t)
	base := labDocument(labObjects())
	soon, at := labTime.Add(time.Hour), labTime.Add(2*time.Second)
	certs, ocsps, crls := l.material(at)
	file := func(s seal, ocsps, crls [][]byte) []byte {
		s.field, s.at = "Signature1", labTime
		return l.sign(l.store(l.sign(base, s), certs, ocsps, crls), seal{field: "Stamp", stamp: true, at: labTime.Add(5 * time.Second)})
	}
	status := func(at time.Time, mod func(*cert.SingleResponse)) [][]byte {
		return [][]byte{l.ocsp(l.signerOCSP, l.signer, at, mod), ocsps[1]}
	}
	revoked := func(at time.Time) func(*cert.SingleResponse) {
		return func(s *cert.SingleResponse) {
			s.Status, s.RevokedAt, s.Reason = cert.OCSPRevoked, at, int(cert.ReasonKeyCompromise)
		}
	}
	plain := l.issue(l.clinicians, "Lab OCSP without nocheck", labTime.Add(-day), labTime.Add(day), func(c *x509.Certificate) {
		asResponder(c)
		c.ExtraExtensions = nil
	})
	young := l.issue(l.clinicians, "Doctor New", labTime.Add(-time.Minute), labTime.Add(year), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment })
	noSign := l.issue(l.clinicians, "Doctor Encrypt", labTime.Add(-day), labTime.Add(year), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	future := l.issue(l.clinicians, "Doctor Future", labTime.Add(time.Minute), labTime.Add(year), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment })
	for _, c := range []struct {
		name string
		data []byte
		want verdict
	}{
		{"good", file(seal{}, ocsps, crls), passedLTA},
		{"revoked before", file(seal{}, status(at, revoked(labTime.Add(-time.Hour))), crls), verdict{Indeterminate, RevokedNoPOE, LevelLTA, 1}},
		{"revoked before, also an older good answer", file(seal{}, append(status(at, revoked(labTime.Add(-time.Hour))), l.ocsp(l.signerOCSP, l.signer, labTime.Add(-2*time.Hour), nil)), crls),
			verdict{Indeterminate, RevokedNoPOE, LevelLTA, 1}},
		{"revoked at that second", file(seal{}, status(at, revoked(labTime)), crls), verdict{Indeterminate, RevokedNoPOE, LevelLTA, 1}},
		{"revoked after", file(seal{}, status(at, revoked(labTime.Add(time.Second))), crls), passedLTA},
		{"unknown", file(seal{}, status(at, func(s *cert.SingleResponse) { s.Status = cert.OCSPUnknown }), crls), verdict{Indeterminate, TryLater, LevelT, 2}},
		{"out of date", file(seal{}, status(labTime.Add(-25*time.Hour), nil), crls), verdict{Indeterminate, TryLater, LevelLTA, 2}},
		{"by a responder of another CA", file(seal{}, [][]byte{l.ocsp(l.tsaOCSP, l.signer, at, nil), ocsps[1]}, crls), verdict{Indeterminate, TryLater, LevelT, 2}},
		{"by the signer itself", file(seal{}, [][]byte{l.ocsp(l.signer, l.signer, at, nil), ocsps[1]}, crls), verdict{Indeterminate, TryLater, LevelT, 2}},
		{"responder without nocheck", file(seal{}, [][]byte{l.ocsp(plain, l.signer, at, nil), ocsps[1]}, crls), verdict{Indeterminate, TryLater, LevelLTA, 2}},
		{"responder without nocheck, with a status", file(seal{}, [][]byte{l.ocsp(plain, l.signer, at, nil), ocsps[1]}, append(crls, l.crl(l.clinicians, at))), passedLTA},
		{"by the CA itself", file(seal{}, [][]byte{l.ocsp(l.clinicians, l.signer, at, nil), ocsps[1]}, crls), passedLTA},
		{"CRL instead of OCSP", file(seal{}, ocsps[1:], append(crls, l.crl(l.clinicians, at))), passedLTA},
		{"CRL by another CA", file(seal{}, ocsps[1:], append(crls, l.crl(l.times, at))), verdict{Indeterminate, TryLater, LevelT, 2}},
		{"CA revoked", file(seal{}, ocsps, [][]byte{l.crl(l.root, at, cert.Revocation{Serial: l.clinicians.SerialNumber, At: labTime.Add(-time.Hour), Reason: cert.ReasonCACompromise})}),
			verdict{Indeterminate, RevokedCANoPOE, LevelLTA, 1}},
		{"older than the certificate", file(seal{by: young}, [][]byte{l.ocsp(l.signerOCSP, young, labTime.Add(-time.Hour), nil), ocsps[1]}, crls), verdict{Indeterminate, TryLater, LevelT, 2}},
		{"certificate for encryption", file(seal{by: noSign}, [][]byte{l.ocsp(l.signerOCSP, noSign, at, nil), ocsps[1]}, crls), verdict{Indeterminate, ChainConstraintsFailure, LevelLTA, 2}},
		{"certificate of a TSA", file(seal{by: l.tsa}, ocsps, crls), verdict{Indeterminate, ChainConstraintsFailure, LevelLTA, 2}},
		{"signed before the certificate was valid", file(seal{by: future}, [][]byte{l.ocsp(l.signerOCSP, future, labTime.Add(2*time.Minute), nil), ocsps[1]}, crls),
			verdict{TotalFailed, NotYetValid, LevelLTA, 1}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, validate(t, c.data, l.roots(), soon), c.want) })
	}
}

func TestTimeStampAuthorities(t *testing.T) {
	l := newLab(t)
	base := labDocument(labObjects())
	eku := func(mod func(*pkix.Extension)) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			asTSA(c)
			mod(&c.ExtraExtensions[0])
		}
	}
	for _, c := range []struct {
		name, reason string
		mod          func(*x509.Certificate)
	}{
		{"EKU not critical", "must be timeStamping alone, and critical", eku(func(e *pkix.Extension) { e.Critical = false })},
		{"no EKU", "must be timeStamping alone, and critical", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }},
		{"two purposes", "must be timeStamping alone, and critical", eku(func(e *pkix.Extension) {
			e.Value = append([]byte{0x30, 20}, append(e.Value[2:], 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2)...)
		})},
		{"key usage", "allows no signatures", func(c *x509.Certificate) { asTSA(c); c.KeyUsage = x509.KeyUsageKeyAgreement }},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := l.tsa
			defer func() { l.tsa = good }()
			l.tsa = l.issue(l.times, "Lab TSA X", labTime.Add(-day), labTime.Add(year), c.mod)
			r := validate(t, l.lta(base, seal{}), l.roots(), labTime.Add(time.Hour))
			if r.Signatures[0].ProvenTime != nil || r.Signatures[1].Indication == TotalPassed {
				t.Error("the time stamp proves something")
			}
			if !strings.Contains(strings.Join(r.Signatures[1].Reasons, ";"), c.reason) {
				t.Errorf("reasons %q, want %q", r.Signatures[1].Reasons, c.reason)
			}
		})
	}
	t.Run("time stamps out of order", func(t *testing.T) {
		r := validate(t, l.lta(base, seal{tokenAt: labTime.Add(time.Hour)}), l.roots(), labTime.Add(2*time.Hour))
		if ts := r.Signatures[0].TimeStamps[0]; ts.SubIndication != TimestampOrderFailure {
			t.Errorf("%s/%s", ts.Indication, ts.SubIndication)
		}
	})
}

// Status that the caller brings shows a revocation that the file does not know, and cannot raise its level.
func TestMaterialOfTheCaller(t *testing.T) {
	l := newLab(t)
	base := labDocument(labObjects())
	soon := labTime.Add(time.Hour)
	judge := func(data []byte, m Material) *Report {
		r, err := Validate(t.Context(), data, ValidateOptions{Roots: l.roots(), At: soon, Material: m})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	signed := l.lta(base, seal{})
	revoked := l.crl(l.clinicians, soon, cert.Revocation{Serial: l.signer.SerialNumber, At: labTime.Add(-time.Hour), Reason: cert.ReasonKeyCompromise})
	expect(t, judge(signed, Material{CRLs: [][]byte{revoked}}), verdict{Indeterminate, RevokedNoPOE, LevelLTA, 1})
	later := l.crl(l.clinicians, soon, cert.Revocation{Serial: l.signer.SerialNumber, At: soon, Reason: cert.ReasonKeyCompromise})
	expect(t, judge(signed, Material{CRLs: [][]byte{later}}), passedLTA)
	suspected := l.crl(l.clinicians, soon, cert.Revocation{Serial: l.signer.SerialNumber, At: soon, Reason: cert.ReasonKeyCompromise, InvalidityDate: labTime.Add(-time.Hour)})
	r := judge(signed, Material{CRLs: [][]byte{suspected}})
	expect(t, r, passedLTA)
	if w := strings.Join(r.Signatures[0].Warnings, ";"); !strings.Contains(w, "suspected since") {
		t.Errorf("warnings %q", w)
	}
	certs, ocsps, crls := l.material(labTime.Add(2 * time.Second))
	bt := l.sign(base, seal{field: "Signature1", at: labTime})
	expect(t, judge(bt, Material{Certs: certs, OCSPs: ocsps, CRLs: crls}), verdict{TotalPassed, "", LevelT, 0})
}
