package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/doctor"
)

// look runs "appliance status --json" and returns what it shows and its exit code.
func look(t testing.TB, args ...string) (o doctor.Overview, code int) {
	t.Helper()
	cmd := program(t, append([]string{"status", "--json"}, args...)...)
	out, err := cmd.Output()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil || o.Schema != doctor.OverviewSchema {
		t.Fatalf("%v in %s", err, out)
	}
	return o, cmd.ProcessState.ExitCode()
}

// TestStatus: one screen shows what the appliance does today, that of a backup host its copies; and a watch goes on until it is interrupted.
func TestStatus(t *testing.T) {
	v, e := newVault(t), newEstate(t)
	v.address = strings.Replace(v.address, "localhost", "127.0.0.1", 1)
	v.start()
	e.enrol(v, "enrol")
	e.withDoctor()
	before, _ := look(t, "--config", e.config)
	if now := time.Now().UTC(); now.Add(time.Minute).Day() != now.Day() {
		t.Log("the day ends: waiting for the next")
		time.Sleep(time.Minute)
		before, _ = look(t, "--config", e.config)
	}
	want := before.Today.Signed + 2
	for _, id := range []string{"RX-1", "RX-2"} {
		if status, a := e.signs(id); status != http.StatusOK {
			t.Fatalf("%s: %d %+v", id, status, a)
		}
	}
	o, code := look(t, "--config", e.config)
	if code != exitGood || !o.Signing || o.Today == nil || o.Today.Signed != want || o.Today.Last.IsZero() || o.Log == nil || o.Log.Lines == 0 || o.Log.Bytes == 0 {
		t.Errorf("exit code %d: %+v, log %+v, today %+v", code, o, o.Log, o.Today)
	}
	if b := o.Backup; b == nil || b.State != "sync" || !b.Connected || o.Disk == nil || o.Ending == nil {
		t.Errorf("%+v: backup %+v", o, o.Backup)
	}
	if o, _ := look(t, "--role", "backup", "--config", v.config); len(o.Copies) != 1 || o.Copies[0].Lines == 0 || o.Copies[0].At.IsZero() {
		t.Errorf("the backup host shows %+v", o)
	}

	watching := program(t, "--config", e.config, "status", "--watch", "--every", "1s")
	var screens bytes.Buffer
	watching.Stdout = &screens
	if err := watching.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond)
	if err := watching.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := watching.Wait(); err != nil {
		t.Errorf("an interrupted watch ends with %v", err)
	}
	if n := strings.Count(screens.String(), fmt.Sprintf("%d prescriptions signed", want)); n < 1 || !strings.Contains(screens.String(), home) {
		t.Errorf("%d screens: %q", n, screens.String())
	}

	e.signer.stop()
	o, code = look(t, "--config", e.config)
	if code != exitBad || o.Signing || len(o.Reasons) == 0 || o.Today == nil || o.Today.Signed != want {
		t.Errorf("without the signer, exit code %d: %+v", code, o)
	}
}
