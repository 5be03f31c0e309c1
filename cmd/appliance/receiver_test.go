package main

import (
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/porttest"
	"github.com/veripath/aes-appliance/internal/replica"
)

// TestReceiverTakesSystemdsSocket: with systemd's own tool, which starts the service at the first connection and hands it the socket. It opens none of its own.
func TestReceiverTakesSystemdsSocket(t *testing.T) {
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("systemd-socket-activate is missing: apt-get install systemd")
		}
		t.Skip("systemd-socket-activate is missing")
	}
	v := newVault(t)
	taken, err := net.Listen("tcp", "127.0.0.1:"+strings.TrimPrefix(v.address, "localhost:")) // the address of the configuration
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	own := run(t, "--config", v.config, "receiver", "status")
	for _, name := range []string{"receiver", "somebody-elses"} {
		cmd := program(t, "--config", v.config, "receiver")
		address := fmt.Sprintf("127.0.0.1:%d", porttest.Reserve(t))
		v.service = launch(t, exec.Command(tool, append([]string{"-l", address, "--fdname=" + name, cmd.Path}, cmd.Args[1:]...)...))
		if name != "receiver" {
			dialSoon(t, address).Close()
			<-v.service.done
			if said := v.service.log.String(); !strings.Contains(said, "no socket named receiver") {
				t.Errorf("another socket: %s", said)
			}
			continue
		}
		conn := tls.Client(dialSoon(t, address), strangerTLS(t))
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		pub, ok := conn.ConnectionState().PeerCertificates[0].PublicKey.(ed25519.PublicKey)
		if !ok || !strings.Contains(own, replica.Pin(pub).String()) {
			t.Errorf("who answers shows %v, and this host is\n%s", pub, own)
		}
		conn.Close()
		v.service.wait()
		v.service.stop()
	}
}

// dialSoon connects as soon as somebody listens.
func dialSoon(t *testing.T, address string) net.Conn {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn
		}
	}
	t.Fatal("nobody listens on " + address)
	return nil
}
