package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// maxInput bounds a document read from outside; the PDF reader's own limit is the smaller one in practice.
const maxInput = 512 << 20

// readInput reads a whole file, "-" for standard input.
func readInput(path string, stdin io.Reader) ([]byte, error) {
	name, in := path, stdin
	if path == "-" {
		name = "standard input"
	} else {
		// A pipe would hold the open itself until somebody writes to it, deaf to every signal.
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
			return nil, fault.New(fault.Invalid, path+" is no regular file").WithHint("give what comes from a program to standard input: --in -")
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, unreadable(name, err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, unreadable(name, err)
	}
	if len(data) > maxInput {
		return nil, fault.New(fault.TooLarge, fmt.Sprintf("%s is larger than %d MiB", name, maxInput>>20))
	}
	return data, nil
}

// reserveOutput finds out whether a file can be written under this name, before anything is done whose result would be lost otherwise. "-" is
// standard output. size is what the file will have at least, 0 if that is not known: the disk must have room for it.
func (a *app) reserveOutput(path string, size int) error {
	if path == "-" {
		return nil
	}
	refuse := func(text, hint string) error {
		return fault.New(fault.Invalid, "cannot write "+path+": "+text).WithHint(hint)
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return refuse("it is a folder", "name a file in it")
	case err == nil && !info.Mode().IsRegular():
		return refuse("it is no regular file, and would be replaced by one", "--out - writes standard output")
	}
	if a.isOwn(path) {
		return refuse("it belongs to the appliance itself", "name a file outside its folder")
	}
	tmp := path + tmpSuffix // the name that writeOutput begins with
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		if size > 0 {
			err = unix.Fallocate(int(f.Fd()), 0, 0, int64(size))
		}
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINTR) {
			err = nil // then the disk says so later
		}
		err = errors.Join(err, f.Close(), os.Remove(tmp))
	}
	if err != nil {
		return fault.New(fault.Unavailable, "cannot write "+path+reason(err)).WithCause(err).
			WithHint("nothing was done; name a file in a folder that exists, that you may write to, and that has room")
	}
	return nil
}

// isOwn reports whether path is the configuration, the PIN file, the key of the portal's TLS, or anything in a state folder: a document there would
// destroy them.
func (a *app) isOwn(path string) bool {
	file, err := a.findConfig()
	if err != nil {
		return false
	}
	cfg, err := config.Load(file)
	if err != nil {
		return sameFile(path, file)
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if sameFile(dir, cfg.StateDir) || sameFile(dir, cfg.Portal.StateDir) {
			return true
		}
		if abs, err := filepath.Abs(dir); err != nil || abs == filepath.Dir(abs) {
			return sameFile(path, file) || sameFile(path, cfg.Token.PINFile) || sameFile(path, cfg.Portal.KeyFile)
		} else {
			dir = abs
		}
	}
}

// sameFile reports whether two names are of one file, by whatever links.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// tmpSuffix is what durable.WriteFile appends to a name while it writes.
const tmpSuffix = ".tmp"

// unsentDir is the folder, in the state folder, of documents that are finished and in the log but could not be written where they belong.
const unsentDir = "unsent"

// deliver writes a finished document to path, "-" for standard output. When that fails it keeps the document in the state folder and says where:
// it is in the log, and must be somewhere.
func (a *app) deliver(stateDir, path string, pdf []byte) error {
	err := a.send(path, pdf)
	if err == nil {
		return nil
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	sum := sha256.Sum256(pdf)
	kept := filepath.Join(stateDir, unsentDir, hex.EncodeToString(sum[:])+".pdf")
	keep := durable.Mkdir(durable.OS{}, filepath.Dir(kept), 0o700)
	if keep == nil {
		keep = durable.WriteFile(durable.OS{}, kept, pdf, 0o600)
	}
	if keep != nil {
		return fault.New(fault.Unavailable, f.Public+"; nor can it be kept in "+stateDir+reason(keep)).
			WithHint("the log tells of a document that does not exist: make room, then sign again").WithCause(errors.Join(err, keep))
	}
	return f.WithHint("the finished document is in " + kept + ": move it from there")
}

func (a *app) send(path string, data []byte) error {
	if path != "-" {
		return writeOutput(path, data)
	}
	signal.Ignore(syscall.SIGPIPE) // a reader that is gone is an error like any other, not this process's end
	defer signal.Reset(syscall.SIGPIPE)
	if _, err := a.stdout.Write(data); err != nil {
		return fault.New(fault.Unavailable, "cannot write standard output"+reason(err)).WithCause(err)
	}
	return nil
}

// say writes a line on what was done: to standard output, unless that is where the document goes.
func (a *app) say(path, format string, args ...any) {
	w := a.stdout
	if path == "-" {
		w = a.stderr
	}
	fmt.Fprintf(w, format, args...)
}

// writeOutput makes a file appear under its name, whole and durable, or not at all.
func writeOutput(path string, data []byte) error {
	if err := durable.WriteFile(durable.OS{}, path, data, 0o644); err != nil {
		return fault.New(fault.Unavailable, "cannot write "+path+reason(err)).WithCause(err)
	}
	return nil
}

func unreadable(name string, err error) error {
	kind := fault.Unavailable
	if errors.Is(err, fs.ErrNotExist) {
		kind = fault.NotFound
	}
	return fault.New(kind, "cannot read "+name+reason(err)).WithCause(err)
}

// reason returns ": no such file or directory" and the like, without the path that the caller has named already.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return ": " + errno.Error()
	}
	return ""
}

// parseTime reads RFC 3339, or a date, which means its first second in UTC.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, usage("%q is not a time: write 2031-01-01 or 2031-01-01T12:00:00Z", s)
}

// exactly is the arguments check for n operands, described for who forgot one.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage("%q takes %d argument(s): %s", cmd.CommandPath(), n, what)
		}
		return nil
	}
}

// atMost takes no or up to n arguments; what says what they are.
func atMost(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usage("%q takes at most %d argument(s): %s", cmd.CommandPath(), n, what)
		}
		return nil
	}
}

// defaultConfigs are tried in this order when --config is not given.
func defaultConfigs() []string {
	return []string{"/etc/aes-appliance/appliance.toml", "demo/appliance.toml"}
}

// findConfig returns the configuration file's path.
func (a *app) findConfig() (string, error) {
	if a.configPath != "" {
		return a.configPath, nil
	}
	for _, path := range defaultConfigs() {
		if _, err := os.Stat(path); err == nil {
			return path, foreign(path)
		}
	}
	return "", fault.New(fault.NotFound, "there is no configuration: neither "+defaultConfigs()[0]+" nor ./"+defaultConfigs()[1]).
		WithHint(`name one with --config, or make a demo appliance with "appliance demo"`)
}

// foreign refuses a configuration that was found, not named, in a folder that anybody else could have put there: it says which PKCS#11 module is loaded into this process.
func foreign(path string) error {
	for _, one := range []string{path, filepath.Dir(path)} {
		info, err := os.Lstat(one)
		if err != nil {
			return unreadable(one, err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if by := info.Mode().Perm() & 0o022; !filepath.IsAbs(path) && (!ok || int(st.Uid) != os.Geteuid() || by != 0 || info.Mode()&fs.ModeSymlink != 0) {
			return fault.New(fault.Forbidden, one+" here is another user's, or others may write to it").WithHint("name the configuration with --config; or go to another folder")
		}
	}
	return nil
}

// loadConfig reads the configuration that applies.
func (a *app) loadConfig() (config.Config, error) {
	path, err := a.findConfig()
	if err != nil {
		return config.Config{}, err
	}
	return config.Load(path)
}
