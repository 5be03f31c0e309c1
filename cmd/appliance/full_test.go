package main

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/ledger"
)

// smallDisk is a file system of a few megabytes in a mount namespace of its own, with the signer's state on it.
type smallDisk struct {
	holder *exec.Cmd
	dir    string // the state folder, as a process within names it
}

// newSmallDisk moves the state folder onto a new disk that has room bytes beyond what the state takes. Nothing may be using it.
func newSmallDisk(t *testing.T, dir string, room int) *smallDisk {
	t.Helper()
	used := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if info, statErr := os.Stat(path); err == nil && statErr == nil {
			used += int(info.Size())/4096*4096 + 8192
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	from := dir + ".elsewhere"
	if err := errors.Join(os.Rename(dir, from), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	const script = `mount -t tmpfs -o mode=700,size="$3" aes-test "$2" && cp -a "$1"/. "$2" && echo mounted && exec cat`
	d := &smallDisk{holder: exec.Command("unshare", "--mount", "sh", "-c", script, "sh", from, dir, strconv.Itoa(used+room)), dir: dir}
	var problems bytes.Buffer
	d.holder.Stderr = &problems
	in, err := d.holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); d.holder.Wait() })
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "mounted\n" {
		in.Close()
		d.holder.Wait()
		t.Fatalf("no disk of its own for this test, which needs root with CAP_SYS_ADMIN: %v\n%s", err, &problems)
	}
	return d
}

// inside makes a command run where the disk is.
func (d *smallDisk) inside(cmd *exec.Cmd) *exec.Cmd {
	args := append([]string{"--mount=/proc/" + strconv.Itoa(d.holder.Process.Pid) + "/ns/mnt", "--", cmd.Path}, cmd.Args[1:]...)
	if cmd.Args[0] == "appliance" && filepath.Base(cmd.Path) != "appliance" { // a test binary is the appliance by its name alone
		args = append([]string{args[0], "--", "bash", "-c", `exec -a appliance "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	}
	return exec.Command("nsenter", args...)
}

// path is where this process finds the state folder.
func (d *smallDisk) path() string {
	return filepath.Join("/proc", strconv.Itoa(d.holder.Process.Pid), "root", d.dir)
}

// fill takes all space but the bytes that are to be left, until the returned function gives it back.
func (d *smallDisk) fill(t *testing.T, left int64) (free func()) {
	t.Helper()
	name := filepath.Join(d.path(), "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	size, err := f.Seek(0, 1)
	if err == nil && left > 0 {
		err = f.Truncate(size - left)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// TestFullDisk fills the signer's disk. Without room for a document, nothing is signed and all else goes on; without room for a line,
// while clients work, the signer leaves one from its reserve that says so, and ends. With space it starts and goes on, and nothing that was acknowledged is missing.
func TestFullDisk(t *testing.T) {
	needNamespaces(t)
	s := newSiege(t)
	s.signer.stop()
	disk := newSmallDisk(t, s.log.dir, 64<<20) // more than the clients write before it is filled
	s.log.dir = disk.path()
	signer := func() *service { return launch(t, disk.inside(program(t, "--config", s.config, "signer"))) }
	s.signer = signer()
	s.signer.wait()
	s.noRoomForADocument(disk) // alone: what others try meanwhile takes lines, too

	stop := make(chan struct{})
	var wg sync.WaitGroup
	for who := range lastBesieger {
		wg.Go(func() { s.attack(who, 1, stop) })
	}
	time.Sleep(500 * time.Millisecond)
	free := disk.fill(t, 0)
	s.noRoomForALine(signer)

	free()
	s.signer = signer()
	s.signer.wait()
	if !s.sign(lastBesieger, "RX-full") {
		t.Error("what was not signed on the full disk is not signed now")
	}
	close(stop)
	wg.Wait()
	s.everything()
	s.portal.stop()
	s.signer.stop()
	s.acknowledged()
	s.log.consistent(t)
	t.Logf("%d prescriptions acknowledged, %d requests repeated; lines: %v", len(s.kept), s.retries.Load(), s.log.types)
}

// lastBesieger is the client that the test itself plays.
const lastBesieger = besiegers - 1

// noRoomForADocument leaves room for lines only: signing is refused for the time being, and goes on with room.
func (s *siege) noRoomForADocument(disk *smallDisk) {
	s.t.Helper()
	free := disk.fill(s.t, 40<<10)
	body := signBody(s.t)
	body["prescription_id"], body["clinician_cn"] = "RX-full", doctorName(lastBesieger)
	status, answer := s.untilFull(lastBesieger, body)
	if status != http.StatusServiceUnavailable || !strings.Contains(string(answer), "/problems/unavailable") || !strings.Contains(string(answer), "disk is full") {
		s.t.Errorf("signing without room for the document: %d %s", status, answer)
	}
	if strings.Contains(string(answer), s.dir) {
		s.t.Errorf("the answer tells a path: %s", answer)
	}
	free()
	if !s.sign(lastBesieger, "RX-room") {
		s.t.Fatal("with room again the signer does not go on")
	}
}

// noRoomForALine is on a disk that is full: the signer says why and ends, and does not start again.
func (s *siege) noRoomForALine(signer func() *service) {
	s.t.Helper()
	ended := s.endsByItself()
	if !strings.Contains(ended, "error: the log takes no more entries: its disk failed or is full") || !strings.Contains(ended, "hint: ") {
		s.t.Errorf("the signer ended with:\n%s", ended)
	}
	s.acknowledged()
	if s.log.last != ledger.TypeStopped {
		s.t.Errorf("the last line is %s", s.log.last)
	}
	s.signer = signer()
	if ended := s.endsByItself(); !strings.Contains(ended, "full") || !strings.Contains(ended, "hint: ") {
		s.t.Errorf("started on the full disk, the signer ended with:\n%s", ended)
	}
	s.acknowledged()
}

// untilFull asks for a signature until the disk has no room for it.
func (s *siege) untilFull(who int, body map[string]any) (status int, answer []byte) {
	s.t.Helper()
	for begun := time.Now(); time.Since(begun) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		var err error
		if status, answer, err = s.once("POST", "/api/sign", s.token(who), body); err == nil && status != http.StatusOK {
			return status, answer
		}
	}
	return status, answer
}

// endsByItself waits for the signer to end, badly, and returns what it said.
func (s *siege) endsByItself() string {
	s.t.Helper()
	select {
	case <-s.signer.done:
	case <-time.After(30 * time.Second):
		s.t.Fatal("the signer goes on")
	}
	var exit *exec.ExitError
	if err := s.signer.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitBad {
		s.t.Errorf("the signer ended with %v", err)
	}
	return s.signer.log.String()
}
