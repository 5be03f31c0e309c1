package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/fault"
)

// systemd starts a service that ends anew after a second, for ever: so it must be after a kill. One that cannot begin at all, because its configuration is wrong or a key is missing, would do the
// same work and write the same lines each second. (RestartSteps= is of systemd 254; Debian 12 has 252.) So who cannot begin counts how often that was in a row, and the more often, the
// later it ends. The count is a file in memory that systemd keeps for the unit while it starts it anew, also when somebody restarts it, and drops when somebody stops it.
const (
	failuresName = "failures"       // of the descriptor in systemd's store (FileDescriptorStoreMax=)
	longestPause = 30 * time.Second // and the second of RestartSec=
	firstFD      = 3                // sd_listen_fds(3)
)

// pauseAfter is how long a service waits before it ends, that could not begin for the nth time in a row.
func pauseAfter(n int) time.Duration {
	if n > 5 {
		return longestPause
	}
	return time.Duration(1<<(n-1)-1) * time.Second
}

// starts runs a service that systemd supervises, and holds back its end when it could not begin.
func (a *app) starts(ctx context.Context, run func(context.Context) error) error {
	a.failures = keptFailures()
	err := run(ctx)
	if err == nil || a.begun.Load() || ctx.Err() != nil || os.Getenv("NOTIFY_SOCKET") == "" {
		return err
	}
	n, counted := countFailure(a.failures)
	if counted != nil || n < 2 {
		return err
	}
	a.printError(err)
	pause := pauseAfter(n)
	fmt.Fprintf(a.stderr, "it could not begin for the %d. time in a row, and ends in %v\n", n, pause)
	supervised{log: a.serviceLogger()}.notify("STATUS=cannot begin: " + fault.PlainLines(public(err).Public))
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	code := exitBad
	var e *exit
	if errors.As(err, &e) {
		code = e.code
	}
	return &exit{code: code} // it has been said
}

// keptFailures is the count that systemd keeps, nil when it has none. What systemd gives is left in its place, for who takes the sockets.
func keptFailures() *os.File {
	n := slices.Index(strings.Split(os.Getenv("LISTEN_FDNAMES"), ":"), failuresName)
	if n < 0 || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(firstFD+n), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), failuresName)
}

// countFailure adds one to the count, which it has systemd keep when that does not yet, and returns it.
func countFailure(kept *os.File) (int, error) {
	if kept != nil {
		var was [1]byte
		if _, err := kept.ReadAt(was[:], 0); err != nil {
			return 0, err
		}
		n := min(was[0], 254) + 1
		_, err := kept.WriteAt([]byte{n}, 0)
		return int(n), err
	}
	fd, err := unix.MemfdCreate(failuresName, unix.MFD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), failuresName)
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 0); err != nil {
		return 0, err
	}
	out, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(out)
	return 1, unix.Sendmsg(out, []byte("FDSTORE=1\nFDNAME="+failuresName), unix.UnixRights(fd), &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, 0)
}
