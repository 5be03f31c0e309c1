package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/pdf"
)

// siege is an appliance under load from clients that keep what they were answered.
type siege struct {
	*estate
	t       *testing.T
	log     *chronicle
	claims  map[string]any // of a doctor's token, as the provider writes them
	header  map[string]any
	admin   map[string]any // of an administrator's
	retries atomic.Int64   // answers that did not come
	longest atomic.Int64   // wait for an answer, in milliseconds
	lost    atomic.Int64   // prescriptions that were signed without their client being told

	mu       sync.Mutex
	kept     map[string]*kept
	serials  map[string]string // certificate -> name: issued, and acknowledged
	received []receipt
}

// kept is all that a client was told about one prescription.
type kept struct {
	who       int
	body      map[string]any
	first     signedAnswer
	cancelled time.Time
}

// signedAnswer is the answer of /api/sign, without the document.
type signedAnswer struct {
	PrescriptionID string    `json:"prescription_id"`
	SignedAt       time.Time `json:"signed_at"`
	SHA256         string    `json:"pdf_sha256"`
	Size           int64     `json:"pdf_size"`
	Core           string    `json:"evidence_sha256"`
	Certificate    string    `json:"certificate_serial"`
}

// receipt is a signature that somebody outside has got hold of, and how long the log was by then.
type receipt struct {
	prescription, signature, pdf string
	log                          int64
}

const besiegers = 6

func newSiege(t *testing.T) *siege {
	e := newEstate(t)
	run(t, "--config", e.config, "clinic", "policy", "wharf-lane", "--per-token", "1000000", "--per-minute", "1000000")
	s := &siege{estate: e, t: t, log: newChronicle(e.dir + "/demo/state"), kept: map[string]*kept{}, serials: map[string]string{}}
	s.header, s.claims = oidctest.Decode(t, e.provider.A.Login(t, oidctest.Doctor()).Access)
	_, s.admin = oidctest.Decode(t, e.provider.A.Login(t, oidctest.Person{Sub: "admin-1", Username: "admin", Name: "Clinic Admin", Roles: []string{"aes-admin"}, ACR: "2"}).Access)
	for who := range besiegers {
		s.issue(doctorName(who), fmt.Sprintf("doctor-%d", who))
	}
	return s
}

// doctorName is a name that looks like no other one's.
func doctorName(n int) string {
	given := []string{"Ada", "Bela", "Cleo", "Dora", "Emil", "Fynn", "Gwen", "Hugo"}
	family := []string{"Archer", "Baxter", "Carver", "Draper", "Fletcher", "Gardner", "Harper", "Mercer", "Parker", "Sawyer"}
	name := given[n%8] + " " + family[n/8%10]
	for n /= 80; n > 0; n /= 10 {
		name += "-" + family[n%10]
	}
	return name
}

// token is a fresh one of the realm's, for a doctor; its key is the provider's own.
func (s *siege) token(who int) string {
	now := time.Now().Unix()
	return s.provider.A.Sign(s.t, s.header, oidctest.With(s.claims, map[string]any{
		"sub": fmt.Sprintf("doctor-%d", who), "name": doctorName(who), "iat": now, "auth_time": now, "exp": now + 300, "jti": fmt.Sprint(rand.Uint64()),
	}))
}

func (s *siege) adminToken() string {
	now := time.Now().Unix()
	return s.provider.A.Sign(s.t, s.header, oidctest.With(s.admin, map[string]any{"iat": now, "auth_time": now, "exp": now + 300}))
}

// call asks until there is an answer: what a booking app does that got none. Only a refusal for the time being counts as no answer.
func (s *siege) call(method, path, token string, body any) (int, []byte) {
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		status, answer, err := s.once(method, path, token, body)
		if err == nil && status != http.StatusServiceUnavailable {
			if waited := time.Since(begun).Milliseconds(); waited > s.longest.Load() {
				s.longest.Store(waited)
			}
			return status, answer
		}
		s.retries.Add(1)
		if time.Since(begun) > time.Minute {
			s.t.Errorf("%s %s: no answer within a minute: %d %s %v", method, path, status, answer, err)
			return 0, nil
		}
	}
}

