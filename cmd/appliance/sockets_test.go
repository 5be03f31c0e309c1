package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inherited is systemd's side of sd_listen_fds(3): sockets that it made, with the names of their units.
type inherited struct {
	names []string
	files []*os.File
}

func (in *inherited) add(t *testing.T, name string, l interface{ File() (*os.File, error) }) {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	in.names, in.files = append(in.names, name), append(in.files, f)
}

func (in *inherited) tcp(t *testing.T, name, address string) (at string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	in.add(t, name, l.(*net.TCPListener))
	return l.Addr().String()
}

func (in *inherited) unix(t *testing.T, name, path string, mode os.FileMode) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	in.add(t, name, l)
}

// hand makes cmd inherit the sockets. Its process must know its own ID (LISTEN_PID), which a shell in its place does before it becomes the program.
func (in *inherited) hand(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	args := append([]string{"-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
	shell := exec.Command("/bin/sh", args...)
	shell.Env = append(os.Environ(), "LISTEN_FDS="+string(rune('0'+len(in.files))), "LISTEN_FDNAMES="+strings.Join(in.names, ":"))
	shell.ExtraFiles = in.files
	return shell
}

// fails runs a service that is to end at once, and returns what it says.
func (in *inherited) fails(t *testing.T, args ...string) string {
	t.Helper()
	cmd := in.hand(t, program(t, args...))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err == nil || !timer.Stop() {
		t.Errorf("%v with %v did not fail: %v", args, in.names, err)
	}
	return said.String()
}

// TestSocketActivation: both services answer on the sockets that systemd hands over, bind none of their own, leave them to systemd when they stop, and
// refuse sockets that are not the right ones.
func TestSocketActivation(t *testing.T) {
	e := newGround(t, "")
	// The configuration's own addresses are taken by somebody else: whoever tried to bind them would fail.
	for _, taken := range []string{e.address(), strings.TrimPrefix(e.plain, "http://"), strings.TrimPrefix(e.metrics, "http://")} {
		l, err := net.Listen("tcp", taken)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	portalPath, adminPath := filepath.Join(e.dir, "p", "s"), filepath.Join(e.dir, "a", "s")
	var signers, wide inherited
	wide.unix(t, "portal", portalPath+"x", 0o600)
	wide.unix(t, "admin", adminPath, 0o666)
	if got := wide.fails(t, "signer", "--config", e.config); !strings.Contains(got, "the configuration names "+portalPath) {
		t.Errorf("another path: %s", got)
	}
	wide = inherited{names: wide.names[1:], files: wide.files[1:]}
	wide.unix(t, "portal", portalPath, 0o600)
	if got := wide.fails(t, "signer", "--config", e.config); !strings.Contains(got, adminPath+" has mode 0666, and may have 0600 at most") || !strings.Contains(got, "SocketMode=0600") {
		t.Errorf("a socket open to all: %s", got)
	}
	for _, path := range []string{portalPath, adminPath} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	signers.unix(t, "portal", portalPath, 0o600)
	signers.unix(t, "admin", adminPath, 0o600)
	signer := launch(t, signers.hand(t, program(t, "signer", "--config", e.config)))
	signer.wait()
	if out := run(t, "--config", e.config, "clinic", "add", "wharf-lane", "--name", "Wharf Lane Clinic"); !strings.Contains(out, "added") {
		t.Error(out)
	}

	var some, all, open inherited
	some.tcp(t, "https", "127.0.0.1:0")
	if got := some.fails(t, "portal", "--config", e.config); !strings.Contains(got, "no socket named http") {
		t.Errorf("sockets missing: %s", got)
	}
	for _, name := range []string{"https", "http", "metrics"} {
		open.tcp(t, name, "0.0.0.0:0")
	}
	if got := open.fails(t, "portal", "--config", e.config); !strings.Contains(got, "metrics is not on loopback") {
		t.Errorf("metrics for all: %s", got)
	}
	https, plain, metrics := all.tcp(t, "https", "127.0.0.1:0"), all.tcp(t, "http", "127.0.0.1:0"), all.tcp(t, "metrics", "127.0.0.1:0")
	portal := launch(t, all.hand(t, program(t, "portal", "--config", e.config)))
	portal.wait()
	_, port, _ := net.SplitHostPort(https)
	for url, want := range map[string]int{"https://localhost:" + port + "/healthz": 200, "https://localhost:" + port + "/ca/log-key.txt": 200, "http://" + metrics + "/readyz": 200, "http://" + plain + "/metrics": 308} {
		client := *e.client
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		answer, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d", url, answer.StatusCode)
		}
		if to := answer.Header.Get("Location"); to != "" && to != "https://localhost:"+port+"/metrics" {
			t.Errorf("%s leads to %s", url, to)
		}
	}
	portal.stop()
	signer.stop()
	for _, path := range []string{portalPath, adminPath} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("systemd's socket was removed: %v", err)
		}
	}
}
