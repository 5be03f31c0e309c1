package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) certBind() *cobra.Command {
	var sub string
	cmd := &cobra.Command{
		Use:   "bind SERIAL --sub SUB",
		Short: "Bind a clinician's certificate to a person of the clinic's realm, once and for good",
		Long: `Binds a clinician's certificate to the person whom the clinic's realm knows as SUB (the claim sub of their tokens; in Keycloak the user's ID).

Names can be edited by their users, so a certificate that is bound to nobody does not sign through the API, and no other person's token signs with
it. "cert issue --sub" binds at issuance. There is no second binding: revoke, and issue a new certificate.`,
		Example: `  appliance cert bind 5f1c8a0b44f2a8d1c3e6b7a9d0f1e2a3 --sub 3f1c9a52-7d5e-4c1b-9a51-0d3f6b7a2c11`,
		Args:    exactly(1, "the serial number, as \"cert list\" shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var done wire.Certificate
			if err := a.administer(cmd.Context(), wire.OpCertBind, wire.CertBind{Serial: args[0], Sub: sub}, &done); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "bound  %s  %s  to %s\n", done.Serial, done.CommonName, done.Sub)
			return nil
		},
	}
	cmd.Flags().StringVar(&sub, "sub", "", "whom the realm knows the clinician as (needed)")
	return cmd
}
