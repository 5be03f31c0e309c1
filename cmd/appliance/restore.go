package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// restoreFlags say where from, by which right, and who opens the token's backup.
type restoreFlags struct {
	from, code, identity, logKey string
	harden                       bool
}

func (f *restoreFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.from, "from", "", "the backup host, as HOST[:7443], or a folder: the copy of the log's folder there, with a slash in it")
	cmd.Flags().StringVar(&f.code, "code", "", `with a host: - (as without it), the code that "appliance receiver allow-restore" printed there comes on standard input`)
	cmd.Flags().StringVar(&f.identity, "identity", "", "file of the age identity (AGE-SECRET-KEY-1…) of one of token.backup_recipients")
}

func (f *restoreFlags) check() error {
	if f.from == "" || f.identity == "" {
		return usage("--from names the backup, and --identity the file of an age identity")
	}
	if f.folder() && f.code != "" {
		return usage("--code goes with a host, and not with a folder (which has a slash in its name)")
	}
	return shownCode("code", f.code)
}

func (f *restoreFlags) folder() bool { return strings.ContainsRune(f.from, '/') }

func (a *app) backupRestore() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore --from HOST|FOLDER --identity FILE",
		Short: "Bring a lost appliance back on a bare machine, from its backup host",
		Long: `Fetches the log as far as it is cosigned, and all sealed objects, verifies every line and object, opens the token's backup with the identity, and puts the keys and their
PIN in place. The index is made anew. The machine needs the appliance's configuration (the same pki.base_url) and an empty state folder. Run it as root: what it makes
belongs to the owner of the state folder.

The log must be signed by the token's own key. Who has taken the backup host over could make up both: --log-key names the log's key as it was kept elsewhere
(log-key.txt of the lost machine, or what a clinic or an auditor keeps), and nothing else is restored then. Without it, compare what is printed at the end.

It hardens the machine as setup does, and says how secrets come back that only the lost machine could decrypt: the alarm's, and a TLS key of yours.

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
	cmd.Flags().BoolVar(&f.harden, "harden", true, "harden the machine itself, as setup does")
	cmd.Flags().StringVar(&f.logKey, "log-key", "", "file with the log's key, kept elsewhere: only a log that it signed is restored")
	return cmd
}

func (a *app) backupDrill() *cobra.Command {
	var f restoreFlags
	var copyOnly bool
	cmd := &cobra.Command{
		Use:   "drill --from HOST|FOLDER --identity FILE",
		Short: "Hold a restore into a scratch folder, and record that it went well",
		Long: `Does all that "backup restore" does in a scratch folder: fetches, verifies, opens the token's backup, and opens the appliance with it. Then the folder is removed, and the result is a
line in the log (backup_drilled). A backup that was never restored is a hope.

