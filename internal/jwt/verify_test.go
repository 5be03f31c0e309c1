package jwt_test

import (
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/jwt"
)

func TestVerify(t *testing.T) {
	r := newRealm(t)
	keys := r.keys()
	token := r.sign(header(), claims())
	got, err := jwt.Verify(token, keys, expect())
	if err != nil {
		t.Fatal(err)
	}
	want := jwt.Claims{
		Issuer: issuer, Sub: "3f1c9a52", Username: "dr.clinician", Name: "Doctor Clinician", Roles: []string{"account/view-profile", "clinician", "offline_access"},
		ACR: "2", AuthTime: at.Add(-time.Minute), IssuedAt: at, Expires: at.Add(5 * time.Minute), JTI: "j", SID: "s", AuthorizedParty: "booking-app",
		Audience: []string{"account", "aes-portal"}, Kid: "rsa", Alg: "RS256", TokenHash: sha256.Sum256([]byte(token)),
		InputHash: sha256.Sum256([]byte(token[:strings.LastIndex(token, ".")])),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if iss, err := jwt.Issuer(token); err != nil || iss != issuer {
		t.Errorf("%q, %v", iss, err)
	}
}

func TestVerifyAccepts(t *testing.T) {
	r := newRealm(t)
	keys := r.keys()
	for name, token := range map[string]string{
		"PS256":             r.sign(object{"alg": "PS256", "typ": "JWT", "kid": "rsa-any"}, claims()),
		"ES256":             r.sign(object{"alg": "ES256", "typ": "JWT", "kid": "ec"}, claims()),
		"EdDSA":             r.sign(object{"alg": "EdDSA", "typ": "JWT", "kid": "ed"}, claims()),
		"RFC 9068":          r.sign(with(header(), object{"typ": "at+jwt"}), with(claims(), object{"typ": nil, "azp": nil, "client_id": "booking-app"})),
		"RFC 9068, long":    r.sign(with(header(), object{"typ": "application/AT+JWT"}), with(claims(), object{"typ": nil})),
		"one audience":      r.sign(header(), with(claims(), object{"aud": "aes-portal"})),
		"within the leeway": r.sign(header(), with(claims(), object{"exp": at.Unix() - 29, "iat": at.Unix() + 30, "nbf": at.Unix() + 30})),
		"fractional times":  r.sign(header(), with(claims(), object{"iat": float64(at.Unix()) + 0.5})),
		"nbf of 0":          r.sign(header(), with(claims(), object{"nbf": 0, "auth_time": 0})),
		"a name in Greek":   r.sign(header(), with(claims(), object{"name": "Δόκτωρ Κλινικός"})),
	} {
		if _, err := jwt.Verify(token, keys, expect()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTwins: of an ECDSA signature (r, s) anybody can make (r, n-s), which is as good. It is another text, and no other token.
func TestTwins(t *testing.T) {
	r := newRealm(t)
	token := r.sign(object{"alg": "ES256", "typ": "JWT", "kid": "ec"}, claims())
	dot := strings.LastIndex(token, ".")
	sig, err := b64.DecodeString(token[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(sig[32:])
	twin := token[:dot+1] + b64.EncodeToString(sig)
	one, err := jwt.Verify(token, r.keys(), expect())
	if err != nil {
		t.Fatal(err)
	}
	two, err := jwt.Verify(twin, r.keys(), expect())
	if err != nil {
		t.Fatal(err)
	}
	if one.TokenHash == two.TokenHash || one.InputHash != two.InputHash {
		t.Errorf("token %x and %x, input %x and %x", one.TokenHash, two.TokenHash, one.InputHash, two.InputHash)
	}
}

func TestVerifyRefuses(t *testing.T) {
	r, other := newRealm(t), newRealm(t)
	keys := r.keys()
	good := r.sign(header(), claims())
	part := strings.Split(good, ".")
	h := func(changes object) string { return r.sign(with(header(), changes), claims()) }
	c := func(changes object) string { return r.sign(header(), with(claims(), changes)) }
	for _, test := range []struct {
		name, token string
		want        jwt.Reason
	}{
		{"nothing", "", jwt.Malformed},
		{"opaque", "bfbSx61CICu2K5AC-dFy2i", jwt.Malformed},
		{"two parts", part[0] + "." + part[1], jwt.Malformed},
		{"four parts", good + ".x", jwt.Malformed},
		{"padding", good + "=", jwt.Malformed},
		{"a line end", good[:40] + "\n" + good[40:], jwt.Malformed},
		{"a blank", " " + good, jwt.Malformed},
		{"trailing bits in the signature", part[0] + "." + part[1] + "." + part[2][:len(part[2])-1] + flipLast(part[2]), jwt.Malformed},
		{"1 MB", part[0] + "." + strings.Repeat("A", 1<<20) + "." + part[2], jwt.TooLarge},
		{"header no JSON", b64.EncodeToString([]byte("RS256")) + "." + part[1] + "." + part[2], jwt.Malformed},
		{"header a list", b64.EncodeToString([]byte("[]")) + "." + part[1] + "." + part[2], jwt.Malformed},
		{"header with alg twice", b64.EncodeToString([]byte(`{"alg":"none","alg":"RS256","typ":"JWT","kid":"rsa"}`)) + "." + part[1] + "." + part[2], jwt.Malformed},
		{"alg none", b64.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"rsa"}`)) + "." + part[1] + ".", jwt.BadAlgorithm},
		{"alg None", b64.EncodeToString([]byte(`{"alg":"None","typ":"JWT","kid":"rsa"}`)) + "." + part[1] + "." + part[2], jwt.BadAlgorithm},
		{"no alg", h(object{"alg": nil}), jwt.BadAlgorithm},
		{"HS256 with the public key", h(object{"alg": "HS256"}), jwt.BadAlgorithm},
		{"an encrypted token's alg", h(object{"alg": "RSA-OAEP"}), jwt.BadAlgorithm},
		{"ES256 for an RSA key", h(object{"alg": "ES256"}), jwt.BadAlgorithm},
		{"EdDSA for an EC key", h(object{"alg": "EdDSA", "kid": "ec"}), jwt.BadAlgorithm},
		{"PS256 where the realm says RS256", h(object{"alg": "PS256"}), jwt.BadAlgorithm},
		{"no kid", h(object{"kid": nil}), jwt.Malformed},
		{"unknown kid", h(object{"kid": "rsa2"}), jwt.UnknownKid},
		{"kid that is a path", h(object{"kid": "../rsa"}), jwt.UnknownKid},
		{"kid of the encryption key", h(object{"kid": "enc"}), jwt.UnknownKid},
		{"its own key in the header", h(object{"jwk": rsaJWK("rsa", &other.rsa.PublicKey)}), jwt.Malformed},
		{"its own URL in the header", h(object{"jku": "https://evil.example/jwks"}), jwt.Malformed},
		{"its own certificate in the header", h(object{"x5c": []string{"AA"}}), jwt.Malformed},
		{"crit", h(object{"crit": []string{"b64"}, "b64": true}), jwt.Malformed},
		{"typ absent", h(object{"typ": nil}), jwt.WrongType},
		{"typ of a logout token", h(object{"typ": "logout+jwt"}), jwt.WrongType},
		{"other realm's key", other.sign(header(), claims()), jwt.BadSignature},
		{"another payload", part[0] + "." + b64.EncodeToString(encode(t, with(claims(), object{"sub": "x"}))) + "." + part[2], jwt.BadSignature},
		{"another header", b64.EncodeToString(encode(t, with(header(), object{"x": 1}))) + "." + part[1] + "." + part[2], jwt.BadSignature},
		{"no signature", part[0] + "." + part[1] + ".", jwt.BadSignature},
		{"payload no JSON", r.signRaw(header(), []byte("x")), jwt.Malformed},
		{"payload with sub twice", r.signRaw(header(), append([]byte(`{"sub":"admin",`), encode(t, claims())[1:]...)), jwt.Malformed},
		{"payload with Sub and sub", r.signRaw(header(), append([]byte(`{"Sub":"admin",`), encode(t, claims())[1:]...)), jwt.Malformed},
		{"payload with ſub and sub", r.signRaw(header(), append([]byte(`{"ſub":"admin",`), encode(t, claims())[1:]...)), jwt.Malformed},
		{"payload, then more", r.signRaw(header(), append(encode(t, claims()), "{}"...)), jwt.Malformed},
		{"claim of another type", c(object{"acr": 2}), jwt.Malformed},
		{"roles of another type", c(object{"resource_access": object{"x": []string{"clinician"}}}), jwt.Malformed},
		{"501 roles", c(object{"realm_access": object{"roles": strings.Split(strings.Repeat("r,", 500)+"r", ",")}}), jwt.Malformed},
		{"ID token", c(object{"typ": "ID"}), jwt.WrongType},
		{"refresh token", c(object{"typ": "Refresh"}), jwt.WrongType},
		{"offline token", c(object{"typ": "Offline"}), jwt.WrongType},
		{"typ bearer in another case", c(object{"typ": "bearer"}), jwt.WrongType},
		{"no typ, not RFC 9068", c(object{"typ": nil}), jwt.WrongType},
		{"ID token's typ under at+jwt", r.sign(with(header(), object{"typ": "at+jwt"}), with(claims(), object{"typ": "ID"})), jwt.WrongType},
		{"no exp", c(object{"exp": nil}), jwt.Malformed},
		{"no iat", c(object{"iat": nil}), jwt.Malformed},
		{"exp of 0", c(object{"exp": 0}), jwt.Malformed},
		{"exp below 0", c(object{"exp": -1}), jwt.Malformed},
		{"exp beyond all time", c(object{"exp": 1e300}), jwt.Malformed},
		{"exp as text", c(object{"exp": "9999999999"}), jwt.Malformed},
		{"expired", c(object{"exp": at.Unix() - 30}), jwt.Expired},
		{"not yet: nbf", c(object{"nbf": at.Unix() + 31}), jwt.NotYet},
		{"not yet: iat", c(object{"iat": at.Unix() + 31}), jwt.NotYet},
		{"no sub", c(object{"sub": nil}), jwt.Malformed},
		{"sub with a blank", c(object{"sub": "a b"}), jwt.Malformed},
		{"sub of 256", c(object{"sub": strings.Repeat("a", 256)}), jwt.Malformed},
		{"name with a line end", c(object{"name": "a\nb"}), jwt.Malformed},
		{"username of 513", c(object{"preferred_username": strings.Repeat("a", 513)}), jwt.Malformed},
		{"other audience", c(object{"aud": "account"}), jwt.WrongClient},
		{"no audience", c(object{"aud": nil}), jwt.WrongClient},
		{"other client", c(object{"azp": "stranger"}), jwt.WrongClient},
		{"no client", c(object{"azp": nil}), jwt.WrongClient},
		{"issuer with a suffix", c(object{"iss": issuer + ".evil.example"}), jwt.WrongIssuer},
		{"issuer with a slash", c(object{"iss": issuer + "/"}), jwt.WrongIssuer},
		{"issuer in capitals", c(object{"iss": strings.ToUpper(issuer)}), jwt.WrongIssuer},
		{"issuer with its port", c(object{"iss": "https://sso.example.org:443/realms/a"}), jwt.WrongIssuer},
		{"issuer by another way", c(object{"iss": "https://sso.example.org/realms/b/../a"}), jwt.WrongIssuer},
		{"issuer, escaped", c(object{"iss": "https://sso.example.org/realms/%61"}), jwt.WrongIssuer},
		{"no issuer", c(object{"iss": nil}), jwt.WrongIssuer},
	} {
		_, err := jwt.Verify(test.token, keys, expect())
		if jwt.ReasonOf(err) != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
		if len(fmt.Sprint(err)) > 2000 {
			t.Errorf("%s: an error of %d bytes", test.name, len(fmt.Sprint(err)))
		}
	}
	if _, err := jwt.Verify(good, jwt.Keys{}, expect()); jwt.ReasonOf(err) != jwt.UnknownKid {
		t.Errorf("without keys: %v", err)
	}
}

// flipLast changes bits of the last character that no byte holds: 256 bytes leave 4 of its 6 bits unused.
func flipLast(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, s[len(s)-1])^1])
}

func TestServiceAccounts(t *testing.T) {
	r := newRealm(t)
	keys := r.keys()
	for name, change := range map[string]object{
		"Keycloak's user name": {"preferred_username": "service-account-aes-signer-sa"},
		"in other case":        {"preferred_username": "Service-Account-aes-signer-sa"},
		"Keycloak's host":      {"clientHost": "10.0.0.1"},
		"Keycloak's address":   {"clientAddress": "10.0.0.1"},
		"RFC 9068":             {"sub": "booking-app", "client_id": "booking-app"},
		"RFC 9068 with azp":    {"sub": "booking-app"},
	} {
		c, err := jwt.Verify(r.sign(header(), with(claims(), change)), keys, expect())
		if err != nil || !c.ServiceAccount {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	r := newRealm(f)
	keys := r.keys()
	f.Add(r.sign(header(), claims()))
	f.Add(r.sign(object{"alg": "ES256", "typ": "at+jwt", "kid": "ec"}, with(claims(), object{"typ": nil})))
	f.Add(b64.EncodeToString([]byte(`{"alg":"none"}`)) + ".e30.")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		iss, issErr := jwt.Issuer(token)
		c, err := jwt.Verify(token, keys, expect())
		if err != nil && jwt.ReasonOf(err) == "" {
			t.Fatalf("an error without a reason: %v", err)
		}
		if err != nil {
			return
		}
		if issErr != nil || iss != c.Issuer {
			t.Fatalf("verified as %q, looked up as %q, %v", c.Issuer, iss, issErr)
		}
	})
}

// FuzzClaims signs whatever payload it is given: what a realm that has gone wrong could say.
func FuzzClaims(f *testing.F) {
	r := newRealm(f)
	keys := r.keys()
	f.Add(encode(f, claims()))
	f.Add(encode(f, with(claims(), object{"aud": "x", "exp": 1e18, "realm_access": nil})))
	f.Add([]byte(`{"iss":1}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := jwt.Verify(r.signRaw(object{"alg": "EdDSA", "typ": "JWT", "kid": "ed"}, payload), keys, expect())
		if err != nil && jwt.ReasonOf(err) == "" {
			t.Fatalf("an error without a reason: %v", err)
		}
		if err == nil && (c.Sub == "" || c.Issuer != issuer || c.Expires.Before(at.Add(-time.Minute)) || len(c.Roles) > 500) {
			t.Fatalf("%+v", c)
		}
	})
}
