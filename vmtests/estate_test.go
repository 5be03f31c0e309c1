//go:build vm

package vmtests

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/vmtests/machine"
)

var (
	tier      = flag.String("tier", "container", "kind of machine: container or vm")
	releases  = flag.String("debian", "12 13", "Debian releases, separated by spaces")
	onlyParts = flag.String("parts", "", "of TestLife only parts whose names match, and what they need")
	build     = flag.String("build", "../build", "folder with the packages and the program")
	former    = flag.String("former", "", "package of an earlier version, which TestLife begins with: its upgrade is then to the one in the folder, and back")
)

// Where the hosts of a lab are: 198.18.0.N.
const (
	atRepo    = 2 // the package repository
	atRealm   = 3 // the clinic's identity provider
	atTime    = 4 // a time server
	atACME    = 5 // a CA that speaks ACME
	atPrimary = 10
	atBackup  = 20
	atSpare   = 30
	atApp     = 40 // the booking app, anywhere on the internet
	atAdmin   = 50 // the administrator's desk
)

// Names that the machines know by /etc/hosts.
var names = map[int]string{
	atRepo: "packages.veripath.test", atRealm: "id.clinic.test", atTime: "ntp.test", atACME: "acme.test", atPrimary: "sign.clinic.test pki.clinic.test primary",
	atBackup: "backup.veripath.test backup", atSpare: "spare", atApp: "app", atAdmin: "admin",
}

// TestMain gives the tests a folder for what they write, which is gone however they end.
func TestMain(m *testing.M) {
	flag.Parse()
	dir, remove, err := machine.Scratch()
	if err == nil {
		err = os.Setenv("TMPDIR", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	code := m.Run()
	remove()
	os.Exit(code)
}

// estate is a lab with what stands around the machines under test: a package repository, an identity provider, hosts to look from.
type estate struct {
	t        *testing.T
	release  machine.Debian
	lab      *machine.Lab
	provider *oidctest.Provider
	repo     string // what the repository serves
	make     func(host string, number int) (machine.Machine, error)
	binds    []string // folders that containers made from now on can read: see machine.NewContainer
	machines map[string]machine.Machine
	lost     string // the host that is no more
	mu       sync.Mutex
}

// needRoot leaves a test out where machines cannot be had; in CI it fails.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("machines take root")
	}
	t.Skip("machines take root: left out")
}

// inContainers leaves a test out in VMs: they would show nothing more of it, and are slow.
func inContainers(t *testing.T) {
	t.Helper()
	if *tier == "vm" {
		t.Skip("in containers: a VM shows nothing more of it")
	}
}

// eachRelease runs do for each Debian release that was asked for, side by side.
func eachRelease(t *testing.T, do func(t *testing.T, d machine.Debian)) {
	oneByOne(t, func(t *testing.T, d machine.Debian) {
		besideOthers(t)
		do(t, d)
	})
}

// oneByOne does so one after the other.
func oneByOne(t *testing.T, do func(t *testing.T, d machine.Debian)) {
	needRoot(t)
	for number := range strings.FieldsSeq(*releases) {
		d, err := machine.Release(number)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("debian"+number, func(t *testing.T) { do(t, d) })
	}
}

// besideOthers lets a test run beside others: containers wait for much, and VMs compute all the time.
func besideOthers(t *testing.T) {
	if *tier == "container" {
		t.Parallel()
	}
}

// newEstate makes a lab without machines.
func newEstate(t *testing.T, d machine.Debian) *estate {
	t.Helper()
	base, err := machine.Prepare(d)
	if err != nil {
		t.Fatal(err)
	}
	lab, err := machine.NewLab()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	e := &estate{t: t, release: d, lab: lab, machines: map[string]machine.Machine{}}
	e.make = func(host string, number int) (machine.Machine, error) {
		return machine.NewContainer(base, lab, host, number, e.binds...)
	}
	if *tier == "vm" {
		image, err := machine.PrepareImage(base, "..")
		if err != nil {
			t.Fatal(err)
		}
		e.make = func(host string, number int) (machine.Machine, error) { return machine.NewVM(image, lab, host, number) }
	}
	for host, number := range map[string]int{"repo": atRepo, "realm": atRealm, "app": atApp, "admin": atAdmin} {
		if err := lab.Attach(host, number); err != nil {
			t.Fatal(err)
		}
	}
	e.serveRepository()
	e.serveRealm()
	return e
}

