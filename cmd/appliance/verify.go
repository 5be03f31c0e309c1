package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/tsa"
)

// verifyFlags are what "appliance verify" may be told.
type verifyFlags struct {
	trust, logKeys, stampTrust []string
	policy, at                 string
	asJSON                     bool
}

func (a *app) verifyCommand() *cobra.Command {
	var o verifyFlags
	cmd := &cobra.Command{
		Use:   "verify FILE.pdf|PACK.zip",
		Short: "Say whether a PDF's signatures are valid, or an evidence pack holds, and why",
		Long: `Validates every signature and document time stamp of a PDF offline, with nothing but the file and the trust anchors.

Of an evidence pack it checks that too, and everything else in it: that it holds exactly what its manifest names, that evidence, document,
signature and log agree, that the log's lines are whole and in the tree that the log's key signed, and, with --witness-keys, that those whom you
trust to watch the log have cosigned that tree. Without it, cosignatures are not judged, and whoever controls the appliance could have written the log
afterwards. With --tsa-trust it judges another authority's time stamp over the log, when there is one.

Without --trust the anchor is the root of the appliance that the configuration names; without --log-key, its log's key.
Exit codes: 0 valid, 1 invalid, 2 could not judge (no trust anchor, no signature, unreadable, a status is missing), 64 wrong usage.`,
		Example: `  appliance verify prescription.signed.pdf --trust root.pem
  appliance verify prescription.signed.pdf --at 2031-01-01T00:00:00Z --json
  appliance verify RX-134.evidence.zip --trust root.pem --log-key log-key.txt --witness-keys policy.txt`,
		Args: exactly(1, "the PDF or the evidence pack to verify"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.verify(cmd.Context(), args[0], o) },
	}
	cmd.Flags().StringArrayVar(&o.trust, "trust", nil, "PEM file of trusted root certificates; may be repeated")
	cmd.Flags().StringArrayVar(&o.logKeys, "log-key", nil, "file with the key of a trusted log, for evidence packs; may be repeated")
	cmd.Flags().StringVar(&o.policy, "witness-keys", "", "policy file: whose cosignatures the log must have, for evidence packs (C2SP tlog-policy)")
	cmd.Flags().StringArrayVar(&o.stampTrust, "tsa-trust", nil, "PEM file of root certificates of other time-stamping authorities, for evidence packs; may be repeated")
	cmd.Flags().StringVar(&o.at, "at", "", "judge as of this time (2031-01-01 or 2031-01-01T12:00:00Z; default now)")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "write the whole report as JSON")
	return cmd
}

// judged is a report of either kind.
type judged interface{ Text() string }

func (a *app) verify(ctx context.Context, path string, o verifyFlags) error {
	when := time.Now()
	if o.at != "" {
		var err error
		if when, err = parseTime(o.at); err != nil {
			return err
		}
	}
	roots, err := a.anchors(o.trust)
	if err != nil {
		return &exit{exitUnjudged, err}
	}
	data, err := readInput(path, a.stdin)
	if err != nil {
		return &exit{exitUnjudged, err}
	}
	options := pades.ValidateOptions{Roots: roots, At: when}
	var report judged
	var code int
	noLogKey := false
	if evidence.IsPack(data) {
		rely, err := a.packTrust(o)
		if err != nil {
			return &exit{exitUnjudged, err}
		}
		r, err := verifyPack(ctx, data, options, rely)
		if err != nil {
			return &exit{exitUnjudged, err}
		}
		report, code, noLogKey = r, r.ExitCode, len(rely.LogKeys) == 0
	} else {
		r, err := pades.Validate(ctx, data, options)
		if err != nil {
			return &exit{exitUnjudged, err}
		}
		report, code = r, r.ExitCode
	}
	if o.asJSON {
		err = writeJSON(a.stdout, report)
	} else {
		_, err = io.WriteString(a.stdout, report.Text())
	}
	if err != nil {
		return err
	}
	if len(roots) == 0 {
		a.printError(fault.New(fault.NotFound, "there was no trust anchor to judge by").WithHint("name the issuer's root certificate: --trust root.pem"))
	}
	if noLogKey {
		a.printError(fault.New(fault.NotFound, "there was no log's key to judge by").
			WithHint("name the key that the operator publishes, not the one in the pack: --log-key log-key.txt"))
	}
	if code != exitGood {
		return &exit{code, nil}
	}
	return nil
}

