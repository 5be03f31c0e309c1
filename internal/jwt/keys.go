package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// Key is one public key with which a realm signs tokens.
type Key struct {
	ID         string           // kid
	Algorithm  string           // alg that the realm ties it to, "" when it names none
	Thumbprint string           // RFC 7638 with SHA-256, base64url: what it is, whatever it is called
	Public     crypto.PublicKey // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	jwk        json.RawMessage
}

// Keys are a realm's, in the order of their kid. The zero value is none.
type Keys struct{ list []Key }

// maxRSA bounds what one verification costs; no provider makes larger keys.
const (
	minRSA = 2048
	maxRSA = 8192
)

// ParseKeys reads a JWK set (RFC 7517 §5). Of at most MaxJWKS bytes and MaxKeys keys it takes those that may verify a token: with a kid, for
// signatures, RSA of 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519. Others (a Keycloak also publishes a key for encryption) are passed over.
//
// ErrKeys: not a set, too large, no usable key, a kid used twice, a symmetric or private key (what everyone can read signs nothing).
func ParseKeys(jwks []byte) (Keys, error) {
	if len(jwks) > MaxJWKS {
		return Keys{}, refuse(BadKeys, fmt.Sprintf("the JWK set has %d bytes, more than %d", len(jwks), MaxJWKS))
	}
	raw, err := splitKeys(jwks)
	if err != nil {
		return Keys{}, err
	}
	var k Keys
	for i, one := range raw {
		key, usable, err := parseKey(one)
		if err != nil {
			return Keys{}, refuseFor(BadKeys, fmt.Sprintf("key %d of the JWK set", i), err)
		}
		if usable {
			k.list = append(k.list, key)
		}
	}
	if len(k.list) == 0 {
		return Keys{}, refuse(BadKeys, "the JWK set has no key that may verify a token")
	}
	slices.SortFunc(k.list, func(a, b Key) int { return strings.Compare(a.ID, b.ID) })
	for i := 1; i < len(k.list); i++ {
		if k.list[i-1].ID == k.list[i].ID {
			return Keys{}, refuse(BadKeys, fmt.Sprintf("two keys of the JWK set have the kid %q", k.list[i].ID))
		}
	}
	return k, nil
}

// splitKeys counts the keys before any of them is parsed.
func splitKeys(jwks []byte) ([]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(jwks))
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := d.Decode(&set); err != nil {
		return nil, refuseFor(BadKeys, "the JWK set is not JSON", err)
	}
	if d.More() {
		return nil, refuse(BadKeys, "something follows the JWK set")
	}
	if len(set.Keys) > MaxKeys {
		return nil, refuse(BadKeys, fmt.Sprintf("the JWK set has %d keys, more than %d", len(set.Keys), MaxKeys))
	}
	return set.Keys, nil
}

// material is the key itself, without what is said about it: certificates (x5c) beside it, say, prove nothing here and need not even be right.
type material struct {
	Kty   string `json:"kty"`
	Curve string `json:"crv,omitempty"`
	N     string `json:"n,omitempty"`
	E     string `json:"e,omitempty"`
	X     string `json:"x,omitempty"`
	Y     string `json:"y,omitempty"`
}

