// Package demorealm stands in for a clinic's Keycloak realm where there is none: a demo appliance's. It makes an access token for whoever asks, so it
// listens on loopback only, and only an appliance that was founded as a demo can register its issuer, which is plain http (activation.AddRealm).
//
// It publishes what an appliance and a client look for (OpenID Connect Discovery 1.0, RFC 7517) and signs with RS256 (RFC 7518 §3.3).
package demorealm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Path is that of the issuer, below which everything is.
const Path = "/realms/demo"

// Below the issuer.
const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/protocol/openid-connect/certs"
	grantPath     = "/protocol/openid-connect/token"
	tokenPath     = "/token"
)

// KeyBits is the size of the realm's key, the least that an appliance accepts.
const KeyBits = 2048

// Realm is an issuer of tokens. It is safe for concurrent use.
type Realm struct {
	listener net.Listener
	key      *rsa.PrivateKey
	kid      string
	now      func() time.Time
	server   *http.Server
}

// New returns the realm that answers on l once Serve is called; now is the time that its tokens are of. Invalid: l is not on loopback, or key has fewer
// than KeyBits.
func New(l net.Listener, key *rsa.PrivateKey, now func() time.Time) (*Realm, error) {
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return nil, fault.New(fault.Invalid, "the demo's realm gives tokens to everybody: it listens on loopback only")
	}
	if key.N.BitLen() < KeyBits {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("the demo's realm has a key of %d bits", key.N.BitLen()))
	}
	hash := sha256.Sum256(key.N.Bytes())
	r := &Realm{listener: l, key: key, kid: base64.RawURLEncoding.EncodeToString(hash[:12]), now: now}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path+discoveryPath, r.discover)
	mux.HandleFunc("GET "+Path+keysPath, r.keys)
	mux.HandleFunc("POST "+Path+tokenPath, r.give)
	mux.HandleFunc("POST "+Path+grantPath, r.grant)
	r.server = &http.Server{Handler: r.local(mux), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	return r, nil
}

// Issuer is what its tokens have in iss.
func (r *Realm) Issuer() string { return "http://" + r.listener.Addr().String() + Path }

// Serve answers until Close.
func (r *Realm) Serve() error {
	if err := r.server.Serve(r.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("demorealm: serving: %w", err)
	}
	return nil
}

// Close ends Serve, and what it is answering.
func (r *Realm) Close() error { return r.server.Close() }

// local refuses requests by another name than the address: a web page whose host name was made to lead here (DNS rebinding) is nobody to give tokens to.
func (r *Realm) local(next http.Handler) http.Handler {
	_, port, err := net.SplitHostPort(r.listener.Addr().String())
	if err != nil {
		panic("demorealm: a TCP listener without port: " + err.Error())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Host != r.listener.Addr().String() && q.Host != net.JoinHostPort("localhost", port) {
			http.Error(w, "this is the realm of a demo, "+r.Issuer(), http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, q)
	})
}

// discover answers with the provider's metadata (OpenID Connect Discovery 1.0 §3).
func (r *Realm) discover(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": r.Issuer(), "jwks_uri": r.Issuer() + keysPath, "token_endpoint": r.Issuer() + grantPath,
		"grant_types_supported": []string{"password", "client_credentials"}, "response_types_supported": []string{"none"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		"acr_values_supported": []string{"1", "2"},
	})
}

// keys answers with the JWK set (RFC 7517 §5, RFC 7518 §6.3.1).
func (r *Realm) keys(w http.ResponseWriter, _ *http.Request) {
	b64 := base64.RawURLEncoding.EncodeToString
	writeJSON(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": r.kid, "n": b64(r.key.N.Bytes()), "e": b64(big.NewInt(int64(r.key.E)).Bytes()),
	}}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(v) // the client is gone
}

// sign makes a compact JWS of claims (RFC 7515 §7.1, RFC 7518 §3.3).
func (r *Realm) sign(claims map[string]any) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": r.kid})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding
	var b bytes.Buffer
	b.WriteString(b64.EncodeToString(header) + "." + b64.EncodeToString(payload))
	hash := sha256.Sum256(b.Bytes())
	signature, err := rsa.SignPKCS1v15(nil, r.key, crypto.SHA256, hash[:])
	if err != nil {
		return "", fmt.Errorf("demorealm: signing a token: %w", err)
	}
	return b.String() + "." + b64.EncodeToString(signature), nil
}

// Listen opens a port on loopback for a realm: the one asked for, 0 for any.
func Listen(ctx context.Context, port int) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
}

// NewKey makes a key for New.
func NewKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, KeyBits) }
