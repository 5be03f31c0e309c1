package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/wire"
)

// auditFlags are what "audit verify" may be told.
type auditFlags struct {
	known      []string
	checkpoint string
	logKeys    []string
	policy     string
}

func (a *app) auditVerify() *cobra.Command {
	var o auditFlags
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check every line of a log, and that it has grown from a checkpoint that somebody kept",
		Long: `Checks every line: its form, the chain of hashes from the first line on, that time never goes back.

The file alone cannot show that its last lines were cut off, or that all of it was written anew. For that give a checkpoint that somebody else kept
(--checkpoint, with the log's key and, to know that the log's own operator cannot have made it up since, the keys of those who cosigned it), or what
"audit head" printed at an earlier time (--known): the log must have grown from exactly that. It needs the file and nothing else, no appliance.

Exit codes: 0 good, 1 bad, 2 could not judge (unreadable, too few cosignatures), 64 wrong usage.`,
		Example: `  appliance audit verify audit_chain.jsonl --checkpoint checkpoint.txt --log-key log-key.txt --witness-keys policy.txt
  appliance audit verify --known 8:f43f0470…`,
		Args: atMost(1, "a log file"),
		RunE: func(_ *cobra.Command, args []string) error { return a.verifyAudit(args, o) },
	}
	cmd.Flags().StringArrayVar(&o.known, "known", nil, "SIZE:ROOT that \"audit head\" printed before; may be repeated")
	cmd.Flags().StringVar(&o.checkpoint, "checkpoint", "", "file with a signed checkpoint of the log")
	cmd.Flags().StringArrayVar(&o.logKeys, "log-key", nil, "file with the log's key (default: that of the configured appliance); may be repeated")
	cmd.Flags().StringVar(&o.policy, "witness-keys", "", "policy file: whose cosignatures the checkpoint must have (C2SP tlog-policy)")
	return cmd
}

func (a *app) verifyAudit(args []string, o auditFlags) error {
	trees, err := parseTrees(o.known)
	if err != nil {
		return err
	}
	if o.checkpoint == "" && (len(o.logKeys) > 0 || o.policy != "") {
		return usage("--log-key and --witness-keys are about a checkpoint: --checkpoint names the file")
	}
	var held *heldCheckpoint
	var tooFew error
	if o.checkpoint != "" {
		if held, err = a.openCheckpoint(o); err != nil {
			return err
		}
		tooFew = held.tooFew
		trees = append(trees, held.Tree)
	}
	report, err := a.verifyLog(args, trees...)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "lines      %d\nhead       %x\ntree root  %x\nfirst      %s\nlast       %s\n",
		report.Size, report.Head, report.Root, report.First.Format(time.RFC3339Nano), report.Last.Format(time.RFC3339Nano))
	for _, t := range trees {
		fmt.Fprintf(a.stdout, "grown from %d:%x\n", t.Size, t.Root)
	}
	held.print(a, report)
	fmt.Fprintln(a.stdout, "every line is right and follows the one before")
	if len(trees) == 0 {
		fmt.Fprintln(a.stdout, "whether lines were cut off at the end, only --checkpoint or --known can show")
	}
	if tooFew != nil {
		return &exit{exitUnjudged, tooFew}
	}
	return nil
}

// heldCheckpoint is a checkpoint that was signed by a trusted log.
type heldCheckpoint struct {
	chain.Checkpoint
	by     []chain.Cosignature
	judged bool  // there was a policy
	tooFew error // the policy asks for more
}

// print says what is known of the checkpoint, and what of the log it does not cover.
func (h *heldCheckpoint) print(a *app, r ledger.Report) {
	if h == nil {
		return
	}
	fmt.Fprintf(a.stdout, "checkpoint %s, %d lines, signed by the log's key\n", h.Origin, h.Size)
	for _, c := range h.by {
		fmt.Fprintf(a.stdout, "cosigned   by %s at %s\n", c.Key.Name(), c.Time.Format(time.RFC3339))
	}
	if !h.judged {
		fmt.Fprintln(a.stdout, "cosignatures were not judged: --witness-keys says whose there must be")
	}
	if n := r.Size - h.Size; n > 0 {
		fmt.Fprintf(a.stdout, "the last %d lines came after the checkpoint: what was cut off after them, it cannot show\n", n)
	}
}

