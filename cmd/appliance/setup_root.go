package main

import (
	"crypto/sha256"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/setup"
	"github.com/veripath/aes-appliance/internal/signer"
)

// setupRoot opens a sealed root token, to see that it can be: where the identity is, away from the appliance.
func (a *app) setupRoot() *cobra.Command {
	var f rootFlags
	var trust string
	cmd := &cobra.Command{
		Use:   "check-root --root FILE --identity FILE --trust root.pem",
		Short: "See that a sealed root token can be opened, on the machine where its keeper's identity is",
		Long: `Opens the sealed root token in memory, with its keeper's identity, and sees that it is of the root in root.pem. Nothing is written. It needs no appliance: run it
where the identity is kept, with the same program, once after the ceremony and then every year.`,
		Example: `  appliance setup check-root --root root-3f2a9b1c.age --identity key.txt --trust root.pem`,
		Args:    exactly(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			if f.file == "" || f.identity == "" || trust == "" {
				return usage("--root, --identity and --trust name three files")
			}
			if err := unseen(); err != nil {
				return err
			}
			roots, err := readCertificates(trust)
			if err != nil {
				return err
			}
			sealed, identity, err := a.readRoot(f)
			if err != nil {
				return err
			}
			defer clear(identity)
			b, err := signer.OpenRoot(sealed, identity, roots[0])
			if err != nil {
				return err
			}
			clear(b.PIN)
			file, root := sha256.Sum256(sealed), sha256.Sum256(roots[0].Raw)
			fmt.Fprintf(a.stdout, "opens: the token of %s, sealed %s\n\nSHA-256 of the root certificate\n%s\n\nSHA-256 of the sealed file\n%s\n",
				roots[0].Subject.CommonName, b.Made.Format("2006-01-02 15:04 UTC"), setup.Speak(root[:]), setup.Speak(file[:]))
			return nil
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&trust, "trust", "", "the root certificate (root.pem)")
	return cmd
}
