package porttest

import (
	"fmt"
	"net"
	"testing"
)

// TestReserve: a reserved port is listened on by who names it, more than once, and given to nobody else: not to a listener on any port, not to a connection.
func TestReserve(t *testing.T) {
	mine := map[int]bool{}
	for range 300 {
		mine[Reserve(t)] = true
	}
	if len(mine) != 300 {
		t.Fatalf("300 reservations are %d ports", len(mine))
	}
	port := Reserve(t)
	for range 2 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for range 300 {
		c, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, a := range []net.Addr{c.LocalAddr(), l.Addr()} {
			if p := a.(*net.TCPAddr).Port; mine[p] || p == port {
				t.Fatalf("the kernel gave away the reserved port %d", p)
			}
		}
	}
}
