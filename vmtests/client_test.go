//go:build vm

package vmtests

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/oidctest"
)

// client is a booking app on the host "app" with a clinician's token.
type client struct {
	http  *http.Client
	l     *life
	mu    sync.Mutex
	token string
	until time.Time
	begun time.Time // when its clinician consented: what is asked for again is the same, to the letter
}

// client returns a booking app; its connections are kept up, as a real one's are.
func (l *life) client(t *testing.T) *client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(l.root)) {
		t.Fatalf("no root certificate in %q", l.root)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "sign.clinic.test"}, MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return l.lab.Dial(ctx, "app", network, fmt.Sprintf("198.18.0.%d:443", l.at))
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{l: l, begun: time.Now().UTC(), http: &http.Client{Transport: transport, Timeout: 60 * time.Second}}
}

// bearer is a token that is good for a while yet.
func (c *client) bearer(t *testing.T) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().After(c.until) {
		c.token, c.until = c.l.provider.A.Login(t, oidctest.Doctor()).Access, time.Now().Add(2*time.Minute)
	}
	return c.token
}

// signed is an answer to POST /api/sign.
type signed struct {
	Status int    `json:"-"`
	SHA256 string `json:"pdf_sha256"`
	PDF    []byte `json:"pdf_base64"`
	Backup struct {
		Cosigned bool `json:"cosigned"`
	} `json:"backup"`
	Type   string `json:"type"` // of a problem
	Detail string `json:"detail"`
}

// sign asks for a prescription; the error is of the connection.
func (c *client) sign(t *testing.T, id string) (signed, error) {
	body, _ := json.Marshal(map[string]any{
		"prescription_id": id, "clinic_name": "Wharf Lane Clinic", "clinician_cn": clinician, "prescriber_type": "GP", "professional_register": "GMC",
		"professional_registration_number": "7654321", "prescriber_address": "14 Wharf Lane\nBristol\nBS1 9ZZ", "patient_name": "Zoë Anne Example",
		"patient_address": "27 Orchard Rise\nBristol\nBS8 9ZZ", "patient_date_of_birth": "1985-03-14", "appropriate_date": c.begun.Format(time.DateOnly),
		"medication_name": "Amoxicillin", "strength": "500 mg", "form": "capsules", "quantity": "21 capsules", "dosage": "One capsule three times a day for 7 days",
		"controlled_drug_schedule": "none", "consent_text": "I have reviewed this prescription and sign it.", "consent_timestamp": c.begun.Format(time.RFC3339),
		"client_ip": "203.0.113.9", "client_user_agent": "vmtests",
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://sign.clinic.test/api/sign", bytes.NewReader(body))
	if err != nil {
		return signed{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.bearer(t))
	req.Header.Set("Idempotency-Key", id)
	resp, err := c.http.Do(req)
	if err != nil {
		return signed{}, err
	}
	defer resp.Body.Close()
	a := signed{Status: resp.StatusCode}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%s: %w: %s", resp.Status, err, text[:min(len(text), 300)])
	}
	return a, nil
}

// signs asks for a prescription that must be signed; told to ask again, it does, as an app does.
func (c *client) signs(t *testing.T, id string) (a signed) {
	t.Helper()
	waitFor(t, 20*time.Second, "signing "+id, func() (err error) {
		if a, err = c.sign(t, id); err != nil || a.Status != http.StatusOK && a.Status != http.StatusServiceUnavailable {
			t.Fatalf("%s: %v, %d %s %s", id, err, a.Status, a.Type, a.Detail)
		}
		if a.Status != http.StatusOK {
			err = fmt.Errorf("%d %s %s", a.Status, a.Type, a.Detail)
		}
		return err
	})
	return a
}

// comesBack asks until a prescription is signed, for at most limit, and returns how long it took.
func (c *client) comesBack(t *testing.T, limit time.Duration, id string) time.Duration {
	t.Helper()
	return waitFor(t, limit, "signing", func() error {
		a, err := c.sign(t, id)
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("%d %s %s", a.Status, a.Type, a.Detail)
		}
		return err
	})
}

// get fetches what must be there.
func (c *client) get(t *testing.T, path string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://sign.clinic.test"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.bearer(t))
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", path, resp.Status, err, body[:min(len(body), 300)])
	}
	return body
}

// verify judges a signed file with nothing but the root. A demo's is good for the demo's root only, which is what is given here.
func (l *life) verify(t *testing.T, file, root string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), built(t, "appliance"), "verify", file, "--trust", root).CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) || err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
