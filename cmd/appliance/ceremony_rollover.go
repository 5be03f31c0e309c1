package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// ceremonyRollover gives CAs their successors.
func (a *app) ceremonyRollover() *cobra.Command {
	var f rootFlags
	var names []string
	var revoke string
	cmd := &cobra.Command{
		Use:   "rollover --root FILE --identity FILE",
		Short: "Make new CAs, and a new TSA and responders under them, with the root brought back",
		Long: `Makes new keys for the issuing CAs, has the root certify them, and uses them from then on; under a new Time CA the time-stamping authority gets a new key too, and under
each new CA its OCSP responder. The old CAs stay good for what they signed, and go on to say what state their certificates are in. Clinicians sign on with the certificates
that they have: "appliance cert renew --issued-by SERIAL" gives those of a CA successors.

When a key is compromised, --revoke-old ends the old CAs in the same ceremony. Before that, renew what their time stamps protect: make the new Time CA without --revoke-old,
run "appliance renew --stored --stamped-before" with the present time, and then "appliance ceremony revoke".

The services may run. The root's token is in memory while this lasts, in a process of its own, and the sealed file stays as it is: take it away again.`,
		Example: `  appliance ceremony rollover --root /media/usb/root-3f2a9b1c.age --identity key.txt
  appliance ceremony rollover --ca clinician-ca --revoke-old keyCompromise --root root-3f2a9b1c.age --identity -`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin := wire.CeremonyBegin{Succeed: names}
			for _, n := range names {
				if !slices.Contains(cert.IssuingCAs(), cert.Kind(n)) {
					return usage("--ca %q is none of %s", n, spell(cert.IssuingCAs()))
				}
			}
			if revoke != "" {
				if err := endingReason("--revoke-old", revoke); err != nil {
					return err
				}
				var err error
				if begin.Revoke, err = a.endingOf(cmd.Context(), names, revoke); err != nil {
					return err
				}
			}
			return a.laterCeremony(cmd.Context(), f, begin)
		},
	}
	f.register(cmd)
	all := make([]string, 0, 3)
	for _, k := range cert.IssuingCAs() {
		all = append(all, string(k))
	}
	cmd.Flags().StringSliceVar(&names, "ca", all, "which CAs; may be repeated")
	cmd.Flags().StringVar(&revoke, "revoke-old", "", "end the old ones for this reason: keyCompromise, cACompromise, superseded, cessationOfOperation")
	return cmd
}

// endingReason checks why a CA is to end.
func endingReason(flag, name string) error {
	all := []string{cert.ReasonKeyCompromise.String(), cert.ReasonCACompromise.String(), cert.ReasonSuperseded.String(), cert.ReasonCessationOfOperation.String()}
	if name == "" {
		return usage("%s is needed: one of %s", flag, spell(all))
	}
	if !slices.Contains(all, name) {
		return usage("%s %q is none of %s", flag, name, spell(all))
	}
	return nil
}

// ceremonyRevoke ends CAs that have a successor.
func (a *app) ceremonyRevoke() *cobra.Command {
	var f rootFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke SERIAL... --reason REASON --root FILE --identity FILE",
		Short: "End CAs that have a successor, with the root brought back",
		Long: `Has the root revoke issuing CAs, for good: what they issued signs no more. What was signed before, with a time stamp that proves it, stays valid. A CA without a successor
is not revoked: "appliance ceremony rollover --revoke-old" makes one in the same ceremony.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("the serial numbers of the CAs are missing: \"appliance cert list\" shows them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := endingReason("--reason", reason); err != nil {
				return err
			}
			var begin wire.CeremonyBegin
			for _, serial := range args {
				begin.Revoke = append(begin.Revoke, wire.CeremonyEnding{Serial: serial, Reason: reason})
			}
			return a.laterCeremony(cmd.Context(), f, begin)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "keyCompromise, cACompromise, superseded or cessationOfOperation")
	return cmd
}

// ceremonySignList has the root sign its list again.
func (a *app) ceremonySignList() *cobra.Command {
	var f rootFlags
	cmd := &cobra.Command{
		Use:   "sign-list --root FILE --identity FILE",
		Short: "Have the root sign its revocation list again, before it runs out",
		Long: `Has the root sign its revocation list again, for another 400 days. Two days before it runs out nothing is signed any more, because every document carries it;
"appliance doctor" warns 60 days before.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.laterCeremony(cmd.Context(), f, wire.CeremonyBegin{})
		},
	}
	f.register(cmd)
	return cmd
}

