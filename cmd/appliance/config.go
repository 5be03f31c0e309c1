package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, print a documented example, import medicines, fill in the practice statement",
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
			if problems := examine(cfg, os.Geteuid()); len(problems) > 0 {
				return fault.New(fault.Invalid, fmt.Sprintf("the configuration %s does not fit this machine:\n%v", path, problems)).
					WithHint(`correct what is named, then run "appliance config check" again`).WithCause(problems)
			}
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
	}, a.configImportDMD(), a.configStatement())
	return cmd
}

// examine returns what is wrong with the files that a valid configuration names, for a process of this user.
func examine(cfg config.Config, uid int) config.Problems {
	var problems config.Problems
	pin, err := readPIN(cfg.Token.PINFile)
	clear(pin)
	if err != nil {
		problems = append(problems, config.Problem{Key: "token.pin_file", Text: fault.PublicOf(err), Cure: fault.HintOf(err)})
	}
	if p := examineState(cfg.StateDir, uid); p != nil {
		problems = append(problems, *p)
	} else {
		problems = append(problems, examineExposed(cfg.StateDir, uid)...)
	}
	if _, err := loadMedicines(cfg); err != nil {
		problems = append(problems, config.Problem{Key: "medicines.dmd", Text: fault.PublicOf(err), Cure: fault.HintOf(err)})
	}
	if cfg.Token.Module == "" {
		return problems
	}
	if info, err := os.Stat(cfg.Token.Module); err != nil || !info.Mode().IsRegular() {
		problems = append(problems, config.Problem{Key: "token.module", Text: "is no file: " + cfg.Token.Module + reason(err),
			Cure: "name the vendor's module, or leave it out for SoftHSM2"})
	}
	return problems
}

// examineExposed wants nothing in the state folder that others could change.
func examineExposed(dir string, uid int) (problems config.Problems) {
	found, err := signer.Exposed(dir, uid)
	for _, e := range found {
		problems = append(problems, config.Problem{Key: "state_dir", Text: "holds what others could change: " + e.Path + " " + e.Text, Cure: e.Cure})
	}
	if err != nil {
		problems = append(problems, config.Problem{Key: "state_dir", Text: "cannot be looked into: " + dir + reason(err), Cure: "its user must own all of it"})
	}
	return problems
}

// examineState wants a folder that this user owns and nobody else can look into.
func examineState(dir string, uid int) *config.Problem {
	problem := func(text, cure string) *config.Problem {
		return &config.Problem{Key: "state_dir", Text: text, Cure: cure}
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return problem("does not exist: "+dir, "mkdir -m 700 "+dir+", as the user that runs the appliance")
	case err != nil:
		return problem("cannot be looked at: "+dir+reason(err), "its user must be able to enter the folders above it")
	case !info.IsDir():
		return problem("is no folder: "+dir, "name a folder")
	case info.Mode().Perm()&0o077 != 0:
		return problem(fmt.Sprintf("is open to others: %s has mode %04o", dir, info.Mode().Perm()), "chmod 700 "+dir)
	}
	// Root may look at any appliance; whoever else runs this must be the one that the appliance runs as.
	if st, ok := info.Sys().(*syscall.Stat_t); ok && uid != 0 && int(st.Uid) != uid {
		return problem("belongs to another user: "+dir, "run as that user, or give the folder to this one")
	}
	return nil
}
