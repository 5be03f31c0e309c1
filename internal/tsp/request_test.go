package tsp_test

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/digitorus/timestamp"

	"github.com/veripath/aes-appliance/internal/tsp"
)

// tlv encodes one DER element, independently of the package under test.
func tlv(tag byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	switch n := len(body); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, body...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	}
}

func seq(parts ...[]byte) []byte { return tlv(0x30, parts...) }

func der(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

var (
	null     = []byte{5, 0}
	idSHA1   = der(asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26})
	idMD5    = der(asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5})
	idSHA256 = der(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1})
	policy   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}
	imprint  = seq(seq(idSHA256, null), tlv(4, make([]byte, 32)))
)

// openssl runs openssl ts in dir.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"ts"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("openssl cannot be run: %v; install the Debian package openssl", err)
	}
	if err != nil {
		t.Fatalf("openssl ts %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func requests() map[string]tsp.Request {
	digest := func(h crypto.Hash) tsp.Imprint {
		return tsp.Imprint{Hash: h, Digest: bytes.Repeat([]byte{0xa5}, h.Size())}
	}
	return map[string]tsp.Request{
		"bare":        {Imprint: digest(crypto.SHA256)},
		"all":         {Imprint: digest(crypto.SHA512), Policy: policy, Nonce: new(big.Int).SetBytes(bytes.Repeat([]byte{0xff}, tsp.MaxNonce-1)), CertReq: true},
		"nonce 0":     {Imprint: digest(crypto.SHA384), Nonce: big.NewInt(0)},
		"nonce below": {Imprint: digest(crypto.SHA256), Nonce: big.NewInt(-129), CertReq: true},
		"policy":      {Imprint: digest(crypto.SHA256), Policy: policy},
	}
}

func TestRequestLaw(t *testing.T) {
	for name, r := range requests() {
		b, err := r.Marshal()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := tsp.ParseRequest(b)
		if err != nil || !sameRequest(got, r) {
			t.Errorf("%s: %+v, error %v, want %+v", name, got, err, r)
		}
		again, err := got.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: marshalled again it differs", name)
		}
	}
}

func sameRequest(a, b tsp.Request) bool {
	nonces := a.Nonce == nil && b.Nonce == nil || a.Nonce != nil && b.Nonce != nil && a.Nonce.Cmp(b.Nonce) == 0
	return nonces && a.Imprint.Equal(b.Imprint) && a.Policy.Equal(b.Policy) && a.CertReq == b.CertReq
}

// TestRequestsOfOthers reads what openssl and digitorus/timestamp ask.
func TestRequestsOfOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "data"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want tsp.Request
		info tsp.FailInfo
	}{
		{"-sha256 -cert", tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA256}, CertReq: true}, 0},
		{"-sha384 -no_nonce", tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA384}}, 0},
		{"-sha512 -tspolicy 1.2.3.4", tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA512}, Policy: asn1.ObjectIdentifier{1, 2, 3, 4}}, 0},
		{"-sha1", tsp.Request{}, tsp.BadAlg},
		{"-md5", tsp.Request{}, tsp.BadAlg},
		{"-sha3-256", tsp.Request{}, tsp.BadAlg},
	} {
		openssl(t, dir, append([]string{"-query", "-data", "data", "-out", "tsq"}, strings.Fields(c.args)...)...)
		b, err := os.ReadFile(filepath.Join(dir, "tsq"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := tsp.ParseRequest(b)
		if c.info != 0 {
			wantFailure(t, c.args, err, c.info)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		d := c.want.Hash.New()
		d.Write([]byte("data"))
		c.want.Digest, c.want.Nonce = d.Sum(nil), got.Nonce
		if !sameRequest(got, c.want) || (got.Nonce == nil) != strings.Contains(c.args, "-no_nonce") {
			t.Errorf("%s: %+v, want %+v", c.args, got, c.want)
		}
		if again, err := got.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: marshalled again it differs", c.args)
		}
	}
	theirs, err := (&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: make([]byte, 32), Certificates: true, TSAPolicyOID: policy, Nonce: big.NewInt(77)}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := tsp.ParseRequest(theirs)
	if want := (tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: make([]byte, 32)}, Policy: policy, Nonce: big.NewInt(77), CertReq: true}); err != nil || !sameRequest(got, want) {
		t.Errorf("digitorus: %+v, error %v", got, err)
	}
}

// TestOthersReadOurRequests has openssl and digitorus/timestamp read what Marshal writes.
func TestOthersReadOurRequests(t *testing.T) {
	dir := t.TempDir()
	for name, r := range requests() {
		b, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tsq"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		text := openssl(t, dir, "-query", "-in", "tsq", "-text")
		for _, want := range []string{"Version: 1", "Hash Algorithm: sha", "Certificate required: " + map[bool]string{true: "yes", false: "no"}[r.CertReq]} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: openssl does not say %q:\n%s", name, want, text)
			}
		}
		theirs, err := timestamp.ParseRequest(b)
		if err != nil || theirs.HashAlgorithm != r.Hash || !bytes.Equal(theirs.HashedMessage, r.Digest) || theirs.Certificates != r.CertReq ||
			!theirs.TSAPolicyOID.Equal(r.Policy) || r.Nonce != nil && theirs.Nonce.Cmp(r.Nonce) != 0 {
			t.Errorf("%s: digitorus reads %+v, error %v", name, theirs, err)
		}
	}
}

func wantFailure(t *testing.T, name string, err error, info tsp.FailInfo) {
	t.Helper()
	var f *tsp.Failure
	if !errors.As(err, &f) || f.Info != info || f.Text == "" {
		t.Errorf("%s: error %v, want %v", name, err, info)
	}
}

