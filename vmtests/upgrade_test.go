//go:build vm

package vmtests

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// traffic is booking apps at work.
type traffic struct {
	t    *testing.T
	c    *client
	stop chan struct{}
	all  sync.WaitGroup

	mu           sync.Mutex
	acknowledged map[string]string // id -> SHA-256 of the PDF
	times        []time.Time       // of each acknowledgement
	slowest      time.Duration
	failed       []string
	again        int // answers of 503: nothing is lost, ask again
}

// think is how long an app waits between two prescriptions: the machine is to be busy, not the tests' own processor.
const think = 150 * time.Millisecond

// eightApps begins to sign with eight clients, one document after another each.
func (l *life) eightApps(t *testing.T, prefix string) *traffic {
	t.Helper()
	w := &traffic{t: t, c: l.client(t), stop: make(chan struct{}), acknowledged: map[string]string{}}
	w.c.bearer(t)
	for app := range 8 {
		w.all.Go(func() {
			for n := 0; ; n++ {
				w.one(fmt.Sprintf("%s-%d-%d", prefix, app, n))
				select {
				case <-w.stop:
					return
				case <-time.After(think):
				}
			}
		})
	}
	return w
}

func (w *traffic) one(id string) {
	began := time.Now()
	a, err := w.c.sign(w.t, id)
	for again := 0; err == nil && a.Status == http.StatusServiceUnavailable && again < 600; again++ { // an app that is told to ask again does
		w.mu.Lock()
		w.again++
		w.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		a, err = w.c.sign(w.t, id)
	}
	took := time.Since(began)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slowest = max(w.slowest, took)
	if err != nil || a.Status != http.StatusOK {
		w.failed = append(w.failed, fmt.Sprintf("%s: %v, %d %s %s", id, err, a.Status, a.Type, a.Detail))
		return
	}
	w.acknowledged[id], w.times = a.SHA256, append(w.times, time.Now())
}

// goesOn waits until so many more are acknowledged.
func (w *traffic) goesOn(more int) {
	w.t.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.acknowledged)
	}
	before := count()
	waitFor(w.t, 2*time.Minute, "signing", func() error {
		if n := count(); n < before+more {
			return fmt.Errorf("%d acknowledged of %d", n-before, more)
		}
		return nil
	})
}

// end stops the apps. pause is the longest time in which nobody got an answer.
func (w *traffic) end() (pause time.Duration) {
	close(w.stop)
	w.all.Wait()
	for i := 1; i < len(w.times); i++ {
		pause = max(pause, w.times[i].Sub(w.times[i-1]))
	}
	return pause
}

