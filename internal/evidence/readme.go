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

//go:embed readme-1.txt
var readme1 string

// readmeVersion is the version of the README that packs get. Another wording is another version with a template of its own: packs that have an earlier one
// stay good. What fills a template in (readmeData, and what its texts are made of) is part of packFormat.
const readmeVersion = 1

// readmeText returns the template of a version.
func readmeText(version int) (string, error) {
	switch version {
	case 1:
		return readme1, nil
	}
	return "", fmt.Errorf("evidence: this program knows no README of version %d, only up to %d", version, readmeVersion)
}

// readmeData is what the README says of one prescription. No name of a patient is in it.
type readmeData struct {
	ID, Clinic, Clinician, SignedAt, Created, By, PDF, Core, Certificate, Root, Statement string
	Origin, Tree, Cosigned, Stamped                                                       string
	Cosigners                                                                             int
	Size                                                                                  uint64
	Service, Cancelled, ClockProven, Passkey, Demo                                        bool
	Signed                                                                                uint64 // the line of prescription_signed
	Files                                                                                 string
}

// readme returns README.txt of a version, which depends on nothing else: VerifyPack makes it again and compares, so nobody can put words into it.
func readme(version int, c *core, live *Live, created time.Time) ([]byte, error) {
	text, err := readmeText(version)
	if err != nil {
		return nil, err
	}
	t, err := template.New(nameReadme).Option("missingkey=error").Parse(text)
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
		Demo:        strings.HasPrefix(c.text(pillarCryptographic, "certificate_issuer"), "DEMO ONLY "), // as a demo's PKI names all its CAs
	}
	d.Cosigned, d.Cosigners = wrap(live.Checkpoint.Statement), len(live.Checkpoint.Cosignatures)
	authority := ""
	if s := live.Stamped; s != nil {
		authority = s.Authority
		d.Stamped = wrap(fmt.Sprintf("%s time-stamped the state of the log with %d lines on %s (stamped-checkpoint.txt and .tsr); stamped-growth.txt shows that the log has grown from there.",
			s.Authority, s.Size, day(s.Time)))
	}
	for _, s := range []string{d.ID, d.Clinic, d.Clinician, d.By, d.Origin, d.Certificate, d.Root, d.Tree, live.Checkpoint.Statement, authority} {
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
	fmt.Fprintf(&list, "  %-17s %s\n", "line-*.tlog-proof", "for each of those lines, proof that it is in that log")
	if live.Stamped != nil {
		fmt.Fprintf(&list, "  %-17s %s\n", "stamped-*", "an authority's time stamp over an earlier state of the log")
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

// wrap breaks a text into lines of less than 100 characters.
func wrap(text string) string {
	var b strings.Builder
	width := 0
	for _, word := range strings.Fields(text) {
		switch {
		case width == 0:
		case width+1+len(word) > 98:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String()
}
