package cms_test

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
)

func TestParseRefuses(t *testing.T) {
	id := identities["P-256"]()
	good := newParts(id).build()
	for name, c := range map[string]struct {
		der  []byte
		want error
	}{
		"nothing":                     {nil, cms.ErrMalformed},
		"a tail":                      {append(slices.Clone(good), 0), cms.ErrMalformed},
		"cut short":                   {good[:len(good)-1], cms.ErrMalformed},
		"indefinite length":           {[]byte{0x30, 0x80, 0, 0}, cms.ErrUnsupported},
		"length longer than need be":  {[]byte{0x30, 0x81, 0x01, 0x05}, cms.ErrMalformed},
		"id-data":                     {seq(idData, tlv(0xa0, tlv(4, nil))), cms.ErrUnsupported},
		"no content":                  {seq(idSignedData), cms.ErrMalformed},
		"two contents":                {seq(idSignedData, tlv(0xa0, seq(), seq())), cms.ErrMalformed},
		"empty":                       {contentInfo(), cms.ErrMalformed},
		"version 0":                   {alter(id, func(p *parts) { p.version = der(0) }), cms.ErrMalformed},
		"version 6":                   {alter(id, func(p *parts) { p.version = der(6) }), cms.ErrMalformed},
		"huge version":                {alter(id, func(p *parts) { p.version = tlv(2, bytes.Repeat([]byte{1}, 100)) }), cms.ErrMalformed},
		"digest algorithm not one":    {alter(id, func(p *parts) { p.digestAlgs = set(der(1)) }), cms.ErrMalformed},
		"digest algorithms as list":   {alter(id, func(p *parts) { p.digestAlgs = seq() }), cms.ErrMalformed},
		"content constructed":         {alter(id, func(p *parts) { p.encap = seq(idData, tlv(0xa0, tlv(0x24, tlv(4, content)))) }), cms.ErrMalformed},
		"content of another type":     {alter(id, func(p *parts) { p.encap = seq(idData, tlv(0xa0, tlv(0x0c, content))) }), cms.ErrMalformed},
		"content with a tail":         {alter(id, func(p *parts) { p.encap = seq(idData, tlv(0xa0, tlv(4, content)), null) }), cms.ErrMalformed},
		"no content type":             {alter(id, func(p *parts) { p.encap = seq() }), cms.ErrMalformed},
		"certificates not elements":   {alter(id, func(p *parts) { p.certificates = tlv(0xa0, []byte{0x30}) }), cms.ErrMalformed},
		"CRL of no kind":              {alter(id, func(p *parts) { p.crls = tlv(0xa1, der(1)) }), cms.ErrMalformed},
		"CRLs not elements":           {alter(id, func(p *parts) { p.crls = tlv(0xa1, []byte{0x30}) }), cms.ErrMalformed},
		"other revocation, no format": {alter(id, func(p *parts) { p.crls = tlv(0xa1, tlv(0xa1, der(1))) }), cms.ErrMalformed},
		"SignerInfo version 2":        {alter(id, func(p *parts) { p.infoVersion = der(2) }), cms.ErrMalformed},
		"no signer identifier":        {alter(id, func(p *parts) { p.sid = nil }), cms.ErrMalformed},
		"serial not an integer":       {alter(id, func(p *parts) { p.sid = seq(id.cert.RawIssuer, null) }), cms.ErrMalformed},
		"no digest algorithm":         {alter(id, func(p *parts) { p.digestAlg = seq() }), cms.ErrMalformed},
		"empty attributes":            {alter(id, func(p *parts) { p.attrs = [][]byte{{}} }), cms.ErrMalformed},
		"attribute without values":    {alter(id, func(p *parts) { p.attrs[0] = attribute(idContentType) }), cms.ErrMalformed},
		"attribute with a tail":       {alter(id, func(p *parts) { p.attrs[0] = seq(idContentType, set(idData), null) }), cms.ErrMalformed},
		"attribute not a sequence":    {alter(id, func(p *parts) { p.attrs[0] = set(idContentType) }), cms.ErrMalformed},
		"very long attribute type":    {alter(id, func(p *parts) { p.attrs[0] = attribute(tlv(6, bytes.Repeat([]byte{1}, 65)), null) }), cms.ErrLimit},
		"attribute value cut short":   {alter(id, func(p *parts) { p.attrs[0] = seq(idContentType, set([]byte{4})) }), cms.ErrMalformed},
		"two parameters":              {alter(id, func(p *parts) { p.sigAlg = seq(idECDSAWithSHA256, null, null) }), cms.ErrMalformed},
		"no signature algorithm":      {alter(id, func(p *parts) { p.sigAlg = nil }), cms.ErrMalformed},
		"empty unsigned attributes":   {alter(id, func(p *parts) { p.unsigned = tlv(0xa1) }), cms.ErrMalformed},
		"element after the end":       {alter(id, func(p *parts) { p.after = tlv(0xa2) }), cms.ErrMalformed},
		"two unsigned attributes":     {alter(id, func(p *parts) { p.unsigned = slices.Repeat(tlv(0xa1, attribute(idTimeStampToken, seq())), 2) }), cms.ErrMalformed},

		"too many certificates":      {alter(id, func(p *parts) { p.certificates = tlv(0xa0, bytes.Repeat(seq(), cms.MaxCertificates+1)) }), cms.ErrLimit},
		"too many CRLs":              {alter(id, func(p *parts) { p.crls = tlv(0xa1, bytes.Repeat(seq(), cms.MaxRevocations+1)) }), cms.ErrLimit},
		"too many digest algorithms": {alter(id, func(p *parts) { p.digestAlgs = set(bytes.Repeat(seq(idSHA256), cms.MaxSigners+1)) }), cms.ErrLimit},
		"too many attributes": {alter(id, func(p *parts) {
			p.unsigned = tlv(0xa1, bytes.Repeat(attribute(oid(1, 2, 3), null), cms.MaxAttributes+1))
		}), cms.ErrLimit},
		"too many values": {alter(id, func(p *parts) { p.unsigned = tlv(0xa1, attribute(oid(1, 2, 3), bytes.Repeat(null, cms.MaxValues+1))) }), cms.ErrLimit},
		"too large":       {make([]byte, cms.MaxSize+1), cms.ErrLimit},
	} {
		s, err := cms.Parse(c.der)
		if !errors.Is(err, c.want) || s != nil {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

// alter builds a SignedData with one thing changed; what is signed does not matter here.
func alter(id identity, change func(*parts)) []byte {
	p := newParts(id)
	p.signature = []byte{1}
	change(p)
	return p.build()
}

func TestTooManySigners(t *testing.T) {
	info := seq(der(1), seq(seq(), der(1)), seq(idSHA256), seq(idECDSAWithSHA256), tlv(4, []byte{1}))
	for n, want := range map[int]error{0: nil, cms.MaxSigners: nil, cms.MaxSigners + 1: cms.ErrLimit} {
		s, err := cms.Parse(contentInfo(der(1), set(), seq(idData), set(bytes.Repeat(info, n))))
		if !errors.Is(err, want) {
			t.Errorf("%d signers: %v", n, err)
		}
		if err == nil && len(s.Signers) != n {
			t.Errorf("%d signers, want %d", len(s.Signers), n)
		}
	}
}

func TestParsedParts(t *testing.T) {
	id := identities["P-256"]()
	p := newParts(id)
	ocsp := tlv(0xa1, oid(1, 3, 6, 1, 5, 5, 7, 16, 2), seq(der(2)))
	p.crls = tlv(0xa1, seq(der(1)), ocsp, tlv(0xa1, oid(1, 2, 3), seq(der(3))))
	p.certificates = tlv(0xa0, seq(der(1)), id.cert.Raw)
	whole := p.build()
	s, err := cms.Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.Bytes(), whole) || !bytes.Equal(s.Content, content) || !s.ContentType.Equal(cms.IDData()) || s.Version != 1 {
		t.Error("content or bytes differ")
	}
	if len(s.CRLs) != 1 || !bytes.Equal(s.CRLs[0], seq(der(1))) || len(s.OCSPs) != 1 || !bytes.Equal(s.OCSPs[0], seq(der(2))) {
		t.Errorf("CRLs %x, OCSPs %x", s.CRLs, s.OCSPs)
	}
	if len(s.Certificates) != 1 || !s.Certificates[0].Equal(id.cert) || len(s.Unreadable) != 1 {
		t.Errorf("%d certificates, %d unreadable", len(s.Certificates), len(s.Unreadable))
	}
	si := s.Signers[0]
	if si.DigestHash != crypto.SHA256 || si.SID.Serial.Cmp(id.cert.SerialNumber) != 0 || !bytes.Equal(si.SID.RawIssuer, id.cert.RawIssuer) {
		t.Errorf("signer %+v", si)
	}
	if !bytes.Equal(si.MessageDigest, digest(crypto.SHA256, content)) || len(si.SignedAttrs) != 3 || len(si.UnsignedAttrs) != 0 {
		t.Errorf("attributes %+v", si.SignedAttrs)
	}
}

func TestEmptyContentIsNotDetached(t *testing.T) {
	s, err := cms.Parse(contentInfo(der(1), set(), seq(idData, tlv(0xa0, tlv(4))), set()))
	if err != nil || s.Content == nil || len(s.Content) != 0 {
		t.Errorf("content %v, error %v", s.Content, err)
	}
}

func TestTrimPadding(t *testing.T) {
	element := seq(der(1), bytes.Repeat([]byte{4, 1, 0}, 100))
	for _, n := range []int{0, 1, 1000} {
		got, err := cms.TrimPadding(append(slices.Clone(element), make([]byte, n)...))
		if err != nil || !bytes.Equal(got, element) {
			t.Errorf("%d zeros: %v", n, err)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":         nil,
		"zeros":           make([]byte, 10),
		"not a sequence":  {4, 1, 0},
		"cut short":       element[:len(element)-1],
		"a second one":    append(slices.Clone(element), element...),
		"a byte in zeros": append(slices.Clone(element), 0, 0, 1, 0),
	} {
		if got, err := cms.TrimPadding(bad); !errors.Is(err, cms.ErrMalformed) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestBERIsCalledByItsName(t *testing.T) {
	ber := []byte{0x30, 0x80, 0x06, 0x01, 0x00, 0, 0}
	if _, err := cms.TrimPadding(ber); !errors.Is(err, cms.ErrUnsupported) || !strings.Contains(err.Error(), "BER") {
		t.Error(err)
	}
	if _, err := cms.Parse(ber); !errors.Is(err, cms.ErrUnsupported) || !strings.Contains(err.Error(), "BER") {
		t.Error(err)
	}
}

// TestWorstInputsStayCheap measures inputs of 64 KB made to cost as much as they can.
func TestWorstInputsStayCheap(t *testing.T) {
	id := identities["P-256"]()
	small := makeCert("x", 1, nil, id.key.Public(), id.key, nil).Raw
	for name, change := range map[string]func(p *parts){
		"certificates": func(p *parts) {
			p.certificates = tlv(0xa0, bytes.Repeat(small, min(cms.MaxCertificates, 60000/len(small))))
		},
		"one long name": func(p *parts) {
			p.sid = seq(seq(bytes.Repeat(set(seq(oid(2, 5, 4, 3), tlv(12, []byte("x")))), 4500)), der(0x8001))
		},
		"a long serial":     func(p *parts) { p.sid = seq(id.cert.RawIssuer, tlv(2, bytes.Repeat([]byte{1}, 60000))) },
		"a long OID":        func(p *parts) { p.attrs[0] = attribute(tlv(6, bytes.Repeat([]byte{1}, 60000)), null) },
		"a long OID number": func(p *parts) { p.attrs[0] = attribute(tlv(6, bytes.Repeat([]byte{0x81}, 60000)), null) },
		"attributes": func(p *parts) {
			p.attrs = append(p.attrs, bytes.Repeat(attribute(oid(1, 2, 3), bytes.Repeat(null, cms.MaxValues)), cms.MaxAttributes-3))
		},
		"ESSCertIDs": func(p *parts) {
			p.attrs[2] = attribute(idSigningCertV2, seq(seq(bytes.Repeat(seq(tlv(4, make([]byte, 32))), 1500))))
		},
		"long signature": func(p *parts) {
			p.signature = seq(tlv(2, bytes.Repeat([]byte{1}, 30000)), tlv(2, bytes.Repeat([]byte{1}, 30000)))
		},
	} {
		p := newParts(id)
		change(p)
		whole := p.build()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		if s, err := cms.Parse(whole); err == nil {
			s.Verify(0, nil, slices.Repeat(s.Certificates, 1)...) //nolint:errcheck // only its cost counts here
			s.WithTimeStamp(seq())                                //nolint:errcheck
		}
		spent := time.Since(start)
		runtime.ReadMemStats(&after)
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; spent > time.Second/2 || mb > 64 {
			t.Errorf("%s: %d bytes took %v and %d MB", name, len(whole), spent, mb)
		}
	}
}

func FuzzParse(f *testing.F) {
	id := identities["P-256"]()
	f.Add(newParts(id).build())
	samples, err := filepath.Glob(filepath.Join("testdata", "*.der"))
	if err != nil || len(samples) == 0 {
		f.Fatal("no samples", err)
	}
	for _, name := range samples {
		sample, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sample)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := cms.Parse(data)
		if err != nil {
			if s != nil || !known(err) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !bytes.Equal(s.Bytes(), data) {
			t.Error("the bytes changed")
		}
		for i := range s.Signers {
			if _, err := s.Verify(i, nil, id.cert); err != nil && !known(err) {
				t.Errorf("signer %d: error %v", i, err)
			}
			if _, err := s.Signers[i].SigningCertificates(); err != nil && !known(err) {
				t.Errorf("signer %d: error %v", i, err)
			}
		}
		if len(s.Signers) == 0 {
			return
		}
		stamped, err := s.WithTimeStamp(seq(der(1)))
		if err != nil {
			if !errors.Is(err, cms.ErrLimit) {
				t.Errorf("time stamp: %v", err)
			}
			return
		}
		tokens, _ := stamped.TimeStamps(0)
		old, _ := s.TimeStamps(0)
		if len(tokens) != len(old)+1 || !slices.ContainsFunc(tokens, func(b []byte) bool { return bytes.Equal(b, seq(der(1))) }) {
			t.Errorf("%d tokens after %d", len(tokens), len(old))
		}
	})
}

// known reports whether err wraps one of the package's reasons.
func known(err error) bool {
	for _, reason := range []error{cms.ErrMalformed, cms.ErrLimit, cms.ErrUnsupported, cms.ErrWeak, cms.ErrAlgorithm, cms.ErrCertificate,
		cms.ErrESS, cms.ErrAttributes, cms.ErrContentType, cms.ErrDigest, cms.ErrSignature} {
		if errors.Is(err, reason) {
			return strings.HasPrefix(err.Error(), "cms: ")
		}
	}
	return false
}

func FuzzTrimPadding(f *testing.F) {
	f.Add(append(seq(der(1)), 0, 0))
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := cms.TrimPadding(data)
		if err == nil && (!bytes.HasPrefix(data, got) || len(bytes.Trim(data[len(got):], "\x00")) > 0) {
			t.Errorf("%x of %x", got, data)
		}
	})
}
