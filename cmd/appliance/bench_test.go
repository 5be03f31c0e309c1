package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// The benchmarks measure the whole appliance: token, log with fsync, CA, TSA. "make bench" runs them on the static build and makes a table.

// load runs f at the given concurrency until b.N calls are done and reports rate, latencies and CPU. The collector is set as the services have it.
func load(b *testing.B, workers int, f func() error) {
	b.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(heapGrowth))
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	b.ResetTimer()
	cpu, start := cpuTime(), time.Now()
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				t := time.Now()
				if err := f(); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				took[i] = time.Since(t)
			}
		})
	}
	wg.Wait()
	wall, used := time.Since(start), cpuTime()-cpu
	b.StopTimer()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(float64(b.N)/wall.Seconds(), "per_s")
	b.ReportMetric(ms(took[b.N/2]), "p50_ms")
	b.ReportMetric(ms(took[(b.N-1)*99/100]), "p99_ms")
	b.ReportMetric(ms(used)/float64(b.N), "cpu_ms")
}

// cpuTime is what this process has used, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func atOnce(b *testing.B, f func() error, workers ...int) {
	for _, n := range workers {
		b.Run(fmt.Sprint(n), func(b *testing.B) { load(b, n, f) })
	}
}

func BenchmarkToken_P256(b *testing.B) {
	s, _ := openDemo(b)
	key := must(s.CA().TimeStamper()).Key
	digest := sha256.Sum256([]byte("x"))
	atOnce(b, func() error { _, err := key.Sign(nil, digest[:], crypto.SHA256); return err }, 1, 32)
}

func BenchmarkToken_Wrapped(b *testing.B) {
	s, _ := openDemo(b)
	key := must(s.CA().Signer(context.Background(), demoCertificate(b, s).Serial))
	digest := sha256.Sum256([]byte("x"))
	atOnce(b, func() error { _, err := key.Sign(nil, digest[:], crypto.SHA256); return err }, 1, 32)
}

func BenchmarkTime_Stamp(b *testing.B) {
	s, _ := openDemo(b)
	digest := sha256.Sum256([]byte("x"))
	request, err := tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: digest[:]}, Nonce: big.NewInt(7), CertReq: true}.Marshal()
	if err != nil {
		b.Fatal(err)
	}
	atOnce(b, func() error {
		answer, err := tsp.ParseResponse(s.TSA().Respond(context.Background(), request))
		if err == nil && answer.Token == nil {
			err = fmt.Errorf("no token: %s", answer.Text)
		}
		return err
	}, 1, 32)
}

func BenchmarkOCSP(b *testing.B) {
	s, _ := openDemo(b)
	chain := must(s.CA().Chain(demoCertificate(b, s).Serial))
	var n atomic.Int64
	id, err := cert.NewCertID(crypto.SHA1, chain[1], chain[0].SerialNumber)
	if err != nil {
		b.Fatal(err)
	}
	atOnce(b, func() error {
		// A nonce of its own makes each answer a new signature.
		request, err := cert.OCSPRequest{CertIDs: []cert.CertID{id}, Nonce: big.NewInt(1<<60 + n.Add(1)).Bytes()}.Marshal()
		if err != nil {
			return err
		}
		answer, err := cert.ParseOCSPResponse(s.CA().OCSP(context.Background(), request))
		if err == nil && answer.Status != cert.OCSPSuccessful {
			err = fmt.Errorf("status %d", answer.Status)
		}
		return err
	}, 1, 8)
}

// BenchmarkDocument is the demo prescription with its panel, from the rendered PDF to the logged B-LTA file.
func BenchmarkDocument(b *testing.B) {
	s, dir := openDemo(b)
	plain := must(os.ReadFile(filepath.Join(dir, "prescription.pdf")))
	name := prescription.Demo(time.Now()).ClinicianCN
	d := must(newDesk(s))
	place := &panelPlace{rect: prescription.PanelRect()}
	atOnce(b, func() error {
		_, err := d.sign(context.Background(), plain, signRequest{clinic: demoClinic, name: name, panel: place})
		return err
	}, 1, 32)
}

