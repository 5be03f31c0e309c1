package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, or print a documented example",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Say everything that is wrong with the configuration, with its cure",
		Args:  exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			path, err := a.findConfig()
			if err != nil {
				return err
			}
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			pin, err := readPIN(cfg.Token.PINFile)
			if err != nil {
				return err
			}
			clear(pin)
			fmt.Fprintf(a.stdout, "%s is good\n", path)
			return nil
		},
	}, &cobra.Command{
		Use:   "example",
		Short: "Print a configuration file with every key and what it means",
		Args:  exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.stdout, config.Example())
			return err
		},
	})
	return cmd
}
