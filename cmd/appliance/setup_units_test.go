package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/setup"
)

// underFolder is a verb of the test binary: "under FOLDER VERB …" is the program, with a folder for a machine.
const underFolder = "under"

// runUnder is main() with a folder for a machine: its configuration, state and credentials are in it, systemd-creds is the real one, and systemctl starts the real services as processes.
func runUnder(dir string, args []string) {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	text, err := os.ReadFile(filepath.Join(dir, "fixed.json"))
	if err == nil {
		err = json.Unmarshal(text, &a.site.fixed)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	a.site.host = setup.Host{
		Root: dir, As: func(string) (*syscall.Credential, error) { return nil, nil },
		Exec: func(ctx context.Context, input []byte, name string, args ...string) ([]byte, error) {
			if name != "systemctl" {
				return setup.Exec(ctx, input, name, args...)
			}
			return nil, units(dir).systemctl(ctx, args)
		},
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // as main does
	code := a.main(ctx, args)
	stop()
	os.Exit(code)
}

// units is as much of systemd as setup uses: it starts services that outlive setup, and hands out credentials.
type units string

func (u units) path(name string) string { return filepath.Join(string(u), name) }

func (u units) systemctl(ctx context.Context, args []string) error {
	switch args[0] {
	case "daemon-reload", "enable":
		return nil
	case "start":
		if args[len(args)-1] == receiverUnit {
			return u.start("receiver", config.ReceiverPath)
		}
		if err := u.credential(ctx); err != nil {
			return err
		}
		if err := u.start("signer", config.Path); err != nil {
			return err
		}
		return u.start("portal", config.Path)
	case "is-active":
		name, _, _ := strings.Cut(strings.TrimPrefix(args[len(args)-1], "aes-"), ".")
		said, err := os.ReadFile(u.path(name + ".log"))
		if err == nil && !strings.Contains(string(said), " msg=ready ") {
			err = fmt.Errorf("%s is not ready: %s", name, said)
		}
		return err
	}
	return fmt.Errorf("systemctl %v", args)
}

// credential decrypts the PIN as systemd does for the service.
func (u units) credential(ctx context.Context) error {
	file := u.path("run/credentials/token-pin")
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	pin, err := setup.Host{Root: string(u)}.Decrypt(ctx, pinCredential())
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, pin, 0o600)
	}
	return err
}

func (u units) start(name, cfg string) error {
	pidFile := u.path(name + ".pid")
	if text, err := os.ReadFile(pidFile); err == nil {
		if pid, err := strconv.Atoi(string(text)); err == nil && syscall.Kill(pid, 0) == nil {
			return nil
		}
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(u.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, name, "--config", u.path(cfg))
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{}, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return os.WriteFile(pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

// stop ends the services that setup started.
func (u units) stop(t *testing.T) {
	for _, name := range []string{"portal", "signer", "receiver"} {
		text, err := os.ReadFile(u.path(name + ".pid"))
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(string(text))
		if err != nil {
			t.Error(err)
			continue
		}
		if t.Failed() {
			said, _ := os.ReadFile(u.path(name + ".log"))
			t.Logf("%s:\n%s", name, said[max(0, len(said)-2000):])
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
