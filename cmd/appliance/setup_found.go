package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
)

// foundRequest is what the process that founds an appliance is told, on its standard input.
type foundRequest struct {
	PIN        []byte   `json:"pin"` // of the token
	Demo       bool     `json:"demo"`
	Recipients []string `json:"recipients"` // of the sealed root
	Identity   []byte   `json:"identity,omitempty"`
}

// held is a ceremony that was held, kept beside the appliance that it founds until that is in its place.
type held struct {
	At     time.Time `json:"at"`
	Clock  string    `json:"clock"`
	Swap   bool      `json:"swap"`
	Opened bool      `json:"opened"`
	Demo   bool      `json:"demo"`
	// Recipients are those that the root was sealed to, whatever setup is told when it goes on.
	Recipients []string          `json:"recipients"`
	Answer     signer.RootAnswer `json:"answer"`
}

// foundAnswer is what that process answers: public all of it, or sealed.
type foundAnswer struct {
	Held   held   `json:"held"`
	LogKey string `json:"log_key"`
	Lines  uint64 `json:"lines"`
	Head   string `json:"head"`
}

// What is in the folder in which an appliance is founded: it is moved to its place from there, by root.
const (
	foundState = "signer"
	foundHeld  = "ceremony.json"
)

// lastWait is how long the process of an earlier setup may take to end.
const lastWait = 10 * time.Second

// setupFound is the process that founds the appliance, as the signer's user: the token, and by a process of its own again the root's ceremony. Killed wherever, it does the
// same when it is started again: nothing of an unfinished founding is used, and a finished one is not repeated.
func (a *app) setupFound() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "found",
		Short:  "Found the appliance in a folder (started by setup)",
		Hidden: true,
		Args:   exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r foundRequest
			if err := errors.Join(unseen(), a.readRequest(&r)); err != nil {
				return err
			}
			defer clear(r.PIN)
			defer clear(r.Identity)
			answer, err := a.found(cmd.Context(), dir, r)
			if err != nil {
				return err
			}
			return json.NewEncoder(a.stdout).Encode(answer)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder to found it in")
	return cmd
}

func (a *app) found(ctx context.Context, dir string, r foundRequest) (answer foundAnswer, err error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return answer, err
	}
	cfg.StateDir = filepath.Join(dir, foundState)
	cfg.Token.BackupRecipients = nil // the services back it up: here the PIN is in no file
	sc := signer.Config{Config: cfg, PIN: r.PIN, Version: version, Log: a.logger()}
	there, err := signer.Founded(cfg.StateDir)
	if err != nil {
		return answer, err
	}
	var s *signer.Signer
	once := func(ctx context.Context) error {
		if there {
			s, err = signer.Open(ctx, sc)
		} else {
			s, err = signer.Found(ctx, sc, signer.Founding{
				Demo: r.Demo, Actor: operator, Ceremony: func(string) ca.Root { return holdFirst(dir, cfg, r) },
			})
		}
		return err
	}
	// The process of a setup that was killed a moment ago may not have ended yet.
	for end := time.Now().Add(lastWait); ; time.Sleep(50 * time.Millisecond) {
		if err = once(ctx); !errors.Is(err, durable.ErrLocked) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return answer, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	text, err := os.ReadFile(filepath.Join(dir, foundHeld))
	if err != nil {
		return answer, unreadable(filepath.Join(dir, foundHeld), err)
	}
	if err := json.Unmarshal(text, &answer.Held); err != nil {
		return answer, fault.New(fault.Corrupt, "the record of the key ceremony cannot be read").WithCause(err)
	}
	if !bytes.Equal(answer.Held.Answer.Ceremony.Root, s.Root().Raw) {
		return answer, fault.New(fault.Corrupt, "the record of the key ceremony is of another root").WithHint("nothing was signed with this appliance yet: remove " + dir + " and run setup again")
	}
	lines, head := s.Ledger().Head()
	answer.Lines, answer.Head = lines, hex.EncodeToString(head[:])
	_, answer.LogKey, err = s.LogKey()
	return answer, err
}

// holdFirst holds the ceremony that makes the root. What it answers is durable, the sealed root with it, before the appliance that it founds can come to be.
func holdFirst(dir string, cfg config.Config, r foundRequest) ca.Root {
	return func(ctx context.Context, c ca.CeremonyRequest) (ca.CeremonyAnswer, error) {
		h := held{At: time.Now().UTC(), Swap: swapping(), Opened: len(r.Identity) > 0, Clock: clockSaid(cfg), Demo: r.Demo, Recipients: r.Recipients}
		var err error
		h.Answer, err = holdSealed(ctx, nil, cfg.Token.Module, signer.RootRequest{Ceremony: c, Recipients: r.Recipients, Identity: r.Identity})
		if err != nil {
			return h.Answer.Ceremony, err
		}
		text, err := json.Marshal(h)
		if err != nil {
			return h.Answer.Ceremony, err
		}
		return h.Answer.Ceremony, durable.WriteFile(durable.OS{}, filepath.Join(dir, foundHeld), text, 0o600)
	}
}

// clockSaid is how the time is known, for the transcript.
func clockSaid(cfg config.Config) string {
	c, err := clock.Open(clock.Config{Mode: clock.System, MaxError: cfg.Clock.MaxError})
	if err == nil {
		var r clock.Reading
		if r, err = c.Now(); err == nil {
			return fmt.Sprintf("by a clock that the kernel says is within %v of UTC", r.MaxError.Round(time.Millisecond))
		}
	}
	return "by a clock that is NOT PROVEN: " + fault.PublicOf(err)
}

// swapping reports whether memory can go to a disk. What cannot be read can not be ruled out.
func swapping() bool {
	text, err := os.ReadFile("/proc/swaps")
	return err != nil || strings.Count(string(text), "\n") > 1
}

// runFound has the appliance founded in dir by a process of its own, as its user.
func (a *app) runFound(ctx context.Context, as *syscall.Credential, dir string, r foundRequest) (answer foundAnswer, err error) {
	err = runSelf(ctx, as, "the founding", []string{"setup", "found", "--config", a.configPath, "--dir", dir}, r, &answer)
	return answer, err
}
