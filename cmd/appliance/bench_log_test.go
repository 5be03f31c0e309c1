package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/signer"
)

// benchHex is a hash like no other, for details of lines.
func benchHex(n uint64) string { return fmt.Sprintf("%064x", n*0x9e3779b97f4a7c15+1) }

// benchLine is the details of line n of a busy appliance: signature_created and prescription_signed by turns, as the signer writes them.
func benchLine(n uint64) (event string, details map[string]any) {
	pair := n / 2
	if n%2 == 0 {
		return "signature_created", map[string]any{
			"signature": benchHex(pair), "certificate_serial": benchHex(1)[:32], "document_digest": benchHex(pair + 1<<40),
			"gen_time": "2026-03-01T09:30:00Z", "time_stamp_serial": benchHex(pair)[:40], "clock_proven": true,
		}
	}
	return "prescription_signed", map[string]any{
		"prescription_id": fmt.Sprintf("RX-%d", pair), "clinic": "wharf-lane", "clinician_cn": "Doctor Clinician", "actor_issuer": "https://sso.example.org/realms/wharf-lane",
		"actor_sub": "0b8a7a1e-9a5c-4d2f-8f0e-1f0a9b1f7a11", "actor_username": "dr.clinician", "actor_acr": "2", "actor_ip": "192.0.2.17",
		"realm_key_thumbprint": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "kind": "clinician", "level": "token", "source": "rendered", "signature": benchHex(pair),
		"created_line": n - 1, "certificate_serial": benchHex(1)[:32], "tsa_certificate_serial": benchHex(2)[:32], "pdf_sha256": benchHex(pair + 1<<41), "pdf_size": 61234,
		"document_object": benchHex(pair + 1<<42), "evidence_sha256": benchHex(pair + 1<<44), "signed_at": "2026-03-01T09:30:00Z",
		"gen_time": "2026-03-01T09:30:00Z", "time_stamp_serial": benchHex(pair)[:40], "request_id": benchHex(pair)[:32],
	}
}

// BenchmarkLog_Append is lines of prescriptions, appended by 512 at once to the log of an appliance: written in groups, fsynced, folded into its index.
func BenchmarkLog_Append(b *testing.B) {
	s, _ := openDemo(b)
	var n atomic.Uint64
	load(b, 512, func() error {
		i := n.Add(1) - 1
		event, details := benchLine(i)
		_, err := s.Ledger().Append(context.Background(), ledger.Event{Type: event, Actor: "0b8a7a1e-9a5c-4d2f-8f0e-1f0a9b1f7a11", Details: details})
		return err
	})
}

// BenchmarkLog_Million is an appliance whose log has a million lines: verifying it all, starting without the index and with it.
func BenchmarkLog_Million(b *testing.B) {
	const lines = 1_000_000
	s, dir := openDemo(b)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	lengthen(b, filepath.Join(state, ledger.FileName), lines)
	var verify, rebuild, present time.Duration
	for b.Loop() {
		verify += timed(func() {
			f := must(os.Open(filepath.Join(state, ledger.FileName)))
			defer f.Close()
			if r := must(ledger.Verify(f)); r.Size != lines {
				b.Fatalf("%d lines", r.Size)
			}
		})
		if err := os.Remove(filepath.Join(state, "index.db")); err != nil {
			b.Fatal(err)
		}
		for _, took := range []*time.Duration{&rebuild, &present} {
			*took += timed(func() { s = openAgain(b, dir) })
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	n := float64(b.N)
	b.ReportMetric(lines*n/verify.Seconds(), "verified_per_s")
	b.ReportMetric(rebuild.Seconds()/n, "rebuild_s")
	b.ReportMetric(present.Seconds()/n, "start_s")
}

// BenchmarkStart_Cold opens an appliance with 10,000 certificates and a log of a million lines, whose index is there.
func BenchmarkStart_Cold(b *testing.B) {
	s, dir := openDemo(b)
	grow(b, s, dir)
	var took, computed time.Duration
	for b.Loop() {
		before := processorTime()
		took += timed(func() { s = openAgain(b, dir) })
		computed += processorTime() - before
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(b.N)
	b.ReportMetric(took.Seconds()/n, "start_s")
	b.ReportMetric(computed.Seconds()/n, "processor_s")
}

// grow gives a demo in dir 10,000 certificates and a log of a million lines, with their index, and closes s.
func grow(b testing.TB, s *signer.Signer, dir string) {
	b.Helper()
	issueMany(b, s)
	lengthen(b, filepath.Join(dir, "state", ledger.FileName), 1_000_000)
	if err := openAgain(b, dir).Close(); err != nil { // folds what is new
		b.Fatal(err)
	}
}

var grown = flag.String("grown", "", "folder in which TestGrown leaves a demo that is as BenchmarkStart_Cold has it")

// TestGrown makes such a demo for tests on machines: make grown.
func TestGrown(t *testing.T) {
	if *grown == "" {
		t.Skip("it is made when -grown says where")
	}
	grow(t, openDemoIn(t, *grown), *grown)
}

// processorTime is what this process has computed so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// lengthen adds to the log of a stopped appliance what it would have written itself, without an fsync for each line.
func lengthen(b testing.TB, path string, lines uint64) {
	b.Helper()
	text := strings.TrimSuffix(string(must(os.ReadFile(path))), "\n")
	tip, size := must(chain.ParseLine([]byte(text[strings.LastIndexByte(text, '\n')+1:]))), uint64(strings.Count(text, "\n")+1)
	f := must(os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0))
	w := bufio.NewWriterSize(f, 1<<20)
	var line []byte
	head := tip.Hash
	for first := size; size < lines; size++ {
		event, details := benchLine(size - first)
		raw := must(chain.Canonical(nil, must(json.Marshal(details))))
		var err error
		line, head, err = chain.AppendLine(line[:0], head, chain.Entry{Time: tip.Time, EventType: event, Actor: "0b8a7a1e-9a5c-4d2f-8f0e-1f0a9b1f7a11", Details: raw})
		if err == nil {
			_, err = w.Write(append(line, '\n'))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}
