package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/cms"
)

var content = []byte("one prescription, byte for byte\r\n\x00\xff")

// TestOpenSSLAcceptsOurs has openssl verify what Sign makes, as CAdES, for every kind of key, and refuse it over another content.
func TestOpenSSLAcceptsOurs(t *testing.T) {
	for _, c := range []struct {
		id   string
		hash crypto.Hash
		pss  bool
	}{
		{"P-256", crypto.SHA256, false},
		{"P-256", crypto.SHA512, false},
		{"P-384", crypto.SHA384, false},
		{"P-521", crypto.SHA512, false},
		{"RSA-2048", crypto.SHA256, false},
		{"RSA-3072", crypto.SHA384, false},
		{"RSA-3072", crypto.SHA256, true},
		{"RSA-3072", crypto.SHA512, true},
	} {
		for _, detached := range []bool{true, false} {
			name := c.id + " " + c.hash.String()
			id := identities[c.id]()
			p := cms.SignParams{Hash: c.hash, Certificate: id.cert, Chain: []*x509.Certificate{id.root}, PSS: c.pss, Content: content}
			want := digest(c.hash, content)
			if detached {
				p.Content, p.MessageDigest = nil, want
			}
			s, err := cms.Sign(rand.Reader, p, id.key)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if cert, err := s.Verify(0, want); err != nil || !cert.Equal(id.cert) {
				t.Errorf("%s: our own verification: %v", name, err)
			}
			dir := t.TempDir()
			writeFile(t, dir, "cms", s.Bytes())
			writeFile(t, dir, "root", pemCert(id.root))
			writeFile(t, dir, "content", content)
			writeFile(t, dir, "other", append([]byte("x"), content...))
			args := []string{"cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", "cms", "-CAfile", "root", "-purpose", "any", "-out", "out"}
			if !detached {
				if out, err := openssl(t, dir, args...); err != nil {
					t.Errorf("%s: openssl: %v\n%s", name, err, out)
				}
				if got, _ := os.ReadFile(filepath.Join(dir, "out")); !bytes.Equal(got, content) {
					t.Errorf("%s: openssl took another content out", name)
				}
				continue
			}
			if out, err := openssl(t, dir, append(args, "-content", "content")...); err != nil {
				t.Errorf("%s: openssl: %v\n%s", name, err, out)
			}
			if out, err := openssl(t, dir, append(args, "-content", "other")...); err == nil {
				t.Errorf("%s: openssl accepts another content: %s", name, out)
			}
		}
	}
}

// TestOursAcceptsOpenSSL verifies what openssl signs in its many ways, and refuses the weak ones by name.
func TestOursAcceptsOpenSSL(t *testing.T) {
	for _, c := range []struct {
		id   string
		args string
		want error
	}{
		{"P-256", "-md sha256 -cades", nil},
		{"P-256", "-md sha256", nil}, // no signing-certificate attribute, and a signing-time
		{"P-384", "-md sha384 -keyid -cades", nil},
		{"P-521", "-md sha512 -cades -nodetach", nil},
		{"P-256", "-md sha512 -nocerts", nil}, // found among the certificates given
		{"RSA-2048", "-md sha256 -cades", nil},
		{"RSA-3072", "-md sha512 -cades -keyopt rsa_padding_mode:pss", nil},
		{"RSA-3072", "-md sha256 -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:20", nil},
		{"RSA-2048", "-md sha256 -keyopt rsa_padding_mode:pss -keyopt rsa_mgf1_md:sha512", cms.ErrAlgorithm},
		{"RSA-2048", "-md sha1 -keyopt rsa_padding_mode:pss", cms.ErrWeak},
		{"P-256", "-md sha1", cms.ErrWeak},
		{"RSA-2048", "-md sha1", cms.ErrWeak},
		{"RSA-2048", "-md md5", cms.ErrWeak},
		{"RSA-1024", "-md sha256", cms.ErrWeak},
		{"P-224", "-md sha256", cms.ErrWeak},
		{"RSA-2048", "-md sha3-256", cms.ErrUnsupported},
		{"P-256", "-md sha224", cms.ErrUnsupported},
		{"P-256", "-md sha256 -noattr", cms.ErrAttributes},
	} {
		id := identities[c.id]()
		s, err := cms.Parse(opensslSign(t, id, c.args))
		if err != nil {
			t.Errorf("%s %s: %v", c.id, c.args, err)
			continue
		}
		si := s.Signers[0]
		if c.want != nil {
			if _, err := s.Verify(0, si.MessageDigest, id.cert); !errors.Is(err, c.want) {
				t.Errorf("%s %s: error %v, want %v", c.id, c.args, err, c.want)
			}
			continue
		}
		if err := si.Acceptable(); err != nil {
			t.Errorf("%s %s: %v", c.id, c.args, err)
		}
		if cert, err := s.Verify(0, digest(si.DigestHash, content), id.cert); err != nil || !cert.Equal(id.cert) {
			t.Errorf("%s %s: %v", c.id, c.args, err)
		}
		if _, err := s.Verify(0, digest(si.DigestHash, []byte("other")), id.cert); !errors.Is(err, cms.ErrDigest) {
			t.Errorf("%s %s: another content: %v", c.id, c.args, err)
		}
	}
}

// opensslSign has openssl sign content.
func opensslSign(t *testing.T, id identity, args string) []byte {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir, "cert", pemCert(id.cert))
	writeFile(t, dir, "key", pemKey(t, id.key))
	writeFile(t, dir, "content", content)
	all := append([]string{"cms", "-sign", "-binary", "-outform", "DER", "-in", "content", "-signer", "cert", "-inkey", "key", "-out", "cms"}, strings.Fields(args)...)
	if out, err := openssl(t, dir, all...); err != nil {
		t.Fatalf("%s: openssl: %v\n%s", args, err, out)
	}
	der, err := os.ReadFile(filepath.Join(dir, "cms"))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestSignaturesOfOthers verifies signatures and time-stamp tokens that pyHanko made, over the digest that they themselves state.
func TestSignaturesOfOthers(t *testing.T) {
	for _, name := range []string{"pyhanko-p256-signature", "pyhanko-p256-token", "pyhanko-rsa3072-signature", "pyhanko-rsa3072-token"} {
		der, err := os.ReadFile(filepath.Join("testdata", name+".der"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := cms.Parse(der)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		stated := s.Signers[0].MessageDigest
		if s.Content != nil {
			stated = nil
		}
		if _, err := s.Verify(0, stated); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tokens, err := s.TimeStamps(0)
		if err != nil || len(tokens) != strings.Count(name, "signature") {
			t.Errorf("%s: %d time stamps, error %v", name, len(tokens), err)
		}
		for _, token := range tokens {
			stamp, err := cms.Parse(token)
			if err != nil {
				t.Fatalf("%s: token: %v", name, err)
			}
			if _, err := stamp.Verify(0, nil); err != nil {
				t.Errorf("%s: token: %v", name, err)
			}
			if ids, err := stamp.Signers[0].SigningCertificates(); err != nil || len(ids) == 0 || ids[0].Hash != crypto.SHA256 {
				t.Errorf("%s: ESSCertIDs %v, error %v", name, ids, err)
			}
		}
	}
}