With --copy alone it does what needs no identity, and a timer does monthly: the signer fetches log and objects from its backup host over its own connection, verifies all of it, and
removes it (backup_copy_verified).`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if copyOnly {
				if f != (restoreFlags{}) {
					return usage("--copy goes alone")
				}
				return a.verifyCopy(cmd.Context())
			}
			if err := f.check(); err != nil {
				return err
			}
			return a.drill(cmd.Context(), f)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&copyOnly, "copy", false, "only fetch and verify what the backup host holds, by the running signer")
	return cmd
}

// verifyCopy has the signer fetch and verify what its backup host holds, and reminds of what only a person can do.
func (a *app) verifyCopy(ctx context.Context) error {
	var st wire.BackupStatus
	if err := a.administer(ctx, wire.OpBackupStatus, wire.Nothing{}, &st); err != nil {
		return err
	}
	if st.Address == "" || !st.DisabledAt.IsZero() {
		_, err := fmt.Fprintln(a.stdout, "no backup host is enrolled: there is nothing to verify")
		return err
	}
	defer a.progress("fetching from " + st.Address)()
	var got wire.BackupCopy
	for got.Running = true; got.Running; {
		if err := a.administer(ctx, wire.OpBackupCopy, wire.Nothing{}, &got); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.stdout, "lines      %d, cosigned %s\nobjects    %d\nwhat %s holds was fetched and verified, and is this log\n", got.Lines, got.At.Format(time.RFC3339), got.Objects, got.From)
	if time.Since(got.Drilled) > drillDue {
		fmt.Fprintf(a.stdout, "\nThat keys come back from it, only a drill with an identity shows, and none was held for %d days. On %s: appliance receiver allow-restore\n"+
			"Then here: appliance backup drill --from %s --code - --identity FILE\n", int(drillDue.Hours()/24), got.From, got.From)
	}
	return nil
}

// drillDue is how old a drill may be until a verification of the copy reminds of it.
const drillDue = 30 * 24 * time.Hour

func (a *app) restore(ctx context.Context, f restoreFlags) (err error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	if err := bare(cfg.StateDir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(cfg.StateDir), 0o755); err != nil {
		return fault.New(fault.Unavailable, "cannot make the folder "+filepath.Dir(cfg.StateDir)+reason(err)).WithCause(err)
	}
	lock, err := durable.OS{}.Lock(cfg.StateDir+".restore-lock", false)
	if errors.Is(err, durable.ErrLocked) {
		return fault.New(fault.Unavailable, "another restore is running").WithCause(err).WithHint("wait for it, or end it")
	}
	if err != nil {
		return fault.New(fault.Unavailable, "cannot lock "+cfg.StateDir+".restore-lock"+reason(err)).WithCause(err)
	}
	defer func() { err = errors.Join(err, os.Remove(cfg.StateDir+".restore-lock"), lock.Close()) }()
	if err := bare(cfg.StateDir); err != nil { // another restore may have ended just now
		return err
	}
	building := cfg
	building.StateDir, building.Token.BackupRecipients = cfg.StateDir+".restoring", nil // the first start backs the token up again
	if err := os.RemoveAll(building.StateDir); err != nil {
		return fault.New(fault.Unavailable, "cannot clear away an unfinished restore"+reason(err)).WithCause(err)
	}
	defer func() {
		if err == nil {
			return
		}
		if left := os.RemoveAll(building.StateDir); left != nil { // it has a token in it, and is of no use
			err = errors.Join(err, left)
		}
	}()
	done, err := a.bringBack(ctx, f, building)
	if err != nil {
		return err
	}
	defer clear(done.pin)
	d := backup.Restored{From: f.from, Lines: done.Size, Root: hex.EncodeToString(done.Root[:]), At: done.Cosigned, Object: done.object, TokenLines: done.token.Lines, Lost: done.lost()}
	root := ""
	// Before anybody can start it: what is lost stands in the log, or there is no appliance.
	if err := a.openRestored(ctx, building, done, func(s *signer.Signer) error {
		root = fmt.Sprintf("%x", sha256.Sum256(s.Root().Raw))
		return s.Backup().Restored(ctx, operator, d)
	}); err != nil {
		return err
	}
	if err := giveAway(building.StateDir, cfg.StateDir); err != nil {
		return err
	}
	if err := a.putPIN(ctx, cfg.Token.PINFile, done.pin); err != nil {
		return err
	}
	if err := moveRestored(building.StateDir, cfg.StateDir); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "restored   %s\nlines      %d, cosigned %s\nobjects    %d\ntoken      as it was after %d lines\nlost       %s\nlog's key  %s\nroot       SHA-256 %s\n\n",
		cfg.StateDir, done.Size, done.Cosigned.Format(time.RFC3339), done.Objects, done.token.Lines, d.Lost, done.trust.LogKey, root)
	if f.logKey == "" {
		fmt.Fprint(a.stdout, "Compare the log's key and the root with what was kept elsewhere: a backup host that lies could have made up both.\n")
	}
	if cfg.Token.PINFile == sealedPIN() { // the units' appliance, and so the machine is its own
		a.furnish(ctx, cfg, f.harden)
	}
	fmt.Fprint(a.stdout, "The lost machine must not come back. Start the services: they compare themselves with the backup and sign.\n")
	return nil
}

// bare makes sure that there is no appliance in a folder. Conflict: there is.
func bare(dir string) error {
	there, err := signer.Founded(dir)
	if err == nil && there {
		err = fault.New(fault.Conflict, "there is something in "+dir+" already").WithHint("an appliance is restored into an empty folder; move what is there away, and keep it")
	}
	return err
}

// moveRestored puts the finished folder in its place. A crash before the rename leaves no appliance, and the restore begins again; one after it a whole one.
func moveRestored(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // it was empty
		return fault.New(fault.Unavailable, "cannot put the restored appliance in the place of "+to+reason(err)).WithCause(err)
	}
	if err := errors.Join(os.Rename(from, to), durable.OS{}.SyncDir(filepath.Dir(to))); err != nil {
		return fault.New(fault.Unavailable, "cannot move the restored appliance to "+to+reason(err)).WithCause(err)
	}
	return nil
}

// giveAway gives all of dir to the owner of the folder whose place it will take, when root has made it: the signer's user must be able to open it.
func giveAway(dir, place string) error {
	info, err := os.Stat(place)
	if errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 {
		return nil
	}
	if err != nil {
		return fault.New(fault.Unavailable, "cannot look at "+place+reason(err)).WithCause(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		return fault.New(fault.Unavailable, "cannot give the restored appliance to its user"+reason(err)).WithCause(err)
	}
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
	defer clear(done.pin)
	if err := a.openRestored(ctx, cfg, done, func(*signer.Signer) error { return nil }); err != nil {
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

// putPIN puts the token's PIN where the configuration says, unless it is there already: into the credential that the signer's unit gets (what the configuration
// names is then made by systemd when the unit starts), or into a file.
func (a *app) putPIN(ctx context.Context, path string, pin []byte) error {
	if path == sealedPIN() {
		_, err := a.site.host.Reseal(ctx, pinCredential(), pin)
		return err
	}
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

// openRestored opens a restored appliance, which verifies its keys and makes its index, lets act do what it has to, and closes it again. Corrupt: the log is not
// signed by the token's key. The host said by which key the log is to be verified, and anybody can write a log with right hashes; what only the lost appliance had is its token.
func (a *app) openRestored(ctx context.Context, cfg config.Config, b broughtBack, act func(*signer.Signer) error) (err error) {
	s, err := signer.Open(ctx, signer.Config{Config: cfg, PIN: slices.Clone(b.pin), Version: version, Log: a.logger()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	_, key, err := s.LogKey()
	if err != nil {
		return err
	}
	if key != b.trust.LogKey {
		return fault.New(fault.Corrupt, "the log that the backup gave is not signed by the key of the token").
			WithHint("the backup host was taken over, or its copy is of another appliance: keep its disk, and restore from another copy")
	}
	return act(s)
}
