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

	"github.com/veripath/aes-appliance/internal/config"
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

// TestFullDisk fills the signer's disk while clients work: nothing is signed, all else goes on, also for a signer that is killed and started then; with room it
// signs again by itself. Where nothing was held back, a signer that is started says why and ends; on systemd's
// sockets it stays, says why to everybody until there is room, and goes on by itself. Nothing that was acknowledged is missing.
func TestFullDisk(t *testing.T) {
	needNamespaces(t)
	s := newSiege(t)
	s.signer.stop()
	disk := newSmallDisk(t, s.log.dir, 64<<20) // more than the clients write before it is filled
	s.log.dir = disk.path()
	signer := func() *service { return launch(t, disk.inside(program(t, "--config", s.config, "signer"))) }
	s.signer = signer()
	s.signer.wait()
	s.noRoomForADocument(disk)

	stop := make(chan struct{})
	var wg sync.WaitGroup
	for who := range lastBesieger {
		wg.Go(func() { s.attack(who, 1, stop) })
	}
	time.Sleep(500 * time.Millisecond)
	free := disk.fill(t, 0)
	s.readsOn()
	s.signer.kill()
	s.signer = signer()
	s.signer.wait()
	s.readsOn()
	free()
	if !s.sign(lastBesieger, "RX-full") {
		t.Error("what was not signed on the full disk is not signed now")
	}
	close(stop)
	wg.Wait()

	s.signer.stop()
	free = disk.withoutReserves(t)
	s.noRoomForALine(signer)
	s.waitsForRoom(disk, free)
	s.everything()
	s.portal.stop()
	s.signer.stop()
	s.acknowledged()
	s.log.consistent(t)
	t.Logf("%d prescriptions acknowledged, %d requests repeated; lines: %v", len(s.kept), s.retries.Load(), s.log.types)
}

// readsOn is on a full disk: a prescription is refused with the reason, and what exists is given out all the while.
func (s *siege) readsOn() {
	s.t.Helper()
	body := signBody(s.t)
	body["prescription_id"], body["clinician_cn"] = "RX-full", doctorName(lastBesieger)
	for range 20 {
		status, answer := s.untilFull(lastBesieger, body)
		if status != http.StatusServiceUnavailable || !strings.Contains(string(answer), "disk is full") {
			s.t.Fatalf("signing on a full disk: %d %s", status, answer)
		}
		for _, path := range []string{"/api/pdf/RX-room", "/api/evidence/RX-room"} {
			if status, answer, err := s.once("GET", path, s.token(lastBesieger), nil); err != nil || status != http.StatusOK {
				s.t.Fatalf("%s on a full disk: %v %d %.300s", path, err, status, answer)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	select {
	case <-s.signer.done:
		s.t.Fatalf("the signer ended:\n%s", s.signer.log.String())
	default:
	}
}

// withoutReserves makes a full disk on which the log and the index hold nothing back, as where the file system cannot, or it is used up.
func (d *smallDisk) withoutReserves(t *testing.T) (free func()) {
	t.Helper()
	// A signer that began on the full disk gave it up, unless a killed one's unfinished document left room enough.
	if err := os.Remove(filepath.Join(d.path(), "audit_chain.reserve")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, name := range []string{"audit_chain.jsonl", "index.db"} {
		path := filepath.Join(d.path(), name)
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path+".copy", data, 0o600)
		}
		if err := errors.Join(err, os.Rename(path+".copy", path)); err != nil {
			t.Fatal(err)
		}
	}
	return d.fill(t, 0)
}

// waitsForRoom starts the signer on systemd's sockets and the full disk: it stays, says why, and goes on by itself when there is room.
func (s *siege) waitsForRoom(disk *smallDisk, free func()) {
	s.t.Helper()
	cfg, err := config.Load(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	in := &inherited{}
	for name, path := range map[string]string{"portal": cfg.Signer.PortalSocket, "admin": cfg.Signer.AdminSocket} {
		in.unix(s.t, name, path, 0o600)
	}
	s.signer = launch(s.t, in.hand(s.t, disk.inside(program(s.t, "--config", s.config, "signer"))))
	for range 3 {
		status, answer, err := s.once("GET", "/api/pdf/RX-room", s.token(lastBesieger), nil)
		if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(string(answer), "disk is full") {
			s.t.Fatalf("while there is no room: %v %d %s", err, status, answer)
		}
		time.Sleep(time.Second)
	}
	free()
	begun := time.Now()
	s.download("RX-room")
	if !s.sign(lastBesieger, "RX-after") {
		s.t.Error("with room again the signer does not go on")
	}
	s.t.Logf("by itself after %v", time.Since(begun))
	s.signer.wait()
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

// noRoomForALine starts the signer on its own sockets on a disk that is full: it says why, and ends.
func (s *siege) noRoomForALine(signer func() *service) {
	s.t.Helper()
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
