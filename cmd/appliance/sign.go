package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/text/unicode/norm"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/fonts"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/panel"
	"github.com/veripath/aes-appliance/internal/pdf"
	"github.com/veripath/aes-appliance/internal/signer"
)

// signFlags are those of the sign verb.
type signFlags struct {
	in, out, as, clinic string
	field, panelAt      string
	panelPage, certify  int
}

func (a *app) signCommand() *cobra.Command {
	var f signFlags
	cmd := &cobra.Command{
		Use:   "sign --in X.pdf --out Y.pdf --as NAME",
		Short: "Sign a PDF on a demo appliance",
		Long: `Signs a PDF to PAdES-B-LTA as a clinician of a demo appliance.

This verb works only on an appliance that "appliance demo" made and marked. On a real one a clinician alone can authorise a signature, with
their own token, per document; an operator at a command line cannot.`,
		Example: `  appliance sign --in letter.pdf --out letter.signed.pdf --as "Doctor Clinician"
  appliance sign --in letter.pdf --out letter.signed.pdf --as "Doctor Clinician" --panel 1:300,40,500,110`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.in == "" || f.out == "" || f.as == "" {
				return usage("--in, --out and --as are needed")
			}
			return a.sign(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVar(&f.in, "in", "", "the PDF to sign, - for standard input")
	cmd.Flags().StringVar(&f.out, "out", "", "the signed PDF to write, - for standard output; a file is replaced whole or not at all")
	cmd.Flags().StringVar(&f.as, "as", "", "the clinician's name, as in the certificate")
	cmd.Flags().StringVar(&f.clinic, "clinic", demoClinic, "the clinic that the clinician's certificate belongs to")
	cmd.Flags().StringVar(&f.field, "field", "", "an existing empty signature field, or the name of a new one")
	cmd.Flags().StringVar(&f.panelAt, "panel", "", "show a signature panel: PAGE:LEFT,BOTTOM,RIGHT,TOP in points, pages from 1")
	cmd.Flags().IntVar(&f.certify, "certify", 0, "make it a certification signature that permits later: 1 nothing, 2 form filling, 3 annotations too")
	return cmd
}

// growth is about what a signature or a further time stamp adds to a document, in bytes.
const growth = 128 << 10

func (a *app) sign(ctx context.Context, f signFlags) (err error) {
	if f.certify < 0 || f.certify > 3 {
		return usage("--certify is 1, 2 or 3")
	}
	page, rect, err := parsePanel(f.panelAt)
	if err != nil {
		return err
	}
	data, err := readInput(f.in, a.stdin)
	if err != nil {
		return err
	}
	if err := a.reserveOutput(f.out, len(data)+growth); err != nil {
		return err
	}
	if c, err := a.runningSigner(ctx); err != nil {
		return err
	} else if c != nil {
		return errors.Join(fault.New(fault.Unavailable, "a signer is running here, and this verb signs without one").
			WithHint(`stop it (ctrl-C where "appliance demo --serve" runs), or sign through its API: POST /api/sign`), c.Close())
	}
	s, cfg, err := a.openSigner(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if !s.Demo() {
		return fault.New(fault.Forbidden, "this is not a demo appliance: a real one signs on a clinician's own authorisation alone").
			WithHint("the booking app asks for signatures with the clinician's token; nobody else can")
	}
	request := signRequest{clinic: f.clinic, name: f.as, options: pades.SignOptions{Field: f.field, Certify: f.certify, Limits: limits(cfg)}}
	if rect != nil {
		request.panel = &panelPlace{page: page, rect: *rect}
	}
	defer a.progress("signing " + f.in)()
	d, err := newDesk(s)
	if err != nil {
		return err
	}
	done, err := d.sign(ctx, data, request)
	if err != nil {
		return err
	}
	if err := a.deliver(cfg.StateDir, f.out, done.PDF); err != nil {
		return err
	}
	a.say(f.out, "signed  %s  PAdES-B-LTA by %s (DEMO)\n", f.out, f.as)
	return nil
}

// signRequest is one document to be signed.
type signRequest struct {
	clinic, name string
	panel        *panelPlace
	options      pades.SignOptions
}

type panelPlace struct {
	page int // from 0
	rect [4]float64
}

// desk is where documents are signed from the command line.
type desk struct {
	signer *signer.Signer
	panels *panel.Drawer
}

func newDesk(s *signer.Signer) (*desk, error) {
	set, err := fonts.New()
	if err != nil {
		return nil, err
	}
	return &desk{signer: s, panels: panel.NewDrawer(set)}, nil
}

// sign signs data as a clinician. The panel is drawn while the document is opened and checked.
func (d *desk) sign(ctx context.Context, data []byte, r signRequest) (pades.Signed, error) {
	crt, err := d.find(r.clinic, r.name)
	if err != nil {
		return pades.Signed{}, err
	}
	signing, err := d.signer.Begin(ctx, operator, crt.Serial)
	if err != nil {
		return pades.Signed{}, err
	}
	if r.options.Time, err = signing.Time(); err != nil {
		return pades.Signed{}, err
	}
	r.options.Name = crt.CommonName
	var f *pdf.File
	var opening error
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		if f, opening = pades.Open(data, r.options.Limits); opening == nil {
			opening = f.Check()
		}
	}()
	if r.panel != nil {
		r.options.Appearance, err = d.draw(*r.panel, crt.Subject, r.options.Time)
	}
	<-opened
	if err = cmp.Or(opening, err); err != nil {
		return pades.Signed{}, err
	}
	done, err := pades.SignFile(ctx, f, signing, r.options)
	if err != nil {
		return pades.Signed{}, err
	}
	_, err = signing.Complete(ctx, done)
	return done, err
}

// find returns the certificate with which a clinician signs, or says why there is none.
func (d *desk) find(clinic, name string) (ca.Certificate, error) {
	crt, err := d.signer.Find(clinic, name)
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.NotFound {
		return crt, err
	}
	all, listErr := listHere(d.signer.CA(), ca.Filter{Kind: cert.Clinician, Clinic: clinic})
	if listErr != nil {
		return crt, listErr
	}
	for _, old := range slices.Backward(all) {
		if old.CommonName != norm.NFC.String(name) || old.Status == ca.StatusValid {
			continue
		}
		what := "expired at " + old.NotAfter.Format(time.RFC3339)
		if old.Status == ca.StatusRevoked {
			what = "was revoked at " + old.RevokedAt.Format(time.RFC3339)
		}
		return crt, fault.New(fault.Forbidden, fmt.Sprintf("the certificate of %s, %s, %s", name, old.Serial, what)).WithCause(err).
			WithHint(`nothing can be signed with it any more; "appliance cert issue" makes a new one`)
	}
	return crt, f.WithHint(`"appliance cert list --type clinician" shows who there is; the name is needed letter for letter, and --clinic`)
}

// draw makes the appearance of a visible signature: who, with which registration, when.
func (d *desk) draw(p panelPlace, subject cert.Subject, at time.Time) (*pdf.Appearance, error) {
	width, height := p.rect[2]-p.rect[0], p.rect[3]-p.rect[1]
	details := []string{at.UTC().Format("2 January 2006 15:04:05 UTC")}
	if id, err := cert.ParsePersonID(subject.SerialNumber); err == nil {
		details = append([]string{id.RegisterName() + " " + id.Number}, details...)
	}
	note := "The signature is in the file: verify it there."
	if d.signer.Demo() {
		note = "DEMO: not a prescription, not a signature in law."
	}
	content, err := d.panels.Draw(panel.Panel{
		Width: width, Height: height, Heading: "Signed electronically by", Name: subject.CommonName, Details: details, Note: note,
	})
	if err != nil {
		return nil, err
	}
	return &pdf.Appearance{
		Page: p.page, Rect: p.rect, BBox: [4]float64{0, 0, width, height}, Content: d.panels.Compress(content), Flate: true, Resources: pdf.Dict{},
	}, nil
}

// parsePanel reads PAGE:LEFT,BOTTOM,RIGHT,TOP; nil when there is none.
func parsePanel(s string) (page int, rect *[4]float64, err error) {
	if s == "" {
		return 0, nil, nil
	}
	var r [4]float64
	var rest string
	n, _ := fmt.Sscanf(s+"\n", "%d:%g,%g,%g,%g%1s", &page, &r[0], &r[1], &r[2], &r[3], &rest)
	if n != 5 || page < 1 || r[2]-r[0] < 1 || r[3]-r[1] < 1 || strings.ContainsAny(s, " \t") {
		return 0, nil, usage("--panel %q is not PAGE:LEFT,BOTTOM,RIGHT,TOP, as in 1:300,40,500,110", s)
	}
	return page - 1, &r, nil
}
