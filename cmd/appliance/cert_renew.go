package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) certRenew() *cobra.Command {
	var days int
	var out, issuer string
	cmd := &cobra.Command{
		Use:   "renew SERIAL",
		Short: "Issue a successor with a new key for the same holder",
		Long: `Issues a successor with a new key, for the same holder, and for the same person when the old one is bound. The appliance does so itself for the time-stamping authority
and the OCSP responders; named here, they get it now.

--issued-by does it for all clinicians, and TLS peers whose keys are in the token, of one CA: after a new Clinician CA was made, say.`,
		Args: atMost(1, "the serial number, as \"cert list\" shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDays(days); err != nil {
				return err
			}
			if (len(args) == 0) == (issuer == "") {
				return usage("cert renew takes a serial number, or --issued-by")
			}
			if issuer != "" {
				return a.renewIssuedBy(cmd.Context(), issuer, days)
			}
			if err := a.reserveOutput(out, 0); err != nil {
				return err
			}
			var done wire.CertIssued
			if err := a.administer(cmd.Context(), wire.OpCertRenew, wire.CertRef{Serial: args[0], ValidityDays: days}, &done); err != nil {
				return err
			}
			return a.introduce(done, out)
		},
	}
	cmd.Flags().IntVar(&days, "days", 0, "validity in days (default: the profile's)")
	cmd.Flags().StringVar(&out, "out", "-", "file for the certificate and its chain in PEM, - for standard output")
	cmd.Flags().StringVar(&issuer, "issued-by", "", "serial number of a CA: all that it issued and that is in use")
	return cmd
}

// renewIssuedBy gives successors to what one CA issued. Run again, it goes on where it stopped.
func (a *app) renewIssuedBy(ctx context.Context, issuer string, days int) error {
	list, err := a.allCertificates(ctx, wire.CertListRequest{Status: string(ca.StatusValid), Limit: 1000})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(c wire.Certificate) bool { return c.Issuer == issuer }) {
		return fault.New(fault.NotFound, "nothing that is valid was issued by the CA with serial number "+issuer).WithHint("\"appliance cert list --json\" shows each certificate's issuer_serial")
	}
	peers := []cert.Kind{cert.Clinician, cert.TLSServer, cert.TLSClient}
	for _, c := range list {
		if c.Issuer != issuer || !c.KeyExists || c.RenewedBy != "" || !slices.Contains(peers, cert.Kind(c.CertType)) {
			continue
		}
		var done wire.CertIssued
		if err := a.administer(ctx, wire.OpCertRenew, wire.CertRef{Serial: c.Serial, ValidityDays: days}, &done); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s  ->  %s  %s\n", c.Serial, done.Certificate.Serial, c.CommonName)
	}
	return nil
}
