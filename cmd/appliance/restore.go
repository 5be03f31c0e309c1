package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
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

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/replica"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/token"
	"github.com/veripath/aes-appliance/internal/wire"
)

// restoreFlags say where from, by which right, and who opens the token's backup.
type restoreFlags struct{ from, code, identity string }

func (f *restoreFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "from", "", "the backup host, as HOST[:7443], or a folder: the copy of the log's folder there, with a slash in it")
	cmd.Flags().StringVar(&f.code, "code", "", `with a host: the code that "appliance receiver allow-restore" printed there, or - to read it from standard input`)
	cmd.Flags().StringVar(&f.identity, "identity", "", "file of the age identity (AGE-SECRET-KEY-1…) of one of token.backup_recipients")
}

func (f *restoreFlags) check() error {
	if f.from == "" || f.identity == "" {
		return usage("--from names the backup, and --identity the file of an age identity")
	}
	if f.folder() == (f.code != "") {
		return usage("--code goes with a host, and not with a folder (which has a slash in its name)")
	}
	return nil
}

func (f *restoreFlags) folder() bool { return strings.ContainsRune(f.from, '/') }

func (a *app) backupRestore() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore --from HOST|FOLDER --identity FILE",
		Short: "Bring a lost appliance back on a bare machine, from its backup host",
		Long: `Fetches the log as far as it is cosigned, and all sealed objects, verifies every line and object, opens the token's backup with the identity, and puts the keys and their
PIN in place. The index is made anew. The machine needs the appliance's configuration (the same pki.base_url) and an empty state folder; run it as the user
that runs the signer.

Lines that never reached the backup are lost. That is said in the log by the first line after the restore, appliance_restored. The lost machine must not come back: two
that go on from one log are a fork, which the backup refuses.`,
		Example: `  appliance receiver allow-restore                                   on the backup host
  appliance backup restore --from backup.example.org --code - --identity key.txt`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.restore(cmd.Context(), f)
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) backupDrill() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "drill --from HOST|FOLDER --identity FILE",
		Short: "Hold a restore into a scratch folder, and record that it went well",
		Long: `Does all that "backup restore" does in a scratch folder: fetches, verifies, opens the token's backup, and opens the appliance with it. Then the folder is removed, and the result is a
line in the log (backup_drilled). A backup that was never restored is a hope.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return a.drill(cmd.Context(), f)
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) restore(ctx context.Context, f restoreFlags) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	if there, err := signer.Founded(cfg.StateDir); err != nil {
		return err
	} else if there {
		return fault.New(fault.Conflict, "there is something in "+cfg.StateDir+" already").WithHint("an appliance is restored into an empty folder; move what is there away, and keep it")
	}
	building := cfg
	building.StateDir = cfg.StateDir + ".restoring"
	if err := os.RemoveAll(building.StateDir); err != nil {
		return fault.New(fault.Unavailable, "cannot clear away an unfinished restore"+reason(err)).WithCause(err)
	}
	done, err := a.bringBack(ctx, f, building)
	if err != nil {
		return err
	}
	if err := putPIN(cfg.Token.PINFile, done.pin); err != nil {
		return err
	}
	// A crash before this rename leaves no appliance, and the restore begins again; one after it a whole one.
	if err := errors.Join(os.MkdirAll(filepath.Dir(cfg.StateDir), 0o755), os.RemoveAll(cfg.StateDir), os.Rename(building.StateDir, cfg.StateDir), durable.OS{}.SyncDir(filepath.Dir(cfg.StateDir))); err != nil {
		return fault.New(fault.Unavailable, "cannot move the restored appliance to "+cfg.StateDir+reason(err)).WithCause(err)
	}
	d := backup.Restored{From: f.from, Lines: done.Size, Root: hex.EncodeToString(done.Root[:]), At: done.Cosigned, Object: done.object, TokenLines: done.token.Lines, Lost: done.lost()}
	if err := a.openRestored(ctx, cfg, done.pin, func(s *signer.Signer) error { return s.Backup().Restored(ctx, operator, d) }); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "restored   %s\nlines      %d, cosigned %s\nobjects    %d\ntoken      as it was after %d lines\nlost       %s\n\nThe lost machine must not come back. Start the services: they compare themselves with the backup and sign.\n",
		cfg.StateDir, done.Size, done.Cosigned.Format(time.RFC3339), done.Objects, done.token.Lines, d.Lost)
	return nil
}

func (a *app) drill(ctx context.Context, f restoreFlags) (err error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "aes-drill-")
	if err != nil {
		return fault.New(fault.Unavailable, "cannot make a scratch folder"+reason(err)).WithCause(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	real := cfg
	cfg.StateDir, cfg.Token.BackupRecipients = filepath.Join(scratch, "state"), nil // the scratch appliance backs nothing up
	done, err := a.bringBack(ctx, f, cfg)
	if err != nil {
		return err
	}
	if err := a.openRestored(ctx, cfg, done.pin, func(*signer.Signer) error { return nil }); err != nil {
		return err
	}
	d := wire.BackupDrill{From: f.from, Lines: done.Size, Root: hex.EncodeToString(done.Root[:]), At: done.Cosigned, Objects: done.Objects, TokenLines: done.token.Lines}
	if err := a.administer(ctx, wire.OpBackupDrill, d, nil); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "lines      %d, cosigned %s\nobjects    %d\ntoken      opened, as it was after %d lines\nthe restore drill went well; %s has a line of it\n",
		done.Size, done.Cosigned.Format(time.RFC3339), done.Objects, done.token.Lines, filepath.Join(real.StateDir, ledger.FileName))
	return nil
}

// broughtBack is a restored state folder.
type broughtBack struct {
	replica.Fetched
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
	identity, err := os.ReadFile(f.identity)
	if err != nil {
		return b, unreadable(f.identity, err)
	}
	defer clear(identity)
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
	sealed, _, err := src.Object(ctx, b.object)
	if err != nil {
		return b, err
	}
	defer sealed.Close()
	if b.token, err = escrow.Open(sealed, bytes.NewReader(identity)); err != nil {
		return b, fault.New(fault.Forbidden, "the token's backup cannot be opened with this identity").WithCause(err).WithHint("it was made for the recipients that the line token_backed_up names")
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
	code, err := a.readCode(f.code)
	if err != nil {
		return nil, replica.Trust{}, err
	}
	r, err := enrol.ParseRestore(code)
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
	changed            uint64   // lines after the token's last change
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

// putPIN writes the token's PIN where the configuration says, unless it is there already.
func putPIN(path string, pin []byte) error {
	have, err := os.ReadFile(path)
	if err == nil {
		defer clear(have)
		if bytes.Equal(bytes.TrimRight(have, "\r\n"), pin) {
			return nil
		}
		return fault.New(fault.Conflict, "the PIN file "+path+" holds another PIN than the restored token has").WithHint("move it away: the restore writes the right one")
	}
	if !errors.Is(err, os.ErrNotExist) {
		return noPIN(path, reason(err)).WithCause(err)
	}
	if err := durable.WriteFile(durable.OS{}, path, pin, 0o600); err != nil {
		return fault.New(fault.Unavailable, "cannot write the PIN file "+path+reason(err)).WithCause(err).
			WithHint("the PIN is part of the token's backup; give a folder that can be written to, and make the credential of it afterwards")
	}
	return nil
}

// openRestored opens a restored appliance, which verifies its keys and makes its index, and closes it again.
func (a *app) openRestored(ctx context.Context, cfg config.Config, pin []byte, act func(*signer.Signer) error) error {
	s, err := signer.Open(ctx, signer.Config{Config: cfg, PIN: pin, Version: version, Log: a.logger()})
	if err != nil {
		return err
	}
	return errors.Join(act(s), s.Close())
}
