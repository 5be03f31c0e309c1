package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/oidctest"
)

// The addresses of the two hosts, and of a third that can reach the backup host as well, each in a network of its own.
const (
	hostPrimary = "198.18.1.1"
	hostBackup  = "198.18.1.2"
	hostThird   = "198.18.2.1"
	hostBackup2 = "198.18.2.2" // the backup host, as the third sees it
)

// insideVariable tells the test that it runs on the primary, and under which names the hosts are.
const insideVariable = "AES_TEST_HOSTS"

// TestTwoHosts runs a primary and its backup host as two machines with a cable between them: network namespaces with veth. The link is cut and healed
// under load; a third machine cannot connect. It takes root.
func TestTwoHosts(t *testing.T) {
	if name := os.Getenv(insideVariable); name != "" {
		twoHosts(t, name)
		return
	}
	needNamespaces(t)
	oidctest.Install(t) // what it takes from the network: there is none inside
	name := fmt.Sprintf("aes%d", os.Getpid()%100000)
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v %s", args, err, out)
		}
	}
	for _, host := range []string{"p", "b", "c"} {
		ip("netns", "add", name+host)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", name+host).Run() })
		ip("-n", name+host, "link", "set", "lo", "up")
	}
	cable := func(a, addressA, b, addressB, dev string) {
		t.Helper()
		ip("-n", name+a, "link", "add", dev, "type", "veth", "peer", "name", dev, "netns", name+b)
		for host, address := range map[string]string{a: addressA, b: addressB} {
			ip("-n", name+host, "addr", "add", address+"/30", "dev", dev)
			ip("-n", name+host, "link", "set", dev, "up")
		}
	}
	cable("p", hostPrimary, "b", hostBackup, "cable1")
	cable("c", hostThird, "b", hostBackup2, "cable2")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", name+"p", self, "-test.run", "^TestTwoHosts$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"="+name)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestTwoHosts") {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "backup_hosts_test.go") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// on makes cmd run on another host.
func on(t testing.TB, host string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "appliance") // testscript.Main looks at the name
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return exec.Command("ip", append([]string{"netns", "exec", host, link}, args...)...)
}

// twoHosts is the test on the primary.
func twoHosts(t *testing.T, name string) {
	v := newVault(t)
	v.address, v.host = hostBackup+":7443", name+"b"
	if err := os.WriteFile(v.config, []byte("state_dir = \"state\"\nlisten = \":7443\"\n[alarm]\ncommand = \"page\"\nsilence = \"5s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, _ := newBackedEstate(t, func(e *estate) { e.vault = v })
	third(t, name)

	acknowledged, refused := map[string]string{}, map[string]bool{}
	var mu sync.Mutex
	sign := func(id string) {
		status, a := e.signs(id)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case status == http.StatusOK && a.Backup.Cosigned:
			acknowledged[id] = a.SHA256
			delete(refused, id)
		case status == http.StatusServiceUnavailable:
			refused[id] = true
		default:
			t.Errorf("%s: %d %+v", id, status, a)
		}
	}
	link := func(state string) {
		if out, err := exec.Command("ip", "link", "set", "cable1", state).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	stop, began := make(chan struct{}), time.Now()
	var load sync.WaitGroup
	for worker := range 3 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					sign(fmt.Sprintf("LOAD-%d-%d", worker, n))
				}
			}
		})
	}
	time.Sleep(time.Second)
	link("down")
	time.Sleep(3 * time.Second)
	link("up")
	e.synchronised(v)
	time.Sleep(time.Second)
	close(stop)
	load.Wait()
	if len(acknowledged) == 0 || len(refused) == 0 {
		t.Errorf("%d answered, %d refused: the link was never up, or never cut", len(acknowledged), len(refused))
	}
	t.Logf("%d answered and %d refused in %v with the link cut for 3 s", len(acknowledged), len(refused), time.Since(began).Round(time.Second))
	for id := range refused {
		sign(id)
	}
	if len(refused) > 0 {
		t.Errorf("%d are refused although the link is healed", len(refused))
	}
	kept := string(v.log())
	for id, sum := range acknowledged {
		if !strings.Contains(kept, sum) {
			t.Errorf("%s was answered, and is not on the backup", id)
		}
	}
}

// third has another machine try to talk to the backup host, with a certificate of its own.
func third(t *testing.T, name string) {
	t.Helper()
	dir := t.TempDir()
	key, crt := filepath.Join(dir, "key"), filepath.Join(dir, "crt")
	if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, "-out", crt, "-subj", "/CN=third").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	// In TLS 1.3 the client hears of its refusal after its own handshake: it must still be there.
	client := fmt.Sprintf("sleep 1 | ip netns exec %sc openssl s_client -connect %s:7443 -cert %s -key %s -alpn h2 -tls1_3", name, hostBackup2, crt, key)
	out, err := exec.Command("sh", "-c", client).CombinedOutput()
	if !strings.Contains(string(out), "alert bad certificate") {
		t.Errorf("a third machine: %v %s", err, out)
	}
}
