package pades

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// A maze of CA certificates that all fit each other's names, under the slowest keys, and answers that each need a check: bounded work, and
// a verdict that is not good.
func TestMaze(t *testing.T) {
	l := newLab(t)
	keys := make([]*ecdsa.PrivateKey, 12)
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	issue := func(serial int64, cn string, subject, issuer int) []byte {
		name := func(i int) pkix.Name { return pkix.Name{CommonName: string(rune('A' + i))} }
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: name(subject), NotBefore: labTime.Add(-day), NotAfter: labTime.Add(year), IsCA: cn == "", BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
		if cn != "" {
			template.Subject = pkix.Name{CommonName: cn}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: name(issuer)}, keys[subject].Public(), keys[issuer])
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	var certs [][]byte
	serial := int64(1)
	for i := range keys {
		for j := range keys {
			if i != j {
				certs = append(certs, issue(serial, "", i, j))
				serial++
			}
		}
	}
	data := labDocument(labObjects())
	for i := range 6 {
		c, err := x509.ParseCertificate(issue(serial, "Leaf "+string(rune('0'+i)), i, i+1))
		if err != nil {
			t.Fatal(err)
		}
		serial++
		by := &holder{Certificate: c, key: keys[i], issuer: l.root}
		data = l.sign(data, seal{field: "S" + string(rune('0'+i)), at: labTime, by: by, bare: true})
	}
	data = l.store(data, certs, nil, nil)
	start := time.Now()
	r := validate(t, data, l.roots(), labTime.Add(time.Hour))
	if r.Verdict != CouldNotJudge {
		t.Errorf("%s", r.Summary)
	}
	// 2 × 250 checks of 2 ms at most; a loaded machine is several times slower.
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// A thousand revisions of nothing, and one object redefined again and again.
func TestManyRevisions(t *testing.T) {
	l := newLab(t)
	data := l.lta(labDocument(labObjects()), seal{})
	for range 200 {
		data = labUpdate(t, data, objects{docXMP: labStream("/Type /Metadata /Subtype /XML", "<x/>"), docContent: labStream("", evil)})
	}
	start := time.Now()
	r := validate(t, data, l.roots(), labTime.Add(time.Hour))
	if r.Verdict != Invalid || !r.Signatures[0].Modified || !r.Signatures[1].Modified {
		t.Errorf("%s", r.Text())
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// Names are shown as text, whatever is in them.
func TestHostileNames(t *testing.T) {
	l := newLab(t)
	l.signer = l.issue(l.clinicians, "Doctor\x1b[2J\u202eEvil\n\nTOTAL_PASSED", labTime.Add(-day), labTime.Add(year), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment })
	data := l.lta(labDocument(labObjects()), seal{extra: "/Reason (\x1b[31mred)"})
	text := []byte(validate(t, data, l.roots(), labTime.Add(time.Hour)).Text())
	if bytes.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("%q", text)
	}
}
