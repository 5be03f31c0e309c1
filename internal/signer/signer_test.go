package signer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/signer"
)

// TestMain lets the test binary be the process of its own in which the root's key is used.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "ceremony" {
		if err := ceremony(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		fmt.Fprintln(os.Stderr, serveChild(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func ceremony(dir string) error {
	var r ca.CeremonyRequest
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		return err
	}
	a, err := signer.Ceremony(context.Background(), "", dir, []byte("root-pin-1234"), ca.RootConfig{Now: time.Now(), Rand: rand.Reader}, r)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

func inChild(dir string) ca.Root {
	return func(ctx context.Context, r ca.CeremonyRequest) (a ca.CeremonyAnswer, err error) {
		in, err := json.Marshal(r)
		if err != nil {
			return a, err
		}
		program, err := os.Executable()
		if err != nil {
			return a, err
		}
		cmd := exec.CommandContext(ctx, program, "ceremony", dir)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return a, err
		}
		return a, json.Unmarshal(out, &a)
	}
}

// kernel is a time service that the test drives.
type kernel struct {
	mu     sync.Mutex
	shift  time.Duration // of the wall clock
	slept  time.Duration // by which later it is than it would be, for both clocks
	unsync bool
}

func (k *kernel) set(f func(*kernel)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k)
}

var booted = time.Now()

func (k *kernel) Sample(bool) (clock.Sample, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now().Add(k.slept) // one reading for both: a test waits for its turn between two
	return clock.Sample{Wall: now.Add(k.shift), Boot: now.Sub(booted), State: clock.State{Unsynchronised: k.unsync, MaxError: time.Millisecond}}, nil
}

func settings(t testing.TB) signer.Config {
	dir := t.TempDir()
	cfg, err := config.Parse([]byte(fmt.Sprintf(`state_dir = %q
[pki]
base_url = "http://pki.example.org"
name = "Test"
organisation = "Test Ltd"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.7"
[token]
label = "test"
pin_file = %q
`, filepath.Join(dir, "state"), filepath.Join(dir, "pin"))))
	if err != nil {
		t.Fatal(err)
	}
	return signer.Config{Config: cfg, PIN: []byte("pin-12345678"), Version: "test", Kernel: &kernel{}}
}

func found(t testing.TB, cfg signer.Config, demo bool) *signer.Signer {
	t.Helper()
	s, err := signer.Found(context.Background(), cfg, signer.Founding{Demo: demo, Actor: "test", Ceremony: inChild})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func clinician(t *testing.T, s *signer.Signer) string {
	t.Helper()
	return clinicianNamed(t, s, "Ada Example")
}

func clinicianNamed(t *testing.T, s *signer.Signer, name string) string {
	t.Helper()
	c, err := s.Issue(context.Background(), ca.Request{Kind: cert.Clinician, Clinic: "clinic", Actor: "test",
		Subject: cert.Subject{Country: "GB", CommonName: name, SerialNumber: "GM:GB-7654321"}})
	if err != nil {
		t.Fatal(err)
	}
	return c.Serial
}

func begin(t *testing.T, s *signer.Signer, serial string) *signer.Signing {
	t.Helper()
	g, err := s.Begin(context.Background(), "test", serial)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func sign(t *testing.T, g *signer.Signing) (pades.Signed, error) {
	t.Helper()
	at, err := g.Time()
	if err != nil {
		return pades.Signed{}, err
	}
	return pades.Sign(context.Background(), onePage(), g, pades.SignOptions{Name: "Ada Example", Time: at})
}

// types are those of the log's lines, without clock_high_water: there is one wherever a second ends between a signature and its document's time stamp.
func types(t *testing.T, cfg signer.Config) (list []string) {
	t.Helper()
	for _, typ := range allTypes(t, cfg) {
		if typ != "clock_high_water" {
			list = append(list, typ)
		}
	}
	return list
}

func allTypes(t *testing.T, cfg signer.Config) (list []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(cfg.StateDir, ledger.FileName))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var l struct {
			Entry struct {
				Type string `json:"event_type"`
			} `json:"entry"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		list = append(list, l.Entry.Type)
	}
	return list
}

func wantKind(t *testing.T, err error, kind fault.Kind, what string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("%s: error %v of kind %v, want %v", what, err, fault.KindOf(err), kind)
	}
}

func TestSignedDocumentIsValidAndLogged(t *testing.T) {
	cfg := settings(t)
	s := found(t, cfg, false)
	g := begin(t, s, clinician(t, s))
	done, err := sign(t, g)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Complete(context.Background(), done); err != nil {
		t.Fatal(err)
	}
	report, err := pades.Validate(context.Background(), done.PDF, pades.ValidateOptions{Roots: []*x509.Certificate{s.Root()}, At: time.Now()})
	if err != nil || !report.Good() || report.Signatures[0].Level != pades.LevelLTA {
		t.Fatalf("%v %+v", err, report)
	}
	if got := types(t, cfg); !slices.Equal(got[len(got)-2:], []string{"signature_created", "document_signed"}) {
		t.Errorf("the log ends with %v", got[len(got)-2:])
	}
}

// TestStatusInALaterSecond: with the setting, every answer in the DSS is visibly later than the signature time stamp.
func TestStatusInALaterSecond(t *testing.T) {
	cfg := settings(t)
	cfg.Signing.StatusInLaterSecond = true
	s := found(t, cfg, false)
	done, err := sign(t, begin(t, s, clinician(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	report, err := pades.Validate(context.Background(), done.PDF, pades.ValidateOptions{Roots: []*x509.Certificate{s.Root()}, At: time.Now()})
	if err != nil || !report.Good() {
		t.Fatalf("%v %+v", err, report)
	}
	signature := report.Signatures[0]
	if got := signature.Certificates[0].Status; !got.ThisUpdate.After(*signature.ProvenTime) {
		t.Errorf("status of %v, time stamp of %v", got.ThisUpdate, signature.ProvenTime)
	}
}

func TestOperationIsUsedOnceForOneDocument(t *testing.T) {
	ctx := context.Background()
	s := found(t, settings(t), false)
	serial := clinician(t, s)
	digest := make([]byte, 32)

	g := begin(t, s, serial)
	_, err := g.Stamp(ctx, digest)
	wantKind(t, err, fault.Conflict, "time stamp before the signature")
	_, err = g.Complete(ctx, pades.Signed{})
	wantKind(t, err, fault.Conflict, "completion before the signature")
	_, err = g.Sign(ctx, digest[:20])
	wantKind(t, err, fault.Invalid, "a short digest")

	g = begin(t, s, serial)
	if _, err := g.Sign(ctx, digest); err != nil {
		t.Fatal(err)
	}
	_, err = g.Sign(ctx, digest)
	wantKind(t, err, fault.Conflict, "a second signature")
	if _, err := g.Stamp(ctx, digest); err != nil {
		t.Fatal(err)
	}
	_, err = g.Stamp(ctx, digest)
	wantKind(t, err, fault.Conflict, "a second time stamp")
}

func TestAnotherDocumentIsNotCompleted(t *testing.T) {
	ctx := context.Background()
	s := found(t, settings(t), false)
	serial := clinician(t, s)
	for name, change := range map[string]func(*pades.Signed){
		"signed part changed":    func(d *pades.Signed) { d.PDF[20] ^= 1 },
		"DSS changed":            func(d *pades.Signed) { d.PDF[d.Signature[2]+d.Signature[3]+50] ^= 1 },
		"bytes appended":         func(d *pades.Signed) { d.PDF = append(d.PDF, '\n') },
		"end cut off":            func(d *pades.Signed) { d.PDF = d.PDF[:len(d.PDF)-1] },
		"range out of bounds":    func(d *pades.Signed) { d.TimeStamp[3] = 1 << 62 },
		"negative range":         func(d *pades.Signed) { d.Signature[1] = -1 },
		"gap of no bytes":        func(d *pades.Signed) { d.Signature[2] = d.Signature[1] },
		"ranges exchanged":       func(d *pades.Signed) { d.Signature, d.TimeStamp = d.TimeStamp, d.Signature },
		"gap widened":            func(d *pades.Signed) { d.Signature[2] += 2; d.Signature[3] -= 2 },
		"signature left out":     func(d *pades.Signed) { clearHex(d.PDF[d.Signature[1]:d.Signature[2]]) },
		"time stamp left out":    func(d *pades.Signed) { clearHex(d.PDF[d.TimeStamp[1]:d.TimeStamp[2]]) },
		"time stamp changed":     func(d *pades.Signed) { flipHex(&d.PDF[d.TimeStamp[1]+200]) },
		"an object in the gap":   func(d *pades.Signed) { copy(d.PDF[d.TimeStamp[2]-40:], "> /Evil (text) /More <00") },
		"not from the beginning": func(d *pades.Signed) { d.Signature[0] = 1; d.Signature[1]-- },
	} {
		g := begin(t, s, serial)
		done, err := sign(t, g)
		if err != nil {
			t.Fatal(err)
		}
		change(&done)
		if _, err := g.Complete(ctx, done); err == nil {
			t.Errorf("%s: completed", name)
		}
	}
}

// clearHex makes a hexadecimal string one of zeros; flipHex makes a digit another.
func clearHex(s []byte) {
	for i := 1; i < len(s)-1; i++ {
		s[i] = '0'
	}
}

func flipHex(c *byte) {
	if *c == '0' {
		*c = '1'
		return
	}
	*c = '0'
}

func TestOpenSignatureIsClosedAtTheNextStart(t *testing.T) {
	cfg := settings(t)
	s := found(t, cfg, false)
	if _, err := begin(t, s, clinician(t, s)).Sign(context.Background(), make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // once, not at each start
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if s, err = signer.Open(context.Background(), cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
	}
	n := 0
	for _, typ := range types(t, cfg) {
		if typ == "signing_incomplete" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("signing_incomplete stands %d times in the log", n)
	}
}

func TestNothingLeavesWithoutItsLine(t *testing.T) {
	cfg := settings(t)
	s := found(t, cfg, false)
	g := begin(t, s, clinician(t, s))
	if err := s.Ledger().Close(); err != nil {
		t.Fatal(err)
	}
	sig, err := g.Sign(context.Background(), make([]byte, 32))
	if err == nil || sig.CMS != nil {
		t.Errorf("a signature left without its line: %v", err)
	}
}

func TestRevocationStopsASigningInProgress(t *testing.T) {
	s := found(t, settings(t), false)
	serial := clinician(t, s)
	g := begin(t, s, serial)
	if _, err := s.CA().Revoke(context.Background(), serial, cert.ReasonKeyCompromise, time.Time{}, "test"); err != nil {
		t.Fatal(err)
	}
	_, err := sign(t, g)
	wantKind(t, err, fault.Forbidden, "signing with a revoked certificate")
	_, err = s.Begin(context.Background(), "test", serial)
	wantKind(t, err, fault.Forbidden, "beginning with a revoked certificate")
}

func TestNoSignatureWithoutProvenTime(t *testing.T) {
	cfg := settings(t)
	k := cfg.Kernel.(*kernel)
	s := found(t, cfg, false)
	serial := clinician(t, s)
	g := begin(t, s, serial)
	lines := len(types(t, cfg))
	k.set(func(k *kernel) { k.unsync = true })
	_, err := g.Sign(context.Background(), make([]byte, 32))
	wantKind(t, err, fault.Unavailable, "signing without a synchronised clock")
	_, err = s.Begin(context.Background(), "test", serial)
	wantKind(t, err, fault.Unavailable, "beginning without a synchronised clock")
	if got := len(types(t, cfg)); got != lines {
		t.Errorf("%d lines were written for signatures that do not exist", got-lines)
	}
}

func TestUnprovenClockIsForDemosOnly(t *testing.T) {
	cfg := settings(t)
	s := found(t, cfg, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Clock.Mode = clock.Unproven
	_, err := signer.Open(context.Background(), cfg)
	wantKind(t, err, fault.Forbidden, "an unproven clock on a real appliance")
}

// onePage returns a document of one empty page.
func onePage() []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n")
	var offsets []int
	for i, object := range []string{"<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << >> >>"} {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, object)
	}
	xref := b.Len()
	b.WriteString("xref\n0 4\n0000000000 65535 f \n")
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size 4 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", xref)
	return b.Bytes()
}
