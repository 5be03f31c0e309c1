package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// keeping is as much of systemd as a service talks to: it is told how things stand, keeps a descriptor, and gives it to the next start.
type keeping struct {
	conn *net.UnixConn
	kept *os.File
	said []string
}

func newKeeping(t *testing.T) *keeping {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &keeping{conn: conn}
}

// listen takes what the service says until no more comes.
func (m *keeping) listen(t *testing.T) {
	t.Helper()
	for {
		text, rights := make([]byte, 4096), make([]byte, 64)
		if err := m.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, r, _, _, err := m.conn.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		m.said = append(m.said, string(text[:n]))
		if messages, err := unix.ParseSocketControlMessage(rights[:r]); err == nil && len(messages) == 1 {
			fds, err := unix.ParseUnixRights(&messages[0])
			if err != nil || len(fds) != 1 || !strings.Contains(string(text[:n]), "FDSTORE=1") {
				t.Fatalf("%q with %v, %v", text[:n], fds, err)
			}
			m.kept = os.NewFile(uintptr(fds[0]), "kept")
		}
	}
}

// service is a receiver as systemd starts it.
func (m *keeping) service(t *testing.T, config string) *exec.Cmd {
	t.Helper()
	self := program(t)
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" --config "$1" receiver`, self.Path, config)
	if *built == "" {
		link := filepath.Join(t.TempDir(), "appliance") // testscript.Main looks at the name
		if err := os.Symlink(self.Path, link); err != nil {
			t.Fatal(err)
		}
		cmd.Args[3] = link
	}
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.conn.LocalAddr().String())
	if m.kept != nil {
		cmd.ExtraFiles = []*os.File{m.kept}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES="+failuresName)
	}
	return cmd
}

// count sets how often it could not begin, or returns that.
func (m *keeping) count(t *testing.T, set ...byte) int {
	t.Helper()
	if len(set) > 0 {
		if _, err := m.kept.WriteAt(set, 0); err != nil {
			t.Fatal(err)
		}
	}
	var n [1]byte
	if _, err := m.kept.ReadAt(n[:], 0); err != nil {
		t.Fatal(err)
	}
	return int(n[0])
}

// TestWhoCannotBeginEndsLater: each time in a row later, within a bound; at once when somebody stops it; and not at all once it has begun, so that a kill costs nothing.
func TestWhoCannotBeginEndsLater(t *testing.T) {
	v, m := newVault(t), newKeeping(t)
	good, err := os.ReadFile(v.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.config, append([]byte("bogus = 1\n"), good...), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		began := time.Now()
		cmd := m.service(t, v.config)
		if err := cmd.Run(); err == nil {
			t.Fatal("it began")
		}
		took := time.Since(began)
		m.listen(t)
		if m.kept == nil {
			t.Fatalf("nothing is kept: %q", m.said)
		}
		if got := m.count(t); got != n || took < pauseAfter(n) {
			t.Errorf("the %d. time: %v, counted %d", n, took, got)
		}
	}
	if said := strings.Join(m.said, "|"); !strings.Contains(said, "STATUS=cannot begin: ") {
		t.Errorf("systemd was told %s", said)
	}
	m.count(t, 200)
	cmd := m.service(t, v.config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	began := time.Now()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if _ = cmd.Wait(); time.Since(began) > 5*time.Second {
		t.Errorf("it ended %v after it was told to", time.Since(began))
	}
	if err := os.WriteFile(v.config, good, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = m.service(t, v.config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "it has begun", func() bool {
		m.listen(t)
		return strings.Contains(strings.Join(m.said, "|"), "READY=1")
	})
	if n := m.count(t); n != 0 {
		t.Errorf("after it began %d are counted", n)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for n, longest := 1, time.Duration(0); n < 300; n++ {
		if p := pauseAfter(n); p < longest || p > longestPause || n == 1 && p != 0 {
			t.Fatalf("the %d. pause is %v", n, p)
		} else {
			longest = p
		}
	}
}
