package ca_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// consistent holds the token against the log after a restart: no key without a place in the log, no certificate whose key should exist and does not.
func (m *machine) consistent() {
	m.t.Helper()
	m.reopen()
	m.advance(8 * 24 * time.Hour) // keys that were never finished stay for a week
	m.reopen()
	if _, err := m.ca.Maintain(context.Background()); err != nil {
		m.t.Errorf("upkeep after the crash: %v", err)
	}
	list, _, err := m.ca.List(ca.Filter{Limit: 1000})
	if err != nil {
		m.t.Fatal(err)
	}
	needed := 0
	for _, c := range list {
		if c.KeyExists && c.Kind != cert.Clinician {
			needed++
		}
		if c.Kind == cert.Clinician {
			if _, err := m.ca.Signer(context.Background(), c.Serial); err != nil {
				m.t.Errorf("%s: %v", c.CommonName, err)
			}
		}
	}
	keys, err := m.keys.Keys()
	if err != nil {
		m.t.Fatal(err)
	}
	pending := 0
	for _, k := range keys {
		if strings.HasPrefix(k.Label, "checkpoint") || !m.ca.Established() {
			pending++
		}
	}
	if len(keys) != needed+pending {
		m.t.Errorf("%d keys in the token, %d certificates and %d others need one", len(keys), needed, pending)
	}
}

// TestCrashAtEveryLine lets each kind of line fail, once before it is durable and once after, in everything that writes it, and restarts.
func TestCrashAtEveryLine(t *testing.T) {
	ctx := context.Background()
	acts := map[string]func(*machine) error{
		"establish": func(m *machine) error { return m.ca.Establish(ctx, "operator", m.ceremony) },
		"issue":     func(m *machine) error { _, err := m.ca.Issue(ctx, doctor("north", "Ann Good")); return err },
		"issue TLS": func(m *machine) error {
			_, err := m.ca.Issue(ctx, ca.Request{Kind: cert.TLSClient, Subject: cert.Subject{CommonName: "primary"}, Actor: "admin"})
			return err
		},
		"maintain": func(m *machine) error {
			m.advance(25 * 24 * time.Hour)
			_, err := m.ca.Maintain(ctx)
			return err
		},
		"retire": func(m *machine) error {
			m.advance(25 * 24 * time.Hour)
			if _, err := m.ca.Maintain(ctx); err != nil {
				return nil
			}
			m.advance(2 * time.Hour)
			_, err := m.ca.Maintain(ctx)
			return err
		},
	}
	lines := map[string][]string{
		"establish": {"key_intended", "key_created", "ceremony_completed", "certificate_issued", "crl_issued"},
		"issue":     {"certificate_issued"},
		"issue TLS": {"key_intended", "key_created", "certificate_issued"},
		"maintain":  {"key_intended", "key_created", "certificate_issued", "crl_issued"},
		"retire":    {"key_destroyed"},
	}
	for name, act := range acts {
		for _, line := range lines[name] {
			for _, durable := range []bool{false, true} {
				t.Run(name+"/"+line+map[bool]string{true: "/after", false: "/before"}[durable], func(t *testing.T) {
					m := newMachine(t)
					m.open()
					if name != "establish" {
						m.establish()
					}
					if durable {
						m.ledger.failOn("", line)
					} else {
						m.ledger.failOn(line, "")
					}
					if act(m) == nil {
						t.Fatal("the failure was not told")
					}
					m.consistent()
					if err := act(m); err != nil && !(name == "issue" && durable) { // that one was issued after all
						t.Errorf("trying again: %v", err)
					}
					m.consistent()
				})
			}
		}
	}
}

func TestKeyOfAnUnfinishedCertificateIsSwept(t *testing.T) {
	m := newAppliance(t)
	before, err := m.keys.Keys()
	if err != nil {
		t.Fatal(err)
	}
	// The process dies right after the key was recorded: nothing it would have done to clean up happens.
	m.ledger.failOn("certificate_issued", "")
	m.keys.(*softKeys).undead = true
	_, err = m.ca.Issue(context.Background(), ca.Request{Kind: cert.TLSClient, Subject: cert.Subject{CommonName: "primary"}, Actor: "admin"})
	if err == nil {
		t.Fatal("the failure was not told")
	}
	if left, _ := m.keys.Keys(); len(left) != len(before)+1 {
		t.Fatalf("%d keys, want the orphan among them", len(left))
	}
	m.keys.(*softKeys).undead = false
	size, _ := m.ledger.Head()
	m.reopen()
	if left, _ := m.keys.Keys(); len(left) != len(before) {
		t.Errorf("%d keys after the restart, want %d", len(left), len(before))
	}
	if got := m.events(size); !slices.Equal(got, []string{"key_destroyed"}) {
		t.Errorf("events %v", got)
	}
}

