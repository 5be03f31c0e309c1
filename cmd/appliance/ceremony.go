package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
)

// maxCeremony bounds what crosses between a ceremony and the process that asked for it.
const maxCeremony = 4 << 20

// ceremonyCommand is the process of its own in which the root's key is used: it opens the root's token and nothing else, reads one request
// on standard input, writes one answer on standard output, ends. PINs, identities and sealed tokens come and go by these two pipes only.
func (a *app) ceremonyCommand() *cobra.Command {
	var module, dir, pinFile string
	cmd := &cobra.Command{
		Use:   "ceremony",
		Short: "Do what only the root's key can do, later: new CAs, the end of old ones, the root's list",
		Long: `What only the root's key can do. Setup holds the first ceremony; for later ones its sealed token is brought back. By itself, this is the process in which the root's key
is used: the others start it, and speak with it over its standard input and output.`,
		Args: noSuch,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.interactive() {
				return cmd.Help()
			}
			if err := unseen(); err != nil {
				return err
			}
			cfg := ca.RootConfig{Now: time.Now(), Rand: rand.Reader}
			if dir == "" {
				return a.sealedCeremony(cmd.Context(), module, cfg)
			}
			pin, err := readPIN(pinFile)
			if err != nil {
				return err
			}
			defer clear(pin)
			var request ca.CeremonyRequest
			if err := a.readRequest(&request); err != nil {
				return err
			}
			answer, err := signer.Ceremony(cmd.Context(), module, dir, pin, cfg, request)
			if err != nil {
				return err
			}
			return json.NewEncoder(a.stdout).Encode(answer)
		},
	}
	cmd.Flags().StringVar(&module, "module", "", "PKCS#11 module of the root's token")
	cmd.Flags().StringVar(&dir, "dir", "", "folder of a demo's root token; without it, the token comes and goes sealed")
	cmd.Flags().StringVar(&pinFile, "pin-file", "", "file with its PIN")
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = true }) // for those who start it
	cmd.AddCommand(a.ceremonyRollover(), a.ceremonyRevoke(), a.ceremonySignList())
	return cmd
}

// readRequest reads a ceremony's request from standard input.
func (a *app) readRequest(into any) error {
	in, err := io.ReadAll(io.LimitReader(a.stdin, maxCeremony))
	if err != nil {
		return unreadable("the ceremony's request", err)
	}
	defer clear(in)
	d := json.NewDecoder(bytes.NewReader(in))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fault.New(fault.Invalid, "the ceremony's request is not of the expected form").WithCause(err)
	}
	return nil
}

// memory is where Linux keeps files that never reach a disk.
const memory = "/dev/shm"

// sealedCeremony is one with the root's token in memory.
func (a *app) sealedCeremony(ctx context.Context, module string, cfg ca.RootConfig) (err error) {
	var request signer.RootRequest
	if err := a.readRequest(&request); err != nil {
		return err
	}
	defer clear(request.Identity)
	var fs unix.Statfs_t
	if err := unix.Statfs(memory, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		return fault.New(fault.Unavailable, memory+" is not kept in memory here, and the root's token must reach no disk").WithCause(err).WithHint("mount a tmpfs there, as Debian does")
	}
	scratch, release, err := inMemory()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	answer, err := signer.SealedCeremony(ctx, module, filepath.Join(scratch, "token"), cfg, request)
	if err != nil {
		return err
	}
	return json.NewEncoder(a.stdout).Encode(answer)
}

// scratchName is what the names of ceremonies' folders begin with, and scratchLock a file in each that is locked while its ceremony lasts.
const (
	scratchName = "aes-ceremony-"
	scratchLock = "lock"
)

// inMemory makes a folder in memory, and clears away those of ceremonies that were killed: nobody knows their tokens' PINs any more.
func inMemory() (dir string, release func() error, err error) {
	old, err := filepath.Glob(filepath.Join(memory, scratchName+"*"))
	if err != nil {
		return "", nil, err
	}
	for _, one := range old {
		if !ours(one) { // anybody can put something there
			continue
		}
		if lock, err := (durable.OS{}).Lock(filepath.Join(one, scratchLock), false); err == nil { // else it is of a ceremony that lasts
			_ = os.RemoveAll(one)
			_ = lock.Close()
		}
	}
	if dir, err = os.MkdirTemp(memory, scratchName); err != nil {
		return "", nil, fault.New(fault.Unavailable, "cannot make a folder in "+memory+reason(err)).WithCause(err)
	}
	lock, err := durable.OS{}.Lock(filepath.Join(dir, scratchLock), false)
	if err != nil {
		return "", nil, errors.Join(fault.New(fault.Unavailable, "cannot lock "+dir+reason(err)).WithCause(err), os.RemoveAll(dir))
	}
	return dir, func() error { return errors.Join(os.RemoveAll(dir), lock.Close()) }, nil
}

