package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "The token that holds the keys",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	change := &cobra.Command{
		Use:   "change-pin",
		Short: "Give the token another PIN, made at random: for when somebody may know the old one",
		Long: `Makes a new PIN, encrypts it for the signer's unit as setup did, and gives it to the token; nobody sees it. The signer is stopped for that, a second or two, and what comes meanwhile waits. The
keys stay as they are. It is a line of the log, and a backup of the token with the new PIN follows by itself.

Whatever stops it: the signer starts all the same, with the PIN that is the token's, and the same command run again goes on from there.

Who had the old PIN and a copy of the token's files, or a backup of it, has the keys: this does not help against them (docs/keys.md).`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.changePIN(cmd.Context()) },
	}
	set := &cobra.Command{
		Use: "set-pin", Short: "Give the token another PIN (started by change-pin)", Hidden: true, Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setPIN(cmd.Context()) },
	}
	cmd.AddCommand(change, set)
	return cmd
}

// pinKept is where the PIN is kept: a credential of the signer's unit, which root encrypts, or a file of the signer's user's.
type pinKept struct {
	read  func(context.Context) ([]byte, error)
	write func(context.Context, []byte) error
	unit  string // that is given it; "": none
}

func (a *app) pinKept(cfg config.Config) pinKept {
	c, host := pinCredential(), a.site.host
	if cfg.Token.PINFile == sealedPIN() {
		return pinKept{
			read:  func(ctx context.Context) ([]byte, error) { return host.Decrypt(ctx, c) },
			write: func(ctx context.Context, text []byte) error { return host.Replace(ctx, c, text) }, unit: signerUnit,
		}
	}
	return pinKept{
		read: func(context.Context) ([]byte, error) { return readPIN(cfg.Token.PINFile) },
		write: func(_ context.Context, text []byte) error {
			if err := durable.WriteFile(durable.OS{}, cfg.Token.PINFile, text, 0o600); err != nil {
				return fault.New(fault.Unavailable, "cannot write the PIN file "+cfg.Token.PINFile+reason(err)).WithCause(err)
			}
			return nil
		},
	}
}

// pinChange is what the process that changes the PIN reads on its standard input.
type pinChange struct {
	Old []byte `json:"old"`
	New []byte `json:"new"`
}

// changePIN changes the token's PIN. At each moment what is kept names the PIN that opens the token, beside another one while it is being changed: so a signer that is started
// in the midst of it, or after a crash there, starts.
func (a *app) changePIN(ctx context.Context) (err error) {
	path, err := a.findConfig()
	if err != nil {
		return err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	kept := a.pinKept(cfg)
	if kept.unit == "" { // a file of its user's, which root does not replace by its own
		if done, err := a.asOwner(ctx, cfg.StateDir); done {
			return err
		}
	}
	if err := unseen(); err != nil {
		return err
	}
	name := cfg.StateDir + ".pin-lock"
	if kept.unit == "" { // the folder that the state's is in is root's
		name = filepath.Join(cfg.StateDir, ".pin-lock")
	}
	lock, err := durable.OS{}.Lock(name, false)
	if errors.Is(err, durable.ErrLocked) {
		return fault.New(fault.Unavailable, "the PIN is being changed already").WithCause(err).WithHint("wait for it, or end it: this one then goes on where it stopped")
	}
	if err != nil {
		return fault.New(fault.Unavailable, "cannot lock "+name+reason(err)).WithCause(err).WithHint("run it as root")
	}
	defer func() { err = errors.Join(err, os.Remove(name), lock.Close()) }()
	pins, err := twoPINs(ctx, kept)
	if err != nil {
		return err
	}
	defer clear(pins.Old)
	defer clear(pins.New)
	start, err := a.stopFor(ctx, kept)
	if err != nil {
		return err
	}
	err = a.inForce(ctx, path, cfg, pins)
	for again := 0; err != nil && ctx.Err() == nil && kept.unit != "" && again < 3; again++ {
		// Somebody who connected to its socket had the signer started before the change had the token.
		if _, err = a.stopFor(ctx, kept); err == nil {
			err = a.inForce(ctx, path, cfg, pins)
		}
	}
	if err == nil {
		err = kept.write(ctx, pins.New) // from here on the old one is nowhere any more
	}
	if err := errors.Join(err, start()); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "the token has another PIN; a backup of it with that follows by itself (appliance backup status)")
	return nil
}

// twoPINs returns the PIN until now and the next one, both of which are kept then: a new one, or that of a change which was interrupted.
func twoPINs(ctx context.Context, kept pinKept) (p pinChange, err error) {
	text, err := kept.read(ctx)
	if err != nil {
		return p, err
	}
	old, next, found := bytes.Cut(bytes.TrimRight(text, "\r\n"), []byte("\n"))
	if found {
		return pinChange{old, next}, nil
	}
	if next, err = signer.NewPIN(); err != nil {
		return p, err
	}
	both := bytes.Join([][]byte{old, next}, []byte("\n"))
	defer clear(both)
	return pinChange{old, next}, kept.write(ctx, both)
}

// stopFor has systemd stop the signer, if it runs; start has it run again, with what is kept then: one that a connection started meanwhile was given both PINs.
func (a *app) stopFor(ctx context.Context, kept pinKept) (start func() error, err error) {
	if kept.unit == "" {
		return func() error { return nil }, nil
	}
	verb := "try-restart" // it does not run, and is not started
	if _, err := a.site.host.Run(ctx, nil, "systemctl", "is-active", "--quiet", kept.unit); err == nil {
		verb = "restart"
		if _, err := a.site.host.Run(ctx, nil, "systemctl", "stop", kept.unit); err != nil {
			return nil, err
		}
	}
	return func() error {
		_, err := a.site.host.Run(context.WithoutCancel(ctx), nil, "systemctl", verb, kept.unit)
		return err
	}, nil
}

// inForce has the PIN changed by a process of the signer's user's: the token is its.
func (a *app) inForce(ctx context.Context, path string, cfg config.Config, pins pinChange) error {
	as, err := ownerOf(cfg.StateDir)
	if err != nil {
		return err
	}
	request, err := json.Marshal(pins)
	if err != nil {
		return err
	}
	defer clear(request)
	_, err = pipeSelf(ctx, as, "changing the PIN", []string{"token", "set-pin", "--config", path}, request)
	return err
}

// setPIN is that process.
func (a *app) setPIN(ctx context.Context) error {
	var pins pinChange
	if err := errors.Join(unseen(), a.readRequest(&pins)); err != nil {
		return err
	}
	defer clear(pins.Old)
	defer clear(pins.New)
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	// A signer that a connection to its socket has started ends in a moment, when it finds the folder locked; or it has it for a moment.
	for end := time.Now().Add(lastWait); ; time.Sleep(20 * time.Millisecond) {
		err := signer.ChangePIN(ctx, signer.Config{Config: cfg, PIN: bytes.Clone(pins.Old), Version: version, Log: a.logger()}, bytes.Clone(pins.New), operator)
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
	}
}
