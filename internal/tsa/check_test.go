package tsa_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/tsa"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// tokenOver makes a token over data with whatever certificate, as an authority that does not look at its own would.
func tokenOver(t *testing.T, p pki, cert *x509.Certificate, data string, at time.Time) []byte {
	t.Helper()
	authority := newTSA(t, config(p))
	token, info, err := authority.Stamp(ctx, imprintOf(crypto.SHA256, data))
	if err != nil || cert == p.cert && at.IsZero() {
		return token
	}
	if !at.IsZero() {
		info.GenTime = at
	}
	content, err := info.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := cms.Sign(rand.Reader, cms.SignParams{ContentType: tsp.ContentType(), Content: content, Hash: crypto.SHA256, Certificate: cert, Chain: []*x509.Certificate{p.ca}}, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed.Bytes()
}

// A token is believed for what it says of the data, by whom, and for no other reason.
func TestCheck(t *testing.T) {
	p, other := pkis["P-256"](), pkis["P-384"]()
	token := tokenOver(t, p, p.cert, "data", time.Time{})
	got, err := tsa.Check(token, []byte("data"), []*x509.Certificate{other.root, p.root})
	if err != nil || !got.Certificate.Equal(p.cert) || !got.Info.GenTime.Equal(now.Truncate(time.Second)) {
		t.Fatal(got, err)
	}
	for name, c := range map[string]struct {
		token []byte
		data  string
		roots []*x509.Certificate
		text  string // "" = ErrUntrusted
	}{
		"other data":      {token, "other", []*x509.Certificate{p.root}, "over something else"},
		"no roots":        {token, "data", nil, ""},
		"another root":    {token, "data", []*x509.Certificate{other.root}, ""},
		"nothing":         {nil, "data", []*x509.Certificate{p.root}, "the token"},
		"a flipped bit":   {flipped(token), "data", []*x509.Certificate{p.root}, "signature"},
		"not critical":    {tokenOver(t, p, p.issue(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{eku(false, 8)} }), "data", time.Time{}), "data", []*x509.Certificate{p.root}, "not for time stamps alone"},
		"another purpose": {tokenOver(t, p, p.issue(func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{eku(true, 8, 9)} }), "data", time.Time{}), "data", []*x509.Certificate{p.root}, "not for time stamps alone"},
		"before its life": {tokenOver(t, p, p.cert, "data", now.Add(-48*time.Hour).Truncate(time.Second)), "data", []*x509.Certificate{p.root}, ""},
		"after its life":  {tokenOver(t, p, p.cert, "data", now.Add(48*time.Hour).Truncate(time.Second)), "data", []*x509.Certificate{p.root}, ""},
	} {
		_, err := tsa.Check(c.token, []byte(c.data), c.roots)
		if errors.Is(err, tsa.ErrUntrusted) != (c.text == "") || err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// flipped changes the last byte, which is the signature's.
func flipped(token []byte) []byte {
	out := bytes.Clone(token)
	out[len(out)-1] ^= 1
	return out
}
