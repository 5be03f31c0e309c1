package main

import (
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/veripath/aes-appliance/internal/activation"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) clinicCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clinic",
		Short: "Register clinics, and say what each demands of tokens",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.clinicAdd(), a.clinicList(), a.clinicPolicy())
	return cmd
}

// policyFlags change a policy where they are given.
type policyFlags struct {
	acr, audiences, parties, clients, trading []string
	authAge                                   time.Duration
	service, admin, clinician                 string
	given                                     bool
	perToken, perMinute                       int
}

func (f *policyFlags) register(fl *pflag.FlagSet) {
	fl.StringSliceVar(&f.acr, "acr", nil, "values of acr that are good enough to sign with")
	fl.DurationVar(&f.authAge, "auth-age", 0, "how long ago the log-in may be")
	fl.StringSliceVar(&f.audiences, "audience", nil, "accepted values of aud; one of them is needed")
	fl.StringSliceVar(&f.parties, "client", nil, "accepted clients (azp)")
	fl.StringVar(&f.service, "service-accounts", "", "off, or reduced: reduced evidence, which is no advanced electronic signature")
	fl.StringSliceVar(&f.clients, "service-client", nil, "clients whose service accounts are meant")
	fl.BoolVar(&f.given, "given-pdf", false, "let the booking app give the PDF that is signed")
	fl.IntVar(&f.perToken, "per-token", 0, "signatures with one token, at most")
	fl.IntVar(&f.perMinute, "per-minute", 0, "signatures of one person in a minute, at most")
	fl.StringVar(&f.admin, "admin-role", "", "role of the clinic's administrators")
	fl.StringVar(&f.clinician, "clinician-role", "", "role of those who sign")
	fl.StringArrayVar(&f.trading, "trading-name", nil, "a name that a prescription may carry besides the certificate's organisation; repeat it for more, \"\" for none")
}

// check refuses what would come to another value than it says.
func (f *policyFlags) check() error {
	if f.authAge%time.Second != 0 {
		return usage("--auth-age is in whole seconds")
	}
	return nil
}

// apply changes p by the flags that were given, and says whether any was.
func (f *policyFlags) apply(fl *pflag.FlagSet, p *wire.Policy) bool {
	any := false
	for name, set := range map[string]func(){
		"acr": func() { p.ACRValues = f.acr }, "auth-age": func() { p.MaxAuthAge = int64(f.authAge / time.Second) },
		"audience": func() { p.Audiences = f.audiences }, "client": func() { p.AuthorizedParties = f.parties },
		"service-accounts": func() { p.ServiceAccounts = f.service }, "service-client": func() { p.ServiceClients = f.clients },
		"given-pdf": func() { p.GivenPDF = f.given }, "per-token": func() { p.SignaturesPerToken = f.perToken },
		"per-minute": func() { p.SignaturesPerMinute = f.perMinute }, "admin-role": func() { p.AdminRole = f.admin },
		"clinician-role": func() { p.ClinicianRole = f.clinician },
		"trading-name":   func() { p.TradingNames = slices.DeleteFunc(f.trading, func(n string) bool { return n == "" }) },
	} {
		if fl.Changed(name) {
			set()
			any = true
		}
	}
	return any
}

