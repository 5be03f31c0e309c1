package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/token"
)

// version is set by the linker (make build): packaging/version.sh says it.
var version = "0.0.0"

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print what this build is made of",
		Args:  exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			revision := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = s.Value
					}
				}
			}
			fmt.Fprintf(a.stdout, "appliance %s\nrevision   %s\ngo         %s %s/%s\npkcs11     %s\n",
				version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH, token.DefaultModule)
			return nil
		},
	}
}
