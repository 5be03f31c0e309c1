package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// folder is the place of a SoftHSM2 token, "" for a vendor's token, for which every method does nothing:
//
//	tokens/UUID/      SoftHSM2's own files: token.object, and an .object and a .lock file for each object
//	pristine/UUID     token.object as Init left it
//	softhsm2.conf     written at every start: names tokens/
//	lock              flock of who opens, makes or destroys
//	intent            what Generate or Destroy is about; only there while one runs, or after a crash
//	new/              a token that Init is making
type folder string

// Finding is something that Open found and mended.
type Finding struct {
	What string // one sentence
	Name string // of the file or key
}

func (f folder) path(names ...string) string {
	return filepath.Join(append([]string{string(f)}, names...)...)
}

// lock takes the folder's flock, waiting no longer than ctx. Two processes that log in to a writable SoftHSM2 token at once fail now and then.
func (f folder) lock(ctx context.Context) (unlock func(), err error) {
	if f == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return nil, fmt.Errorf("making the token's folder: %w", err)
	}
	file, err := os.OpenFile(f.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the token: %w", err)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking the token: %w", err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fault.New(fault.Unavailable, "another process is using the token").WithHint("stop it, or try again").WithCause(ctx.Err()), file.Close())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// configure points SoftHSM2 at a folder of tokens. SOFTHSM2_CONF is the process's, like the module's state: only the owner sets it.
// OPENSSL_CONF keeps the host's openssl.cnf out of SoftHSM2: a FIPS-only one makes a right PIN wrong. (In the static build that is linked in.)
func (f folder) configure(tokens string) error {
	abs, err := filepath.Abs(f.path(tokens))
	if err != nil {
		return fmt.Errorf("naming the token's folder: %w", err)
	}
	if strings.ContainsAny(abs, "\n\"") {
		return fault.New(fault.Invalid, "the token's folder has a name that softhsm2.conf cannot hold")
	}
	conf := []byte("directories.tokendir = " + abs + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n" +
		"slots.mechanisms = " + strings.Join(mechanismsUsed, ",") + "\n")
	path := filepath.Join(filepath.Dir(abs), "softhsm2.conf")
	if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, conf) {
		if err := durable.WriteFile(durable.OS{}, path, conf, 0o600); err != nil {
			return err
		}
	}
	return errors.Join(os.Setenv("SOFTHSM2_CONF", path), os.Setenv("OPENSSL_CONF", "/dev/null"))
}

// create makes the token's files under new/ with make and moves them to their place.
func (f folder) create(make func() error) error {
	if _, err := os.Stat(f.path("tokens")); err == nil {
		return fault.New(fault.Conflict, "the folder "+string(f)+" already holds a token").WithHint("choose an empty folder")
	}
	if err := errors.Join(os.RemoveAll(f.path("new")), os.RemoveAll(f.path("pristine"))); err != nil {
		return fmt.Errorf("clearing away an unfinished token: %w", err)
	}
	if err := os.MkdirAll(f.path("new", "tokens"), 0o700); err != nil {
		return fmt.Errorf("making the token's folder: %w", err)
	}
	if err := f.configure("new/tokens"); err != nil {
		return err
	}
	if err := make(); err != nil {
		return err
	}
	if err := f.keepPristine(f.path("new", "tokens")); err != nil {
		return err
	}
	if err := syncfs(string(f)); err != nil {
		return err
	}
	// A crash before this rename leaves no token; Init starts again.
	if err := os.Rename(f.path("new", "tokens"), f.path("tokens")); err != nil {
		return fmt.Errorf("moving the token to its place: %w", err)
	}
	return errors.Join(os.RemoveAll(f.path("new")), syncfs(string(f)))
}

// keepPristine takes away the right to write each token.object (a login truncates and rewrites the file that holds the wrapped master key)
// and keeps a copy.
func (f folder) keepPristine(tokens string) error {
	if err := os.MkdirAll(f.path("pristine"), 0o700); err != nil {
		return fmt.Errorf("making the token's folder: %w", err)
	}
	found, err := filepath.Glob(filepath.Join(tokens, "*", "token.object"))
	if err != nil || len(found) != 1 {
		return errors.Join(fault.New(fault.Corrupt, fmt.Sprintf("SoftHSM2 made %d tokens, not one", len(found))), err)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		return fmt.Errorf("reading the new token: %w", err)
	}
	if err := protect(found[0]); err != nil {
		return err
	}
	path := f.path("pristine", filepath.Base(filepath.Dir(found[0])))
	if err := durable.WriteFile(durable.OS{}, path, data, 0o600); err != nil {
		return err
	}
	return protect(path)
}

// prepare mends the files before the module sees them and points the module at them. The caller holds the lock.
func (f folder) prepare() ([]Finding, error) {
	if f == "" {
		return nil, nil
	}
	if _, err := os.Stat(f.path("tokens")); errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the folder "+string(f)+" holds no token").
			WithHint("restore the token's folder from the backup, or correct state_dir in the configuration").WithCause(err)
	}
	restored, err := f.restorePristine()
	if err != nil {
		return nil, err
	}
	swept, err := f.sweep()
	if err != nil {
		return nil, err
	}
	return append(restored, swept...), f.configure("tokens")
}

// generationSize is the counter at the start of an object file that SoftHSM2 counts up whenever it writes the file.
const generationSize = 8

// restorePristine puts token.object back when it is not what Init left.
func (f folder) restorePristine() (found []Finding, err error) {
	copies, err := os.ReadDir(f.path("pristine"))
	if err != nil || len(copies) == 0 {
		return nil, fault.New(fault.Corrupt, "the token's pristine copy is missing").WithHint("restore " + f.path("pristine") + " from the backup").WithCause(err)
	}
	for _, c := range copies {
		if strings.HasSuffix(c.Name(), ".tmp") { // a write that a crash interrupted
			continue
		}
		pristine, err := os.ReadFile(f.path("pristine", c.Name()))
		if err != nil || len(pristine) <= generationSize {
			return nil, fault.New(fault.Corrupt, "the token's pristine copy cannot be read").
				WithHint("restore " + f.path("pristine") + " from the backup").WithCause(err)
		}
		path := f.path("tokens", c.Name(), "token.object")
		now, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("comparing the token with its pristine copy: %w", err)
		}
		if !bytes.Equal(now, pristine) {
			if err := durable.WriteFile(durable.OS{}, path, pristine, 0o600); err != nil {
				return nil, err
			}
		}
		if err := protect(path); err != nil {
			return nil, err
		}
		if len(now) < generationSize || !bytes.Equal(now[generationSize:], pristine[generationSize:]) {
			found = append(found, Finding{"token.object was not as the token's making left it and has been restored", c.Name()})
		}
	}
	return found, nil
}

// protect takes away the right to write a file. Someone else's file stays as it is: the packaging gives token.object to root.
// (Root writes it all the same; then the pristine copy is what helps.)
func protect(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o222 != 0 {
		err = os.Chmod(path, info.Mode().Perm()&^0o222)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("protecting the token: %w", err)
	}
	return nil
}

// syncfs makes everything in the file system of dir durable: SoftHSM2 itself never syncs.
func syncfs(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing the token: %w", err)
	}
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return errors.Join(fmt.Errorf("syncing the token: %w", err), d.Close())
	}
	return d.Close()
}
