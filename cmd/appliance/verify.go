package main

import (
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

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pades"
)

func (a *app) verifyCommand() *cobra.Command {
	var trust []string
	var at string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify FILE.pdf",
		Short: "Say whether a PDF's signatures are valid, and why",
		Long: `Validates every signature and document time stamp of a PDF offline, with nothing but the file and the trust anchors.

Without --trust the anchor is the root of the appliance that the configuration names.
Exit codes: 0 valid, 1 invalid, 2 could not judge (no trust anchor, no signature, unreadable, a status is missing), 64 wrong usage.`,
		Example: `  appliance verify prescription.signed.pdf --trust root.pem
  appliance verify prescription.signed.pdf --at 2031-01-01T00:00:00Z --json`,
		Args: exactly(1, "the PDF to verify"),
		RunE: func(cmd *cobra.Command, args []string) error {
			when := time.Now()
			if at != "" {
				var err error
				if when, err = parseTime(at); err != nil {
					return err
				}
			}
			roots, err := a.anchors(trust)
			if err != nil {
				return &exit{exitUnjudged, err}
			}
			data, err := readInput(args[0], a.stdin)
			if err != nil {
				return &exit{exitUnjudged, err}
			}
			report, err := pades.Validate(cmd.Context(), data, pades.ValidateOptions{Roots: roots, At: when})
			if err != nil {
				return &exit{exitUnjudged, err}
			}
			if asJSON {
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
			if report.ExitCode != exitGood {
				return &exit{report.ExitCode, nil}
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&trust, "trust", nil, "PEM file of trusted root certificates; may be repeated")
	cmd.Flags().StringVar(&at, "at", "", "judge as of this time (2031-01-01 or 2031-01-01T12:00:00Z; default now)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the whole report as JSON")
	return cmd
}

// anchors reads the trust anchors: the files named, or the root of the appliance whose configuration there is; none when there is neither.
func (a *app) anchors(files []string) ([]*x509.Certificate, error) {
	if len(files) == 0 {
		path, err := a.findConfig()
		if err != nil {
			return nil, nil // no appliance here: the report says that there is no chain
		}
		cfg, err := config.Load(path)
		if err != nil {
			return nil, orTrust(err)
		}
		root := filepath.Join(cfg.StateDir, "root.pem")
		if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
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
