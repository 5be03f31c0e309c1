package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
)

// maxCeremony bounds what crosses between a ceremony and the process that asked for it.
const maxCeremony = 4 << 20

// ceremonyCommand is the process of its own in which the root's key is used: it opens the root's token and nothing else, reads one request
// on standard input, writes one answer on standard output, ends.
func (a *app) ceremonyCommand() *cobra.Command {
	var module, dir, pinFile string
	cmd := &cobra.Command{
		Use:    "ceremony",
		Short:  "Do what only the root's key can do (started by setup and demo)",
		Hidden: true,
		Args:   exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			pin, err := readPIN(pinFile)
			if err != nil {
				return err
			}
			defer clear(pin)
			in, err := io.ReadAll(io.LimitReader(a.stdin, maxCeremony))
			if err != nil {
				return unreadable("the ceremony's request", err)
			}
			var request ca.CeremonyRequest
			d := json.NewDecoder(bytes.NewReader(in))
			d.DisallowUnknownFields()
			if err := d.Decode(&request); err != nil {
				return fault.New(fault.Invalid, "the ceremony's request is not of the expected form").WithCause(err)
			}
			answer, err := signer.Ceremony(cmd.Context(), module, dir, pin, ca.RootConfig{Now: time.Now(), Rand: rand.Reader}, request)
			if err != nil {
				return err
			}
			return json.NewEncoder(a.stdout).Encode(answer)
		},
	}
	cmd.Flags().StringVar(&module, "module", "", "PKCS#11 module of the root's token")
	cmd.Flags().StringVar(&dir, "dir", "", "folder of the root's token")
	cmd.Flags().StringVar(&pinFile, "pin-file", "", "file with its PIN")
	return cmd
}

// holdCeremony returns a ceremony held by another process of this program, which ends with this one.
func (a *app) holdCeremony(module, dir, pinFile string) ca.Root {
	return func(ctx context.Context, r ca.CeremonyRequest) (answer ca.CeremonyAnswer, err error) {
		program, err := os.Executable()
		if err != nil {
			return answer, err
		}
		request, err := json.Marshal(r)
		if err != nil {
			return answer, err
		}
		var out, problems bytes.Buffer
		cmd := exec.CommandContext(ctx, program, "ceremony", "--module", module, "--dir", dir, "--pin-file", pinFile)
		cmd.Env = []string{} // nothing is taken from the environment, and nothing may come in by it
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), &out, &problems
		// Ctrl-C is for this process to deal with; and when it is killed, nobody must go on writing into the root's token.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		runtime.LockOSThread() // the kernel means this thread when it says parent
		defer runtime.UnlockOSThread()
		if err := cmd.Run(); ctx.Err() != nil {
			return answer, ctx.Err()
		} else if err != nil {
			return answer, fault.New(fault.Internal, "the key ceremony failed: "+firstLine(problems.String())).WithCause(fmt.Errorf("%w: %s", err, problems.String()))
		}
		if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
			return answer, fault.New(fault.Internal, "the key ceremony's answer cannot be read").WithCause(err)
		}
		return answer, nil
	}
}
