package enrol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func join() Join {
	j := Join{
		Expires: time.Unix(1_800_000_000, 0).UTC(), LogKey: ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey),
		Origin: "aes.example/audit", Backup: "backup.example.org:7443",
	}
	for i := range j.Secret {
		j.Secret[i] = byte(i)
	}
	for i := range j.Primary {
		j.Primary[i] = byte(200 - i)
	}
	return j
}

func restore() Restore {
	j := join()
	return Restore{Expires: j.Expires, Secret: j.Secret, Backup: j.Primary, Origin: j.Origin}
}

func TestCodesComeBack(t *testing.T) {
	code, err := join().Code()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{code, " " + code + "\n", code[:40] + "\r\n  " + code[40:]} {
		got, err := ParseJoin(text)
		if err != nil || !reflect.DeepEqual(got, join()) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	if len(code) > 250 {
		t.Errorf("a code of %d characters", len(code))
	}
	code, err = restore().Code()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseRestore(code); err != nil || got != restore() {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestAnySlipIsFound changes each character of a code, leaves each out, and doubles each.
func TestAnySlipIsFound(t *testing.T) {
	code, err := join().Code()
	if err != nil {
		t.Fatal(err)
	}
	for i := range code {
		other := byte('A')
		if code[i] == other {
			other = 'B'
		}
		for _, slip := range []string{code[:i] + string(other) + code[i+1:], code[:i] + code[i+1:], code[:i] + code[i:i+1] + code[i:], code[:i]} {
			if slip == code {
				continue
			}
			if _, err := ParseJoin(slip); !errors.Is(err, ErrCode) {
				t.Fatalf("%q: %v", slip, err)
			}
		}
	}
}

func TestCodesRejected(t *testing.T) {
	good, err := join().Code()
	if err != nil {
		t.Fatal(err)
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(good, joinPrefix))
	if err != nil {
		t.Fatal(err)
	}
	body = body[:len(body)-checkSize]
	change := func(f func([]byte) []byte) string { return seal(joinPrefix, f(bytes.Clone(body))) }
	originAt := 1 + 8 + SecretSize + len(Key{}) + ed25519.PublicKeySize
	for what, code := range map[string]string{
		"nothing":                   "",
		"the prefix":                joinPrefix,
		"a restore code":            strings.Replace(good, joinPrefix, restorePrefix, 1),
		"something else":            "hello",
		"padding":                   good + "=",
		"the other base64 alphabet": joinPrefix + "++//",
		"a megabyte":                strings.Repeat("A", 1<<20),
		"version 0":                 change(func(b []byte) []byte { b[0] = 0; return b }),
		"version 2":                 change(func(b []byte) []byte { b[0] = 2; return b }),
		"no expiry":                 change(func(b []byte) []byte { copy(b[1:], make([]byte, 8)); return b }),
		"an expiry beyond 9999":     change(func(b []byte) []byte { b[3] = 1; return b }),
		"a negative expiry":         change(func(b []byte) []byte { b[1] = 0xff; return b }),
		"bytes behind":              change(func(b []byte) []byte { return append(b, 0) }),
		"a byte short":              change(func(b []byte) []byte { return b[:len(b)-1] }),
		"only a version":            change(func(b []byte) []byte { return b[:1] }),
		"an origin of no bytes":     change(func(b []byte) []byte { b[originAt] = 0; return b }),
		"an origin with a space":    change(func(b []byte) []byte { b[originAt+1] = ' '; return b }),
		"a backup without a port":   change(func(b []byte) []byte { b[len(b)-5] = '7'; return b }),
		"a backup that is a path":   change(func(b []byte) []byte { b[len(b)-8] = '/'; return b }),
	} {
		if j, err := ParseJoin(code); !errors.Is(err, ErrCode) {
			t.Errorf("%s: %+v, %v", what, j, err)
		}
	}
	for what, spoil := range map[string]func(*Join){
		"no log key":      func(j *Join) { j.LogKey = nil },
		"no origin":       func(j *Join) { j.Origin = "" },
		"no address":      func(j *Join) { j.Backup = "" },
		"half a second":   func(j *Join) { j.Expires = j.Expires.Add(time.Second / 2) },
		"no time":         func(j *Join) { j.Expires = time.Time{} },
		"an address only": func(j *Join) { j.Backup = "192.0.2.1" },
	} {
		j := join()
		if spoil(&j); func() bool { _, err := j.Code(); return err == nil }() {
			t.Errorf("a code was made with %s", what)
		}
	}
}

func TestExpiry(t *testing.T) {
	j := join()
	if err := Valid(j.Expires, j.Expires.Add(-time.Second)); err != nil {
		t.Error(err)
	}
	if err := Valid(j.Expires, j.Expires); !errors.Is(err, ErrExpired) {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"b:1", "backup.example.org:7443", "192.0.2.1:7443", "[2001:db8::1]:7443", "a-b.c:65535"} {
		if err := CheckAddress(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ":7443", "b", "b:", "b:0", "b:07", "b:65536", "b:x", "B:1", "-b:1", "b-:1", "b..c:1", "b_c:1", "1.2.3:1", "[fe80::1%eth0]:1",
		"[2001:DB8::1]:1", "2001:db8::1:1", "b:1/x", "b\n:1", "http://b:1", strings.Repeat("a", 64) + ":1", strings.Repeat("a.", 130) + "a:1"} {
		if CheckAddress(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseJoin(f *testing.F) {
	code, err := join().Code()
	if err != nil {
		f.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(code, joinPrefix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[:len(raw)-checkSize])
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, body []byte) {
		code := seal(joinPrefix, body) // with its check right, or nothing is reached
		j, err := ParseJoin(code)
		if err != nil {
			return
		}
		again, err := j.Code()
		if err != nil || again != code {
			t.Errorf("%q came back as %q, %v", code, again, err)
		}
	})
}

func FuzzParseRestore(f *testing.F) {
	code, err := restore().Code()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(code)
	f.Fuzz(func(t *testing.T, code string) {
		r, err := ParseRestore(code)
		if err != nil {
			return
		}
		again, err := r.Code()
		if err != nil || again != strings.Join(strings.Fields(code), "") {
			t.Errorf("%q came back as %q, %v", code, again, err)
		}
	})
}
