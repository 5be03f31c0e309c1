package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// demoClinic is the slug of the demo's one clinic.
const demoClinic = "demo"

func (a *app) demoCommand() *cobra.Command {
	var dir string
	var serve bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make a demo appliance, sign a prescription through its HTTPS API, verify it",
		Long: `Makes a whole appliance in a folder: token, root key ceremony in a process of its own, CAs, time-stamping authority, audit log. Then it
starts "appliance signer", "appliance portal" and, for its backup, "appliance receiver" as they run in earnest, and calls the API over TLS as a booking app would: a token of Doctor
Clinician's, a prescription signed to PAdES-B-LTA, the PDF, the evidence, some refusals. It verifies what came, and stops both.

With --serve it keeps both running on loopback until ctrl-C, and writes shell variables to env in that folder: URL, CA, TOKEN and more, the tokens
always fresh. Tokens are by a realm that stands in for a clinic's Keycloak, on loopback, for whoever asks: a demo alone believes such a one.

Everything it makes is marked as a demo, on the pages, in the certificates' names and policies and in the log: nothing of it can be taken for real.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.demo(cmd.Context(), dir, serve) },
	}
	cmd.Flags().StringVar(&dir, "dir", "demo", "folder to make it in")
	cmd.Flags().BoolVar(&serve, "serve", false, "keep the API up until ctrl-C")
	return cmd
}

func (a *app) demo(ctx context.Context, dir string, serve bool) (err error) {
	files, err := newDemoFiles(dir)
	if err != nil {
		return err
	}
	lock, err := files.take()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := os.Remove(files.env); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.Unavailable, "cannot remove "+files.env+reason(err)).WithCause(err)
	}
	cfg, err := a.demoAppliance(ctx, files)
	if err != nil {
		return err
	}
	h := &demoHouse{app: a, files: files, cfg: cfg}
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
			err = why // one of the processes ended: all else follows from that
		}
		cancel(nil)
		err = errors.Join(err, h.close())
	}()
	if err := h.open(ctx, cancel); err != nil {
		return err
	}
	if err := a.demoIntroduce(h.status, h.certificates, h.clinician); err != nil {
		return err
	}
	h.introduce(a.stdout)
	if serve {
		return a.demoServe(ctx, h, refreshTokens)
	}
	return a.demoTour(ctx, h)
}

// demoFiles are where things are in the demo's folder, by absolute paths.
type demoFiles struct {
	dir, config, state, pin, rootPIN, realmKey string
	run, signerLog, portalLog, receiverLog     string
	receiver, witnesses                        string // configuration of the backup host; who cosigns, as a policy
	plain, signed, evidence, pack, verify      string
	root, clinician, clinicianCA, body, env    string
}

func newDemoFiles(dir string) (demoFiles, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return demoFiles{}, err
	}
	in := func(name string) string { return filepath.Join(abs, name) }
	return demoFiles{
		dir: abs, config: in("appliance.toml"), state: in("state"), pin: in("pin"), rootPIN: in("root-pin"), realmKey: in("realm-key.pem"),
		run: in("run"), signerLog: in("run/signer.log"), portalLog: in("run/portal.log"), receiverLog: in("run/receiver.log"), receiver: in("backup/receiver.toml"), witnesses: in("witness-keys.txt"),
		plain: in("prescription.pdf"), signed: in("prescription.signed.pdf"), evidence: in("evidence.json"), pack: in("evidence.zip"), verify: in("verify.json"),
		root: in("root.pem"), clinician: in("clinician.pem"), clinicianCA: in("clinician-ca.pem"), body: in("sign.json"), env: in("env"),
	}, nil
}

// take makes the folders, and this process the only demo in them. The kernel lets go of it with the process.
func (f demoFiles) take() (interface{ Close() error }, error) {
	for _, dir := range []string{f.dir, f.run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fault.New(fault.Unavailable, "cannot make the folder "+dir+reason(err)).WithCause(err)
		}
	}
	lock, err := durable.OS{}.Lock(filepath.Join(f.run, "lock"), false)
	if errors.Is(err, durable.ErrLocked) {
		return nil, fault.New(fault.Unavailable, "another demo is running in "+f.dir).WithCause(err).
			WithHint("end it (ctrl-C where it runs), or name another folder: --dir")
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "cannot lock the folder "+f.run+reason(err)).WithCause(err)
	}
	return lock, nil
}

// demoAppliance founds the demo appliance unless there is one, and sees that its configuration has what its two processes need.
func (a *app) demoAppliance(ctx context.Context, files demoFiles) (config.Config, error) {
	cfg, err := a.demoConfigure(files)
	if err != nil {
		return cfg, err
	}
	s, err := a.demoFound(ctx, files, cfg)
	if err != nil {
		return cfg, err
	}
	demo, root := s.Demo(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root().Raw})
	if err := s.Close(); err != nil {
		return cfg, err
	}
	if !demo {
		return cfg, fault.New(fault.Conflict, "the appliance in "+files.dir+" is not a demo").WithHint("choose another folder with --dir")
	}
	if cfg, err = a.demoServices(files, cfg); err != nil {
		return cfg, err
	}
	return cfg, writeOutput(files.root, root)
}

// demoFound opens the demo appliance, or founds it.
func (a *app) demoFound(ctx context.Context, files demoFiles, cfg config.Config) (*signer.Signer, error) {
	pins, err := readPINs(cfg.Token.PINFile)
	if err != nil {
		return nil, err
	}
	return withPIN(pins, func(pin []byte) (*signer.Signer, error) { return a.demoFoundBy(ctx, files, cfg, pin) })
}

func (a *app) demoFoundBy(ctx context.Context, files demoFiles, cfg config.Config, pin []byte) (*signer.Signer, error) {
	sc := signer.Config{Config: cfg, PIN: pin, Version: version, Log: a.logger()}
	there, err := signer.Founded(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	if there {
		fmt.Fprintf(a.stdout, "Using the demo appliance that is in %s/ already.\n\n", files.dir)
		return signer.Open(ctx, sc)
	}
	fmt.Fprintf(a.stdout, "Making a demo appliance in %s/. Nothing of it can be taken for real.\n\n", files.dir)
	defer a.progress("making keys and certificates")()
	return signer.Found(ctx, sc, signer.Founding{
		Demo: true, Actor: operator, Ceremony: func(rootToken string) ca.Root { return a.holdCeremony(cfg.Token.Module, rootToken, files.rootPIN) },
	})
}

// demoIntroduce shows what the appliance consists of.
func (a *app) demoIntroduce(status wire.Status, list []wire.Certificate, clinician wire.Certificate) error {
	order := cert.Kinds()
	place := func(c wire.Certificate) int { return slices.Index(order, cert.Kind(c.CertType)) }
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(x, y wire.Certificate) int { return place(x) - place(y) })
	for _, c := range list {
		if c.CertType == string(cert.Clinician) && c.Serial != clinician.Serial {
			continue
		}
		name := c.CommonName
		if c.SerialNumber != "" {
			name += ", " + c.SerialNumber
		}
		fmt.Fprintf(a.stdout, "  %-18s %s  (%s, until %s)\n", c.CertType, name, c.Algorithm, c.NotAfter.Format(time.DateOnly))
	}
	switch {
	case status.Clock.Mode == clock.Unproven:
		fmt.Fprintf(a.stdout, "  %-18s NOT PROVEN: no time service keeps this machine's clock right. The demo's setting\n  %-18s clock.mode = \"unproven\" lets it stamp all the same; a real appliance would refuse.\n", "clock", "")
	case !status.Clock.Proven:
		return fault.New(fault.Unavailable, "the demo signs nothing now: "+firstOf(status.Reasons)).
			WithHint("let a time service (chrony) keep the clock right, or set clock.mode = \"unproven\" in the demo's appliance.toml")
	default:
		fmt.Fprintf(a.stdout, "  %-18s proven by the kernel's synchronisation state\n", "clock")
	}
	_, err := fmt.Fprintln(a.stdout)
	return err
}

func firstOf(reasons []string) string {
	if len(reasons) == 0 {
		return "it does not say why"
	}
	return reasons[0]
}
