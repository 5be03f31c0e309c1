package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/veripath/aes-appliance/internal/doctor"
)

// TestRestoresOverlap: drills of every kind at once, against one backup host that goes on taking lines, all go well; of restores into one place one brings the appliance
// back whole, and the others are refused and leave nothing.
func TestRestoresOverlap(t *testing.T) {
	identity := ""
	e, v := newBackedEstate(t, func(e *estate) { identity = e.recipient() })
	at := func(verb string, more ...string) []string {
		return append([]string{"--config", e.config, "backup", verb}, more...)
	}
	fetch := func(verb string) []string {
		return at(verb, "--from", v.address, "--code", v.allow(), "--identity", identity)
	}
	for i, r := range e.atOnce(fetch("drill"), fetch("drill"), at("drill", "--copy"), at("drill", "--copy"), at("drill", "--copy"), nil) {
		if r.err != nil {
			t.Errorf("the %d. of several drills: %v\n%s", i+1, r.err, r.out)
		}
	}
	text := string(e.logText())
	if n := strings.Count(text, `"event_type":"backup_drilled"`); n != 2 {
		t.Errorf("the log has %d drills", n)
	}
	if n := strings.Count(text, `"event_type":"backup_copy_verified"`); n < 1 || n > 3 {
		t.Errorf("the log has %d verifications of the copy", n)
	}
	expectVerdicts(t, "after drills at once", consult(t, doctor.Primary, e.config, false), map[string]doctor.Verdict{"backup.copy": doctor.OK, "backup.drill": doctor.OK, "log.whole": doctor.OK})
	e.synchronised(v)
	e.portal.stop()
	e.signer.stop()
	state := filepath.Join(e.dir, "demo", "state")
	for _, lost := range []string{state, filepath.Join(e.dir, "demo", "pin")} {
		if err := os.Rename(lost, lost+".lost"); err != nil {
			t.Fatal(err)
		}
	}
	good := 0
	for _, r := range e.atOnce(fetch("restore"), fetch("restore"), fetch("restore")) {
		switch {
		case r.err == nil:
			good++
		case !strings.Contains(r.out, "another restore is running") && !strings.Contains(r.out, "there is something in"):
			t.Errorf("a restore beside another: %v\n%s", r.err, r.out)
		}
	}
	if good != 1 {
		t.Errorf("%d of three restores went well", good)
	}
	if left, err := filepath.Glob(state + ".restor*"); err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
	run(t, "--config", e.config, "audit", "verify")
	if n := strings.Count(string(e.logText()), `"event_type":"appliance_restored"`); n != 1 {
		t.Errorf("the log has %d restores", n)
	}
	e.signer = start(t, "--config", e.config, "signer")
	e.portal = start(t, "--config", e.config, "portal")
	e.synchronised(v)
	if status, a := e.signs("RX-after"); status != http.StatusOK || !a.Backup.Cosigned {
		t.Errorf("signing on the restored machine: %d %+v", status, a)
	}
}

// ended is what became of a command.
type ended struct {
	out string
	err error
}

// atOnce runs commands beside each other; nil stands for signing some prescriptions meanwhile.
func (e *estate) atOnce(commands ...[]string) []ended {
	e.t.Helper()
	results := make([]ended, len(commands))
	var all sync.WaitGroup
	for i, args := range commands {
		if args == nil {
			for n := range 5 {
				if status, a := e.signs(fmt.Sprintf("RX-%d-%d", i, n)); status != http.StatusOK || !a.Backup.Cosigned {
					results[i].err = fmt.Errorf("signing: %d %+v", status, a)
				}
			}
			continue
		}
		cmd := program(e.t, args...)
		all.Go(func() {
			out, err := cmd.CombinedOutput()
			results[i] = ended{string(out), err}
		})
	}
	all.Wait()
	return results
}
