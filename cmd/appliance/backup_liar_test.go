package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// liar is a portal that dials whatever it likes for the signer.
type liar struct {
	mu sync.Mutex
	to string // "" = refuses
}

func (l *liar) lead(to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
}

// serve answers the signer's wishes with connections elsewhere.
func (l *liar) serve(t *testing.T, socket string) {
	c := wire.New(socket)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended; c.Close() })
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			short, done := context.WithTimeout(ctx, time.Second)
			var w wire.Wanted
			_, err := c.Call(short, wire.OpWanted, wire.Nothing{}, &w, nil)
			done()
			if err != nil || w.ID == 0 {
				continue
			}
			l.mu.Lock()
			to := l.to
			l.mu.Unlock()
			conn, err := net.Dial("tcp", to)
			if err != nil {
				c.Call(ctx, wire.OpDialled, wire.Dialled{ID: w.ID, Error: "no"}, nil, nil)
				continue
			}
			if f, err := conn.(*net.TCPConn).File(); err == nil {
				c.Call(ctx, wire.OpDialled, wire.Dialled{ID: w.ID}, nil, f)
				f.Close()
			}
			conn.Close()
		}
	}()
}

// strangerTLS is the TLS of somebody with a key of their own, who does not look at the other side's.
func strangerTLS(t *testing.T) *tls.Config {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true}
}

// middleman speaks TLS with both sides, with a key of its own, and passes on all that they say.
func middleman(t *testing.T, to string) string {
	t.Helper()
	cfg := strangerTLS(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := tls.Dial("tcp", to, cfg)
				if err != nil {
					return
				}
				defer out.Close()
				go io.Copy(out, in)
				io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

// TestLyingPortalCannotBeTheBackup: a portal that leads the signer elsewhere can refuse service, and no more. It neither gets itself enrolled, nor
// sits between the two, nor has anything confirmed by another host.
func TestLyingPortalCannotBeTheBackup(t *testing.T) {
	e := newGround(t, "")
	e.shorten()
	e.signer = start(t, "--config", e.config, "signer")
	honest, evil := newVault(t), newVault(t)
	honest.start()
	evil.start()
	var l liar
	l.serve(t, filepath.Join(e.dir, "p", "s"))

	out, err := program(t, "--config", e.config, "backup", "enrol", "--to", honest.address).Output()
	if err != nil {
		t.Fatal(err)
	}
	// The attacker has its own code at its own host, for another appliance: strangers may finish a handshake there.
	run(t, "--config", honest.config, "receiver", "--join", strings.TrimSpace(string(out)))
	other := newGround(t, "")
	other.signer = start(t, "--config", other.config, "signer")
	theirs, err := program(t, "--config", other.config, "backup", "enrol", "--to", evil.address).Output()
	if err != nil {
		t.Fatal(err)
	}
	run(t, "--config", evil.config, "receiver", "--join", strings.TrimSpace(string(theirs)))

	for what, to := range map[string]string{"another backup host": evil.address, "a man in the middle": middleman(t, honest.address)} {
		for _, step := range [][2]string{{"127.0.0.1:1", "could not connect"}, {to, "no such code waits here"}} {
			l.lead(step[0])
			for end := time.Now().Add(15 * time.Second); !strings.Contains(e.backupStatus().OfferError, step[1]); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s: %+v", what, e.backupStatus())
				}
			}
			if st := e.backupStatus(); st.State != "disabled" { // the demo's, which has ended
				t.Fatalf("%s was enrolled: %+v", what, st)
			}
		}
	}
	l.lead(honest.address)
	e.synchronised(honest)
	lines := e.backupStatus().Lines

	honest.stop()
	l.lead(evil.address)
	run(t, "--config", e.config, "clinic", "add", "late", "--name", "Late")
	time.Sleep(3 * time.Second) // several attempts
	if st := e.backupStatus(); st.Cosigned || st.Lines != lines || !strings.Contains(st.Trouble, "no trusted connection") {
		t.Errorf("led to another host: %+v", st)
	}
	e.signer.stop()
	e.signer = start(t, "--config", e.config, "signer")
	time.Sleep(time.Second)
	if st := e.backupStatus(); st.State != "comparing" || st.Signing == "" {
		t.Errorf("started anew, led to another host: %+v", st)
	}
}

// TestThirdHostCannotConnect: without the key of a primary, and without a code that waits, the handshake itself ends.
func TestThirdHostCannotConnect(t *testing.T) {
	v := newVault(t)
	v.start()
	conn, err := tls.Dial("tcp", v.address, strangerTLS(t))
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1)) // TLS 1.3: the client hears of its refusal after its own handshake
	}
	if err == nil || !strings.Contains(err.Error(), "remote error: tls") {
		t.Errorf("a third host: %v", err)
	}
	if resp, err := http.Get("http://" + v.address + "/v1/logs/x/checkpoint"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("it answers plain http")
		}
	}
}
