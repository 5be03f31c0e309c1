package main

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/statement"
)

// configStatement fills in the practice statement or the time-stamp policy.
func (a *app) configStatement() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "statement TEMPLATE",
		Short: "Fill in the practice statement (cps.md) or the time-stamp policy (tsa-policy.md) with what this build and configuration are",
		Long: `Writes a template with the validity periods, keys, identifiers, algorithms and addresses that this program issues certificates and time stamps by. The templates
are in /usr/share/doc/aes-appliance: copy one, write what stands in [OPERATOR: …], fill it in, publish it, and do so again after an upgrade.`,
		Example: `  appliance config statement /usr/share/doc/aes-appliance/cps.md --out cps.md`,
		Args:    exactly(1, "TEMPLATE"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.findConfig()
			if err != nil {
				return err
			}
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return fault.New(fault.NotFound, "cannot read the template "+args[0]+reason(err)).WithCause(err)
			}
			v, err := statement.Of(cfg, version, time.Now())
			if err != nil {
				return err
			}
			var filled bytes.Buffer
			if err := statement.Fill(&filled, filepath.Base(args[0]), string(text), v); err != nil {
				return err
			}
			return a.send(out, filled.Bytes())
		},
	}
	cmd.Flags().StringVar(&out, "out", "-", "file for the result, - for standard output")
	return cmd
}