// there checks that all that was acknowledged is in the log, and of some that they can be fetched, byte for byte: the clinic's people may read so much in a minute.
func (w *traffic) there() {
	w.t.Helper()
	out := w.c.l.on(w.t, "primary", `grep '"event_type":"prescription_signed"' /var/lib/aes-appliance/signer/audit_chain.jsonl`)
	logged := map[string]string{}
	for line := range strings.Lines(out) {
		var l struct {
			Entry struct {
				Details struct {
					ID     string `json:"prescription_id"`
					SHA256 string `json:"pdf_sha256"`
				} `json:"details"`
			} `json:"entry"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			w.t.Fatalf("%v: %s", err, line)
		}
		logged[l.Entry.Details.ID] = l.Entry.Details.SHA256
	}
	fetch := 30
	for id, want := range w.acknowledged {
		if logged[id] != want {
			w.t.Errorf("%s was answered as %s, and the log has %q", id, want, logged[id])
		}
		if fetch--; fetch < 0 {
			continue
		}
		sum := sha256.Sum256(w.c.get(w.t, "/api/pdf/"+id))
		if hex.EncodeToString(sum[:]) != want {
			w.t.Errorf("%s is not what was answered", id)
		}
	}
}

// pauseLimit is what an upgrade may keep clients waiting.
const pauseLimit = 2 * time.Second

// upgrade is to the next version and back, under eight signing clients.
func (l *life) upgrade(t *testing.T) {
	l.on(t, "primary", "appliance clinic policy wharf-lane --per-minute 10000 --per-token 10000") // nobody signs as fast as these apps do
	version := l.on(t, "primary", "dpkg-query -W -f '${Version}' aes-appliance")
	later := next(t, l.deb)
	if *former != "" {
		later = built(t, debs)
	}
	l.archive.add(t, later)
	to := versionOf(t, later)
	for _, host := range []string{"backup", "primary"} {
		l.on(t, host, "apt-get -q update")
	}
	for _, step := range []struct{ host, name, install, want string }{
		{"backup", "BUP", "apt-get install -y -q aes-appliance", to},
		{"primary", "UP", "apt-get install -y -q aes-appliance", to},
		{"primary", "DOWN", "apt-get install -y -q --allow-downgrades aes-appliance=" + version, version},
	} {
		w := l.eightApps(t, step.name)
		w.goesOn(40)
		l.on(t, step.host, step.install)
		w.goesOn(40)
		pause := w.end()
		t.Logf("%s to %s: %d acknowledged, %d told to ask again, %d failed, the longest pause %v, the slowest answer %v", step.host, step.want, len(w.acknowledged), w.again, len(w.failed), pause, w.slowest)
		if len(w.acknowledged) < 20 || len(w.failed) > 0 {
			t.Errorf("%s: failed: %s", step.name, strings.Join(w.failed[:min(len(w.failed), 5)], "\n"))
		}
		if pause > pauseLimit && busy(t) < 2 {
			t.Errorf("%s: nobody got an answer for %v", step.name, pause)
		}
		if got := l.on(t, step.host, "dpkg-query -W -f '${Version}' aes-appliance"); got != step.want {
			t.Errorf("%s has %s, not %s", step.host, got, step.want)
		}
		l.on(t, step.host, `for unit in $(systemctl list-units --plain --no-legend --state=running 'aes-*.service' | cut -d' ' -f1); do
cmp /proc/$(systemctl show -P MainPID $unit)/exe /usr/bin/appliance || exit 1; done`)
		w.there()
	}
	l.sameLog(t)
}

// tampered repositories are refused, and nothing is installed from them.
func (l *life) tampered(t *testing.T) {
	before := l.on(t, "backup", "dpkg-query -W -f '${Version}' aes-appliance; sha256sum /usr/bin/appliance")
	debs, err := filepath.Glob(filepath.Join(l.archive.dir, "pool", "main", "a", "aes-appliance", "*.deb"))
	if err != nil || len(debs) == 0 {
		t.Fatal(err)
	}
	dist := filepath.Join(l.archive.dir, "dists", "stable")
	// What was refused stays in partial, and apt resumes it when the good file is of the same second and size.
	fresh := "rm -rf /var/lib/apt/lists/*veripath* /var/lib/apt/lists/partial/*; apt-get -q update -o APT::Update::Error-Mode=any"
	for _, one := range []struct {
		name  string
		files string // and all below: one list has several names and forms
		with  func([]byte) []byte
		line  string
		says  string
	}{
		{"a byte of the package", debs[0], flip, "apt-get clean; apt-get -q update && apt-get install -y -q --reinstall --allow-downgrades aes-appliance=VERSION", "Hash Sum mismatch"},
		{"the list of packages", filepath.Join(dist, "main", "binary-amd64", "*"), flip, fresh, "Hash Sum mismatch"},
		{"the signed list of hashes", filepath.Join(dist, "InRelease"), func(b []byte) []byte {
			return bytes.Replace(b, []byte("Suite: stable"), []byte("Suite: stablE"), 1)
		}, fresh, "signature"},
	} {
		undo := spoil(t, one.files, one.with)
		version, _, _ := strings.Cut(filepath.Base(debs[0]), "_amd64")
		_, version, _ = strings.Cut(version, "_")
		l.refused(t, "backup", strings.ReplaceAll(one.line, "VERSION", version), one.says)
		undo()
	}
	l.on(t, "backup", fresh)
	// A repository of somebody else's under the same address.
	other := l.newArchive(t, "other", l.deb)
	if err := errors.Join(os.Rename(l.archive.dir, l.archive.dir+".good"), os.Rename(other.dir, l.archive.dir)); err != nil {
		t.Fatal(err)
	}
	l.refused(t, "backup", fresh, "is not signed")
	if err := errors.Join(os.RemoveAll(l.archive.dir), os.Rename(l.archive.dir+".good", l.archive.dir)); err != nil {
		t.Fatal(err)
	}
	l.on(t, "backup", fresh)
	if after := l.on(t, "backup", "dpkg-query -W -f '${Version}' aes-appliance; sha256sum /usr/bin/appliance"); after != before {
		t.Errorf("installed was %s, and is %s", before, after)
	}
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// spoil changes files, and returns what puts them back.
func spoil(t *testing.T, pattern string, with func([]byte) []byte) (undo func()) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, name := range names {
		if err := filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files = append(files, path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(files) == 0 {
		t.Fatalf("%s: no file to change", pattern)
	}
	good := map[string][]byte{}
	write := func(name string, data []byte) {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range files {
		if good[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
		bad := with(good[name])
		if bytes.Equal(bad, good[name]) {
			t.Fatalf("%s: nothing was changed", name)
		}
		write(name, bad)
	}
	return func() {
		for name, data := range good {
			write(name, data)
		}
	}
}
