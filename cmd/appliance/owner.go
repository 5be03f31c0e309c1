package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/veripath/aes-appliance/internal/fault"
)

// ownerOf is as whom root does something with a state folder: as its owner. nil: as this process.
func ownerOf(dir string) (*syscall.Credential, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, unreadable(dir, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || st.Uid == 0 {
		return nil, nil
	}
	return &syscall.Credential{Uid: st.Uid, Gid: st.Gid}, nil
}

// asOwner runs this command line once more as the owner of a state folder, when root runs it and the folder is another's; done says that it was. Root itself writes nothing in
// there: whoever has the service's user could have put links in the way, and have root write, or give away, a file elsewhere.
func (a *app) asOwner(ctx context.Context, dir string) (done bool, err error) {
	as, err := ownerOf(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && as == nil {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", a.args...) // this program, wherever it lies
	cmd.Args[0] = "appliance"
	cmd.Env = []string{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the kernel means this thread when it says parent
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return true, ctx.Err()
	case errors.As(err, &ended) && ended.Exited():
		return true, &exit{code: ended.ExitCode()} // it has said why
	case err != nil:
		return true, fault.New(fault.Internal, "cannot do this as the user whom "+dir+" belongs to"+reason(err)).WithCause(err)
	}
	return true, nil
}

// ownOnly refuses to root a state folder of another user's, for what asOwner cannot do.
func ownOnly(dir, hint string) error {
	as, err := ownerOf(dir)
	if err == nil && as != nil {
		return fault.New(fault.Forbidden, dir+" is another user's: root does not work in it").WithHint(hint)
	}
	return nil // what is missing is found by who opens it
}