func (s *siege) once(method, path, token string, body any) (int, []byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	r, err := http.NewRequest(method, s.url+path, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	return answer.StatusCode, data, err
}

// attack is one client: it signs, and does one of the things that clients do with what they have signed, until told to stop.
func (s *siege) attack(who int, seed uint64, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(seed, uint64(who)))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		id := fmt.Sprintf("RX-%d-%d", who, n)
		if !s.sign(who, id) {
			return
		}
		old := fmt.Sprintf("RX-%d-%d", who, rng.IntN(n+1))
		switch rng.IntN(8) {
		case 0:
			s.again(old)
		case 1:
			s.download(old)
		case 2:
			s.cancel(old)
		case 3:
			s.evidence(old)
		case 4:
			if status, answer := s.call("GET", "/api/prescriptions", s.token(who), nil); status != http.StatusOK {
				s.t.Errorf("the list: %d %s", status, answer)
			}
		case 5:
			s.issue(doctorName(besiegers+n*besiegers+who), "")
		}
	}
}

func (s *siege) sign(who int, id string) bool {
	body := signBody(s.t)
	body["prescription_id"], body["clinician_cn"] = id, doctorName(who)
	k := &kept{who: who, body: body}
	status, answer := s.call("POST", "/api/sign", s.token(who), body)
	if status != http.StatusOK {
		s.t.Errorf("signing %s: %d %s", id, status, answer)
		return false
	}
	k.first = s.receive(answer)
	if bytes.Contains(answer, []byte(`"repeated":true`)) {
		s.lost.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[id] = k
	return true
}

// receive takes an answer of /api/sign apart.
func (s *siege) receive(answer []byte) signedAnswer {
	var a signedAnswer
	var with struct {
		PDF string `json:"pdf_base64"`
	}
	err := errors.Join(json.Unmarshal(answer, &a), json.Unmarshal(answer, &with))
	document, decodeErr := base64.StdEncoding.DecodeString(with.PDF)
	if err := errors.Join(err, decodeErr); err != nil {
		s.t.Errorf("an answer that cannot be read: %v", err)
	}
	s.document(a.PrescriptionID, document, a.SHA256)
	return a
}

// document notes the signature in a document that has arrived.
func (s *siege) document(id string, document []byte, sum string) {
	size := int64(-1)
	if info, err := os.Stat(s.log.path()); err == nil {
		size = info.Size()
	}
	if got := sha256.Sum256(document); hex.EncodeToString(got[:]) != sum {
		s.t.Errorf("the document of %s is not the one with SHA-256 %s", id, sum)
	}
	signature, err := signatureOf(document)
	if err != nil {
		s.t.Errorf("the document of %s: %v", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, receipt{id, signature, sum, size})
}

// signatureOf returns the SHA-256 of the signature value in a signed document: the name that the log has for it.
func signatureOf(document []byte) (string, error) {
	f, err := pdf.Open(document, pdf.Limits{})
	if err != nil {
		return "", err
	}
	signatures, err := f.Signatures()
	if err != nil || len(signatures) != 2 { // and the document time stamp
		return "", fmt.Errorf("%d signatures, %v", len(signatures), err)
	}
	der, err := cms.TrimPadding(signatures[0].Contents)
	if err != nil {
		return "", err
	}
	signed, err := cms.Parse(der)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(signed.Signers[0].Signature)
	return hex.EncodeToString(sum[:]), nil
}

// get returns what was kept, as it is now.
func (s *siege) get(id string) kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.kept[id]
}

// again repeats a request to sign: the answer is the same.
func (s *siege) again(id string) {
	k := s.get(id)
	body := maps.Clone(k.body)
	status, answer := s.call("POST", "/api/sign", s.token(k.who), body)
	if status != http.StatusOK {
		s.t.Errorf("signing %s again: %d %s", id, status, answer)
		return
	}
	if got := s.receive(answer); got != k.first {
		s.t.Errorf("%s was answered as %+v, and is now %+v", id, k.first, got)
	}
}

func (s *siege) download(id string) {
	k := s.get(id)
	status, document := s.call("GET", "/api/pdf/"+id, s.token(k.who), nil)
	if status != http.StatusOK {
		s.t.Errorf("downloading %s: %d %s", id, status, document)
		return
	}
	s.document(id, document, k.first.SHA256)
}

func (s *siege) evidence(id string) {
	k := s.get(id)
	status, answer := s.call("GET", "/api/evidence/"+id, s.token(k.who), nil)
	if status != http.StatusOK || !bytes.Contains(answer, []byte(k.first.SHA256)) {
		s.t.Errorf("the evidence of %s: %d %.300s", id, status, answer)
	}
}

func (s *siege) cancel(id string) {
	k := s.get(id)
	status, answer := s.call("POST", "/api/prescriptions/"+id+"/cancel", s.token(k.who), map[string]any{"reason": "wrong strength"})
	var got struct {
		Status string    `json:"status"`
		At     time.Time `json:"cancelled_at"`
	}
	if err := json.Unmarshal(answer, &got); status != http.StatusOK || err != nil || got.Status != "cancelled" {
		s.t.Errorf("cancelling %s: %d %.300s", id, status, answer)
		return
	}
	if !k.cancelled.IsZero() && !k.cancelled.Equal(got.At) {
		s.t.Errorf("%s was cancelled at %v, and is now at %v", id, k.cancelled, got.At)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[id].cancelled = got.At
}

// issue has a certificate issued. It cannot be repeated like a signature: a name that is taken was issued by the answer that did not come.
func (s *siege) issue(name, sub string) {
	body := map[string]any{"common_name": name, "org": "Wharf Lane Clinic", "country": "GB", "cert_type": "clinician", "register": "GMC", "registration_number": "7654321"}
	if sub != "" {
		body["sub"] = sub
	}
	status, answer := s.call("POST", "/certificates/issue", s.adminToken(), body)
	for status == http.StatusConflict && strings.Contains(string(answer), "being issued just now") { // by the request whose answer did not come
		time.Sleep(20 * time.Millisecond)
		status, answer = s.call("POST", "/certificates/issue", s.adminToken(), body)
	}
	if status == http.StatusConflict && strings.Contains(string(answer), "serial ") {
		return
	}
	var got struct {
		Serial string `json:"serial"`
	}
	if err := json.Unmarshal(answer, &got); status != http.StatusOK || err != nil {
		s.t.Errorf("issuing for %s: %d %s", name, status, answer)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serials[got.Serial] = name
}

// acknowledged holds the log against all that clients were told. Nobody may be writing.
func (s *siege) acknowledged() {
	s.t.Helper()
	if err := s.log.read(); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, k := range s.kept {
		if line, ok := s.log.signed[id]; !ok || line.PDF != k.first.SHA256 || line.Core != k.first.Core {
			s.t.Errorf("%s was acknowledged as %+v, and the log has %+v", id, k.first, line)
		}
		if !k.cancelled.IsZero() && !s.log.cancelled[id] {
			s.t.Errorf("the cancellation of %s was acknowledged, and is not in the log", id)
		}
	}
	for serial, name := range s.serials {
		if !s.log.issued[serial] {
			s.t.Errorf("certificate %s for %s was acknowledged, and is not in the log", serial, name)
		}
	}
	for _, r := range s.received {
		created, line := s.log.created[r.signature], s.log.signed[r.prescription]
		if line.Signature != r.signature || line.PDF != r.pdf || created == 0 || created >= line.end || line.end > r.log {
			s.t.Errorf("%s left with signature %s when the log had %d bytes; signature_created ends at %d, prescription_signed at %d and is of %s", r.prescription, r.signature, r.log, created, line.end, line.Signature)
		}
	}
	s.received = s.received[:0]
}

// everything asks the appliance once more for all that was kept.
func (s *siege) everything() {
	s.t.Helper()
	ids := slices.Sorted(maps.Keys(s.kept))
	var wg sync.WaitGroup
	for part := range besiegers {
		wg.Go(func() {
			for i := part; i < len(ids); i += besiegers {
				s.again(ids[i])
				s.download(ids[i])
				if k := s.get(ids[i]); !k.cancelled.IsZero() {
					s.cancel(ids[i])
				}
			}
		})
	}
	wg.Wait()
}
