//go:build vm

package vmtests

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// TestUnits: the units as they are, with a demo's state, in a systemd of each release: they start, answer, reload, come back, lose no connection, stop; and within
// each sandbox what docs/hardening.md says cannot be done is tried.
func TestUnits(t *testing.T) {
	inContainers(t)
	besideOthers(t)
	eachRelease(t, func(t *testing.T, d machine.Debian) {
		u := &units{estate: newEstate(t, d)}
		u.boot(map[string]int{"primary": atPrimary})
		u.furnish(t)
		runParts(t, []part{
			{"start", u.start, true}, {"answer", u.answer, true}, {"tasks", u.tasks, true}, {"reload", u.reload, true}, {"watchdog", u.watchdog, true}, {"restart", u.restart, true}, {"cannot begin", u.cannotBegin, true}, {"stop", u.stop, true},
			{"sandbox", u.sandbox, true},
		})
	})
}

type units struct {
	*estate
	client *http.Client
	root   string // the demo's root certificate, a file
}

// furnish puts the program, the units and the state of a demo where the package and setup put them.
func (u *units) furnish(t *testing.T) {
	t.Helper()
	demo := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command(built(t, "appliance"), "demo", "--dir", demo).CombinedOutput(); err != nil {
		t.Fatalf("the demo: %v\n%s", err, out)
	}
	if _, err := u.machines["primary"].Feed(t.Context(), "mkdir /opt/demo && tar -xf - -C /opt/demo", packed(t, demo)); err != nil {
		t.Fatal(err)
	}
	u.furnishWith(t, demo)
}

// furnishWith does that with the demo of a folder, which the machine has in /opt/demo.
func (u *units) furnishWith(t *testing.T, demo string) {
	t.Helper()
	u.root = filepath.Join(demo, "root.pem")
	program, err := os.ReadFile(built(t, "appliance"))
	if err != nil {
		t.Fatal(err)
	}
	u.put(t, "primary", "/usr/bin/appliance", 0o755, string(program))
	u.putProbe(t)
	for from, to := range map[string]string{"../systemd": "/opt/systemd", "../packaging/apparmor": "/etc/apparmor.d"} {
		if _, err := u.machines["primary"].Feed(t.Context(), "mkdir -p "+to+" && tar -xf - -C "+to, packed(t, from)); err != nil {
			t.Fatal(err)
		}
	}
	u.on(t, "primary", `set -e
cp /opt/systemd/aes-* /usr/lib/systemd/system/
cp /opt/systemd/sysusers.conf /usr/lib/sysusers.d/aes-appliance.conf
cp /opt/systemd/tmpfiles.conf /usr/lib/tmpfiles.d/aes-appliance.conf
systemd-sysusers; systemd-tmpfiles --create aes-appliance.conf
mkdir -p /etc/aes-appliance; install -d -m 700 /etc/credstore.encrypted
systemd-creds encrypt --name=token-pin /opt/demo/pin /etc/credstore.encrypted/aes-signer.token-pin
cp -a /opt/demo/state /var/lib/aes-appliance/signer
rm -rf /var/lib/aes-appliance/signer/root
chown -R aes-signer:aes-signer /var/lib/aes-appliance/signer; chmod 700 /var/lib/aes-appliance/signer
sed -e 's#^state_dir = "state"#state_dir = "/var/lib/aes-appliance/signer"#' -e 's#^pin_file.*#pin_file = "/run/credentials/aes-signer.service/token-pin"#' \
  -e 's#"run/portal/s"#"/run/aes-appliance/portal/signer.sock"\nportal_group = "aes-portal"#' -e 's#"run/admin/s"#"/run/aes-appliance/admin/signer.sock"#' \
  -e 's#^state_dir = "portal"#state_dir = "/var/lib/aes-appliance/portal"#' -e '/^listen/d' /opt/demo/appliance.toml >/etc/aes-appliance/appliance.toml
touch /etc/aes-appliance/receiver.toml
systemctl daemon-reload`)
}

