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
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Verify, show the head of, or export the audit log",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.auditVerify(), a.auditHead(), a.auditExport())
	return cmd
}

func (a *app) auditVerify() *cobra.Command {
	var file string
	var known []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check every line of the log: form, hash chain, order of time",
		Long: `Checks every line: its form, the chain of hashes from the first line on, that time never goes back.

The file alone cannot show that its last lines were cut off, or that all of it was written anew. Give what "audit head" printed
at an earlier time (--known): the log must have grown from exactly that.`,
		Args: exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			trees, err := parseTrees(known)
			if err != nil {
				return err
			}
			report, err := a.verifyLog(file, trees...)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "lines      %d\nhead       %x\ntree root  %x\nfirst      %s\nlast       %s\n",
				report.Size, report.Head, report.Root, report.First.Format(time.RFC3339Nano), report.Last.Format(time.RFC3339Nano))
			for _, t := range trees {
				fmt.Fprintf(a.stdout, "grown from %d:%x\n", t.Size, t.Root)
			}
			fmt.Fprintln(a.stdout, "every line is right and follows the one before")
			if len(trees) == 0 {
				fmt.Fprintln(a.stdout, "whether lines were cut off at the end, only --known can show")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "the log file (default: that of the configured appliance)")
	cmd.Flags().StringArrayVar(&known, "known", nil, "SIZE:ROOT that \"audit head\" printed before; may be repeated")
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
	var file string
	cmd := &cobra.Command{
		Use:   "head",
		Short: "Verify the log and print SIZE:ROOT, to be noted elsewhere",
		Args:  exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			report, err := a.verifyLog(file)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%d:%x\n", report.Size, report.Root)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "the log file (default: that of the configured appliance)")
	return cmd
}

func (a *app) auditExport() *cobra.Command {
	var file, out string
	var from, to uint64
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write verified lines of the log, byte for byte",
		Args:  exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			report, err := a.verifyLog(file)
			if err != nil {
				return err
			}
			if to == 0 || to > report.Size {
				to = report.Size
			}
			if from >= to {
				return usage("there are no lines from %d to %d: the log has %d", from, to, report.Size)
			}
			path, err := a.logPath(file)
			if err != nil {
				return err
			}
			return a.exportLines(path, out, from, to)
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "the log file (default: that of the configured appliance)")
	cmd.Flags().StringVar(&out, "out", "-", "file to write, - for standard output")
	cmd.Flags().Uint64Var(&from, "from", 0, "first line, counted from 0")
	cmd.Flags().Uint64Var(&to, "to", 0, "line to stop before (default: the end)")
	return cmd
}

func (a *app) logPath(file string) (string, error) {
	if file != "" {
		return file, nil
	}
	cfg, err := a.loadConfig()
	if err != nil {
		return "", err
	}
	return filepath.Join(cfg.StateDir, ledger.FileName), nil
}

func (a *app) verifyLog(file string, known ...chain.Tree) (ledger.Report, error) {
	path, err := a.logPath(file)
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
		err = &exit{exitUnjudged, fault.New(fault.Invalid, path+" has no line").WithHint("--file names another log")}
	}
	if err != nil && fault.KindOf(err) != fault.Corrupt {
		err = &exit{exitUnjudged, public(err)}
	}
	return report, err
}

func noLog(path string, err error) error {
	return fault.New(fault.Unavailable, "cannot read the log "+path+reason(err)).WithHint("--file names another log, --config another appliance").WithCause(err)
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
