package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) certCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Issue, list, renew and revoke certificates",
		Args:  noSuch,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.certIssue(), a.certList(), a.certRevoke(), a.certRenew(), a.certBind(), a.certExpiring(), a.certExport())
	return cmd
}

// withSigner runs f with the appliance open and closes it.
func (a *app) withSigner(ctx context.Context, f func(*signer.Signer) error) (err error) {
	s, _, err := a.openSigner(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return f(s)
}

// issueFlags are those of "cert issue".
type issueFlags struct {
	kind, clinic, name, given, surname, country, organisation string
	register, number, sub, algorithm, csr, out                string
	days                                                      int
	dns, addresses                                            []string
}

func (a *app) certIssue() *cobra.Command {
	var f issueFlags
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Issue a certificate",
		Example: `  appliance cert issue --clinic demo --name "Ada Example" --register GMC --number 7654321
  appliance cert issue --type tls-server --name sign.example.org --dns sign.example.org --csr sign.csr --out sign.pem`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.request()
			if err != nil {
				return err
			}
			if err := a.reserveOutput(f.out, 0); err != nil {
				return err
			}
			var done wire.CertIssued
			if err := a.administer(cmd.Context(), wire.OpCertIssue, r, &done); err != nil {
				return err
			}
			return a.introduce(done, f.out)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.kind, "type", string(cert.Clinician), "clinician, tsa, tls-server or tls-client")
	fl.StringVar(&f.clinic, "clinic", "", "slug of the clinic that a clinician's certificate belongs to")
	fl.StringVar(&f.name, "name", "", "common name: a clinician's full name, exactly as the booking app sends it; a host's name")
	fl.StringVar(&f.given, "given-name", "", "a clinician's given name (default: the common name's first words)")
	fl.StringVar(&f.surname, "surname", "", "a clinician's surname (default: the common name's last word)")
	fl.StringVar(&f.country, "country", "GB", "ISO 3166-1, two letters")
	fl.StringVar(&f.organisation, "org", "", "organisation in the subject")
	fl.StringVar(&f.register, "register", "", "a clinician's professional register: GMC, NMC, GDC or GPhC")
	fl.StringVar(&f.number, "number", "", "a clinician's registration number")
	fl.StringVar(&f.sub, "sub", "", "whom the clinic's realm knows a clinician as: without it the certificate does not sign through the API (\"cert bind\")")
	fl.StringVar(&f.algorithm, "key", "", "kind of key: ecdsa-p256, ecdsa-p384, rsa-3072, rsa-4096 (default: the configuration's)")
	fl.StringVar(&f.csr, "csr", "", "PKCS#10 file (PEM) of a TLS peer that made its own key")
	fl.IntVar(&f.days, "days", 0, "validity in days (default: the profile's)")
	fl.StringSliceVar(&f.dns, "dns", nil, "host name of a TLS server")
	fl.StringSliceVar(&f.addresses, "ip", nil, "IP address of a TLS server")
	fl.StringVar(&f.out, "out", "-", "file for the certificate and its chain in PEM, - for standard output")
	return cmd
}

// maxDays bounds a number of days well within what a time.Duration holds.
const maxDays = 100_000

func checkDays(n int) error {
	if n < 0 || n > maxDays {
		return usage("--days %d is not within 0 and %d", n, maxDays)
	}
	return nil
}

