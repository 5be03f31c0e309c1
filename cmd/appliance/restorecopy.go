package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/replica"
	"github.com/veripath/aes-appliance/internal/token"
)

// broughtBack is a restored state folder.
type broughtBack struct {
	replica.Fetched
	trust  replica.Trust
	events events
	object string
	token  escrow.Backup
	pin    []byte
}

// lost says what a restored state lacks.
func (b *broughtBack) lost() string {
	s := fmt.Sprintf("whatever was recorded after line %d, at %s, and not cosigned", b.Size, b.Cosigned.UTC().Format(time.RFC3339))
	if b.events.changed > b.token.Lines {
		s += fmt.Sprintf("; keys of the token that line %d tells of, made after its backup", b.events.changed)
	}
	return s
}

// bringBack makes a state folder of what the backup holds.
func (a *app) bringBack(ctx context.Context, f restoreFlags, cfg config.Config) (b broughtBack, err error) {
	defer a.progress("fetching from " + f.from)()
	if err := unseen(); err != nil {
		return b, err
	}
	identity, err := os.ReadFile(f.identity)
	if err != nil {
		return b, unreadable(f.identity, err)
	}
	defer clear(identity)
	// What can be found wrong here is found before the code is used up.
	if err := escrow.CheckIdentities(bytes.NewReader(identity)); err != nil {
		return b, fault.New(fault.Invalid, f.identity+" holds no age identity").WithCause(err).WithHint("it is what age-keygen wrote: a line that begins with AGE-SECRET-KEY-1")
	}
	var kept []string
	if f.logKey != "" {
		if kept, err = a.logKeys([]string{f.logKey}); err != nil {
			return b, err
		}
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return b, fault.New(fault.Unavailable, "cannot make the folder "+cfg.StateDir+reason(err)).WithCause(err)
	}
	src, trust, err := a.source(ctx, f)
	if err != nil {
		return b, err
	}
	if c, ok := src.(io.Closer); ok {
		defer c.Close()
	}
	if kept != nil && !slices.Contains(kept, trust.LogKey) {
		return b, fault.New(fault.Corrupt, "what the backup holds is not signed by the log's key that you kept").
			WithHint("it is another appliance's, or the backup host was taken over: keep its disk, and look for another copy")
	}
	b.trust = trust
	if b.Fetched, err = replica.Fetch(ctx, src, trust, cfg.StateDir); err != nil {
		return b, err
	}
	if b.events, err = readEvents(filepath.Join(cfg.StateDir, ledger.FileName)); err != nil {
		return b, err
	}
	if told := b.events.origin; told != trust.Origin {
		return b, fault.New(fault.Corrupt, fmt.Sprintf("the backup's log is %s, and its first line says %q", trust.Origin, told))
	}
	if b.object = b.events.token; b.object == "" {
		return b, fault.New(fault.NotFound, "the token of this appliance was never backed up").WithHint("without its keys an appliance cannot be restored; what it signed can still be verified")
	}
	// The file that was fetched and verified, not what the host would say when it is asked once more.
	if b.token, err = openTokenBackup(cfg.StateDir, b.object, identity); err != nil {
		return b, err
	}
	b.pin = b.token.PIN
	files := make([]token.File, len(b.token.Files))
	for i, one := range b.token.Files {
		files[i] = token.File(one)
	}
	if b.token.Origin != trust.Origin {
		return b, fault.New(fault.Corrupt, "the token's backup is of another appliance")
	}
	return b, token.Restore(filepath.Join(cfg.StateDir, "token"), files)
}

// source opens the copy, and says by whose keys it is verified.
func (a *app) source(ctx context.Context, f restoreFlags) (replica.Source, replica.Trust, error) {
	if f.folder() {
		src, origin, err := replica.OpenFolder(f.from)
		if err != nil {
			return nil, replica.Trust{}, err
		}
		t, err := trustOf(ctx, src, origin, filepath.Join(f.from, replica.LogFile))
		return src, t, err
	}
	code, err := a.readCode()
	if err != nil {
		return nil, replica.Trust{}, err
	}
	r, err := enrol.ParseRestore(strings.Join(strings.Fields(code), ""))
	if err != nil {
		return nil, replica.Trust{}, fault.New(fault.Invalid, "this is not a whole restore code").WithCause(err).WithHint(`copy all of what "appliance receiver allow-restore" printed`)
	}
	if err := enrol.Valid(r.Expires, time.Now()); err != nil {
		return nil, replica.Trust{}, fault.New(fault.Forbidden, "the code expired at "+r.Expires.Format(time.RFC3339)).WithCause(err).WithHint("have a new one made; are both clocks right?")
	}
	address := backup.WithPort(f.from)
	if err := enrol.CheckAddress(address); err != nil {
		return nil, replica.Trust{}, fault.New(fault.Invalid, "--from is a host name in lower case, or an IP address").WithCause(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, replica.Trust{}, err
	}
	id, err := replica.NewIdentity(key)
	if err != nil {
		return nil, replica.Trust{}, err
	}
	pin := replica.Pin(r.Backup)
	var d net.Dialer
	return asSource(replica.RedeemRestore(ctx, replica.Redemption{
		Dial: func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }, Identity: id, Server: &pin, Secret: r.Secret[:],
	}, r.Origin))
}