// putProbe puts cmd/confined on the primary, as /opt/confined.
func (e *estate) putProbe(t *testing.T) {
	t.Helper()
	probe := filepath.Join(t.TempDir(), "confined")
	make := exec.Command("go", "build", "-o", probe, "./cmd/confined")
	make.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("the probe: %v\n%s", err, out)
	}
	data, err := os.ReadFile(probe)
	if err != nil {
		t.Fatal(err)
	}
	e.put(t, "primary", "/opt/confined", 0o755, string(data))
}

// packed is a folder as a tar archive.
func packed(t *testing.T, dir string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&(fs.ModeSocket|fs.ModeSymlink) != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		h.Name, h.Uid, h.Gid, h.Uname, h.Gname = strings.TrimPrefix(strings.TrimPrefix(path, dir), "/"), 0, 0, "", ""
		if h.Name == "" {
			return nil
		}
		if err := w.WriteHeader(h); err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &b
}

func (u *units) start(t *testing.T) {
	u.on(t, "primary", "timeout 240 systemctl start aes-appliance.target && systemctl is-active aes-signer aes-portal aes-expiry.timer aes-renew-archive.timer aes-doctor.timer")
	if out := u.on(t, "primary", "ss -Hltn | awk '{print $4}' | grep -E ':(443|80|9464)$' | sort | tr '\\n' ' '"); out != "*:443 *:80 127.0.0.1:9464" {
		t.Errorf("listening: %s", out)
	}
	if out := u.on(t, "primary", "journalctl --sync; journalctl --no-pager -u 'aes-*' | grep -iE 'unknown|ignoring|deprecated' || true"); out != "" {
		t.Errorf("systemd does not take the units as they are:\n%s", out)
	}
	// What stands in there at a good start is what an operator takes for the trouble when there is some.
	if out := u.on(t, "primary", "journalctl --sync; journalctl --no-pager -o cat -u 'aes-*' | grep -iE 'could not open|permission denied|token\\.object' || true"); out != "" {
		t.Errorf("at a good start the journal has\n%s", out)
	}
	if out, want := u.on(t, "primary", "systemctl --version | grep -o '[+-]BPF_FRAMEWORK'"), map[string]string{"12": "-BPF_FRAMEWORK", "13": "+BPF_FRAMEWORK"}[u.release.Number]; out != want {
		t.Errorf("systemd has %s, and docs/hardening.md rests on %s", out, want)
	}
	for _, unit := range []string{"aes-signer", "aes-portal"} {
		status := u.on(t, "primary", "cat /proc/$(systemctl show -P MainPID "+unit+")/status")
		for _, want := range []string{`CapEff:\s0+\n`, `CapBnd:\s0+\n`, `CapPrm:\s0+\n`, `CapAmb:\s0+\n`, `NoNewPrivs:\s1\n`, `Seccomp:\s2\n`} {
			if !regexp.MustCompile(want).MatchString(status) {
				t.Errorf("%s: no %s in\n%s", unit, want, status)
			}
		}
		if user := u.on(t, "primary", "stat -c %U /proc/$(systemctl show -P MainPID "+unit+")"); user != unit {
			t.Errorf("%s runs as %s", unit, user)
		}
	}
	// A process that is not dumpable has files in /proc that are root's and not its user's: no other process of that user, a task of a timer for one, reads its memory.
	if owner := u.on(t, "primary", "stat -c %U /proc/$(systemctl show -P MainPID aes-signer)/environ"); owner != "root" {
		t.Errorf("the signer is dumpable: its environment is a file of %s", owner)
	}
	u.connects(t)
	u.unswapped(t, "primary")
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(u.root)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	u.client = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(address)
			return u.lab.Dial(ctx, "app", "tcp", net.JoinHostPort(u.lab.Address("primary"), port))
		},
	}}
}

