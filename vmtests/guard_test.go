//go:build vm

package vmtests

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// bootsForever tells the test that it is the one that is killed.
const bootsForever = "AES_TEST_BOOTS"

// TestNothingIsLeft kills a test that has a machine running: neither processes nor files nor networks are left of it.
func TestNothingIsLeft(t *testing.T) {
	needRoot(t)
	if os.Getenv(bootsForever) != "" {
		bootForever(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestNothingIsLeft$", "-tier", "container")
	cmd.Env = append(os.Environ(), bootsForever+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "booted"; {
		t.Log(lines.Text())
	}
	mark := fmt.Sprintf("aesvm-%d-", cmd.Process.Pid)
	traces := func() (found []string) {
		for _, pattern := range []string{filepath.Join(machine.Cache, "run", mark+"*"), "/sys/fs/cgroup/" + mark + "*", "/sys/fs/cgroup/*/" + mark + "*",
			fmt.Sprintf("/run/netns/aesvm%d-*", cmd.Process.Pid)} {
			names, _ := filepath.Glob(pattern)
			found = append(found, names...)
		}
		commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range commands {
			if text, _ := os.ReadFile(name); strings.Contains(string(text), mark) {
				found = append(found, name)
			}
		}
		return found
	}
	if len(traces()) < 4 {
		t.Fatalf("of a running machine only this is seen: %v", traces())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	waitFor(t, 20*time.Second, "nothing is left", func() error {
		if left := traces(); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

func bootForever(t *testing.T) {
	d, err := machine.Release("12")
	if err != nil {
		t.Fatal(err)
	}
	base, err := machine.Prepare(d)
	if err != nil {
		t.Fatal(err)
	}
	lab, err := machine.NewLab()
	if err != nil {
		t.Fatal(err)
	}
	m, err := machine.NewContainer(base, lab, "primary", atPrimary)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	fmt.Println("booted")
	time.Sleep(time.Minute) // it is killed long before
}
