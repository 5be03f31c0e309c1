package main

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// manager is systemd as far as a service sees it: the socket on which it says how it is.
type manager struct {
	*net.UnixConn
	path string
}

func newManager(t *testing.T, dir string) manager {
	t.Helper()
	path := filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return manager{c, path}
}

// wait reads until the service says that.
func (m manager) wait(t *testing.T, state string) {
	t.Helper()
	m.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		b := make([]byte, 4096)
		n, err := m.Read(b)
		if err != nil {
			t.Fatalf("waiting for %s: %v", state, err)
		}
		if strings.Contains(string(b[:n]), state) {
			return
		}
	}
}

// TestSignerIsAService: readiness, watchdog, reload, sockets for whom they are, verbs while it runs, and a stop that ends with 0.
func TestSignerIsAService(t *testing.T) {
	s, dir := openDemo(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("", "aes") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(run)
	for _, name := range []string{"portal", "admin"} {
		if err := os.Mkdir(filepath.Join(run, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "service.toml")
	write := func(extra string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "appliance.toml"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\n[signer]") { // the demo's own sockets may be too far away
			before, after, _ := strings.Cut(string(text), "\n[signer]")
			_, rest, found := strings.Cut(after, "\n[")
			if found {
				rest = "\n[" + rest
			}
			text = []byte(before + rest)
		}
		text = append(text, "\n[signer]\nportal_socket = "+strconv.Quote(filepath.Join(run, "portal", "s"))+"\nadmin_socket = "+strconv.Quote(filepath.Join(run, "admin", "s"))+"\n"+extra...)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	m := newManager(t, run)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "signer", "--config", file)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	m.wait(t, "READY=1")
	m.wait(t, "WATCHDOG=1")
	for _, name := range []string{"portal", "admin"} {
		info, err := os.Stat(filepath.Join(run, name, "s"))
		if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	verb := func(want int, args ...string) string {
		t.Helper()
		var out, problems bytes.Buffer
		if code := Main(context.Background(), append(args, "--config", file), nil, &out, &problems); code != want {
			t.Errorf("%v: exit code %d\n%s%s", args, code, &out, &problems)
		}
		return out.String() + problems.String()
	}
	if got := verb(exitGood, "clinic", "add", "wharf-lane", "--name", "Wharf Lane Clinic"); !strings.Contains(got, "added") {
		t.Error(got)
	}
	verb(exitGood, "realm", "add", "https://sso.example.org/realms/x", "--clinic", "wharf-lane")
	if got := verb(exitGood, "clinic", "list") + verb(exitGood, "realm", "list"); !strings.Contains(got, "Wharf Lane Clinic") || !strings.Contains(got, "https://sso.example.org/realms/x") {
		t.Error(got)
	}
	if got := verb(exitBad, "signer"); !strings.Contains(got, "error:") {
		t.Errorf("a second signer: %s", got)
	}
	portal := wire.New(filepath.Join(run, "portal", "s"))
	defer portal.Close()
	if _, err := portal.Call(t.Context(), wire.OpClinicList, wire.Nothing{}, nil, nil); fault.KindOf(err) != fault.Forbidden {
		t.Errorf("an operator's operation on the portal's socket: %v", err)
	}

	write("admin_clinic = \"wharf-lane\"\n")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.wait(t, "RELOADING=1")
	m.wait(t, "READY=1")
	write("nonsense = true\n") // not taken up, and no reason to end
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.wait(t, "READY=1")
	write("")

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.wait(t, "STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the signer ended with %v\n%s", err, &said)
	}
	log, err := os.ReadFile(filepath.Join(dir, "state", "audit_chain.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), `"configuration_reloaded"`); n != 1 || !strings.Contains(string(log), `"system_shutdown"`) {
		t.Errorf("reloaded %d times\n%s", n, &said)
	}
	if _, err := os.Stat(filepath.Join(run, "portal", "s")); err == nil {
		t.Error("a socket is left")
	}
	if got := verb(exitGood, "clinic", "list"); !strings.Contains(got, "wharf-lane") { // without a signer it opens the appliance itself
		t.Error(got)
	}
	if _, err := config.Load(file); err != nil {
		t.Error(err)
	}
}
