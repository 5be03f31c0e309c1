package replica

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
)

// TestFaultTable makes each durable step of the backup, and each of the primary, fail: done, not done, half done; with the process dying there or going
// on; and then killed, or the power cut. It ends when the work has no further step.
func TestFaultTable(t *testing.T) {
	for _, side := range []string{"backup", "primary"} {
		for mode, modeName := range map[durable.Mode]string{durable.NotDone: "not done", durable.Done: "done", durable.Half: "half"} {
			for _, die := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s,%s,die=%v", side, modeName, die), func(t *testing.T) {
					t.Parallel()
					for step := 1; ; step++ {
						hit := true
						for seed := range uint64(3) {
							synctest.Test(t, func(t *testing.T) {
								hit = faultAt(t, side == "backup", durable.Plan{Step: step, Mode: mode, Die: die}, seed)
							})
						}
						if !hit {
							t.Logf("%d steps", step-1)
							if step < 15 {
								t.Errorf("only %d durable steps were met", step-1)
							}
							return
						}
						if t.Failed() {
							t.Fatalf("step %d", step)
						}
					}
				})
			}
		}
	}
}

// faultAt runs the table's row of one step, with the process killed (seed 0) or the power cut; false when the work has no such step.
func faultAt(t *testing.T, onBackup bool, plan durable.Plan, seed uint64) bool {
	w := newWorld(t, seed<<32|uint64(plan.Step))
	defer w.end()
	disk := w.pdisk
	if onBackup {
		disk = w.bdisk
	}
	disk.Fail(plan)
	w.startBackup()
	w.startPrimary()
	w.act(2, 10*time.Second)
	w.act(1, 10*time.Second)
	if disk.Steps() < plan.Step {
		w.settle("no step failed")
		return false
	}
	next := disk.Kill()
	if seed > 0 {
		next = disk.CutPower(w.rng)
	}
	if onBackup {
		w.stopBackup()
		w.bdisk = next
	} else {
		w.stopPrimary()
		w.pdisk = next
	}
	w.settle(fmt.Sprintf("%+v, seed %d", plan, seed))
	return true
}