// TestUnfinishedKeyStaysForAWeek: what looks unfinished may be of a log that was cut.
func TestUnfinishedKeyStaysForAWeek(t *testing.T) {
	for _, line := range []string{"key_created", "certificate_issued"} {
		m := newAppliance(t)
		before, err := m.keys.Keys()
		if err != nil {
			t.Fatal(err)
		}
		m.ledger.failOn(line, "")
		m.keys.(*softKeys).undead = true
		if _, err := m.ca.Issue(context.Background(), ca.Request{Kind: cert.TLSClient, Subject: cert.Subject{CommonName: "primary"}, Actor: "admin"}); err == nil {
			t.Fatal("the failure was not told")
		}
		m.keys.(*softKeys).undead = false
		m.cutBefore("key_destroyed") // the process died before that
		for _, c := range []struct {
			wait  time.Duration
			more  int
			lines []string
		}{
			{0, 1, []string{"key_unfinished"}}, {0, 1, nil}, {6 * 24 * time.Hour, 1, nil}, {2 * 24 * time.Hour, 0, []string{"key_destroyed"}}, {0, 0, nil},
		} {
			m.advance(c.wait)
			size := uint64(0)
			if m.ledger != nil {
				size, _ = m.ledger.Head()
			}
			m.reopen()
			if size == 0 { // the first time
				now, _ := m.ledger.Head()
				size = now - uint64(len(c.lines))
			}
			if left, _ := m.keys.Keys(); len(left) != len(before)+c.more {
				t.Errorf("%s: %d keys after another %v, want %d", line, len(left), c.wait, len(before)+c.more)
			}
			if got := m.events(size); !slices.Equal(got, c.lines) {
				t.Errorf("%s: after another %v: events %v, want %v", line, c.wait, got, c.lines)
			}
		}
	}
}

// cutBefore closes the machine and cuts its log before the last line of that type, if there is one, and forgets the index.
func (m *machine) cutBefore(event string) {
	m.t.Helper()
	types := m.events(0)
	m.close()
	for i := len(types) - 1; i >= 0; i-- {
		if types[i] == event {
			m.cut(i)
			return
		}
	}
}

// cut leaves the first n lines of the log, and no index.
func (m *machine) cut(n int) {
	m.t.Helper()
	log := filepath.Join(m.dir, ledger.FileName)
	whole, err := os.ReadFile(log)
	if err == nil {
		err = os.WriteFile(log, bytes.Join(bytes.SplitAfter(whole, []byte("\n"))[:n], nil), 0o600)
	}
	if err := errors.Join(err, os.Remove(filepath.Join(m.dir, "index"))); err != nil {
		m.t.Fatal(err)
	}
}

// TestCutLogCostsNoKey cuts the log before every line in turn and opens what is left: with the whole log again every key is there.
func TestCutLogCostsNoKey(t *testing.T) {
	m := newAppliance(t)
	m.issue(doctor("north", "Ann Good"))
	lines := len(m.events(0))
	m.close()
	log := filepath.Join(m.dir, ledger.FileName)
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for n := range lines {
		m.cut(n)
		_ = m.tryOpen() // it may say what it lacks
		m.close()
		if err := os.WriteFile(log, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(m.dir, "index")); err != nil {
			t.Fatal(err)
		}
		if err := m.tryOpen(); err != nil {
			t.Errorf("the log was cut to %d lines, and is whole again: %v", n, err)
		}
		m.close()
	}
}

func TestKeyUnknownToTheLogIsLeftAlone(t *testing.T) {
	m := newAppliance(t)
	spare := newAppliance(t) // another log, as after a wrong restore, over this token
	spare.close()
	spare.keys = m.keys
	before, _ := m.keys.Keys()
	_ = spare.tryOpen() // it lacks its own keys, and says so
	if after, _ := m.keys.Keys(); len(after) != len(before) {
		t.Errorf("%d keys of %d are left", len(after), len(before))
	}
}

func TestRefusedRevocationIsNotUncertain(t *testing.T) {
	m := newAppliance(t)
	a := m.issue(doctor("north", "Ann Good"))
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for name, try := range map[string]func() error{
		"actor": func() error {
			_, err := m.ca.Revoke(context.Background(), a.Serial, cert.ReasonKeyCompromise, time.Time{}, "")
			return err
		},
		"context": func() error {
			_, err := m.ca.Revoke(gone, a.Serial, cert.ReasonKeyCompromise, time.Time{}, "admin")
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s: accepted", name)
		}
		if err := m.ca.Usable(a.Serial); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUncertainRevocationSilencesTheResponder(t *testing.T) {
	m := newAppliance(t)
	a := m.issue(doctor("north", "Ann Good"))
	question := request(t, m, 3, nil, a)
	m.answer(question)
	m.ledger.failOn("", "certificate_revoked")
	if _, err := m.ca.Revoke(context.Background(), a.Serial, cert.ReasonKeyCompromise, time.Time{}, "admin"); err == nil {
		t.Fatal("the failure was not told")
	}
	if r := m.answer(question); r.Status != cert.OCSPTryLater {
		t.Errorf("status %d: the certificate may be revoked already", r.Status)
	}
	if m.ca.Usable(a.Serial) == nil {
		t.Error("it may sign")
	}
	m.reopen()
	if r := m.answer(question); r.Status != cert.OCSPSuccessful || r.Singles[0].Status != cert.OCSPRevoked {
		t.Errorf("after the restart: %+v", r)
	}
	list, err := m.ca.CRL(cert.ClinicianCA)
	if err != nil {
		t.Fatal(err)
	}
	if crl, err := cert.ParseCRL(list); err != nil || len(crl.RevokedCertificateEntries) != 0 {
		t.Fatalf("the CRL of before: %v, %v", crl, err)
	}
	if u := m.maintain(); !slices.Equal(u.Lists, []cert.Kind{cert.ClinicianCA}) {
		t.Errorf("upkeep published %v", u.Lists)
	}
}