// parseKey reads one JWK. usable is false for one that is of no use here and does no harm.
func parseKey(raw json.RawMessage) (k Key, usable bool, err error) {
	var head struct {
		Kid    string          `json:"kid"`
		Use    string          `json:"use"`
		Alg    string          `json:"alg"`
		KeyOps []string        `json:"key_ops"`
		D      json.RawMessage `json:"d"`
		material
	}
	if err := decode(raw, &head); err != nil {
		return k, false, err
	}
	if head.Kty == "oct" || head.D != nil {
		return k, false, fmt.Errorf("kid %.80q is a symmetric or private key, and it is published", head.Kid)
	}
	// RFC 7517 §4.2 and §4.3: what a key is for.
	signs := head.Use == "sig" || head.Use == "" && (head.KeyOps == nil || slices.Contains(head.KeyOps, "verify"))
	known := head.Kty == "RSA" || head.Kty == "EC" && head.Curve != "secp256k1" || head.Kty == "OKP" && head.Curve == "Ed25519"
	if !signs || !known || head.Kid == "" || len(head.Kid) > 256 || !printable(head.Kid) {
		return k, false, nil
	}
	if head.Alg != "" && !allowed(head.Alg) {
		return k, false, nil
	}
	bare, err := json.Marshal(head.material)
	if err != nil {
		return k, false, err
	}
	parsed, err := jwk.ParseKey(bare)
	if err != nil {
		return k, false, fmt.Errorf("kid %.80q: %w", head.Kid, err)
	}
	k = Key{ID: head.Kid, Algorithm: head.Alg}
	if err := parsed.Raw(&k.Public); err != nil {
		return k, false, fmt.Errorf("kid %.80q: %w", head.Kid, err)
	}
	if k.Public, err = sound(k.Public); err != nil {
		return k, false, fmt.Errorf("kid %.80q: %w", head.Kid, err)
	}
	if k.Public == nil {
		return k, false, nil
	}
	return k, true, k.describe()
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

// sound returns the public key as a pointer or slice type, nil when it is too weak or too large, an error when it is no key at all.
func sound(pub crypto.PublicKey) (crypto.PublicKey, error) {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() < minRSA || p.N.BitLen() > maxRSA {
			return nil, nil
		}
		if p.E < 3 || p.E%2 == 0 || p.N.Bit(0) == 0 {
			return nil, fmt.Errorf("an RSA key with an even modulus, or exponent %d", p.E)
		}
		return p, nil
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() && p.Curve != elliptic.P384() && p.Curve != elliptic.P521() {
			return nil, nil
		}
		if _, err := p.ECDH(); err != nil { // the only check left in the library that the point is on its curve
			return nil, err
		}
		return p, nil
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("an Ed25519 key of %d bytes", len(p))
		}
		return p, nil
	}
	return nil, nil
}

// describe fills in the thumbprint and the minimal JWK.
func (k *Key) describe() error {
	j, err := jwk.FromRaw(k.Public)
	if err != nil {
		return err
	}
	print, err := j.Thumbprint(crypto.SHA256)
	if err != nil {
		return err
	}
	k.Thumbprint = base64.RawURLEncoding.EncodeToString(print)
	if err := j.Set(jwk.KeyIDKey, k.ID); err != nil {
		return err
	}
	if k.Algorithm != "" {
		if err := j.Set(jwk.AlgorithmKey, k.Algorithm); err != nil {
			return err
		}
	}
	k.jwk, err = json.Marshal(j)
	return err
}

// Find returns the key of that kid.
func (k Keys) Find(kid string) (Key, bool) {
	i, found := slices.BinarySearchFunc(k.list, kid, func(key Key, kid string) int { return strings.Compare(key.ID, kid) })
	if !found {
		return Key{}, false
	}
	return k.list[i], true
}

// List returns the keys in the order of their kid.
func (k Keys) List() []Key { return slices.Clone(k.list) }

// Len returns how many there are.
func (k Keys) Len() int { return len(k.list) }

// Marshal returns the keys as a JWK set with nothing in it but what they are: ParseKeys(Marshal(k)) equals k.
func (k Keys) Marshal() []byte {
	set := struct {
		Keys []json.RawMessage `json:"keys"`
	}{[]json.RawMessage{}}
	for _, key := range k.list {
		set.Keys = append(set.Keys, key.jwk)
	}
	raw, err := json.Marshal(set)
	if err != nil {
		panic("jwt: a JWK that was made here is not JSON: " + err.Error())
	}
	return raw
}

// Equal reports whether both hold the same keys under the same names.
func (k Keys) Equal(o Keys) bool {
	return slices.EqualFunc(k.list, o.list, func(a, b Key) bool {
		return a.ID == b.ID && a.Thumbprint == b.Thumbprint && a.Algorithm == b.Algorithm
	})
}