func BenchmarkValidate(b *testing.B) {
	s, dir := openDemo(b)
	signed := must(os.ReadFile(filepath.Join(dir, "prescription.signed.pdf")))
	options := pades.ValidateOptions{Roots: []*x509.Certificate{s.Root()}, At: time.Now()}
	atOnce(b, func() error {
		report, err := pades.Validate(context.Background(), signed, options)
		if err == nil && !report.Good() {
			err = fmt.Errorf("not valid: %s", report.Summary)
		}
		return err
	}, 1, 2)
}

// BenchmarkLarge_50MB signs a document of 50 MB: what it costs beyond hashing it once, and how much memory.
func BenchmarkLarge_50MB(b *testing.B) {
	s, _ := openDemo(b)
	plain := largePDF(50 << 20)
	name := prescription.Demo(time.Now()).ClinicianCN
	d := must(newDesk(s))
	var hashing, signing, peak float64
	for b.Loop() {
		start := time.Now()
		sha256.Sum256(plain)
		hashing += time.Since(start).Seconds()
		start = time.Now()
		stop := watchHeap()
		if _, err := d.sign(context.Background(), plain, signRequest{clinic: demoClinic, name: name}); err != nil {
			b.Fatal(err)
		}
		peak = max(peak, stop())
		signing += time.Since(start).Seconds()
	}
	n := float64(b.N)
	b.ReportMetric(signing/n, "sign_s")
	b.ReportMetric((signing-hashing)/n, "beyond_hash_s")
	b.ReportMetric((peak)/float64(len(plain)), "memory_ratio")
}

// watchHeap samples the heap, the 50 MB of the input included, and returns its peak above what the idle process had without them.
func watchHeap() (stop func() float64) {
	debug.FreeOSMemory()
	var peak atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc))
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() float64 { close(done); <-ended; return float64(peak.Load()) }
}

// largePDF returns a document whose page shows one image stream of about that many bytes, incompressible.
func largePDF(size int) []byte {
	var b bytes.Buffer
	b.Grow(size + 4096)
	var offsets []int
	object := func(format string, args ...any) {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n", len(offsets))
		fmt.Fprintf(&b, format, args...)
		b.WriteString("\nendobj\n")
	}
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	object("<< /Type /Catalog /Pages 2 0 R >>")
	object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>")
	object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R /Resources << /XObject << /I 4 0 R >> >> >>")
	noise := make([]byte, size)
	if _, err := rand.Read(noise); err != nil {
		panic(err)
	}
	object("<< /Type /XObject /Subtype /Image /Width %d /Height 1024 /BitsPerComponent 8 /ColorSpace /DeviceGray /Length %d >>\nstream\n%s\nendstream", size/1024, len(noise), noise)
	object("<< /Length 30 >>\nstream\nq 500 0 0 700 40 40 cm /I Do Q\nendstream")
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(offsets)+1)
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(offsets)+1, xref)
	return b.Bytes()
}

// BenchmarkStart_10k opens an appliance that has issued 10,000 certificates.
func BenchmarkStart_10k(b *testing.B) {
	s, dir := openDemo(b)
	issueMany(b, s)
	var took time.Duration
	for b.Loop() {
		start := time.Now()
		again := openAgain(b, dir)
		took += time.Since(start)
		if err := again.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(took.Seconds()/float64(b.N), "start_s")
}

// issueMany issues 10,000 certificates, and closes s.
func issueMany(b testing.TB, s *signer.Signer) {
	b.Helper()
	csr := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= 10_000; i = next.Add(1) {
				_, err := s.Issue(context.Background(), ca.Request{Kind: cert.TLSClient, Actor: operator, CSR: csr,
					Subject: cert.Subject{CommonName: fmt.Sprintf("client %d", i), Country: "GB"}})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil || b.Failed() {
		b.Fatal(err)
	}
}

func demoCertificate(b *testing.B, s *signer.Signer) ca.Certificate {
	c, err := s.Find(demoClinic, prescription.Demo(time.Now()).ClinicianCN)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