// connects has users connect to the signer's sockets: the portal to its own; to the operator's the signer's user, whose tasks the timers start, and root.
func (u *units) connects(t *testing.T) {
	t.Helper()
	const portal, admin = "/run/aes-appliance/portal/signer.sock", "/run/aes-appliance/admin/signer.sock"
	if out := u.on(t, "primary", "stat -c '%U:%G %a' "+portal+" "+admin); out != "aes-signer:aes-portal 660\naes-signer:aes-signer 600" {
		t.Errorf("the signer's sockets are\n%s", out)
	}
	for _, one := range []struct{ user, socket, want string }{
		{"nobody", portal, "permission denied"}, {"nobody", admin, "permission denied"}, {"aes-receiver", portal, "permission denied"}, {"aes-receiver", admin, "permission denied"},
		{"aes-portal", portal, "done"}, {"aes-portal", admin, "permission denied"}, {"aes-signer", admin, "done"}, {"root", portal, "done"}, {"root", admin, "done"},
	} {
		if got := u.on(t, "primary", "runuser -u "+one.user+" -- /opt/confined connect "+one.socket); got != one.want {
			t.Errorf("%s connects to %s: %s", one.user, one.socket, got)
		}
	}
}

// answer has a time stamp made, over plain http, and asks for a page, over TLS.
func (u *units) answer(t *testing.T) {
	dir := t.TempDir()
	query, reply := filepath.Join(dir, "q"), filepath.Join(dir, "r")
	openssl := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("openssl", append([]string{"ts"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	openssl("-query", "-data", u.root, "-sha256", "-cert", "-out", query)
	q, err := os.Open(query)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	r, err := u.client.Post("http://localhost/tsa", "application/timestamp-query", q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	der, err := io.ReadAll(r.Body)
	if err != nil || os.WriteFile(reply, der, 0o600) != nil {
		t.Fatal(err)
	}
	openssl("-verify", "-queryfile", query, "-in", reply, "-CAfile", u.root)
	if err := u.page(); err != nil {
		t.Fatal(err)
	}
}

func (u *units) page() error {
	r, err := u.client.Get("https://localhost/healthz")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %v", r.Status, err)
	}
	return nil
}

// tasks starts what the timers start.
func (u *units) tasks(t *testing.T) {
	u.on(t, "primary", "systemctl start aes-expiry.service aes-renew-archive.service")
	waitFor(t, 10*time.Second, "both say what they found", func() error {
		out, err := u.try("primary", "journalctl --sync; journalctl --no-pager -o cat -u aes-expiry -u aes-renew-archive")
		if !strings.Contains(out+"\n", "none\n") || !strings.Contains(out+"\n", "renewed  0\n") {
			return fmt.Errorf("%s, %v", out, err)
		}
		return nil
	})
}

// reload: the services take up a configuration that was changed, and keep theirs when it is wrong; their processes stay.
func (u *units) reload(t *testing.T) {
	const config, reload = "/etc/aes-appliance/appliance.toml", "systemctl reload aes-signer aes-portal && systemctl is-active aes-signer aes-portal"
	bothSay := func(what string, times int) {
		t.Helper()
		waitFor(t, 10*time.Second, "both say "+what, func() error {
			out, err := u.try("primary", "for unit in aes-signer aes-portal; do journalctl --no-pager -o cat -u $unit | grep -c '"+what+"'; done")
			if want := fmt.Sprintf("%[1]d\n%[1]d", times); out != want {
				return fmt.Errorf("%s, %v", out, err)
			}
			return nil
		})
		if err := u.page(); err != nil {
			t.Error(err)
		}
	}
	before := u.on(t, "primary", "systemctl show -P MainPID aes-signer aes-portal")
	u.on(t, "primary", reload)
	bothSay("configuration taken up", 1)
	u.on(t, "primary", "cp "+config+" /root/good.toml && sed -i '1i bogus = 1' "+config+" && "+reload)
	bothSay("the configuration was not taken up", 1)
	u.on(t, "primary", "cp /root/good.toml "+config+" && "+reload)
	bothSay("configuration taken up", 2)
	if after := u.on(t, "primary", "systemctl show -P MainPID aes-signer aes-portal"); after != before {
		t.Errorf("processes %q, and %q after reloads", before, after)
	}
}

// watchdog stops the services in their tracks: systemd ends them and starts others.
func (u *units) watchdog(t *testing.T) {
	both := []string{"aes-signer", "aes-portal"}
	for _, unit := range both {
		u.put(t, "primary", "/run/systemd/system/"+unit+".service.d/watchdog.conf", 0o644, "[Service]\nWatchdogSec=10\n")
	}
	u.on(t, "primary", "systemctl daemon-reload && systemctl restart aes-signer aes-portal && kill -STOP $(systemctl show -P MainPID aes-signer aes-portal)")
	for _, unit := range both {
		waitFor(t, 2*time.Minute, unit+", which hangs, is replaced", func() error {
			out, err := u.try("primary", "systemctl show -P NRestarts "+unit+"; systemctl is-active "+unit+"; journalctl --no-pager -o cat -u "+unit+" | grep -c 'Watchdog timeout'")
			var restarts, timeouts int
			if n, scan := fmt.Sscanf(out, "%d\nactive\n%d", &restarts, &timeouts); n < 2 || restarts < 1 || timeouts < 1 {
				return fmt.Errorf("%q, %v, %v", out, scan, err)
			}
			return nil
		})
	}
	u.on(t, "primary", "rm -r /run/systemd/system/aes-signer.service.d /run/systemd/system/aes-portal.service.d && systemctl daemon-reload && systemctl restart aes-signer aes-portal")
	u.answer(t)
}

// restart starts both services anew while requests come: systemd holds the connections meanwhile, and none is refused.
func (u *units) restart(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var asked, longest atomic.Int64
	failed := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			began := time.Now()
			if err := u.page(); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
			asked.Add(1)
			longest.Store(max(longest.Load(), int64(time.Since(began))))
		}
	}()
	for range 3 {
		u.on(t, "primary", "systemctl restart aes-signer aes-portal")
	}
	stop()
	<-ended
	select {
	case err := <-failed:
		t.Errorf("a request failed while the services were started anew: %v", err)
	default:
	}
	t.Logf("%d requests, the longest %v", asked.Load(), time.Duration(longest.Load()))
	if asked.Load() < 5 {
		t.Error("too few requests to tell")
	}
}

// cannotBegin: with a configuration that is wrong a service is tried ever less often; restarted by hand it is tried at once, and after a kill it is back as soon as ever.
func (u *units) cannotBegin(t *testing.T) {
	restarts := func() (n int) {
		t.Helper()
		if _, err := fmt.Sscan(u.on(t, "primary", "systemctl show -P NRestarts aes-portal"), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	u.on(t, "primary", "cp /etc/aes-appliance/appliance.toml /root/good.toml && sed -i '1i bogus = 1' /etc/aes-appliance/appliance.toml && ! timeout 20 systemctl restart aes-portal")
	time.Sleep(22 * time.Second)
	if n := restarts(); n < 2 || n > 7 {
		t.Errorf("%d starts in 22 s", n)
	}
	u.on(t, "primary", "cp /root/good.toml /etc/aes-appliance/appliance.toml && timeout 10 systemctl restart aes-portal && systemctl is-active aes-portal")
	before := restarts()
	u.on(t, "primary", "systemctl kill --kill-whom=main -s KILL aes-portal")
	waitFor(t, 8*time.Second, "it is back after a kill", func() error {
		if n := restarts(); n != before+1 {
			return fmt.Errorf("%d restarts, before %d", n, before)
		}
		return u.page()
	})
}

func (u *units) stop(t *testing.T) {
	u.on(t, "primary", "systemctl stop aes-appliance.target") // it is stopped before what it has, which follows
	waitFor(t, time.Minute, "all is stopped", func() error {
		out, err := u.try("primary", "systemctl list-units --no-legend --plain --state=active,deactivating,failed 'aes-*'; ss -Hltn | grep -E ':(443|80|9464) ' || true")
		if err == nil && out != "" {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	u.on(t, "primary", "tail -n 1 /var/lib/aes-appliance/signer/audit_chain.jsonl | grep -q system_shutdown && appliance audit verify")
}
