//go:build vm

package vmtests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// startLimit is how long both services may take from nothing to ready.
const startLimit = 1500 * time.Millisecond

// TestColdStart starts the services of an appliance with 10,000 certificates and a log of a million lines, which "make grown" makes: "make vmtest" does. It is timed in a
// container, beside nothing else.
func TestColdStart(t *testing.T) {
	needRoot(t)
	grown, err := filepath.Abs(filepath.Join(*build, "grown"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(grown); err != nil || *tier == "vm" {
		t.Skip("in containers, after make grown: make vmtest has it")
	}
	for number := range strings.FieldsSeq(*releases) {
		d, err := machine.Release(number)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("debian"+number, func(t *testing.T) {
			u := &units{estate: newEstate(t, d)}
			u.binds = []string{grown + ":/opt/demo"}
			u.boot(map[string]int{"primary": atPrimary})
			u.furnishWith(t, grown)
			u.start(t)
			u.starts(t)
		})
	}
}

const (
	bothServices = "aes-signer.service aes-portal.service"
	// stopBoth stops them with their sockets: whoever calls one, as a portal that is about to end calls its signer, would start the service again.
	stopBoth = "systemctl stop aes-appliance.target 'aes-portal*' 'aes-signer*' && ! systemctl is-active -q " + bothServices
)

// starts times some starts: with the state in the page cache, and without, as after a boot; and restarts, as an upgrade has them.
func (u *units) starts(t *testing.T) {
	if out := u.on(t, "primary", "wc -l </var/lib/aes-appliance/signer/audit_chain.jsonl"); len(out) < len("1000000") {
		t.Fatalf("the log has %s lines", out)
	}
	u.on(t, "primary", "sync") // the state was just copied: what is still to be written is not the services'
	timed := func(line string) time.Duration {
		began := time.Now()
		u.on(t, "primary", line) // ends when both services have said that they are ready
		took := time.Since(began)
		if err := u.page(); err != nil {
			t.Error(err)
		}
		return took
	}
	var took, paused []time.Duration
	for _, before := range []string{"true", "true", "true", "find /var/lib/aes-appliance/signer -type f -exec sh -c 'sync \"$1\"; dd if=\"$1\" iflag=nocache count=0 status=none' sh {} ';'"} {
		u.on(t, "primary", stopBoth+" && "+before)
		took = append(took, timed("systemctl start "+bothServices))
	}
	for range 3 {
		paused = append(paused, timed("systemctl restart "+bothServices))
	}
	warm := took[:3]
	t.Logf("with 10,000 certificates and a million lines both services are ready after %v, %v when nothing of them is in memory; a restart of both takes %v", warm, took[3], paused)
	if slowest := max(slices.Min(warm), took[3]); slowest > startLimit && busy(t) < 2 {
		t.Errorf("ready after %v, not %v", slowest, startLimit)
	}
	if best := slices.Min(paused); best > pauseLimit && busy(t) < 2 {
		t.Errorf("restarted at best after %v, not %v", best, pauseLimit)
	}
}
