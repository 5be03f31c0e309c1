//go:build vm

package vmtests

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// bootsForever tells the test that it is the one that is killed; its value marks its processes.
const bootsForever = "AES_TEST_BOOTS"

// TestNothingIsLeft ends a test that has a machine running, by ctrl-C and by SIGKILL: neither processes nor files nor networks nor mounts are left of it.
func TestNothingIsLeft(t *testing.T) {
	needRoot(t)
	if os.Getenv(bootsForever) != "" {
		bootForever(t)
		return
	}
	besideOthers(t)
	for _, end := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(end.String(), func(t *testing.T) { leavesNothing(t, end) })
	}
}

func leavesNothing(t *testing.T, end syscall.Signal) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestNothingIsLeft$", "-tier", "container", "-build", *build)
	mark := fmt.Sprintf("%s=%d-%d", bootsForever, os.Getpid(), end)
	cmd.Env = append(os.Environ(), mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
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
	found := traces(cmd.Process.Pid, mark)
	if len(found) < 8 {
		t.Errorf("of a running machine only this is seen: %v", found)
	}
	if err := syscall.Kill(-cmd.Process.Pid, end); err != nil { // the process group, as a terminal does
		t.Fatal(err)
	}
	cmd.Wait()
	waitFor(t, time.Minute, "nothing is left", func() error {
		if left := traces(cmd.Process.Pid, mark); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// traces are what is there of a test with this process ID and this in its environment.
func traces(pid int, mark string) (found []string) {
	name := fmt.Sprintf("aesvm-%d-", pid)
	for _, pattern := range []string{filepath.Join(machine.Cache, "run", name+"*"), "/sys/fs/cgroup/" + name + "*", "/sys/fs/cgroup/*/" + name + "*",
		fmt.Sprintf("/run/netns/aesvm%d-*", pid), "/tmp/" + name + "*"} {
		names, _ := filepath.Glob(pattern)
		found = append(found, names...)
	}
	for _, file := range []string{"cmdline", "environ", "mounts"} {
		all, _ := filepath.Glob("/proc/[0-9]*/" + file)
		for _, path := range all {
			text, _ := os.ReadFile(path) // one that has ended meanwhile has nothing
			if strings.Contains(string(text), name) || file == "environ" && slices.Contains(strings.Split(string(text), "\x00"), mark) {
				found = append(found, path)
			}
		}
	}
	return found
}

// bootForever boots a machine with all that stands around it, and waits to be killed.
func bootForever(t *testing.T) {
	d, err := machine.Release("12")
	if err != nil {
		t.Fatal(err)
	}
	e := newEstate(t, d)
	e.boot(map[string]int{"primary": atPrimary})
	fmt.Println("booted")
	time.Sleep(10 * time.Minute)
}
