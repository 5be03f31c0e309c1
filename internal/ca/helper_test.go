package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/objects"
	"github.com/veripath/aes-appliance/internal/token"
)

// softKeys is a token in memory, for the tests that are not about the token.
type softKeys struct {
	mu      sync.Mutex
	keys    map[string]crypto.Signer
	ids     map[string][]byte
	wrapped map[string]crypto.Signer
	undead  bool // Destroy does nothing, as in a process that died before it
}

func newSoftKeys() *softKeys {
	return &softKeys{keys: map[string]crypto.Signer{}, ids: map[string][]byte{}, wrapped: map[string]crypto.Signer{}}
}

func softKey(a token.Algorithm) (crypto.Signer, error) {
	switch a {
	case token.ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case token.ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case token.RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case token.Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, errors.New("no such algorithm")
}

func (s *softKeys) Generate(spec token.KeySpec) (crypto.Signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := softKey(spec.Algorithm)
	if err != nil {
		return nil, err
	}
	s.keys[spec.Label], s.ids[spec.Label] = key, spec.ID
	return key, nil
}

func (s *softKeys) Key(label string, id []byte, pub crypto.PublicKey) (crypto.Signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.keys[label]
	if key == nil || !bytes.Equal(id, s.ids[label]) {
		return nil, fault.New(fault.NotFound, "no such key")
	}
	if k, ok := pub.(interface{ Equal(crypto.PublicKey) bool }); ok && !k.Equal(key.Public()) {
		return nil, fault.New(fault.Corrupt, "another key")
	}
	return key, nil
}

func (s *softKeys) Keys() (list []token.KeyInfo, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for label, key := range s.keys {
		list = append(list, token.KeyInfo{Label: label, ID: s.ids[label], Public: key.Public()})
	}
	return list, nil
}

func (s *softKeys) Destroy(label string, id []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[label] == nil {
		return fault.New(fault.NotFound, "no such key")
	}
	if !s.undead {
		delete(s.keys, label)
	}
	return nil
}

func (s *softKeys) GenerateWrapped(a token.Algorithm) ([]byte, crypto.PublicKey, error) {
	key, err := softKey(a)
	if err != nil {
		return nil, nil, err
	}
	id := []byte(rand.Text())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrapped[string(id)] = key
	return id, key.Public(), nil
}

func (s *softKeys) WrappedSigner(wrapped []byte, _ crypto.PublicKey) crypto.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrapped[string(wrapped)]
}

// sealer seals object keys under one key in memory.
type sealer struct{ aead cipher.AEAD }

func newSealer(t testing.TB) sealer {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return sealer{aead}
}

func (s sealer) SealKey(key []byte) ([]byte, error)    { return s.aead.Seal(nil, nil, key, nil), nil }
func (s sealer) OpenKey(sealed []byte) ([]byte, error) { return s.aead.Open(nil, nil, sealed, nil) }

// failingLedger refuses events on demand, before or after they are durable.
type failingLedger struct {
	*ledger.Ledger
	mu     sync.Mutex
	before string // type of the event that never becomes durable
	after  string // type of the event that does, but is not acknowledged
}

func (l *failingLedger) Append(ctx context.Context, e ledger.Event) (ledger.Record, error) {
	l.mu.Lock()
	before, after := l.before, l.after
	l.mu.Unlock()
	if e.Type == before {
		return ledger.Record{}, errors.New("disk on fire")
	}
	r, err := l.Ledger.Append(ctx, e)
	if e.Type == after {
		return ledger.Record{}, errors.New("disk on fire afterwards")
	}
	return r, err
}

func (l *failingLedger) failOn(before, after string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

// machine is one appliance in a temporary folder, with a clock that the test moves.
type machine struct {
	t        testing.TB
	dir      string
	keys     ca.Keys
	sealer   objects.KeySealer
	root     ca.RootKeys
	policy   ca.Policy
	settings cert.Settings

	mu       sync.Mutex
	at       time.Time
	unproven bool

	ledger *failingLedger
	index  *index.DB
	store  *objects.Store
	ca     *ca.CA
}

func settings() cert.Settings {
	return cert.Settings{Name: "VeriPath", Organization: "VeriPath Ltd", Country: "GB", BaseURL: "http://pki.veripath.example", PolicyArc: "1.3.6.1.4.1.99999.7"}
}

// newMachine returns a machine whose ceremony has not been held.
func newMachine(t testing.TB) *machine {
	return &machine{t: t, dir: t.TempDir(), keys: newSoftKeys(), root: newSoftKeys(), sealer: newSealer(t), settings: settings(), at: time.Now().UTC().Truncate(time.Second)}
}

// newAppliance returns one that is ready.
func newAppliance(t testing.TB) *machine {
	t.Helper()
	m := newMachine(t)
	m.open()
	m.establish()
	return m
}

func (m *machine) time() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at
}