// verifyPack verifies an evidence pack, and its PDF as pades.Validate does, with the pack's CRLs as what is known besides.
func verifyPack(ctx context.Context, data []byte, o pades.ValidateOptions, rely evidence.VerifyOptions) (*evidence.PackReport, error) {
	rely.JudgePDF = func(ctx context.Context, pdf []byte, crls [][]byte) (evidence.PDFJudgement, error) {
		o.Material.CRLs = crls
		r, err := pades.Validate(ctx, pdf, o)
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return evidence.PDFJudgement{}, err
		}
		if err != nil {
			return evidence.PDFJudgement{Result: evidence.Fail, Summary: "document.pdf cannot be read: " + fault.PublicOf(err)}, nil
		}
		result := map[int]evidence.Result{exitGood: evidence.Pass, exitUnjudged: evidence.Unknown}[r.ExitCode]
		if result == "" {
			result = evidence.Fail
		}
		return evidence.PDFJudgement{Result: result, Summary: r.Summary, Report: r}, nil
	}
	return evidence.VerifyPack(ctx, bytes.NewReader(data), int64(len(data)), rely)
}

// packTrust is what the flags say is to be relied on for a pack's log.
func (a *app) packTrust(o verifyFlags) (rely evidence.VerifyOptions, err error) {
	if rely.LogKeys, err = a.logKeys(o.logKeys); err != nil {
		return rely, err
	}
	if rely.Policy, err = readPolicy(o.policy); err != nil || len(o.stampTrust) == 0 {
		return rely, err
	}
	roots, err := a.anchors(o.stampTrust)
	if err != nil {
		return rely, err
	}
	rely.JudgeStamp = func(token, note []byte) (evidence.Result, string) {
		got, err := tsa.Check(token, note, roots)
		if errors.Is(err, tsa.ErrUntrusted) {
			return evidence.Unknown, "the time stamp over the log is of an authority that none of the roots vouches for"
		}
		if err != nil {
			return evidence.Fail, "the time stamp over the log: " + strings.TrimPrefix(err.Error(), "tsa: ")
		}
		return evidence.Pass, fmt.Sprintf("%s, which you trust, time-stamped a state of the log that has the signing, at %s",
			got.Certificate.Subject.CommonName, got.Info.GenTime.UTC().Format(time.RFC3339))
	}
	return rely, nil
}

// logKeys reads the keys of trusted logs: the files named, or that of the appliance whose configuration there is; none when there is neither.
func (a *app) logKeys(files []string) ([]string, error) {
	if len(files) == 0 {
		file, err := a.stateFile(logKeyFile)
		if err != nil || file == "" {
			return nil, err
		}
		files = []string{file}
	}
	var keys []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, unreadable(file, err)
		}
		key := strings.TrimSpace(string(data))
		if _, err := note.NewVerifier(key); err != nil {
			return nil, fault.New(fault.Invalid, file+" holds no key of a log").WithHint("it is one line: the log's name, a hash and the key, with + between them").WithCause(err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// logKeyFile is the name of the log's key in the state folder, beside root.pem.
const logKeyFile = "log-key.txt"

// stateFile returns the path of a file in the state folder of the appliance whose configuration there is, "" when there is none or no such file.
func (a *app) stateFile(name string) (string, error) {
	path, err := a.findConfig()
	if err != nil {
		return "", nil // no appliance here: the report says what is missing
	}
	cfg, err := config.Load(path)
	if err != nil {
		return "", err
	}
	file := filepath.Join(cfg.StateDir, name)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return file, nil
}

// anchors reads the trust anchors: the files named, or the root of the appliance whose configuration there is; none when there is neither.
func (a *app) anchors(files []string) ([]*x509.Certificate, error) {
	if len(files) == 0 {
		root, err := a.stateFile("root.pem")
		if err != nil {
			return nil, orTrust(err)
		}
		if root == "" {
			return nil, nil
		}
		its, err := readCertificates(root)
		if err != nil {
			return nil, orTrust(err)
		}
		return its, nil
	}
	var roots []*x509.Certificate
	for _, file := range files {
		its, err := readCertificates(file)
		if err != nil {
			return nil, err
		}
		roots = append(roots, its...)
	}
	return roots, nil
}

// orTrust adds to why the appliance's own root cannot be had that another may be named.
func orTrust(err error) error {
	hint := "name the issuer's root certificate: --trust root.pem"
	f := public(err)
	if f.Hint != "" {
		hint = f.Hint + "; or " + hint
	}
	return f.WithHint(hint)
}

// readCertificates reads every CERTIFICATE block of a PEM file; other blocks and none at all are errors.
func readCertificates(file string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, unreadable(file, err)
	}
	var certs []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("%s holds a %s where a certificate was expected", file, strings.ToLower(block.Type)))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("%s: certificate %d cannot be read", file, len(certs)+1)).WithCause(err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fault.New(fault.Invalid, file+" holds no PEM certificate").WithHint("a trust anchor is a file with -----BEGIN CERTIFICATE-----")
	}
	return certs, nil
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
