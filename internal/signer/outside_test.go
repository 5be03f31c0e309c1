package signer_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/tsa"
	"github.com/veripath/aes-appliance/internal/wire"
)

// outsideWitness cosigns what grows, over TLS. (What a witness must check in full, package witness has one for.)
func outsideWitness(t *testing.T, logKey func() string) (server *httptest.Server, key chain.WitnessKey) {
	t.Helper()
	cosigner, err := chain.NewCosigner("witness.example/w", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	last := (&chain.Frontier{}).Tree()
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		in, err := chain.ParseAddCheckpoint(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c, err := chain.OpenCheckpoint(in.Checkpoint, chain.LogName(logKey()), logKey())
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusForbidden)
		case in.Old != last.Size:
			w.Header().Set("Content-Type", "text/x.tlog.size")
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, "%d\n", last.Size)
		case chain.VerifyConsistency(last, c.Tree, in.Proof) != nil:
			w.WriteHeader(http.StatusUnprocessableEntity)
		default:
			last = c.Tree
			line, err := cosigner.Cosign(c, time.Now())
			if err != nil {
				t.Error(err)
			}
			w.Write(line)
		}
	}))
	t.Cleanup(server.Close)
	return server, cosigner.Key()
}

// outsideTSA is another time-stamping authority: openssl behind a small server.
func outsideTSA(t *testing.T) (server *httptest.Server, root *x509.Certificate) {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) {
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("openssl %s: %v (Debian's openssl is needed)\n%s", strings.Join(args, " "), err, out)
		}
	}
	for name, text := range map[string]string{
		"tsa.cnf": "[tsa]\ndefault_tsa=t\n[t]\ndir=.\nserial=./serial\nsigner_cert=./tsa.pem\nsigner_key=./tsa.key\nsigner_digest=sha256\ndefault_policy=1.2.3.4\ndigests=sha256\ness_cert_id_alg=sha256\n",
		"serial":  "0A\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem", "-subj", "/CN=Another TSA",
		"-days", "30", "-addext", "extendedKeyUsage=critical,timeStamping", "-addext", "keyUsage=critical,digitalSignature")
	text, err := os.ReadFile(filepath.Join(dir, "tsa.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if root, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/timestamp-query" {
			http.Error(w, "no query", http.StatusBadRequest)
			return
		}
		if err := os.WriteFile(filepath.Join(dir, "query"), body, 0o600); err != nil {
			t.Error(err)
		}
		run("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply")
		reply, err := os.ReadFile(filepath.Join(dir, "reply"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/timestamp-reply")
		w.Write(reply)
	}))
	t.Cleanup(server.Close)
	return server, root
}

// dialFor does what the portal does for the signer: it connects to what is wanted, until ctx ends.
func (p peer) dialFor(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		var w wire.Wanted
		if _, err := p.Call(ctx, wire.OpWanted, wire.Nothing{}, &w, nil); err != nil || w.ID == 0 {
			continue
		}
		conn, err := net.Dial("tcp", w.Address)
		if err != nil {
			t.Error(err)
			return
		}
		fd, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Error(err)
			return
		}
		_, err = p.Call(ctx, wire.OpDialled, wire.Dialled{ID: w.ID}, nil, fd)
		if err = errors.Join(err, fd.Close(), conn.Close()); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
}

// TestOutsidersVouch: a witness and another time-stamping authority, which the signer reaches over the portal's connections, are in the evidence, and
// it passes offline for who trusts them.
func TestOutsidersVouch(t *testing.T) {
	var h *house
	var known sync.WaitGroup
	known.Add(1)
	witness, key := outsideWitness(t, func() string { known.Wait(); return h.trusting(t).LogKeys[0] })
	authority, root := outsideTSA(t)
	roots := x509.NewCertPool()
	roots.AddCert(witness.Certificate())
	policy, err := chain.ParsePolicy(fmt.Appendf(nil, "witness w %s %s\nquorum w\n", key, witness.URL))
	if err != nil {
		t.Fatal(err)
	}
	h = newHouse(t, signer.ServerConfig{Outside: signer.Outside{
		Policy: policy, Every: 100 * time.Millisecond, Roots: roots, Stamp: authority.URL, StampRoots: []*x509.Certificate{root}, StampEvery: 300 * time.Millisecond,
	}})
	known.Done()
	ctx, cancel := context.WithCancel(t.Context())
	var dialling sync.WaitGroup
	dialling.Go(func() { h.portal.dialFor(ctx, t) })
	defer dialling.Wait()
	defer cancel()
	token := h.token(t, nil)
	if _, _, err := h.portal.sign(ctx, wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	o := h.trusting(t)
	o.Policy = policy
	o.JudgeStamp = func(token, note []byte) (evidence.Result, string) {
		got, err := tsa.Check(token, note, []*x509.Certificate{root})
		if err != nil {
			return evidence.Fail, err.Error()
		}
		return evidence.Pass, got.Certificate.Subject.CommonName
	}
	var text string
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(200 * time.Millisecond) {
		_, zip, err := h.portal.download(ctx, wire.OpPack, token, "RX-1")
		if err != nil {
			t.Fatal(err)
		}
		r, err := evidence.VerifyPack(ctx, bytes.NewReader(zip), int64(len(zip)), o)
		if err != nil || r.Verdict == evidence.Invalid {
			t.Fatalf("%v\n%s", err, r.Text())
		}
		if text = r.Text(); r.Verdict == evidence.Valid && strings.Contains(text, "Another TSA") && strings.Contains(text, "witness.example/w") {
			var got wire.Checkpoint
			if _, err := h.admin.Call(ctx, wire.OpCheckpoint, wire.Nothing{}, &got, nil); err != nil || len(got.Witnesses) != 1 || got.Witnesses[0].Failed != "" || got.Witnesses[0].Size == 0 {
				t.Errorf("%+v, %v", got, err)
			}
			return
		}
	}
	t.Fatalf("not in time:\n%s", text)
}