func asSource(c *replica.Client, t replica.Trust, err error) (replica.Source, replica.Trust, error) {
	if err != nil {
		return nil, t, err
	}
	return c, t, nil
}

// events is what a restore must know of a log.
type events struct {
	origin             string   // of the log
	logKeys, cosigners []string // verifier keys
	token              string   // object of the token's last backup
	changed            uint64   // lines after the last change of the token's keys
	pinChanged         uint64   // lines after the last change of its PIN
}

// readEvents reads a log's file. The keys that it names are as good as it is: the token's own key, once it is open, must be among them.
func readEvents(path string) (e events, err error) {
	f, err := os.Open(path)
	if err != nil {
		return e, noLog(path, err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, chain.MaxLine+2)
	for n := uint64(1); ; n++ {
		raw, err := in.ReadSlice('\n')
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return e, nil
		}
		if err != nil {
			return e, noLog(path, err)
		}
		line, err := chain.ParseLine(bytes.TrimSuffix(raw, []byte("\n")))
		if err != nil {
			return e, fault.New(fault.Corrupt, fmt.Sprintf("line %d of the copy is none", n)).WithCause(err)
		}
		if err := e.take(n, line); err != nil {
			return e, fault.New(fault.Corrupt, fmt.Sprintf("line %d of the copy cannot be read", n)).WithCause(err)
		}
	}
}

func (e *events) take(n uint64, line chain.Line) error {
	var d struct {
		Purpose  string `json:"purpose"`
		Public   []byte `json:"public_key"`
		Cosigner string `json:"cosigner_key"`
		Object   string `json:"backup_object"`
		Origin   string `json:"origin"`
	}
	switch line.EventType {
	case "appliance_founded", "key_created", "key_destroyed", "backup_enrolled", "token_backed_up":
		if err := json.Unmarshal(line.Details, &d); err != nil {
			return err
		}
	}
	switch line.EventType {
	case "appliance_founded":
		e.origin = d.Origin
	case "key_created":
		e.changed = n
		pub, err := x509.ParsePKIXPublicKey(d.Public)
		if key, ok := pub.(ed25519.PublicKey); err == nil && ok && d.Purpose == "checkpoint" {
			e.logKeys = append(e.logKeys, string(key))
		}
	case "key_destroyed":
		e.changed = n
	case "token_pin_changed":
		e.pinChanged = n
	case "backup_enrolled":
		e.cosigners = append(e.cosigners, d.Cosigner)
	case "token_backed_up":
		e.token = d.Object
	}
	return nil
}

// trustOf returns by whose keys a folder's checkpoint is signed, as its log tells.
func trustOf(ctx context.Context, src replica.Source, origin, log string) (t replica.Trust, err error) {
	e, err := readEvents(log)
	if err != nil {
		return t, err
	}
	note, err := src.Checkpoint(ctx)
	if err != nil {
		return t, err
	}
	for _, pub := range slices.Backward(e.logKeys) {
		key, err := chain.VerifierKey(origin, ed25519.PublicKey(pub))
		if err != nil {
			return t, err
		}
		for _, cosigner := range slices.Backward(e.cosigners) {
			witness, err := chain.ParseWitnessKey(cosigner)
			if err != nil {
				return t, err
			}
			if _, by, err := chain.OpenCosigned(note, origin, key, witness); err == nil && len(by) == 1 {
				return replica.Trust{Origin: origin, LogKey: key, Cosigner: cosigner}, nil
			}
		}
	}
	return t, fault.New(fault.Corrupt, "the copy's checkpoint is not signed by keys that its log names").WithHint("is the folder a whole copy of one log's folder on the backup host?")
}
