// Package porttest gives tests TCP ports that nobody else is given. Nothing but tests may import it.
package porttest

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Reserve returns a TCP port of 127.0.0.1 on which only who names it can listen, again and again, until the test ends.
//
// The port is bound but not listened on: the kernel then gives it to no connection and to nobody who asks for any port, and lets a listener with
// SO_REUSEADDR, as Go's are, have it. A port that was only found free may be somebody else's before it is used.
func Reserve(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return at.(*unix.SockaddrInet4).Port
}