// endingOf returns the CAs of these kinds that there are now, as ones that are to be revoked.
func (a *app) endingOf(ctx context.Context, kinds []string, reason string) ([]wire.CeremonyEnding, error) {
	var list []wire.CeremonyEnding
	for _, kind := range kinds {
		have, err := a.allCertificates(ctx, wire.CertListRequest{CertType: kind, Status: string(ca.StatusValid), Limit: 1000})
		if err != nil {
			return nil, err
		}
		for _, c := range have {
			list = append(list, wire.CeremonyEnding{Serial: c.Serial, Reason: reason})
		}
	}
	return list, nil
}

// laterCeremony holds a ceremony of an appliance that is at work: what the signer asks is brought to the root, and what the root made to the signer.
func (a *app) laterCeremony(ctx context.Context, f rootFlags, begin wire.CeremonyBegin) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	root, err := a.sealedRoot(f, cfg) // before anything is made: a file that cannot be read costs no key
	if err != nil {
		return err
	}
	var begun wire.CeremonyBegun
	if err := a.administer(ctx, wire.OpCeremonyBegin, begin, &begun); err != nil {
		return err
	}
	var request ca.CeremonyRequest
	if err := json.Unmarshal(begun.Request, &request); err != nil {
		return fault.New(fault.Internal, "what the signer asks of the root cannot be read").WithCause(err)
	}
	if !sameWish(begin, request) {
		return fault.New(fault.Forbidden, "the signer asks something else of the root than was ordered here: nothing was signed").
			WithHint("take the sealed root token away, and look into the signer: it was tampered with (docs/operations.md)")
	}
	answer, err := root(ctx, request)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	var done wire.CeremonyDone
	if err := a.administer(ctx, wire.OpCeremonyComplete, wire.CeremonyComplete{Answer: raw}, &done); err != nil {
		return err
	}
	return a.showCeremony(done)
}

// sameWish reports whether the signer asks the root for exactly what the operator ordered. Who has taken the signer over would else have a list signed again become a
// CA of their own, whose key is not in the token.
func sameWish(ordered wire.CeremonyBegin, asked ca.CeremonyRequest) bool {
	plain := func(serial string) string {
		n, ok := new(big.Int).SetString(serial, 16)
		if !ok {
			return serial
		}
		return n.Text(16)
	}
	var want, have []string
	for _, kind := range ordered.Succeed {
		want = append(want, kind)
	}
	for _, one := range ordered.Revoke {
		want = append(want, plain(one.Serial)+" "+one.Reason)
	}
	for kind := range asked.Requests {
		have = append(have, string(kind))
	}
	for _, one := range asked.Revoke {
		have = append(have, plain(one.Serial)+" "+one.Reason)
	}
	slices.Sort(want)
	slices.Sort(have)
	return slices.Equal(slices.Compact(want), have)
}

// showCeremony prints what is in use now.
func (a *app) showCeremony(done wire.CeremonyDone) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TYPE\tSERIAL\tISSUER\tFROM\tUNTIL\tSTATUS")
	for _, c := range done.Certificates {
		status := c.Status
		if c.Reason != "" {
			status += ", " + c.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.CertType, c.Serial, c.Issuer, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), status)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "\nThe root's list is good until %s. Take the sealed root token away again.\n", done.CRLExpires)
	return err
}