func (m *machine) advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = m.at.Add(d)
}

// Now is the proven clock.
func (m *machine) Now() (clock.Reading, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unproven {
		return clock.Reading{}, fault.New(fault.Unavailable, "the clock is not synchronised")
	}
	return clock.Reading{Time: m.at, Proven: true}, nil
}

func (m *machine) tryOpen() error {
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	db, err := index.Open(filepath.Join(m.dir, "index"), m.sealer)
	if err != nil {
		return err
	}
	m.index = db
	l, err := ledger.Open(ctx, ledger.Config{Dir: m.dir, Index: db, Folds: []ledger.Fold{ca.Fold()}, Now: m.time, Log: log})
	if err != nil {
		return err
	}
	m.ledger = &failingLedger{Ledger: l}
	if m.store, err = objects.Open(filepath.Join(m.dir, "objects"), m.sealer); err != nil {
		return err
	}
	m.ca, err = ca.Open(ctx, ca.Config{Ledger: m.ledger, Objects: m.store, Keys: m.keys, Settings: m.settings, Clock: m, Now: m.time, Rand: rand.Reader, Log: log, Policy: m.policy})
	return err
}

func (m *machine) open() {
	m.t.Helper()
	if err := m.tryOpen(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(m.close)
}

func (m *machine) close() {
	if m.ledger == nil {
		return
	}
	if err := errors.Join(m.store.Close(), m.ledger.Close(), m.index.Close()); err != nil {
		m.t.Error(err)
	}
	m.ledger = nil
}

func (m *machine) reopen() {
	m.t.Helper()
	m.close()
	if err := m.tryOpen(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) ceremony(ctx context.Context, r ca.CeremonyRequest) (ca.CeremonyAnswer, error) {
	return ca.RootCeremony(ctx, ca.RootConfig{Keys: m.root, Now: m.time(), Rand: rand.Reader}, r)
}

func (m *machine) establish() {
	m.t.Helper()
	if err := m.ca.Establish(context.Background(), "operator", m.ceremony); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) maintain() ca.Upkeep {
	m.t.Helper()
	u, err := m.ca.Maintain(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	return u
}

func doctor(clinic, name string) ca.Request {
	return ca.Request{Kind: cert.Clinician, Clinic: clinic, Actor: "admin", Sub: "a1b2", Subject: cert.Subject{Country: "GB", Organization: "Example Clinic", CommonName: name, SerialNumber: "GM:GB-1234567"}}
}

func (m *machine) issue(r ca.Request) ca.Certificate {
	m.t.Helper()
	c, err := m.ca.Issue(context.Background(), r)
	if err != nil {
		m.t.Fatal(err, fault.HintOf(err))
	}
	return c
}

// events returns the types of all lines from the given one on.
func (m *machine) events(from uint64) (types []string) {
	m.t.Helper()
	size, _ := m.ledger.Head()
	for seq := from; seq < size; seq++ {
		r, err := m.ledger.Read(seq)
		if err != nil {
			m.t.Fatal(err)
		}
		types = append(types, r.Type)
	}
	return types
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writePEM(t testing.TB, kind string, ders ...[]byte) string {
	t.Helper()
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return writeFile(t, out)
}

func writeFile(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// openssl runs the tool; a missing tool fails the test.
func openssl(t testing.TB, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: apt-get install openssl")
	}
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

func mustOpenSSL(t testing.TB, args ...string) string {
	t.Helper()
	out, err := openssl(t, args...)
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func wantKind(t testing.TB, err error, kind fault.Kind, text string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v (%v), want %v about %q", err, fault.KindOf(err), kind, text)
	}
}