func (a *app) clinicAdd() *cobra.Command {
	var name string
	var f policyFlags
	cmd := &cobra.Command{
		Use:   "add SLUG",
		Short: "Register a clinic, with the default policy but for what the flags say",
		Example: `  appliance clinic add wharf-lane --name "Wharf Lane Clinic" --acr 2 --audience aes-portal
  appliance realm add https://sso.example.org/realms/wharf-lane --clinic wharf-lane`,
		Args: exactly(1, "the clinic's slug: a-z, 0-9 and hyphens"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			p := wire.Policy(activation.DefaultPolicy())
			f.apply(cmd.Flags(), &p)
			var made wire.Clinic
			if err := a.administer(cmd.Context(), wire.OpClinicAdd, wire.Clinic{Slug: args[0], Name: name, Policy: &p}, &made); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "added  %s  %s\n", made.Slug, made.Name)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the clinic's name")
	f.register(cmd.Flags())
	return cmd
}

func (a *app) clinicPolicy() *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use:     "policy SLUG",
		Short:   "Show a clinic's policy, or change what the flags say of it",
		Example: `  appliance clinic policy wharf-lane --acr 2,3 --auth-age 8h`,
		Args:    exactly(1, "the clinic's slug"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			var page wire.ClinicPage
			if err := a.administer(cmd.Context(), wire.OpClinicList, wire.Nothing{}, &page); err != nil {
				return err
			}
			for _, c := range page.Clinics {
				if c.Slug != args[0] || c.Policy == nil {
					continue
				}
				if f.apply(cmd.Flags(), c.Policy) {
					if err := a.administer(cmd.Context(), wire.OpClinicPolicy, wire.ClinicPolicy{Slug: c.Slug, Policy: *c.Policy}, &c); err != nil {
						return err
					}
				}
				return writeJSON(a.stdout, c.Policy)
			}
			return fault.New(fault.NotFound, fmt.Sprintf("there is no clinic %.80q", args[0])).WithHint(`"appliance clinic list" shows them`)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func (a *app) clinicList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the registered clinics",
		Args:  exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var page wire.ClinicPage
			if err := a.administer(cmd.Context(), wire.OpClinicList, wire.Nothing{}, &page); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, page.Clinics)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "CLINIC\tNAME\tACR\tSERVICE ACCOUNTS\tGIVEN PDF\tSINCE")
			for _, c := range page.Clinics {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%t\t%s\n", c.Slug, c.Name, strings.Join(c.Policy.ACRValues, ","), c.Policy.ServiceAccounts, c.Policy.GivenPDF, c.AddedAt.Format(time.DateOnly))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, policies included")
	return cmd
}

func (a *app) realmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "realm",
		Short: "Register the realms whose tokens are believed",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.realmAdd(), a.realmList(), a.realmRemove())
	return cmd
}

func (a *app) realmAdd() *cobra.Command {
	var clinic, ca string
	cmd := &cobra.Command{
		Use:     "add ISSUER",
		Short:   "Register a clinic's realm by its exact issuer",
		Example: `  appliance realm add https://sso.example.org/realms/wharf-lane --clinic wharf-lane`,
		Args:    exactly(1, "the issuer, exactly as tokens have it in iss"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := wire.Realm{Issuer: args[0], Clinic: clinic}
			if ca != "" {
				text, err := os.ReadFile(ca)
				if err != nil {
					return unreadable(ca, err)
				}
				if block, _ := pem.Decode(text); block == nil || block.Type != "CERTIFICATE" {
					return fault.New(fault.Invalid, ca+" is not a certificate in PEM")
				}
				in.CA = string(text)
			}
			var made wire.Realm
			if err := a.administer(cmd.Context(), wire.OpRealmAdd, in, &made); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "added  %s  for %s\n", made.Issuer, made.Clinic)
			return nil
		},
	}
	cmd.Flags().StringVar(&clinic, "clinic", "", "slug of the clinic")
	cmd.Flags().StringVar(&ca, "ca", "", "PEM file of the only authorities that the realm's TLS certificate may be by (default: the system's)")
	return cmd
}

func (a *app) realmList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the registered realms",
		Args:  exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var page wire.RealmPage
			if err := a.administer(cmd.Context(), wire.OpRealmList, wire.Nothing{}, &page); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, page.Realms)
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "CLINIC\tISSUER\tOWN CA\tSINCE")
			for _, r := range page.Realms {
				fmt.Fprintf(w, "%s\t%s\t%t\t%s\n", r.Clinic, r.Issuer, r.CA != "", r.AddedAt.Format(time.DateOnly))
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func (a *app) realmRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ISSUER",
		Short: "End the registration of a realm: its tokens are refused from now on",
		Args:  exactly(1, "the issuer"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.administer(cmd.Context(), wire.OpRealmRemove, wire.RealmRef{Issuer: args[0]}, nil); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "removed  %s\n", args[0])
			return nil
		},
	}
}
