package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

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
			return path, nil
		}
	}
	return "", fault.New(fault.NotFound, "there is no configuration: neither "+defaultConfigs()[0]+" nor ./"+defaultConfigs()[1]).
		WithHint(`name one with --config, or make a demo appliance with "appliance demo"`)
}

// loadConfig reads the configuration that applies.
func (a *app) loadConfig() (config.Config, error) {
	path, err := a.findConfig()
	if err != nil {
		return config.Config{}, err
	}
	return config.Load(path)
}