func TestRequestRefused(t *testing.T) {
	one := der(1)
	for name, c := range map[string]struct {
		der  []byte
		info tsp.FailInfo
	}{
		"nothing":                 {nil, tsp.BadDataFormat},
		"not a sequence":          {one, tsp.BadDataFormat},
		"empty":                   {seq(), tsp.BadDataFormat},
		"a tail":                  {append(seq(one, imprint), 0), tsp.BadDataFormat},
		"cut short":               {seq(one, imprint)[:40], tsp.BadDataFormat},
		"indefinite length":       {[]byte{0x30, 0x80, 0, 0}, tsp.BadDataFormat},
		"too long":                {seq(one, imprint, make([]byte, tsp.MaxRequest)), tsp.BadRequest},
		"version 0":               {seq(der(0), imprint), tsp.BadRequest},
		"version 2":               {seq(der(2), imprint), tsp.BadRequest},
		"huge version":            {seq(tlv(2, bytes.Repeat([]byte{1}, 90)), imprint), tsp.BadDataFormat},
		"version not minimal":     {seq([]byte{2, 2, 0, 1}, imprint), tsp.BadDataFormat},
		"no imprint":              {seq(one), tsp.BadDataFormat},
		"SHA-1":                   {seq(one, seq(seq(idSHA1, null), tlv(4, make([]byte, 20)))), tsp.BadAlg},
		"MD5":                     {seq(one, seq(seq(idMD5, null), tlv(4, make([]byte, 16)))), tsp.BadAlg},
		"unknown hash":            {seq(one, seq(seq(der(policy)), tlv(4, make([]byte, 32)))), tsp.BadAlg},
		"parameters":              {seq(one, seq(seq(idSHA256, one), tlv(4, make([]byte, 32)))), tsp.BadDataFormat},
		"two parameters":          {seq(one, seq(seq(idSHA256, null, null), tlv(4, make([]byte, 32)))), tsp.BadDataFormat},
		"imprint too short":       {seq(one, seq(seq(idSHA256), tlv(4, make([]byte, 31)))), tsp.BadDataFormat},
		"imprint too long":        {seq(one, seq(seq(idSHA256), tlv(4, make([]byte, 33)))), tsp.BadDataFormat},
		"imprint empty":           {seq(one, seq(seq(idSHA256), tlv(4))), tsp.BadDataFormat},
		"imprint with a tail":     {seq(one, seq(seq(idSHA256), tlv(4, make([]byte, 32)), null)), tsp.BadDataFormat},
		"policy under 2.25":       {seq(one, imprint, tlv(6, []byte{0x69, 0x8f, 0xff, 0xff, 0xff, 0xff, 0x7f})), tsp.UnacceptedPolicy},
		"nonce too long":          {seq(one, imprint, tlv(2, bytes.Repeat([]byte{1}, tsp.MaxNonce+1))), tsp.BadRequest},
		"nonce empty":             {seq(one, imprint, tlv(2)), tsp.BadDataFormat},
		"nonce not minimal":       {seq(one, imprint, []byte{2, 2, 0, 1}), tsp.BadDataFormat},
		"two nonces":              {seq(one, imprint, der(1), der(2)), tsp.BadDataFormat},
		"certReq 1":               {seq(one, imprint, []byte{1, 1, 1}), tsp.BadDataFormat},
		"certReq before nonce":    {seq(one, imprint, []byte{1, 1, 0xff}, der(5)), tsp.BadDataFormat},
		"an extension":            {seq(one, imprint, tlv(0xa0, seq(der(policy), tlv(4)))), tsp.UnacceptedExtension},
		"no extensions in theirs": {seq(one, imprint, tlv(0xa0)), tsp.UnacceptedExtension},
		"an unknown element":      {seq(one, imprint, tlv(0xa1)), tsp.BadDataFormat},
	} {
		r, err := tsp.ParseRequest(c.der)
		wantFailure(t, name, err, c.info)
		if !reflect.DeepEqual(r, tsp.Request{}) {
			t.Errorf("%s: half a request was returned", name)
		}
	}
}

func TestExplicitCertReqFalseIsLetPass(t *testing.T) {
	r, err := tsp.ParseRequest(seq(der(1), imprint, []byte{1, 1, 0}))
	if err != nil || r.CertReq {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRequestNotMarshalled(t *testing.T) {
	good := tsp.Imprint{Hash: crypto.SHA256, Digest: make([]byte, 32)}
	for name, r := range map[string]tsp.Request{
		"no imprint":      {},
		"SHA-1":           {Imprint: tsp.Imprint{Hash: crypto.SHA1, Digest: make([]byte, 20)}},
		"short imprint":   {Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: make([]byte, 20)}},
		"long nonce":      {Imprint: good, Nonce: new(big.Int).Lsh(big.NewInt(1), 8*tsp.MaxNonce-1)},
		"impossible OID":  {Imprint: good, Policy: asn1.ObjectIdentifier{9, 9}},
		"one-part policy": {Imprint: good, Policy: asn1.ObjectIdentifier{1}},
	} {
		if b, err := r.Marshal(); err == nil {
			t.Errorf("%s: %x", name, b)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, r := range requests() {
		b, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(seq(der(1), imprint, tlv(0xa0, seq(der(policy), tlv(4)))))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := tsp.ParseRequest(data)
		if err != nil {
			var failure *tsp.Failure
			if !errors.As(err, &failure) || failure.Info == 0 {
				t.Fatalf("not a failure to tell: %v", err)
			}
			if _, err := failure.Response().Marshal(); err != nil {
				t.Errorf("the refusal cannot be sent: %v", err)
			}
			return
		}
		again, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		explicitFalse := []byte{1, 1, 0}
		if !bytes.Equal(again, data) && !bytes.Contains(data, explicitFalse) {
			t.Errorf("%x became %x", data, again)
		}
	})
}
