package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
)

// demoConfigure writes the demo's PINs and its configuration, unless it has them, and reads it. The configuration comes last, so that what it names is
// there.
func (a *app) demoConfigure(files demoFiles) (config.Config, error) {
	if _, err := os.Stat(files.config); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return config.Load(files.config)
	}
	for _, name := range []string{files.pin, files.rootPIN} {
		if _, err := os.Lstat(name); err == nil {
			continue // a token may be in use under it; a configuration can be written again, a PIN cannot
		}
		pin, err := signer.NewPIN()
		if err != nil {
			return config.Config{}, err
		}
		err = durable.WriteFile(durable.OS{}, name, pin, 0o600)
		clear(pin)
		if err != nil {
			return config.Config{}, fault.New(fault.Unavailable, "cannot write "+name+reason(err)).WithCause(err)
		}
	}
	plain := free{}
	defer plain.release()
	text := fmt.Sprintf(demoConfig, filepath.Base(files.state), plain.address(demoHTTP), filepath.Base(files.pin), demoClockMode())
	if err := writeOutput(files.config, []byte(text)); err != nil {
		return config.Config{}, err
	}
	return config.Load(files.config)
}

const demoConfig = `# Made by "appliance demo". Nothing that this appliance makes can be taken for real. Paths are taken from this file's folder.
state_dir = %q

[pki]
base_url = "http://%s"
name = "Demo"
organisation = "Demo Appliance"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.2019" # under the number that RFC 5612 sets aside for examples

[token]
label = "aes-demo"
pin_file = %q

[clock]
mode = %q
`

// What the two processes need besides; a demo of an earlier version gets it too. Many test programs are one caller: the rates are higher than in earnest.
const (
	demoSignerConfig = `
[signer]
portal_socket = "run/portal/s"
admin_socket = "run/admin/s"
`
	demoPortalConfig = `
[portal]
state_dir = "portal"
hosts = "127.0.0.1 localhost"
listen = "` + demoHTTPS + `"
listen_http = "` + demoHTTP + `"
listen_metrics = "` + demoMetrics + `"
tls = "own-ca"
caller_rate = 500
public_rate = 500
`
)

// Where a demo listens unless somebody else does.
const (
	demoHTTPS     = "127.0.0.1:8443"
	demoHTTP      = "127.0.0.1:8080"
	demoMetrics   = "127.0.0.1:9464"
	demoRealmPort = 8180
)

// demoClockMode is "system" when the kernel can prove the time now.
func demoClockMode() string {
	c, err := clock.Open(clock.Config{Mode: clock.System, MaxError: 200 * time.Millisecond})
	if err == nil {
		if _, err = c.Now(); err == nil {
			return clock.System
		}
	}
	return clock.Unproven
}

// demoServices completes the configuration with what the two processes need, moves the portal from ports that somebody else listens on, and makes the
// folders.
func (a *app) demoServices(files demoFiles, cfg config.Config) (config.Config, error) {
	had, err := os.ReadFile(files.config)
	if err != nil {
		return cfg, unreadable(files.config, err)
	}
	text := bytes.Clone(had)
	for _, one := range []struct{ section, content string }{{"signer", demoSignerConfig}, {"portal", demoPortalConfig}} {
		if !regexp.MustCompile(`(?m)^\s*\[` + one.section + `\]`).Match(text) {
			text = append(text, one.content...)
		}
	}
	if cfg, err = rewriteConfig(files.config, had, text); err != nil {
		return cfg, err
	}
	if cfg, err = a.demoPorts(files, cfg); err != nil {
		return cfg, err
	}
	for _, dir := range []string{filepath.Dir(cfg.Signer.PortalSocket), filepath.Dir(cfg.Signer.AdminSocket), cfg.Portal.StateDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return cfg, fault.New(fault.Unavailable, "cannot make the folder "+dir+reason(err)).WithCause(err)
		}
	}
	return cfg, nil
}

// demoPorts moves the portal, in the configuration, from ports that somebody else listens on.
func (a *app) demoPorts(files demoFiles, cfg config.Config) (config.Config, error) {
	had, err := os.ReadFile(files.config)
	if err != nil {
		return cfg, unreadable(files.config, err)
	}
	text := had
	var ports free
	defer ports.release()
	for _, one := range []struct{ key, have string }{
		{"listen", cfg.Portal.Listen}, {"listen_http", cfg.Portal.ListenHTTP}, {"listen_metrics", cfg.Portal.ListenMetrics},
	} {
		if now := ports.address(one.have); now != one.have {
			fmt.Fprintf(a.stderr, "note: %s is taken: this demo listens on %s from now on (portal.%s in %s)\n", one.have, now, one.key, files.config)
			text = regexp.MustCompile(`(?m)^\s*`+one.key+`\s*=.*$`).ReplaceAll(text, []byte(one.key+` = "`+now+`"`))
		}
	}
	return rewriteConfig(files.config, had, text)
}

// rewriteConfig replaces a configuration, if it changed, and reads it.
func rewriteConfig(file string, had, text []byte) (config.Config, error) {
	if !bytes.Equal(had, text) {
		if err := writeOutput(file, text); err != nil {
			return config.Config{}, err
		}
	}
	return config.Load(file)
}

// free finds addresses that nobody listens on. It holds them until release, so that it finds none twice.
type free struct{ held []net.Listener }

// address returns want, or another port on loopback when that cannot be listened on or is none.
func (f *free) address(want string) string {
	_, port, err := net.SplitHostPort(want)
	if err == nil && port != "0" {
		if l, err := net.Listen("tcp", want); err == nil {
			f.held = append(f.held, l)
			return want
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return want // whoever listens there says why not
	}
	f.held = append(f.held, l)
	return l.Addr().String()
}

func (f *free) release() {
	for _, l := range f.held {
		l.Close()
	}
}