// openCheckpoint reads and verifies the checkpoint that the flags name.
func (a *app) openCheckpoint(o auditFlags) (*heldCheckpoint, error) {
	signed, err := readSmall(o.checkpoint, chain.MaxNote)
	if err != nil {
		return nil, &exit{exitUnjudged, err}
	}
	keys, err := a.logKeys(o.logKeys)
	if err != nil {
		return nil, &exit{exitUnjudged, err}
	}
	if len(keys) == 0 {
		return nil, &exit{exitUnjudged, fault.New(fault.NotFound, "there was no key of a log to judge the checkpoint by").WithHint("name it: --log-key log-key.txt")}
	}
	policy, err := readPolicy(o.policy)
	if err != nil {
		return nil, &exit{exitUnjudged, err}
	}
	h := &heldCheckpoint{judged: policy != nil}
	if policy == nil {
		policy = &chain.Policy{}
	}
	var wrong []error
	for _, key := range keys {
		h.Checkpoint, h.by, err = policy.Open(signed, chain.LogName(key), key)
		switch {
		case err == nil:
			return h, nil
		case errors.Is(err, chain.ErrQuorum):
			h.tooFew = fault.New(fault.Invalid, "the checkpoint has too few cosignatures to rely on: "+strings.TrimPrefix(err.Error(), "chain: ")).
				WithHint("wait until it has been cosigned, or fetch it again; the rest was checked").WithCause(err)
			return h, nil
		}
		wrong = append(wrong, err)
	}
	return nil, fault.New(fault.Invalid, o.checkpoint+" is no checkpoint that a log you trust has signed, or one of its cosignatures is wrong").
		WithHint("compare the log's key with the one that the operator publishes").WithCause(errors.Join(wrong...))
}

// readPolicy reads a policy file, nil when none is named.
func readPolicy(file string) (*chain.Policy, error) {
	if file == "" {
		return nil, nil
	}
	text, err := readSmall(file, chain.MaxPolicy)
	if err != nil {
		return nil, err
	}
	p, err := chain.ParsePolicy(text)
	if err != nil {
		return nil, fault.New(fault.Invalid, file+": "+strings.TrimPrefix(err.Error(), "chain: ")).
			WithHint(`it has lines like "witness NAME KEY", "group NAME 2 NAME…" and "quorum NAME"`).WithCause(err)
	}
	return p, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(file string, limit int64) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, unreadable(file, err)
	}
	if info.Size() > limit {
		return nil, fault.New(fault.TooLarge, fmt.Sprintf("%s has %d bytes, more than %d", file, info.Size(), limit)).WithHint("it is another file than the one that was meant")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, unreadable(file, err)
	}
	return data, nil
}

func (a *app) auditCheckpoint() *cobra.Command {
	return &cobra.Command{
		Use:   "checkpoint",
		Short: "Print the log's newest signed and cosigned checkpoint, for somebody else to keep",
		Long: `Prints the newest checkpoint that others cosigned, or the log's own newest when nobody does: a signed note (C2SP tlog-checkpoint). The portal serves
the same at /log/checkpoint. Whoever keeps one can find out with "audit verify" whether a log has since been cut, changed or written anew.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var got wire.Checkpoint
			if err := a.administer(cmd.Context(), wire.OpCheckpoint, wire.Nothing{}, &got); err != nil {
				return err
			}
			if len(got.Cosignatures) == 0 {
				fmt.Fprintln(a.stderr, "nobody has cosigned it: only the log's own key vouches for it")
			}
			for _, w := range got.Witnesses {
				if w.Failed != "" {
					fmt.Fprintf(a.stderr, "the witness %s does not cosign: %s\n", w.Name, w.Failed)
				}
			}
			_, err := a.stdout.Write(got.Note)
			return err
		},
	}
}
