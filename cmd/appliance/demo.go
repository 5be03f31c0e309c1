package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/signer"
)

// demoClinic is the slug of the demo's one clinic.
const demoClinic = "demo"

func (a *app) demoCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make a demo appliance, sign a prescription with it, verify it",
		Long: `Makes a whole appliance in a folder: token, root key ceremony in a process of its own, CAs, time-stamping authority, audit log. Then it
renders a prescription, signs it to PAdES-B-LTA as "Doctor Clinician", and verifies the result. Run again, it signs anew with what is there.

Everything it makes is marked as a demo, in the certificates' names and policies and in the log: nothing of it can be taken for real.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), dir) },
	}
	cmd.Flags().StringVar(&dir, "dir", "demo", "folder to make it in")
	return cmd
}

// demoFiles are what the demo leaves.
type demoFiles struct{ dir, config, state, pin, rootPIN, plain, signed, root, verify string }

func newDemoFiles(dir string) (demoFiles, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return demoFiles{}, err
	}
	in := func(name string) string { return filepath.Join(abs, name) }
	return demoFiles{
		dir: dir, config: in("appliance.toml"), state: in("state"), pin: in("pin"), rootPIN: in("root-pin"),
		plain: in("prescription.pdf"), signed: in("prescription.signed.pdf"), root: in("root.pem"), verify: in("verify.json"),
	}, nil
}

func (a *app) demo(ctx context.Context, dir string) (err error) {
	files, err := newDemoFiles(dir)
	if err != nil {
		return err
	}
	s, cfg, err := a.demoAppliance(ctx, files)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if !s.Demo() {
		return fault.New(fault.Conflict, "the appliance in "+dir+" is not a demo").WithHint("choose another folder with --dir")
	}
	clinician, err := a.demoClinician(ctx, s)
	if err != nil {
		return err
	}
	if err := a.demoIntroduce(s, cfg, clinician); err != nil {
		return err
	}
	plain, done, err := a.demoSign(ctx, s, cfg, clinician)
	if err != nil {
		return err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root().Raw})
	for _, f := range []struct {
		name string
		data []byte
	}{{files.plain, plain}, {files.signed, done.PDF}, {files.root, root}} {
		if err := writeOutput(f.name, f.data); err != nil {
			return err
		}
	}
	return a.demoVerify(ctx, s, cfg, files, done.PDF)
}

// demoAppliance opens the demo appliance, or founds it.
func (a *app) demoAppliance(ctx context.Context, files demoFiles) (*signer.Signer, config.Config, error) {
	if _, err := os.Stat(files.config); errors.Is(err, fs.ErrNotExist) {
		if err := a.demoConfigure(files); err != nil {
			return nil, config.Config{}, err
		}
	}
	cfg, err := config.Load(files.config)
	if err != nil {
		return nil, cfg, err
	}
	pin, err := readPIN(cfg.Token.PINFile)
	if err != nil {
		return nil, cfg, err
	}
	defer clear(pin)
	sc := signer.Config{Config: cfg, PIN: pin, Version: version, Log: a.logger()}
	if there, err := signer.Founded(cfg.StateDir); err != nil {
		return nil, cfg, err
	} else if there {
		fmt.Fprintf(a.stdout, "Using the demo appliance that is in %s/ already.\n\n", files.dir)
		s, err := signer.Open(ctx, sc)
		return s, cfg, err
	}
	fmt.Fprintf(a.stdout, "Making a demo appliance in %s/. Nothing of it can be taken for real.\n\n", files.dir)
	defer a.progress("making keys and certificates")()
	s, err := signer.Found(ctx, sc, signer.Founding{
		Demo: true, Actor: operator, Ceremony: func(rootToken string) ca.Root { return a.holdCeremony(cfg.Token.Module, rootToken, files.rootPIN) },
	})
	return s, cfg, err
}

// demoConfigure writes the demo's PINs and its configuration; the configuration comes last, so that what it names is there.
func (a *app) demoConfigure(files demoFiles) error {
	if err := os.MkdirAll(filepath.Dir(files.config), 0o755); err != nil {
		return fault.New(fault.Unavailable, "cannot make the folder "+files.dir+reason(err)).WithCause(err)
	}
	for _, name := range []string{files.pin, files.rootPIN} {
		if _, err := os.Lstat(name); err == nil {
			continue // a token may be in use under it; a configuration can be written again, a PIN cannot
		}
		pin, err := signer.NewPIN()
		if err != nil {
			return err
		}
		err = durable.WriteFile(durable.OS{}, name, pin, 0o600)
		clear(pin)
		if err != nil {
			return fault.New(fault.Unavailable, "cannot write "+name+reason(err)).WithCause(err)
		}
	}
	text := fmt.Sprintf(demoConfig, filepath.Base(files.state), filepath.Base(files.pin), demoClockMode())
	if err := durable.WriteFile(durable.OS{}, files.config, []byte(text), 0o644); err != nil {
		return fault.New(fault.Unavailable, "cannot write "+files.config+reason(err)).WithCause(err)
	}
	return nil
}

const demoConfig = `# Made by "appliance demo". Nothing that this appliance makes can be taken for real. Paths are taken from this file's folder.
state_dir = %q

[pki]
base_url = "http://127.0.0.1:8080"
name = "Demo"
organisation = "Demo Appliance"
country = "GB"
policy_arc = "1.3.6.1.4.1.32473.2019" # under the number that RFC 5612 sets aside for examples

[token]
label = "aes-demo"
pin_file = %q