// ours reports whether a folder is this user's, and nobody else can change what is in it.
func ours(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// unseen keeps this process's memory from the other processes of its user, and out of core dumps, whatever the machine does with these.
func unseen() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fault.New(fault.Unavailable, "the kernel does not protect this process's memory"+reason(err)).WithCause(err)
	}
	return nil
}

// holdCeremony returns a ceremony held by another process of this program, over a root token that stays in dir.
func (a *app) holdCeremony(module, dir, pinFile string) ca.Root {
	return func(ctx context.Context, r ca.CeremonyRequest) (answer ca.CeremonyAnswer, err error) {
		err = inCeremony(ctx, nil, []string{"--module", module, "--dir", dir, "--pin-file", pinFile}, r, &answer)
		return answer, err
	}
}

// holdSealed is holdCeremony over a root token that is kept sealed. It is run as the user as, by root, unless that is nil.
func holdSealed(ctx context.Context, as *syscall.Credential, module string, r signer.RootRequest) (answer signer.RootAnswer, err error) {
	err = inCeremony(ctx, as, []string{"--module", module}, r, &answer)
	return answer, err
}

// inCeremony has a ceremony's process do it.
func inCeremony(ctx context.Context, as *syscall.Credential, args []string, in, out any) error {
	return runSelf(ctx, as, "the key ceremony", append([]string{"ceremony"}, args...), in, out)
}

// runSelf has another process of this program do something: in goes to its standard input and out comes from its standard output, as JSON. what names it in errors.
func runSelf(ctx context.Context, as *syscall.Credential, what string, args []string, in, out any) error {
	request, err := json.Marshal(in)
	if err != nil {
		return err
	}
	defer clear(request)
	said, err := pipeSelf(ctx, as, what, args, request)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(said, out); err != nil {
		return fault.New(fault.Internal, "what "+what+" answered cannot be read").WithCause(err)
	}
	return nil
}

// pipeSelf runs this program with input, as a process that ends with this one, and returns what it wrote to standard output.
func pipeSelf(ctx context.Context, as *syscall.Credential, what string, args []string, input []byte) ([]byte, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var said, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{} // nothing is taken from the environment, and nothing may come in by it
	cmd.Dir = "/"        // the user that it runs as may not enter this process's
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &said, &problems
	// Ctrl-C is for this process to deal with; and when it is killed, nobody must go on writing into a token.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: as}
	runtime.LockOSThread() // the kernel means this thread when it says parent
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); ctx.Err() != nil {
		return nil, ctx.Err()
	} else if err != nil {
		return nil, fault.New(fault.Internal, what+" failed: "+firstLine(problems.String())).WithHint(hintLine(problems.String())).
			WithCause(fmt.Errorf("%w: %s", err, problems.String()))
	}
	return said.Bytes(), nil
}

// hintLine is the hint in what a process said.
func hintLine(said string) string {
	for line := range strings.Lines(said) {
		if hint, ok := strings.CutPrefix(line, "hint: "); ok {
			return strings.TrimSpace(hint)
		}
	}
	return ""
}

// rootFlags name the sealed root token that setup made, and who opens it: for what only the root's key can do, later.
type rootFlags struct{ file, identity string }

func (f *rootFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "root", "", "the sealed root token that setup made (root-….age), brought back for this")
	cmd.Flags().StringVar(&f.identity, "identity", "", "file of the age identity (AGE-SECRET-KEY-1…) of one of those it was sealed for; - reads it from standard input")
}

// sealedRoot returns ceremonies held over that token. It is in memory for as long as each takes, and the sealed file stays as it is.
func (a *app) sealedRoot(f rootFlags, cfg config.Config) (ca.Root, error) {
	if f.file == "" || f.identity == "" {
		return nil, usage("--root names the sealed root token, and --identity the file of an age identity")
	}
	sealed, identity, err := a.readRoot(f)
	if err != nil {
		return nil, err
	}
	as, err := ownerOf(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, r ca.CeremonyRequest) (ca.CeremonyAnswer, error) {
		answer, err := holdSealed(ctx, as, cfg.Token.Module, signer.RootRequest{Ceremony: r, Sealed: sealed, Identity: identity})
		return answer.Ceremony, err
	}, nil
}

// readRoot reads what the flags name.
func (a *app) readRoot(f rootFlags) (sealed, identity []byte, err error) {
	if sealed, err = readInput(f.file, a.stdin); err == nil {
		identity, err = readInput(f.identity, a.stdin)
	}
	return sealed, identity, err
}
