package jwt_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/jwt"
)

func TestParseKeys(t *testing.T) {
	r := newRealm(t)
	keys := r.keys()
	var kids []string
	for _, k := range keys.List() {
		kids = append(kids, k.ID)
		if len(k.Thumbprint) != 43 || k.Public == nil {
			t.Errorf("%+v", k)
		}
	}
	if got := strings.Join(kids, " "); got != "ec ed rsa rsa-any" {
		t.Errorf("kids %s: keys for encryption and of unknown kinds are passed over", got)
	}
	again, err := jwt.ParseKeys(keys.Marshal())
	if err != nil || !again.Equal(keys) {
		t.Errorf("ParseKeys(Marshal(k)) is another set: %v", err)
	}
	if strings.Contains(string(keys.Marshal()), `"use"`) || keys.Equal(newRealm(t).keys()) {
		t.Error("a set holds more than its keys, or equals another's")
	}
}

// TestKeycloakSet: a set as Keycloak 26 writes one, with certificates (here broken ones) beside the keys.
func TestKeycloakSet(t *testing.T) {
	r := newRealm(t)
	with5 := func(kid, use, alg string) object {
		return with(rsaJWK(kid, &r.rsa.PublicKey), object{"use": use, "alg": alg, "x5c": []string{"MIIClzCCAX8CBgGXbroken"}, "x5t": "x", "x5t#S256": "y"})
	}
	keys, err := jwt.ParseKeys(encode(t, object{"keys": []any{with5("enc", "enc", "RSA-OAEP"), with5("rsa", "sig", "RS256")}}))
	if err != nil || keys.Len() != 1 {
		t.Fatalf("%d keys, %v", keys.Len(), err)
	}
	if _, err := jwt.Verify(r.sign(header(), claims()), keys, expect()); err != nil {
		t.Error(err)
	}
}

// TestThumbprint: the example of RFC 7638 §3.1.
func TestThumbprint(t *testing.T) {
	keys, err := jwt.ParseKeys([]byte(`{"keys":[{"kty":"RSA","use":"sig","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := keys.Find("2011-04-29"); !ok || k.Thumbprint != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("%+v", k)
	}
}

func TestParseKeysRefuses(t *testing.T) {
	r := newRealm(t)
	good := rsaJWK("rsa", &r.rsa.PublicKey)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys ...any) []byte { return encode(t, object{"keys": keys}) }
	many := make([]any, 10_000)
	for i := range many {
		many[i] = object{"kty": "RSA", "kid": fmt.Sprint(i)}
	}
	for name, jwks := range map[string][]byte{
		"nothing":                   nil,
		"no JSON":                   []byte("<html>"),
		"a list":                    []byte("[]"),
		"keys of another type":      []byte(`{"keys":{}}`),
		"no keys":                   set(),
		"two sets":                  append(set(good), set(good)...),
		"10,000 keys":               set(many...),
		"101 keys":                  set(many[:101]...),
		"more than 256 KB":          append(set(good), strings.Repeat(" ", 256<<10)...),
		"a kid twice":               set(good, good),
		"no kid":                    set(with(good, object{"kid": nil})),
		"a kid of another type":     set(with(good, object{"kid": 7})),
		"a kid of 257":              set(with(good, object{"kid": strings.Repeat("k", 257)})),
		"only for encryption":       set(with(good, object{"use": "enc"})),
		"only to sign":              set(with(good, object{"use": nil, "key_ops": []string{"sign"}})),
		"a symmetric key":           set(good, object{"kty": "oct", "kid": "h", "k": "c2VjcmV0"}),
		"a private key":             set(with(good, object{"d": number(r.rsa.D)})),
		"RSA of 1024 bits":          set(rsaJWK("weak", &weak.PublicKey)),
		"RSA of 64 KB":              set(with(good, object{"n": strings.Repeat("_", 60_000)})),
		"RSA, even modulus":         set(with(good, object{"n": strings.Repeat("_", 340) + "8"})),
		"RSA, exponent 1":           set(with(good, object{"e": "AQ"})),
		"RSA without modulus":       set(with(good, object{"n": nil})),
		"EC, not on the curve":      set(object{"kty": "EC", "kid": "e", "crv": "P-256", "x": b64.EncodeToString(make([]byte, 32)), "y": b64.EncodeToString(make([]byte, 32))}),
		"EC, short":                 set(object{"kty": "EC", "kid": "e", "crv": "P-256", "x": "AA", "y": "AA"}),
		"EC, of no curve":           set(object{"kty": "EC", "kid": "e", "crv": "P-255", "x": "AA", "y": "AA"}),
		"Ed25519 of 31 bytes":       set(object{"kty": "OKP", "kid": "e", "crv": "Ed25519", "x": b64.EncodeToString(make([]byte, 31))}),
		"a name twice":              []byte(`{"keys":[{"kty":"RSA","kid":"a","kid":"b"}]}`),
		"deep nesting":              []byte(`{"keys":[` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `]}`),
		"deep nesting within a key": []byte(`{"keys":[{"kty":"RSA","kid":"a","x":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `}]}`),
	} {
		start := time.Now()
		if _, err := jwt.ParseKeys(jwks); jwt.ReasonOf(err) != jwt.BadKeys {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	r := newRealm(f)
	f.Add(r.jwks())
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"e","crv":"P-521","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","kid":"e","crv":"Ed25519","x":""}]}`))
	token := r.sign(header(), claims())
	f.Fuzz(func(t *testing.T, jwks []byte) {
		start := time.Now()
		defer func() {
			if took := time.Since(start); took > time.Second {
				t.Fatalf("took %v", took)
			}
		}()
		keys, err := jwt.ParseKeys(jwks)
		if err != nil {
			if jwt.ReasonOf(err) != jwt.BadKeys {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		again, err := jwt.ParseKeys(keys.Marshal())
		if err != nil || !again.Equal(keys) {
			t.Fatalf("ParseKeys(Marshal(k)) is another set: %v", err)
		}
		_, _ = jwt.Verify(token, keys, expect())
	})
}

func BenchmarkVerify(b *testing.B) {
	r := newRealm(b)
	keys, token := r.keys(), r.sign(header(), claims())
	for b.Loop() {
		if _, err := jwt.Verify(token, keys, expect()); err != nil {
			b.Fatal(err)
		}
	}
}
