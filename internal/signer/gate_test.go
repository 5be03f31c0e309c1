package signer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// restart ends the serving and opens the appliance again; without its index, when that is lost, so that all there is comes from the log.
func (h *house) restart(t *testing.T, lost bool, cfg signer.ServerConfig) {
	t.Helper()
	h.stop()
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	if lost {
		if err := os.Remove(filepath.Join(h.cfg.StateDir, "index.db")); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if h.s, err = signer.Open(context.Background(), h.cfg); err != nil {
		t.Fatal(err)
	}
	s := h.s
	t.Cleanup(func() { s.Close() })
	h.portal, h.admin, h.stop = onSockets(t, h.s, cfg)
}

// TestCapsSurviveARestart: who can make the signer start again has no fresh caps for a stolen token.
func TestCapsSurviveARestart(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx := t.Context()
	h.policy(t, "a", func(p *wire.Policy) { p.SignaturesPerToken = 4 })
	token, other := h.token(t, nil), h.token(t, nil)
	for i, id := range []string{"RX-1", "RX-2", "RX-3", "RX-4"} {
		if _, _, err := h.portal.sign(ctx, wanted(token, id)); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if i > 0 && i < 3 {
			h.restart(t, i == 2, signer.ServerConfig{})
		}
	}
	h.restart(t, true, signer.ServerConfig{})
	_, _, err := h.portal.sign(ctx, wanted(token, "RX-5"))
	wantCode(t, err, fault.Unavailable, "token-signature-cap", "a fifth signature on the token")
	if _, _, err := h.portal.sign(ctx, wanted(other, "RX-5")); err != nil {
		t.Errorf("another token: %v", err)
	}
	h.policy(t, "a", func(p *wire.Policy) { p.SignaturesPerMinute = 5 })
	h.restart(t, false, signer.ServerConfig{})
	_, _, err = h.portal.sign(ctx, wanted(other, "RX-6"))
	wantCode(t, err, fault.Unavailable, "signature-rate", "a sixth signature within a minute")
	if text := h.logText(t); strings.Contains(text, token) {
		t.Error("the log holds a token")
	}
}

// thief has other keys than the token's.
type thief struct{}

func (thief) SealKey(key []byte) ([]byte, error)    { return bytes.Clone(key), nil }
func (thief) OpenKey(sealed []byte) ([]byte, error) { return bytes.Clone(sealed), nil }

// TestIndexIsNotWrittenByOthers: who has the disk while the appliance is off, and not the token's PIN, cannot put into the index what the log does not say.
// Here it is a policy; it could be a realm of theirs, or whom a certificate is bound to.
func TestIndexIsNotWrittenByOthers(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	h.stop()
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(h.cfg.StateDir, "index.db")
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".state", append([]byte("open "), boot...), 0o600); err != nil { // so that package index opens it for us
		t.Fatal(err)
	}
	db, err := index.Open(path, thief{})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *index.Tx) error {
		b := tx.Bucket("activation/3/clinic")
		was := b.Get([]byte("a"))
		now := bytes.Replace(was, []byte(`"given_pdf":false`), []byte(`"given_pdf":true`), 1)
		if bytes.Equal(was, now) {
			t.Errorf("the index has %s", was)
		}
		return b.Put([]byte("a"), now)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if h.s, err = signer.Open(t.Context(), h.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.s.Close() })
	c, err := h.s.Activation().Clinic("a")
	if err != nil || c.Policy.GivenPDF {
		t.Errorf("it believes the index: %+v, %v", c.Policy, err)
	}
}

// TestAuthorisationFallsWithWhatItRestsOn: an operation that is open is not signed once its realm is removed, or the policy by which it was allowed has changed.
func TestAuthorisationFallsWithWhatItRestsOn(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	token := h.token(t, nil)
	for _, c := range []struct {
		id, code string
		kind     fault.Kind
		change   func()
	}{
		{"RX-1", "policy-changed", fault.Conflict, func() { h.policy(t, "a", func(p *wire.Policy) { p.MaxAuthAge = 60 }) }},
		{"RX-2", "realm-unknown", fault.Unauthorized, func() { h.must(t, wire.OpRealmRemove, wire.RealmRef{Issuer: h.provider.A.Issuer}, nil) }},
	} {
		r, err := h.portal.open(t.Context(), wanted(token, c.id))
		if err != nil {
			t.Fatal(err)
		}
		before := h.lines(t)
		c.change()
		_, err = r.Sign(t.Context(), make([]byte, 32))
		wantCode(t, err, c.kind, c.code, c.id)
		_, err = r.Sign(t.Context(), make([]byte, 32))
		wantKind(t, err, fault.NotFound, c.id+" again")
		if got := h.since(t, before); len(got) != 2 || got[1] != "authorisation_refused" {
			t.Errorf("%s left %v", c.id, got)
		}
	}
}