// request turns flags into what the signer is asked for.
func (f issueFlags) request() (wire.CertIssue, error) {
	kind, err := cert.ParseKind(f.kind)
	if err != nil || kind.IsCA() || kind == cert.OCSP {
		return wire.CertIssue{}, usage("--type %q is not clinician, tsa, tls-server or tls-client", f.kind)
	}
	if f.csr == "" && (kind == cert.TLSServer || kind == cert.TLSClient) {
		return wire.CertIssue{}, usage("--type %s needs --csr: a key made here would stay in the token, where the TLS peer cannot use it", kind)
	}
	if err := checkDays(f.days); err != nil {
		return wire.CertIssue{}, err
	}
	for _, text := range f.addresses {
		if _, err := netip.ParseAddr(text); err != nil {
			return wire.CertIssue{}, usage("--ip %q is not an IP address", text)
		}
	}
	r := wire.CertIssue{
		CertType: f.kind, Clinic: f.clinic, Sub: f.sub, Algorithm: f.algorithm, ValidityDays: f.days, DNSNames: f.dns, Addresses: f.addresses,
		Country: f.country, Org: f.organisation, CommonName: f.name, GivenName: f.given, Surname: f.surname,
		Register: f.register, RegistrationNumber: f.number,
	}
	if f.csr == "" {
		return r, nil
	}
	data, err := os.ReadFile(f.csr)
	if err != nil {
		return r, unreadable(f.csr, err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return r, fault.New(fault.Invalid, f.csr+" is not a PEM certificate request").
			WithHint("make one with: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout tls.key -out tls.csr")
	}
	r.CSR = block.Bytes
	return r, nil
}

// introduce says what was issued and writes it.
func (a *app) introduce(done wire.CertIssued, out string) error {
	c := done.Certificate
	fmt.Fprintf(a.stderr, "issued  %s  %s  valid until %s\n", c.Serial, c.CommonName, c.NotAfter.Format(time.DateOnly))
	return a.writeChain(done.Chain, out)
}

// writeChain writes a certificate and those above it, without the root, in PEM.
func (a *app) writeChain(chain [][]byte, out string) error {
	var text []byte
	for i, der := range chain {
		if i > 0 && i == len(chain)-1 {
			break // the root is an anchor, handed over apart
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if out != "-" {
		return writeOutput(out, text)
	}
	_, err := a.stdout.Write(text)
	return err
}

func (a *app) certExport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export SERIAL",
		Short: "Write a certificate and its chain in PEM",
		Args:  exactly(1, "the serial number, as \"cert list\" shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var got wire.CertIssued
			if err := a.administer(cmd.Context(), wire.OpCertGet, wire.CertRef{Serial: args[0]}, &got); err != nil {
				return err
			}
			return a.writeChain(got.Chain, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "-", "file to write, - for standard output")
	return cmd
}

func (a *app) certList() *cobra.Command {
	var kind, clinic, status string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List certificates in the order of their issuance",
		Args:  exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := cert.ParseKind(kind); err != nil && kind != "" {
				return usage("--type %q is none of %s", kind, spell(cert.Kinds()))
			}
			if !slices.Contains(statuses(), ca.Status(status)) && status != "" {
				return usage("--status %q is none of %s", status, spell(statuses()))
			}
			list, err := a.allCertificates(cmd.Context(), wire.CertListRequest{CertType: kind, Clinic: clinic, Status: status, Limit: 1000})
			if err != nil {
				return err
			}
			return a.printCertificates(list, asJSON)
		},
	}
	cmd.Flags().StringVar(&kind, "type", "", "only this type: "+spell(cert.Kinds()))
	cmd.Flags().StringVar(&clinic, "clinic", "", "only this clinic's")
	cmd.Flags().StringVar(&status, "status", "", "only valid, expired or revoked ones")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func statuses() []ca.Status { return []ca.Status{ca.StatusValid, ca.StatusExpired, ca.StatusRevoked} }

// spell lists names for people.
func spell[S ~string](names []S) string {
	texts := make([]string, len(names))
	for i, n := range names {
		texts[i] = string(n)
	}
	return strings.Join(texts, ", ")
}

// allCertificates follows the pages of a listing to its end.
func (a *app) allCertificates(ctx context.Context, r wire.CertListRequest) ([]wire.Certificate, error) {
	all := []wire.Certificate{}
	for {
		var page wire.CertPage
		if err := a.administer(ctx, wire.OpCertList, r, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Certificates...)
		if page.Next == "" {
			return all, nil
		}
		r.Cursor = page.Next
	}
}

// listHere is allCertificates of a CA that this process has open.
func listHere(c *ca.CA, f ca.Filter) ([]ca.Certificate, error) {
	var all []ca.Certificate
	for {
		page, more, err := c.List(f)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if !more {
			return all, nil
		}
		f.After = page[len(page)-1].Serial
	}
}

func (a *app) certExpiring() *cobra.Command {
	var days int
	var asJSON, check bool
	cmd := &cobra.Command{
		Use:   "expiring",
		Short: "List valid certificates without successor that end soon, the soonest first",
		Long: `Lists valid certificates without successor that end within --days, the soonest first.

Those of OCSP responders and of the time-stamping authority are renewed by the appliance itself: they are listed only when that is overdue.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkDays(days); err != nil {
				return err
			}
			list, err := a.allCertificates(cmd.Context(), wire.CertListRequest{Expiring: true, ExpiringDays: days})
			if err != nil {
				return err
			}
			if err := a.printCertificates(list, asJSON); err != nil || !check || len(list) == 0 {
				return err
			}
			return fault.New(fault.Invalid, fmt.Sprintf("%d certificates end within %d days", len(list), days)).WithHint(`"appliance cert renew SERIAL" makes a successor`)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with 1 when there is one")
	cmd.Flags().IntVar(&days, "days", 60, "how soon")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func (a *app) printCertificates(list []wire.Certificate, asJSON bool) error {
	if asJSON {
		return writeJSON(a.stdout, list)
	}
	if len(list) == 0 {
		_, err := io.WriteString(a.stdout, "none\n")
		return err
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERIAL\tTYPE\tNAME\tCLINIC\tSTATUS\tKEY\tVALID UNTIL")
	for _, c := range list {
		key := "here"
		if !c.KeyExists {
			key = "elsewhere"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Serial, c.CertType, c.CommonName, c.Clinic, c.Status, key, c.NotAfter.Format(time.DateOnly))
	}
	return t.Flush()
}

// reasons are those for which "cert revoke" ends a certificate; a CA's compromise is dealt with in a ceremony.
func reasons() []string {
	var names []string
	for _, r := range []cert.Reason{cert.ReasonKeyCompromise, cert.ReasonAffiliationChanged, cert.ReasonSuperseded,
		cert.ReasonCessationOfOperation, cert.ReasonPrivilegeWithdrawn, cert.ReasonUnspecified} {
		names = append(names, r.String())
	}
	return names
}

func parseReason(name string) (cert.Reason, error) {
	if name == "" {
		return 0, usage("--reason is needed: one of %s", spell(reasons()))
	}
	why, err := cert.ParseReason(name)
	if err != nil || !slices.Contains(reasons(), name) {
		return 0, usage("--reason %q is none of %s", name, spell(reasons()))
	}
	return why, nil
}

func (a *app) certRevoke() *cobra.Command {
	var reason, since string
	cmd := &cobra.Command{
		Use:   "revoke SERIAL --reason REASON",
		Short: "Revoke a certificate, now and for good",
		Long: `Revokes a certificate as of now, publishes its CA's CRL, and answers OCSP requests accordingly from this moment.

Reasons: ` + spell(reasons()) + `. Signatures made before stay valid.
--invalid-since records when the key is suspected to have been misused from; it does not date the revocation back, which would kill good
prescriptions.`,
		Args: exactly(1, "the serial number, as \"cert list\" shows it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := parseReason(reason); err != nil {
				return err
			}
			r := wire.CertRevoke{Serial: args[0], Reason: reason}
			if since != "" {
				var err error
				if r.InvalidityDate, err = parseTime(since); err != nil {
					return err
				}
			}
			var done wire.Certificate
			if err := a.administer(cmd.Context(), wire.OpCertRevoke, r, &done); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "revoked  %s  %s  at %s\n", done.Serial, done.CommonName, done.RevokedAt.Format(time.RFC3339))
			return nil
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why (needed)")
	cmd.Flags().StringVar(&since, "invalid-since", "", "when the key was first suspected to be misused")
	return cmd
}
