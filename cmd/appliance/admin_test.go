package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAdministrationIsRoots: who may not connect to the signer is told so, and not that it does not run or that a file of its is missing.
func TestAdministrationIsRoots(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "aes") // short: it holds a socket
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	socket, cfg := filepath.Join(dir, "s"), filepath.Join(dir, "appliance.toml")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(socket, 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("state_dir = %q\n[pki]\nbase_url = \"http://pki.clinic.example\"\nname = \"Example\"\norganisation = \"Example Ltd\"\ncountry = \"GB\"\npolicy_arc = \"1.3.6.1.4.1.32473.7\"\n"+
		"[token]\npin_file = %q\n[signer]\nadmin_socket = %q\nportal_socket = %q\n", filepath.Join(dir, "state"), filepath.Join(dir, "pin"), socket, filepath.Join(dir, "p", "s"))
	if err := os.WriteFile(cfg, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"renew --stored", "cert list", "backup status", "clinic list", "backup token", "cert revoke 12 --reason superseded"} {
		cmd := exec.Command("/proc/self/exe", append([]string{"--config", cfg}, strings.Fields(verb)...)...) // the folder of the tests is not for all
		cmd.Args[0], cmd.SysProcAttr = "appliance", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: intruder, Gid: intruder}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "hint: run this as root") {
			t.Errorf("%s: %v %s", verb, err, out)
		}
	}
}
