package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Verify the audit log, show its head or its checkpoint, export it",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.auditVerify(), a.auditHead(), a.auditCheckpoint(), a.auditExport())
	return cmd
}

// parseTrees reads SIZE:ROOT.
func parseTrees(texts []string) ([]chain.Tree, error) {
	var trees []chain.Tree
	for _, text := range texts {
		size, root, _ := strings.Cut(text, ":")
		n, err := strconv.ParseUint(size, 10, 63)
		hash, hexErr := hex.DecodeString(root)
		if err != nil || hexErr != nil || len(hash) != len(chain.Hash{}) {
			return nil, usage("--known %q is not SIZE:ROOT as \"audit head\" prints it", text)
		}
		trees = append(trees, chain.Tree{Size: n, Root: chain.Hash(hash)})
	}
	return trees, nil
}

func (a *app) auditHead() *cobra.Command {
	return &cobra.Command{
		Use:   "head [FILE]",
		Short: "Verify the log and print SIZE:ROOT, to be noted elsewhere",
		Args:  atMost(1, "a log file"),
		RunE: func(_ *cobra.Command, args []string) error {
			report, err := a.verifyLog(args)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%d:%x\n", report.Size, report.Root)
			return nil
		},
	}
}

func (a *app) auditExport() *cobra.Command {
	var out string
	var from, to uint64
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write verified lines of the log, byte for byte",
		Args:  atMost(1, "a log file"),
		RunE: func(_ *cobra.Command, args []string) error {
			report, err := a.verifyLog(args)
			if err != nil {
				return err
			}
			if to == 0 || to > report.Size {
				to = report.Size
			}
			if from >= to {
				return usage("there are no lines from %d to %d: the log has %d", from, to, report.Size)
			}
			path, err := a.logPath(args)
			if err != nil {
				return err
			}
			return a.exportLines(path, out, from, to)
		},
	}
	cmd.Flags().StringVar(&out, "out", "-", "file to write, - for standard output")
	cmd.Flags().Uint64Var(&from, "from", 0, "first line, counted from 0")
	cmd.Flags().Uint64Var(&to, "to", 0, "line to stop before (default: the end)")
	return cmd
}

// logPath returns the log that the arguments name, or that of the configured appliance.
func (a *app) logPath(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	cfg, err := a.loadConfig()
	if err != nil {
		return "", err
	}
	return filepath.Join(cfg.StateDir, ledger.FileName), nil
}

func (a *app) verifyLog(args []string, known ...chain.Tree) (ledger.Report, error) {
	path, err := a.logPath(args)
	if err != nil {
		return ledger.Report{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return ledger.Report{}, &exit{exitUnjudged, noLog(path, err)}
	}
	defer f.Close()
	defer a.progress("verifying " + path)()
	report, err := ledger.Verify(f, known...)
	if err == nil && report.Size == 0 {
		err = &exit{exitUnjudged, fault.New(fault.Invalid, path+" has no line").WithHint("name another file: it comes after the verb")}
	}
	if err != nil && fault.KindOf(err) != fault.Corrupt {
		err = &exit{exitUnjudged, public(err)}
	}
	return report, err
}

func noLog(path string, err error) error {
	return fault.New(fault.Unavailable, "cannot read the log "+path+reason(err)).WithHint("name the file after the verb, or another appliance with --config").WithCause(err)
}

// exportLines writes the lines from to to-1 of a verified log, byte for byte; a file appears whole or not at all.
func (a *app) exportLines(path, out string, from, to uint64) error {
	f, err := os.Open(path)
	if err != nil {
		return noLog(path, err)
	}
	defer f.Close()
	var lines bytes.Buffer
	in := bufio.NewReaderSize(f, 1<<20)
	for n := uint64(0); n < to; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return noLog(path, err)
		}
		if n >= from {
			lines.Write(line)
		}
	}
	if out != "-" {
		return writeOutput(out, lines.Bytes())
	}
	_, err = a.stdout.Write(lines.Bytes())
	return err
}