// boot makes machines, side by side.
func (e *estate) boot(hosts map[string]int) {
	e.t.Helper()
	var each sync.WaitGroup
	errs := make(chan error, len(hosts))
	for host, number := range hosts {
		each.Go(func() { errs <- e.bootOne(host, number) })
	}
	each.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			e.t.Fatal(err)
		}
	}
}

func (e *estate) bootOne(host string, number int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	m, err := e.make(host, number)
	if err != nil {
		return err
	}
	e.t.Cleanup(func() {
		if e.t.Failed() {
			e.t.Logf("%s said:\n%s", host, e.journal(m))
		}
		m.Close()
	})
	if err := m.Boot(ctx); err != nil {
		return err
	}
	var hosts strings.Builder
	for n, name := range names {
		fmt.Fprintf(&hosts, "198.18.0.%[1]d %[2]s\n2001:2:0:18::%[1]d %[2]s\n", n, name)
	}
	if _, err := m.Feed(ctx, "cat >>/etc/hosts", strings.NewReader(hosts.String())); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.machines[host] = m
	return nil
}

func (e *estate) journal(m machine.Machine) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := m.Exec(ctx, "systemctl --failed --no-legend; journalctl --no-pager -o short-monotonic -n 60 -u 'aes-*'")
	if err != nil {
		return err.Error()
	}
	return out
}

// try runs a line of shell on a machine.
func (e *estate) try(host, line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // a VM without KVM on a busy machine is slow
	defer cancel()
	out, err := e.machines[host].Exec(ctx, line)
	return strings.TrimSpace(out), err
}

// on runs a line of shell on a machine; it must succeed.
func (e *estate) on(t *testing.T, host, line string) string {
	t.Helper()
	began := time.Now()
	out, err := e.try(host, line)
	if err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	t.Logf("%6.2f s  %s# %s", time.Since(began).Seconds(), host, strings.ReplaceAll(line, "\n", "; "))
	return out
}

// refused runs a line of shell that must fail, and say all of wants.
func (e *estate) refused(t *testing.T, host, line string, wants ...string) {
	t.Helper()
	out, err := e.try(host, line)
	if !errors.As(err, new(*machine.ExitError)) {
		t.Fatalf("%s: %s did not fail: %v\n%s", host, line, err, out)
	}
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("%s: %s does not say %q:\n%s", host, line, want, out)
		}
	}
}

func (e *estate) put(t *testing.T, host, path string, mode uint32, content string) {
	t.Helper()
	if err := machine.Put(t.Context(), e.machines[host], path, mode, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

// serveRepository serves a folder at http://packages.veripath.test/.
func (e *estate) serveRepository() {
	e.t.Helper()
	e.repo = e.t.TempDir()
	l, err := e.lab.Listen("repo", "[::]:80")
	if err != nil {
		e.t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(e.repo))}
	go server.Serve(l)
	e.t.Cleanup(func() { server.Close() })
}

// serveRealm starts a real OpenID provider at https://id.clinic.test/realms/a: it listens on loopback, and bytes go to and fro.
func (e *estate) serveRealm() {
	e.t.Helper()
	e.provider = oidctest.Start(e.t, oidctest.Options{Host: "id.clinic.test"})
	l, err := e.lab.Listen("realm", "[::]:443")
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go pass(c, e.provider.Address)
		}
	}()
}

// pass connects c with address, until both are done.
func pass(c net.Conn, address string) {
	defer c.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{})
	go func() {
		io.Copy(to, c)
		to.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	io.Copy(c, to)
	<-done
}

// spent is how much of the processor all VMs have taken since they were made.
func (e *estate) spent() (all time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.machines {
		if vm, ok := m.(*machine.VM); ok {
			all += vm.Spent()
		}
	}
	return all
}

// together runs do for each, side by side.
func together[T any](each []T, do func(T)) {
	var all sync.WaitGroup
	for _, one := range each {
		all.Go(func() { do(one) })
	}
	all.Wait()
}

// waitFor asks until ok, for at most limit: what a quiet machine takes at the very most. A busy one is given more, for what is waited for is no less true later.
func waitFor(t *testing.T, limit time.Duration, what string, ok func() error) time.Duration {
	t.Helper()
	limit = time.Duration(float64(limit) * 3 * max(1, busy(t)))
	began := time.Now()
	for {
		err := ok()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("%s: not in %v: %v", what, limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// built returns the path of what the build made last of a name.
func built(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(*build, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("%s is not in %s: make deb", pattern, *build)
	}
	age := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(age(a), age(b)) })
}
