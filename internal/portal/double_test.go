package portal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

// double answers the signer's operations for tests of HTTP: what it says goes through JSON, as over the wire.
type double struct {
	t  *testing.T
	mu sync.Mutex
	do map[wire.Op]func(in any, fd *os.File) (any, *os.File, error)
	// asked is what was asked for, in order.
	asked []call
	root  *x509.Certificate
	key   *ecdsa.PrivateKey
}

type call struct {
	op wire.Op
	in any
}

const goodToken = "e30.e30.good"

func newDouble(t *testing.T) *double {
	t.Helper()
	d := &double{t: t}
	d.root, d.key = selfSigned(t, "Test Root")
	d.do = map[wire.Op]func(any, *os.File) (any, *os.File, error){
		wire.OpAuthenticate: func(in any, _ *os.File) (any, *os.File, error) {
			switch in.(wire.AuthRequest).Token {
			case goodToken:
				return wire.Caller{Clinic: "wharf-lane", Sub: "s-1", Name: "Doctor Clinician", Kind: wire.KindClinician, MaxDocument: 1 << 20}, nil, nil
			case "expired":
				return nil, nil, fault.New(fault.Unauthorized, "the token expired at 10:00").WithHint("log in again").WithCode("token-expired")
			case "roleless":
				return nil, nil, fault.New(fault.Forbidden, "the token lacks the role clinician").WithCode("role-missing")
			}
			return nil, nil, fault.New(fault.Unauthorized, "the token's signature is wrong").WithCode("token-signature").WithCause(os.ErrInvalid)
		},
		wire.OpStatus: func(any, *os.File) (any, *os.File, error) {
			return wire.Status{Ready: true, Lines: 7, Version: "v", Demo: true, Root: d.root.Raw}, nil, nil
		},
	}
	return d
}

// Call implements Signer.
func (d *double) Call(ctx context.Context, op wire.Op, in, out any, fd *os.File) (*os.File, error) {
	d.mu.Lock()
	f := d.do[op]
	d.asked = append(d.asked, call{op, in})
	d.mu.Unlock()
	if f == nil {
		return nil, fault.New(fault.Forbidden, "the double does not do "+string(op))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	got, back, err := f(in, fd)
	if err != nil || out == nil {
		return nil, err
	}
	raw, err := json.Marshal(got)
	if err != nil {
		d.t.Error(err)
	}
	if reflect.TypeOf(got) != reflect.TypeOf(out).Elem() {
		d.t.Errorf("%s: the portal wants %T, the double says %T", op, out, got)
	}
	return back, json.Unmarshal(raw, out)
}

func (d *double) count(op wire.Op) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.asked {
		if c.op == op {
			n++
		}
	}
	return n
}

// last returns what was asked last of op.
func (d *double) last(op wire.Op) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.asked) - 1; i >= 0; i-- {
		if d.asked[i].op == op {
			return d.asked[i].in
		}
	}
	d.t.Errorf("%s was not asked for", op)
	return nil
}

func selfSigned(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func testConfig(t *testing.T, s Signer) Config {
	return Config{Portal: config.Portal{StateDir: t.TempDir(), Hosts: []string{"localhost"}, Listen: "127.0.0.1:0", ListenHTTP: "127.0.0.1:0", ListenMetrics: "127.0.0.1:0",
		TLS: config.TLSOwnCA, BodyBytes: 1 << 20, RequestTime: 10 * time.Second, CallerRate: 1000, PublicRate: 1000},
		Limits: config.Limits{PDFBytes: 1 << 20}, Signer: s, Version: "test"}
}

func newPortal(t *testing.T, change func(*Config)) (*Portal, *double) {
	t.Helper()
	d := newDouble(t)
	cfg := testConfig(t, d)
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, d
}

// ask makes a request of the handler, as if over TLS.
func ask(p *Portal, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.TLS = &tls.ConnectionState{}
	r.RemoteAddr = "192.0.2.7:4711"
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, r)
	return w
}

func authorised(more ...string) []string {
	return append([]string{"Authorization", "Bearer " + goodToken}, more...)
}

// problemOf reads a problem document and checks what each must have.
func problemOf(t *testing.T, w *httptest.ResponseRecorder) Problem {
	t.Helper()
	var p Problem
	if got := w.Header().Get("Content-Type"); got != problemJSON {
		t.Errorf("Content-Type %q of %d %s", got, w.Code, w.Body)
	}
	d := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if p.Status != w.Code || p.Title == "" || p.Detail == "" || p.RequestID == "" || p.RequestID != w.Header().Get("X-Request-ID") || !strings.HasPrefix(p.Type, "/problems/") {
		t.Errorf("not a whole problem: %d %+v", w.Code, p)
	}
	return p
}

// signFields is the body of a good request to sign.
func signFields(t *testing.T) map[string]any {
	t.Helper()
	raw, err := json.Marshal(prescription.Demo(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	fields["consent_text"], fields["consent_timestamp"] = "I have reviewed this prescription and sign it.", time.Now().UTC().Format(time.RFC3339)
	return fields
}

func signJSON(t *testing.T, change func(map[string]any)) string {
	t.Helper()
	fields := signFields(t)
	if change != nil {
		change(fields)
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func demoPrescription() prescription.Prescription { return prescription.Demo(time.Now()) }
