package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pdf"
	"github.com/veripath/aes-appliance/internal/signer"
)

// operator is the actor of acts on the command line, in the log.
const operator = "operator"

// openSigner opens the appliance that the configuration names.
func (a *app) openSigner(ctx context.Context) (*signer.Signer, config.Config, error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return nil, cfg, err
	}
	if err := ownOnly(cfg.StateDir, "start the services, which then do it: systemctl start aes-appliance.target"); err != nil {
		return nil, cfg, err
	}
	pins, err := readPINs(cfg.Token.PINFile)
	if err != nil {
		return nil, cfg, err
	}
	defer a.progress("opening the appliance in " + cfg.StateDir)()
	s, err := withPIN(pins, func(pin []byte) (*signer.Signer, error) {
		return signer.Open(ctx, signer.Config{Config: cfg, PIN: pin, Version: version, Log: a.logger()})
	})
	return s, cfg, err
}

// readPINs reads the PIN, or two on lines of their own while it is being changed: the token opens by one of them, and which that is only the token knows.
func readPINs(path string) ([][]byte, error) {
	text, err := readPIN(path)
	if err != nil {
		return nil, err
	}
	pins := bytes.Split(text, []byte("\n"))
	if len(pins) > 2 || len(pins[0]) == 0 {
		clear(text)
		return nil, badPIN(path, "holds more than a PIN")
	}
	return pins, nil
}

// withPIN opens an appliance by the first of pins that is its token's, and wipes them.
func withPIN(pins [][]byte, open func(pin []byte) (*signer.Signer, error)) (s *signer.Signer, err error) {
	for i, pin := range pins {
		if i == 0 || fault.KindOf(err) == fault.Unauthorized {
			s, err = open(pin)
		}
	}
	for _, pin := range pins {
		clear(pin)
	}
	return s, err
}

// readPIN reads a PIN from a file that only its owner may read.
func readPIN(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, noPIN(path, reason(err)).WithCause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, badPIN(path, "is no regular file")
	}
	if durable.OpenToOthers(info) {
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("the PIN file %s may be read by others (mode %04o)", path, info.Mode().Perm())).
			WithHint("chmod 600 " + path)
	}
	if info.Size() > 256 {
		return nil, badPIN(path, "holds more than a PIN")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, noPIN(path, reason(err)).WithCause(err)
	}
	pin := bytes.TrimRight(data, "\r\n")
	if len(pin) == 0 && path == sealedPIN() { // its unit failed, and systemd handed over nothing
		return nil, fault.New(fault.Unavailable, "systemd could not decrypt the token's PIN on this machine").
			WithHint("was its TPM2 cleared or exchanged, or is it another machine's disk? appliance backup pin --identity FILE brings the PIN back (operations.md, \"The PIN cannot be decrypted\")")
	}
	if len(pin) == 0 {
		return nil, badPIN(path, "is empty")
	}
	return pin, nil
}

func noPIN(path, why string) *fault.Error {
	return fault.New(fault.Unavailable, "cannot read the PIN file "+path+why).
		WithHint("correct token.pin_file in the configuration, or run as the user that the file belongs to")
}

func badPIN(path, what string) *fault.Error {
	return fault.New(fault.Invalid, "the PIN file "+path+" "+what).
		WithHint("it must hold the PIN with which the token was made, on one line")
}

// limits are those of the configuration for a PDF.
func limits(cfg config.Config) pdf.Limits { return pdf.Limits{MaxSize: cfg.Limits.PDFBytes} }

// logger writes to standard error with --verbose and nowhere without.
func (a *app) logger() *slog.Logger {
	if !a.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.stderr, nil))
}

// progress says what is being done once it has taken a second; the returned function ends it.
func (a *app) progress(what string) (done func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		start := time.Now()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				fmt.Fprintf(a.stderr, "… %s (%.0f s)\n", what, time.Since(start).Seconds())
			}
		}
	}()
	return func() { close(stop); <-ended }
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(s), "error: "), "\n")
	return line
}