[clock]
mode = %q
`

// demoClockMode is "system" when the kernel can prove the time now.
func demoClockMode() string {
	c, err := clock.Open(clock.Config{Mode: clock.System, MaxError: 200 * time.Millisecond}, time.Time{})
	if err == nil {
		if _, err = c.Now(); err == nil {
			return clock.System
		}
	}
	return clock.Unproven
}

// demoClinician returns the demo's clinician, issuing the certificate the first time.
func (a *app) demoClinician(ctx context.Context, s *signer.Signer) (ca.Certificate, error) {
	p := prescription.Demo(time.Now())
	have, err := s.Find(demoClinic, p.ClinicianCN)
	if err == nil {
		return have, nil
	}
	if fault.KindOf(err) != fault.NotFound {
		return have, err
	}
	id, err := cert.NewPersonID(string(p.ProfessionalRegister), p.ProfessionalRegistrationNumber)
	if err != nil {
		return have, err
	}
	return s.Issue(ctx, ca.Request{Kind: cert.Clinician, Clinic: demoClinic, Actor: operator, Subject: cert.Subject{
		Country: "GB", Organization: p.ClinicName, CommonName: p.ClinicianCN, SerialNumber: id.String(),
	}})
}

// demoSign renders the prescription and signs it, with a panel where the page keeps a place for it.
func (a *app) demoSign(ctx context.Context, s *signer.Signer, cfg config.Config, clinician ca.Certificate) (plain []byte, done pades.Signed, err error) {
	renderer, err := prescription.NewRenderer()
	if err != nil {
		return nil, done, err
	}
	now, err := s.Now()
	if err != nil {
		return nil, done, err
	}
	if plain, err = renderer.Render(prescription.Demo(now), now); err != nil {
		return nil, done, err
	}
	d, err := newDesk(s)
	if err != nil {
		return nil, done, err
	}
	done, err = d.sign(ctx, plain, signRequest{
		clinic: demoClinic, name: clinician.CommonName, panel: &panelPlace{rect: prescription.PanelRect()}, options: pades.SignOptions{Limits: limits(cfg)},
	})
	return plain, done, err
}

// demoIntroduce shows what the appliance consists of.
func (a *app) demoIntroduce(s *signer.Signer, cfg config.Config, clinician ca.Certificate) error {
	list, err := listHere(s.CA(), ca.Filter{Status: ca.StatusValid})
	if err != nil {
		return err
	}
	order := cert.Kinds()
	slices.SortStableFunc(list, func(x, y ca.Certificate) int { return slices.Index(order, x.Kind) - slices.Index(order, y.Kind) })
	for _, c := range list {
		if c.Kind == cert.Clinician && c.Serial != clinician.Serial {
			continue
		}
		name := c.CommonName
		if c.Subject.SerialNumber != "" {
			name += ", " + c.Subject.SerialNumber
		}
		fmt.Fprintf(a.stdout, "  %-18s %s  (%s, until %s)\n", c.Kind, name, c.Algorithm, c.NotAfter.Format(time.DateOnly))
	}
	if cfg.Clock.Mode == clock.Unproven {
		fmt.Fprintf(a.stdout, "  %-18s NOT PROVEN: no time service keeps this machine's clock right. The demo's setting\n  %-18s clock.mode = \"unproven\" lets it stamp all the same; a real appliance would refuse.\n", "clock", "")
	} else if _, err := s.Now(); err != nil {
		return err
	} else {
		fmt.Fprintf(a.stdout, "  %-18s proven by the kernel's synchronisation state\n", "clock")
	}
	_, err = fmt.Fprintln(a.stdout)
	return err
}

// demoVerify validates the signed file as anybody would, with the root as the only trust, and says where to look.
func (a *app) demoVerify(ctx context.Context, s *signer.Signer, cfg config.Config, files demoFiles, signed []byte) error {
	at, err := s.Now()
	if err != nil {
		return err
	}
	roots, err := readCertificates(files.root)
	if err != nil {
		return err
	}
	report, err := pades.Validate(ctx, signed, pades.ValidateOptions{Roots: roots, At: at, Limits: limits(cfg)})
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := writeJSON(&b, report); err != nil {
		return err
	}
	if err := writeOutput(files.verify, []byte(b.String())); err != nil {
		return err
	}
	lines, _ := s.Ledger().Head()
	in := func(name string) string { return filepath.Join(files.dir, name) }
	t := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "%s\n\nLook at\n", report.Summary)
	for _, look := range [][2]string{
		{in("prescription.signed.pdf"), "what the clinician signed: open it in any PDF reader"},
		{in("prescription.pdf"), "the same before"},
		{in("root.pem"), "the root certificate, for your own validator"},
		{in("verify.json"), "the whole verdict"},
		{in(filepath.Join("state", ledger.FileName)), fmt.Sprintf("the log, %d lines: every act so far", lines)},
	} {
		fmt.Fprintf(t, "  %s\t%s\n", look[0], look[1])
	}
	program := os.Args[0]
	fmt.Fprintf(t, "\nTry\n  %s verify %s --trust %s\n  %s sign --in YOUR.pdf --out YOUR.signed.pdf --as %q --config %s\n",
		program, in("prescription.signed.pdf"), in("root.pem"), program, prescription.Demo(at).ClinicianCN, in("appliance.toml"))
	if err := t.Flush(); err != nil {
		return err
	}
	if !report.Good() {
		return fault.New(fault.Internal, "the signed prescription does not validate: "+report.Summary).WithHint("this is a defect: please report it with " + files.verify)
	}
	return nil
}
