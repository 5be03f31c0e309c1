package pades

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// A demo's files are valid by a demo's root, and say at every place where the verdict stands that this proves nothing.
func TestDemoIsNamed(t *testing.T) {
	plain := newLab(t)
	signed := plain.lta(labDocument(labObjects()), seal{})
	r := validate(t, signed, plain.roots(), labTime.Add(time.Hour))
	if text := r.Text(); strings.Contains(text, "DEMO") || strings.Contains(text, "demonstration") {
		t.Errorf("an honest file is called a demo's\n%s", text)
	}
	for name, change := range map[string]func(l *lab){
		"signer's policy": func(l *lab) { l.signer = l.reissue(l.signer, policy(1, 3, 6, 1, 4, 1, 32473, 2019, 1, 1)) },
		"signer's issuer": func(l *lab) {
			start := labTime.Add(-48 * time.Hour)
			l.clinicians = l.issue(l.root, "DEMO ONLY Clinician CA", start, start.Add(10*year), asCA)
			l.signer = l.issue(l.clinicians, "Doctor Lab", start, start.Add(year), asCommitment)
			l.signerOCSP = l.issue(l.clinicians, "Lab OCSP 1", start, start.Add(30*day), asResponder)
		},
		"time stamp's authority": func(l *lab) {
			l.tsa = l.issue(l.times, "DEMO ONLY TSA", labTime.Add(-day), labTime.Add(5*year), asTSA)
		},
		"time stamp's policy": func(l *lab) { l.policy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 2019, 1, 1, 100} },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			change(l)
			r := validate(t, l.lta(labDocument(labObjects()), seal{}), l.roots(), labTime.Add(time.Hour))
			expect(t, r, passedLTA)
			if !strings.HasSuffix(r.Summary, " (DEMO).") || !slices.Contains(r.Warnings, demoWarning) || !slices.Contains(r.Signatures[0].Warnings, demoWarning) {
				t.Errorf("not named\n%s", r.Text())
			}
			data, err := json.Marshal(r)
			if err != nil || !bytes.Contains(data, []byte(`"warnings":["`+demoWarning)) {
				t.Errorf("JSON: %v %s", err, data)
			}
			if !strings.Contains(r.Text(), "\nWarning: "+demoWarning) {
				t.Error(r.Text())
			}
		})
	}
	for oid, want := range map[string]bool{"1.3.6.1.4.1.32473.2019": true, "1.3.6.1.4.1.32473.20190": false, "1.3.6.1.4.1.32473.1": false, "1.3.6.1.4.1.32473": false} {
		var id asn1.ObjectIdentifier
		for _, arc := range strings.Split(oid, ".") {
			n := 0
			for _, c := range arc {
				n = 10*n + int(c-'0')
			}
			id = append(id, n)
		}
		if underDemoArc(id) != want {
			t.Errorf("%s: %v", oid, !want)
		}
	}
}

func asCommitment(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }

func policy(arcs ...int) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		asCommitment(c)
		value, _ := asn1.Marshal([]struct{ ID asn1.ObjectIdentifier }{{arcs}})
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: value})
	}
}

// reissue makes a certificate like h's.
func (l *lab) reissue(h *holder, mod func(*x509.Certificate)) *holder {
	return l.issue(h.issuer, h.Subject.CommonName, h.NotBefore, h.NotAfter, mod)
}

// A report says where the trust came from, counts properly and writes serials as they are listed.
func TestReportNamesTheAnchor(t *testing.T) {
	l := newLab(t)
	r := validate(t, l.sign(labDocument(labObjects()), seal{at: labTime}), l.roots(), labTime.Add(time.Hour))
	text := r.Text()
	want := "Trust anchor: CN=Lab Root,O=Lab,C=GB, SHA-256 " + fingerprint(l.root.Certificate)[:16] + "…\n"
	if strings.Count(text, want) != 1 {
		t.Errorf("want once %q\n%s", want, text)
	}
	if !strings.Contains(text, "serial "+strings.Repeat("0", 29)+"3ec, ") { // 1004
		t.Errorf("serial of %d\n%s", l.signer.SerialNumber, text)
	}
	for n, want := range map[int]string{1: "1 revision", 2: "2 revisions"} {
		if got := revisionCount(n); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestDistinguishedName(t *testing.T) {
	for _, c := range []struct {
		name pkix.RDNSequence
		want string
	}{
		{pkix.RDNSequence{{atv("C", 2, 5, 4, 6)}, {atv("Zoë, née \"X\"", 2, 5, 4, 42)}, {atv("#Sur+name ", 2, 5, 4, 4)}, {atv("GM:GB-1", 2, 5, 4, 5), atv("CN", 2, 5, 4, 3)}},
			`CN=CN+serialNumber=GM:GB-1,surname=\#Sur\+name\ ,givenName=Zoë\, née \"X\",C=C`},
		{pkix.RDNSequence{{atv("VATGB-1", 2, 5, 4, 97)}, {atv("x", 1, 2, 3)}, {{Type: []int{2, 5, 4, 3}, Value: 5}}}, "2.5.4.3=#020105,1.2.3=#130178,organizationIdentifier=VATGB-1"},
		{pkix.RDNSequence{}, ""},
	} {
		der, err := asn1.Marshal(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := distinguishedName(der); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
	if got := distinguishedName([]byte{0x30}); got != "(an unreadable name)" {
		t.Error(got)
	}
}

func atv(value string, oid ...int) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

// Who asks about a time before the signature is told so, before anything about statuses that were not there yet.
func TestJudgedBeforeItWasMade(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	const want = "judged at a time before the signature was made"
	for _, before := range []time.Duration{time.Hour, 3 * year} { // the certificates were there, or not
		r := validate(t, signed, l.roots(), labTime.Add(-before))
		if !strings.Contains(r.Summary, want) || r.Good() {
			t.Errorf("%s before\n%s", before, r.Text())
		}
	}
	if text := validate(t, signed, l.roots(), labTime.Add(time.Hour)).Text(); strings.Contains(text, want) {
		t.Error(text)
	}
	forged := bytes.Replace(signed, []byte("Amoxicillin"), []byte("Amoxapine!!"), 1)
	if r := validate(t, forged, l.roots(), labTime.Add(-time.Hour)); strings.Contains(r.Summary, want) || r.Verdict != Invalid {
		t.Errorf("what no time cures comes first\n%s", r.Text())
	}
}

// Bytes after the end were added, or are what is left of a revision: the report cannot know, and says so.
func TestCutOff(t *testing.T) {
	l := newLab(t)
	signed := l.sign(labDocument(labObjects()), seal{at: labTime})
	for name, data := range map[string][]byte{
		"cut off": func() []byte {
			later := labUpdate(t, signed, objects{docInfo: "<< /Title (Other) >>"})
			return later[:len(later)-20]
		}(),
		"added": append(bytes.Clone(signed), "more"...),
	} {
		r, err := Validate(context.Background(), data, ValidateOptions{Roots: l.roots(), At: labTime.Add(time.Hour)})
		if err != nil {
			t.Fatal(name, err)
		}
		if r.Verdict != Invalid || !strings.Contains(r.Summary, "the document was modified after signing, or the file was cut off (revision 2: ") ||
			!strings.Contains(r.Text(), "Reason: the document was modified after signing, or the file was cut off\n") {
			t.Errorf("%s\n%s", name, r.Text())
		}
	}
	content := labUpdate(t, signed, objects{docContent: labStream("", "BT ET")})
	if r := validate(t, content, l.roots(), labTime.Add(time.Hour)); strings.Contains(r.Text(), "cut off") {
		t.Error(r.Text())
	}
}
