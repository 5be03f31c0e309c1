package wire

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestPacked(t *testing.T) {
	in := Signature{CMS: []byte("cms\n"), Certs: [][]byte{[]byte("a"), {}, []byte("\nb")}, OCSPs: [][]byte{[]byte("o")}}
	raw, err := encodeBody(in)
	if err != nil {
		t.Fatal(err)
	}
	var out Signature
	if err := decodeBody(raw, &out); err != nil || !reflect.DeepEqual(out, in) {
		t.Errorf("%+v, %v", out, err)
	}
	raw, err = encodeBody(Stamped{Token: []byte("token")})
	if err != nil {
		t.Fatal(err)
	}
	var token Stamped
	if err := decodeBody(raw, &token); err != nil || string(token.Token) != "token" {
		t.Errorf("%q, %v", token.Token, err)
	}
}

func TestPackedRefuses(t *testing.T) {
	const one, two, none, max = "\x00\x00\x00\x01", "\x00\x00\x00\x02", "\x00\x00\x00\x00", "\xff\xff\xff\xff"
	for what, raw := range map[string]string{
		"nothing":                   "",
		"half a count":              "\x00\x00",
		"JSON":                      `{"token":"AA=="}`,
		"no value":                  none,
		"two values":                two + one + "a" + one + "b",
		"a value that is not there": one,
		"half a length":             one + "\x00\x00",
		"a value that ends early":   one + two + "a",
		"a count of 4 billion":      max + one + "a",
		"a length of 4 GiB":         one + max + "a",
		"something behind":          one + one + "ab",
		"a list more":               one + one + "a" + none,
	} {
		if err := decodeBody([]byte(raw), new(Stamped)); err == nil {
			t.Errorf("%s: taken for a token", what)
		}
		if err := decodeBody([]byte(raw), new(Signature)); err == nil {
			t.Errorf("%s: taken for a signature", what)
		}
	}
	if err := decodeBody([]byte(two+strings.Repeat(one+"a", 2)+none+none+none), new(Signature)); err == nil {
		t.Error("two signatures are taken for one")
	}
}

func FuzzPacked(f *testing.F) {
	f.Add(Signature{CMS: []byte("c"), Certs: [][]byte{{1}, {2}}, CRLs: [][]byte{{}}}.pack())
	f.Add(Stamped{Token: []byte("t")}.pack())
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s Signature
		if s.unpack(raw) == nil && !bytes.Equal(s.pack(), raw) {
			t.Fatalf("%x is another form of %x", raw, s.pack())
		}
	})
}
