package jwt_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/jwt"
)

var b64 = base64.RawURLEncoding

func number(n *big.Int) string { return b64.EncodeToString(n.Bytes()) }

// realm is a set of keys as a provider has it, made by hand: nothing of the library that is tested.
type realm struct {
	t   testing.TB
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newRealm(t testing.TB) *realm {
	r := &realm{t: t}
	var err error
	if r.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if r.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, r.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return r
}

type object = map[string]any

func rsaJWK(kid string, pub *rsa.PublicKey) object {
	return object{"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": number(pub.N), "e": number(big.NewInt(int64(pub.E)))}
}

func (r *realm) jwks() []byte {
	point, err := r.ec.PublicKey.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	untied := rsaJWK("rsa-any", &r.rsa.PublicKey)
	delete(untied, "alg")
	enc := rsaJWK("enc", &r.rsa.PublicKey)
	enc["use"], enc["alg"] = "enc", "RSA-OAEP"
	return encode(r.t, object{"keys": []any{
		rsaJWK("rsa", &r.rsa.PublicKey), untied, enc,
		object{"kty": "EC", "kid": "ec", "use": "sig", "crv": "P-256", "x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:])},
		object{"kty": "OKP", "kid": "ed", "use": "sig", "alg": "EdDSA", "crv": "Ed25519", "x": b64.EncodeToString(r.ed.Public().(ed25519.PublicKey))},
		object{"kty": "quantum", "kid": "later"},
	}})
}

func (r *realm) keys() jwt.Keys {
	k, err := jwt.ParseKeys(r.jwks())
	if err != nil {
		r.t.Fatal(err)
	}
	return k
}

func encode(t testing.TB, v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// sign writes a token with the signature that its alg calls for.
func (r *realm) sign(header, claims object) string {
	return r.signRaw(header, encode(r.t, claims))
}

func (r *realm) signRaw(header object, payload []byte) string {
	input := b64.EncodeToString(encode(r.t, header)) + "." + b64.EncodeToString(payload)
	sum := sha256.Sum256([]byte(input))
	var sig []byte
	var err error
	switch header["alg"] {
	case "RS256":
		sig, err = rsa.SignPKCS1v15(rand.Reader, r.rsa, crypto.SHA256, sum[:])
	case "PS256":
		sig, err = rsa.SignPSS(rand.Reader, r.rsa, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: 32})
	case "ES256":
		x, y, e := ecdsa.Sign(rand.Reader, r.ec, sum[:])
		sig, err = append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...), e
	case "EdDSA":
		sig = ed25519.Sign(r.ed, []byte(input))
	case "HS256": // with the public key as the secret
		m := hmac.New(sha256.New, r.rsa.N.Bytes())
		m.Write([]byte(input))
		sig = m.Sum(nil)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return input + "." + b64.EncodeToString(sig)
}

const issuer = "https://sso.example.org/realms/a"

var at = time.Date(2026, 5, 1, 9, 30, 0, 0, time.UTC)

func expect() jwt.Expect {
	return jwt.Expect{Issuer: issuer, Now: at, Leeway: 30 * time.Second, Audiences: []string{"aes-portal", "other"}, AuthorizedParties: []string{"booking-app"}}
}

func header() object { return object{"alg": "RS256", "typ": "JWT", "kid": "rsa"} }

// claims are those of a Keycloak.
func claims() object {
	return object{
		"iss": issuer, "sub": "3f1c9a52", "typ": "Bearer", "azp": "booking-app", "aud": []string{"account", "aes-portal"}, "exp": at.Unix() + 300, "iat": at.Unix(),
		"auth_time": at.Unix() - 60, "acr": "2", "sid": "s", "jti": "j", "preferred_username": "dr.clinician", "name": "Doctor Clinician",
		"realm_access": object{"roles": []string{"clinician", "offline_access"}}, "resource_access": object{"account": object{"roles": []string{"view-profile"}}},
	}
}

// with returns a copy with some values changed; nil takes a name away.
func with(o object, changes object) object {
	o = maps.Clone(o)
	for name, v := range changes {
		if v == nil {
			delete(o, name)
			continue
		}
		o[name] = v
	}
	return o
}
