package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/dmd"
	"github.com/veripath/aes-appliance/internal/fault"
)

func (a *app) configImportDMD() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "import-dmd ZIP --out FILE",
		Short: "Make the file of medicines.dmd from an extract of the NHS dictionary of medicines and devices",
		Long: `Reads the archive that TRUD distributes as "NHSBSA dm+d" and writes which SNOMED CT code (virtual and actual products, and their packs) is in which
schedule of the Misuse of Drugs Regulations, as a file of a few megabytes for medicines.dmd.

With it the code of a prescription decides: schedules 1 to 3 are refused whatever the prescription says of itself, and a controlled_drug_schedule that is
not dm+d's is an error. What dm+d does not have is judged by its name and by what the prescription says, as without. The signer's log and the evidence
of each prescription say by which release it was decided. Have the services read it with "systemctl reload aes-signer aes-portal".`,
		Example: `  appliance config import-dmd nhsbsa_dmd_11.2.0_20261116000001.zip --out /etc/aes-appliance/dmd.dat`,
		Args:    exactly(1, "the archive"),
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usage("--out is needed: the file to write")
			}
			if err := a.reserveOutput(out, 0); err != nil {
				return err
			}
			d, err := a.importDMD(args[0])
			if err != nil {
				return err
			}
			if out == "-" {
				_, err = a.stdout.Write(d.Marshal())
				return err
			}
			if err := writeOutput(out, d.Marshal()); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "dm+d of %s: %d codes, of which %d are controlled drugs\nset medicines.dmd = %q, and have the services reload\n", d.Release, d.Len(), d.Controlled(), out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write (needed; - is standard output)")
	return cmd
}

func (a *app) importDMD(path string) (*dmd.Dictionary, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.NotFound, "cannot read "+path+reason(err)).WithCause(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, path+" is no regular file").WithCause(err)
	}
	defer a.progress("reading " + path)()
	return dmd.Import(f, info.Size())
}

// loadMedicines reads the file of medicines.dmd; nil when the configuration names none.
func loadMedicines(cfg config.Config) (*dmd.Dictionary, error) {
	path := cfg.Medicines.DMD
	if path == "" {
		return nil, nil
	}
	cannot := fault.New(fault.Unavailable, "the file of medicines.dmd, "+path+", cannot be read").
		WithHint(`make it with "appliance config import-dmd"; the users of both services must be able to read it`)
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > dmd.MaxFile {
		return nil, cannot.WithCause(err)
	}
	data, err := os.ReadFile(path) // at once in a buffer of its size: it stays in memory
	if err != nil {
		return nil, cannot.WithCause(err)
	}
	return dmd.Parse(data)
}
