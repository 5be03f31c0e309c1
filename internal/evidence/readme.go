package evidence

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"time"
	"unicode"
)

//go:embed readme.txt
var readmeText string

// readmeData is what the README says of one prescription. No name of a patient is in it.
type readmeData struct {
	ID, Clinic, Clinician, SignedAt, Created, By, PDF, Core, Certificate, Root, Statement string
	Origin, Tree                                                                          string
	Size                                                                                  uint64
	Service, Cancelled, ClockProven, Passkey                                              bool
	Signed                                                                                uint64 // the line of prescription_signed
	Files                                                                                 string
}

// readme returns README.txt, which depends on nothing else: VerifyPack makes it again and compares, so nobody can put words into it.
func readme(c *core, live *Live, created time.Time) ([]byte, error) {
	t, err := template.New(nameReadme).Option("missingkey=error").Parse(readmeText)
	if err != nil {
		panic("evidence: the README's template: " + err.Error())
	}
	raw, err := canonical(c)
	if err != nil {
		return nil, err
	}
	d := readmeData{
		ID: c.Prescription.ID, Clinic: c.Prescription.Clinic, Clinician: c.Prescription.ClinicianName,
		SignedAt: day(c.Prescription.SignedAt), Created: day(created), By: live.GeneratedBy,
		PDF: c.PDF.SHA256, Core: SHA256(raw), Certificate: c.text(pillarCryptographic, "certificate_serial"),
		Root: c.text(pillarCryptographic, "root_sha256"), Statement: c.Activation.Statement,
		Origin: live.Checkpoint.Origin, Tree: live.Checkpoint.Root, Size: live.Checkpoint.Size,
		Service: c.Activation.Kind == KindService, Passkey: c.Activation.Level == LevelPasskey, Cancelled: live.Status == StatusCancelled,
		ClockProven: c.Pillars[pillarTemporal]["clock_proven"].Value == true,
	}
	for _, s := range []string{d.ID, d.Clinic, d.Clinician, d.By, d.Origin, d.Certificate, d.Root, d.Tree} {
		// A line break would let a name say what the README seems to say.
		if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return nil, fmt.Errorf("evidence: %q holds what cannot be printed", s)
		}
	}
	for _, l := range live.Lines {
		if l.EventType == EventSigned {
			d.Signed = l.Seq
		}
	}
	var list strings.Builder
	for _, f := range listed[1:] {
		fmt.Fprintf(&list, "  %-17s %s\n", f.name, f.what)
	}
	d.Files = list.String()
	var b bytes.Buffer
	if err := t.Execute(&b, d); err != nil {
		return nil, fmt.Errorf("evidence: the README: %w", err)
	}
	return b.Bytes(), nil
}

// day writes a time as a letter would.
func day(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }
