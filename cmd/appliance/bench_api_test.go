package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// built is the program that the benchmarks of both processes run; "" is this test binary, which holds the same code and what tests need besides.
var built = flag.String("appliance", "", "the built program, for benchmarks of its processes")

// The clinic of the benchmark, as many clinicians as there are clients at most, and limits that do not bind.
const (
	benchClinic     = "bench"
	benchClinicians = 32
	benchLimits     = "caller_rate = 100000\npublic_rate = 100000\n"
	benchCap        = "1000000"
)

// issuer is a realm on loopback, of the benchmark's own: it writes tokens as a Keycloak does, as many and as long-lived as needed.
type issuer struct {
	key *rsa.PrivateKey
	url string
}

func newIssuer(tb testing.TB) *issuer {
	tb.Helper()
	i := &issuer{key: must(rsa.GenerateKey(rand.Reader, 2048))}
	text := base64.RawURLEncoding.EncodeToString
	keys := must(json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench", "n": text(i.key.N.Bytes()), "e": text(big.NewInt(int64(i.key.E)).Bytes()),
	}}}))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(keys)
	}))
	tb.Cleanup(server.Close)
	i.url = server.URL + "/realms/bench"
	return i
}

// token lets somebody log in.
func (i *issuer) token(sub, name string, roles ...string) string {
	now := time.Now()
	claims := map[string]any{
		"iss": i.url, "sub": sub, "preferred_username": sub, "name": name, "typ": "Bearer", "acr": "2", "azp": "booking-app", "aud": "aes-portal", "sid": "s-" + sub,
		"jti": rand.Text(), "auth_time": now.Unix() - 60, "iat": now.Unix() - 1, "exp": now.Add(time.Hour).Unix(), "realm_access": map[string]any{"roles": roles},
	}
	text := base64.RawURLEncoding.EncodeToString
	signed := text([]byte(`{"alg":"RS256","typ":"JWT","kid":"bench"}`)) + "." + text(must(json.Marshal(claims)))
	digest := sha256.Sum256([]byte(signed))
	return signed + "." + text(must(rsa.SignPKCS1v15(nil, i.key, crypto.SHA256, digest[:])))
}

// surgery is an estate with one clinic of many clinicians, each logged in.
type surgery struct {
	*estate
	tokens, names []string
	serial        atomic.Int64 // of prescriptions
}

func newSurgery(b *testing.B) *surgery {
	b.Helper()
	s := &surgery{estate: newGround(b, benchLimits)}
	realm := newIssuer(b)
	s.signer = start(b, "--config", s.config, "signer")
	run(b, "--config", s.config, "clinic", "add", benchClinic, "--name", "Bench Clinic", "--acr", "2", "--audience", "aes-portal", "--per-token", benchCap, "--per-minute", benchCap)
	run(b, "--config", s.config, "realm", "add", realm.url, "--clinic", benchClinic)
	s.portal = start(b, "--config", s.config, "portal")
	s.client.Transport.(*http.Transport).MaxIdleConnsPerHost = benchClinicians
	admin := realm.token("admin", "Bench Admin", "aes-admin")
	for n := range benchClinicians {
		sub, name := fmt.Sprintf("sub-%d", n), fmt.Sprintf("Doctor Number %d", n)
		status, answer, _ := s.ask(http.MethodPost, "/certificates/issue", admin, map[string]any{
			"common_name": name, "org": "Wharf Lane Clinic", "country": "GB", "cert_type": "clinician", "validity_days": 365,
			"register": "GMC", "registration_number": "7654321", "sub": sub,
		})
		if status != http.StatusOK {
			b.Fatalf("issuing a certificate: %d %s", status, answer)
		}
		s.tokens, s.names = append(s.tokens, realm.token(sub, name, "clinician")), append(s.names, name)
	}
	return s
}

// sign has a prescription signed that is like no other, and checks the document that comes back.
func (s *surgery) sign(template map[string]any) error {
	n := s.serial.Add(1)
	body := make(map[string]any, len(template))
	for k, v := range template {
		body[k] = v
	}
	who := int(n) % benchClinicians
	body["prescription_id"], body["clinician_cn"] = fmt.Sprintf("RX-%d", n), s.names[who]
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequest(http.MethodPost, s.url+"/api/sign", bytes.NewReader(raw))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+s.tokens[who])
	r.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.500s", answer.Status, data)
	}
	// Taken apart by hand: the clients share the processors with what is measured.
	pdf, err := base64.StdEncoding.AppendDecode(nil, member(data, "pdf_base64"))
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(pdf); string(member(data, "status")) != "signed" || fmt.Sprintf("%x", sum) != string(member(data, "pdf_sha256")) {
		return fmt.Errorf("an answer that does not agree with its document: %.200s", data)
	}
	return nil
}

// member is the text of a member of a JSON object that has no escapes in it.
func member(object []byte, name string) []byte {
	_, rest, _ := bytes.Cut(object, []byte(`"`+name+`":"`))
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	return text
}

// BenchmarkAPI is POST /api/sign over TLS, HTTP/1.1 with connections kept as booking apps do, through both processes: token, prescription and document
// checked, log and objects fsynced. The clients share the machine with them. After the load, what both processes still hold.
func BenchmarkAPI(b *testing.B) {
	s := newSurgery(b)
	template := signBody(b)
	defer debug.SetGCPercent(debug.SetGCPercent(heapGrowth)) // the clients' own share of the processors is none of the measured
	for _, clients := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("sign_%d", clients), func(b *testing.B) {
			before := [2]time.Duration{s.signer.cpu(b), s.portal.cpu(b)}
			load(b, clients, func() error { return s.sign(template) })
			ms := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
			b.ReportMetric(ms(s.signer.cpu(b)-before[0]), "signer_cpu_ms")
			b.ReportMetric(ms(s.portal.cpu(b)-before[1]), "portal_cpu_ms")
		})
	}
	b.Run("idle", func(b *testing.B) {
		if b.N == 1 { // there is nothing to repeat
			time.Sleep(benchIdle)
		}
		b.ReportMetric((s.signer.memory(b)+s.portal.memory(b))/(1<<20), "pss_mib")
	})
}

// benchIdle is how long after a load memory is looked at.
const benchIdle = 10 * time.Second

// memory is the process's proportional set size, in bytes: what it shares with the other one counts half.
func (s *service) memory(tb testing.TB) float64 {
	tb.Helper()
	text := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.cmd.Process.Pid))))
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			return must(strconv.ParseFloat(f[1], 64)) * 1024
		}
	}
	tb.Fatalf("no Pss in %s", text)
	return 0
}

// cpu is what the process has used, user and system; proc_pid_stat(5), in ticks of 10 ms.
func (s *service) cpu(tb testing.TB) time.Duration {
	tb.Helper()
	text := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))))
	f := strings.Fields(text[strings.LastIndexByte(text, ')'):])
	return time.Duration(must(strconv.ParseInt(f[12], 10, 64))+must(strconv.ParseInt(f[13], 10, 64))) * 10 * time.Millisecond
}