// TestCancellingTakesTheLogInOfSigning: with a token of a weaker or older log-in than signing takes nobody ends what was signed.
func TestCancellingTakesTheLogInOfSigning(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	token := h.token(t, nil)
	if _, _, err := h.portal.sign(t.Context(), wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	weak := h.token(t, func(p *oidctest.Person) { p.ACR = "1" })
	cancel := wire.CancelRequest{Credentials: creds(weak), PrescriptionID: "RX-1", Reason: "wrong strength"}
	before := h.lines(t)
	_, err := h.portal.call(t.Context(), wire.OpCancel, cancel, nil, nil)
	wantCode(t, err, fault.Forbidden, "acr-too-low", "a weak log-in")
	if got := h.since(t, before); !slices.Equal(got, []string{"authorisation_refused"}) {
		t.Errorf("it left %v", got)
	}
	cancel.Token = token
	if _, err := h.portal.call(t.Context(), wire.OpCancel, cancel, nil, nil); err != nil {
		t.Error(err)
	}
}

// TestClockSetBackRevivesNothing: without a proven time nothing is signed; what is only read goes on, but not with a token that has ended.
func TestClockSetBackRevivesNothing(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, k := t.Context(), h.cfg.Kernel.(*kernel)
	good := h.token(t, nil)
	if _, _, err := h.portal.sign(ctx, wanted(good, "RX-1")); err != nil {
		t.Fatal(err)
	}
	header, claims := oidctest.Decode(t, good)
	const leeway = 30 * time.Second
	ending := time.Now().Add(2*time.Second - leeway)
	short := h.provider.A.Sign(t, header, oidctest.With(claims, map[string]any{"iat": ending.Add(-time.Minute).Unix(), "exp": ending.Unix()}))
	if _, _, err := h.portal.download(ctx, wire.OpDocument, short, "RX-1"); err != nil {
		t.Fatalf("before its end: %v", err)
	}
	r, err := h.portal.open(ctx, wanted(good, "RX-2"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(ending.Add(leeway + time.Second)))
	_, _, err = h.portal.download(ctx, wire.OpDocument, short, "RX-1")
	wantCode(t, err, fault.Unauthorized, "token-expired", "after its end")

	k.set(func(k *kernel) { k.shift, k.unsync = -time.Hour, true })
	lines := h.lines(t)
	_, _, err = h.portal.download(ctx, wire.OpDocument, short, "RX-1")
	wantCode(t, err, fault.Unauthorized, "token-expired", "with the clock set back")
	if _, _, err = h.portal.download(ctx, wire.OpDocument, good, "RX-1"); err != nil {
		t.Errorf("reading without a proven time: %v", err)
	}
	boss := h.token(t, func(p *oidctest.Person) { p.Sub, p.Roles = "boss", []string{"aes-admin"} })
	if _, err := h.portal.call(ctx, wire.OpCertList, wire.CertListRequest{Credentials: creds(boss)}, nil, nil); err != nil {
		t.Errorf("administering without a proven time: %v", err)
	}
	_, err = h.portal.open(ctx, wanted(good, "RX-3"))
	wantCode(t, err, fault.Unavailable, "clock-unproven", "opening")
	_, err = r.Sign(ctx, make([]byte, 32))
	wantCode(t, err, fault.Unavailable, "clock-unproven", "signing what was opened before")
	if got := h.since(t, lines); slices.Contains(got, "signature_created") {
		t.Errorf("the log goes on with %v", got)
	}
	k.set(func(k *kernel) { k.unsync = false })
	h.restart(t, false, signer.ServerConfig{})
	_, _, err = h.portal.download(ctx, wire.OpDocument, short, "RX-1")
	wantCode(t, err, fault.Unauthorized, "token-expired", "with the clock set back, after a restart")
}

// liar serves keys of its own choosing, as a realm would, with that certificate.
func liar(t *testing.T, crt *x509.Certificate, key crypto.Signer, jwks []byte) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{crt.Raw}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(jwks)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// TestPortalThatLiesAboutARealm: whoever has the portal's socket says where connections lead. Keys of its own are not believed, the lie is a line, and
// the truth is believed afterwards.
func TestPortalThatLiesAboutARealm(t *testing.T) {
	const host = "sso.example.org"
	h := newHouseOf(t, signer.ServerConfig{}, oidctest.Options{Host: host})
	ctx, login := t.Context(), h.provider.A.Login(t, h.doctor)
	header, claims := oidctest.Decode(t, login.Access)
	mallory := oidctest.Realm{Kid: "mallory"}
	var err error
	if mallory.Key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	forged := mallory.Sign(t, oidctest.With(header, map[string]any{"kid": mallory.Kid}), claims)
	jwks := fmt.Appendf(nil, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"mallory","n":%q,"e":"AQAB"}]}`, base64.RawURLEncoding.EncodeToString(mallory.Key.N.Bytes()))
	otherCA, otherKey := oidctest.Issue(t, nil, nil, "")
	wrongCA, wrongCAKey := oidctest.Issue(t, otherCA, otherKey, host)
	wrongHost, wrongHostKey := oidctest.Issue(t, h.provider.Authority, h.provider.AuthorityKey, "mallory.example.org")
	self, selfKey := selfSigned(t, host)
	for what, to := range map[string]string{
		"a self-signed certificate":                  liar(t, self, selfKey, jwks),
		"the right name by another CA":               liar(t, wrongCA, wrongCAKey, jwks),
		"another host's certificate by the right CA": liar(t, wrongHost, wrongHostKey, jwks),
	} {
		before := h.lines(t)
		evil := h.portal
		evil.to = to
		_, err := evil.open(ctx, wanted(forged, "RX-1"))
		wantCode(t, err, fault.Unavailable, "realm-certificate", what)
		if got := h.since(t, before); !slices.Contains(got, "realm_keys_refused") || slices.Contains(got, "realm_key_first_seen") {
			t.Errorf("%s left %v", what, got)
		}
		time.Sleep(1100 * time.Millisecond) // until the signer asks for a connection again
	}
	if text := h.logText(t); strings.Count(text, `"code":"realm-certificate"`) != 3 || !strings.Contains(text, h.provider.A.Issuer) {
		t.Error("the lines do not say whose certificate was wrong")
	}
	honest := h.portal
	honest.to = h.provider.Address
	if _, _, err := honest.sign(ctx, wanted(login.Access, "RX-1")); err != nil {
		t.Errorf("the truth: %v", err)
	}
	evil := h.portal
	evil.to = liar(t, self, selfKey, jwks)
	if _, err = evil.open(ctx, wanted(forged, "RX-2")); err == nil {
		t.Error("a lie after the truth was believed")
	}
	if _, _, err := honest.sign(ctx, wanted(login.Access, "RX-2")); err != nil {
		t.Errorf("the truth after a lie: %v", err)
	}
	if n := count(h.since(t, 0), "signature_created"); n != 2 {
		t.Errorf("%d signatures", n)
	}
}

// selfSigned makes a certificate that vouches for itself.
func selfSigned(t *testing.T, host string) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	crt, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return crt, key
}

// TestARefusalIsOneLine: one act, one line, whoever refused it.
func TestARefusalIsOneLine(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	h.credential(t, "a", "Una Unbound", "")
	token := h.token(t, nil)
	cn := func(name string) func(*prescription.Prescription, *wire.SignOpen) {
		return func(p *prescription.Prescription, _ *wire.SignOpen) { p.ClinicianCN = name }
	}
	if _, _, err := h.portal.sign(t.Context(), wanted(token, "RX-0")); err != nil {
		t.Fatal(err)
	}
	for what, in := range map[string]wire.SignOpen{
		"no token that could be read": wanted("nonsense", "RX-1"),
		"no role":                     wanted(h.token(t, func(p *oidctest.Person) { p.Roles = []string{"reader"} }), "RX-1"),
		"a service account":           wanted(h.provider.A.Service(t), "RX-1"),
		"a weak log-in":               wanted(h.token(t, func(p *oidctest.Person) { p.ACR = "1" }), "RX-1"),
		"another person":              wanted(h.token(t, func(p *oidctest.Person) { p.Sub = "somebody-else" }), "RX-1"),
		"an unbound credential":       wanted(token, "RX-1", cn("Una Unbound")),
		"no credential":               wanted(token, "RX-1", cn("No Body")),
		"no consent":                  wanted(token, "RX-1", func(_ *prescription.Prescription, in *wire.SignOpen) { in.Consent.Text = "" }),
		"a controlled drug":           wanted(token, "RX-1", func(p *prescription.Prescription, _ *wire.SignOpen) { p.ControlledDrugSchedule = "1" }),
		"other content":               wanted(token, "RX-0", func(p *prescription.Prescription, _ *wire.SignOpen) { p.Dosage = "Another dosage" }),
	} {
		before := h.lines(t)
		if _, err := h.portal.open(t.Context(), in); err == nil {
			t.Errorf("%s was not refused", what)
		}
		if got := h.since(t, before); len(got) != 1 || !strings.HasSuffix(got[0], "_refused") {
			t.Errorf("%s left %v", what, got)
		}
	}
}
