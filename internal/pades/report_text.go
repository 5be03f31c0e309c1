package pades

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// summary says the verdict in one sentence.
func (r *Report) summary() string {
	signatures := 0
	var first *SignatureReport // that decided; of signatures and time stamps, a signature
	for i := range r.Signatures {
		s := &r.Signatures[i]
		if s.Kind != KindTimeStamp {
			signatures++
		}
		if s.verdict() == r.Verdict && (first == nil || first.Kind == KindTimeStamp && s.Kind != KindTimeStamp) {
			first = s
		}
	}
	switch r.Verdict {
	case NoSignature:
		if len(r.Signatures) > 0 {
			return "The document is time-stamped, but nobody signed it."
		}
		return "The document has no signature."
	case Valid:
		if signatures == 1 {
			return fmt.Sprintf("The signature by %s is valid%s.", first.who(), first.when())
		}
		return fmt.Sprintf("All %d signatures are valid.", signatures)
	case Invalid:
		return fmt.Sprintf("NOT VALID: the %s %q by %s failed: %s.", first.Kind.words(), first.Field, first.who(), first.why())
	}
	return fmt.Sprintf("COULD NOT BE JUDGED: the %s %q by %s: %s.", first.Kind.words(), first.Field, first.who(), first.why())
}

func (k Kind) words() string { return strings.ReplaceAll(string(k), "_", " ") }

func (s *SignatureReport) who() string {
	switch {
	case s.Signer == nil:
		return "an unknown signer"
	case s.Signer.RegistrationNumber != "":
		return s.Signer.Name + " (" + s.Signer.RegistrationNumber + ")"
	}
	return s.Signer.Name
}

func (s *SignatureReport) when() string {
	if s.ProvenTime == nil {
		return ""
	}
	return ", proven to exist at " + stamp3339(*s.ProvenTime)
}

// why returns the reason that decided: of a modified document, the first change that is not allowed.
func (s *SignatureReport) why() string {
	reason := "no reason is known"
	if len(s.Reasons) > 0 {
		reason = s.Reasons[0]
	}
	if c := s.modification(); c != nil && s.SubIndication == FormatFailure {
		return fmt.Sprintf("%s (revision %d: %s)", c.modified(), c.Revision, c.Text)
	}
	return reason
}

// modification returns the first change that is not allowed, nil when there is none.
func (s *SignatureReport) modification() *Change {
	for i := range s.Changes {
		if !s.Changes[i].Allowed {
			return &s.Changes[i]
		}
	}
	return nil
}

func (c *Change) modified() string {
	if c.tail {
		return "the document was modified after signing, or the file was cut off"
	}
	return "the document was modified after signing"
}

// printable replaces what could make a terminal show another text than this one: names come from certificates and the document.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '\uFFFD'
}

func revisionCount(n int) string {
	if n == 1 {
		return "1 revision"
	}
	return fmt.Sprintf("%d revisions", n)
}

// anchors returns the trust anchors that the paths of the signer and of the time stamps lead to, each once.
func (s *SignatureReport) anchors() []CertificateReport {
	var list []CertificateReport
	add := func(path []CertificateReport) {
		for _, c := range path {
			if c.Anchor && !slices.ContainsFunc(list, func(have CertificateReport) bool { return have.SHA256 == c.SHA256 }) {
				list = append(list, c)
			}
		}
	}
	add(s.Certificates)
	for _, t := range s.TimeStamps {
		add(t.Certificates)
	}
	return list
}

// Text returns the report for a person: the summary first, then each signature with its reasons and what came after it.
func (r *Report) Text() string {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		b.WriteString(strings.Repeat("  ", indent))
		b.WriteString(strings.Map(printable, fmt.Sprintf(format, args...)))
		b.WriteByte('\n')
	}
	line(0, "%s", r.Summary)
	line(0, "Judged at %s; %d bytes, %s, SHA-256 %s", stamp3339(r.ValidatedAt), r.Size, revisionCount(r.Revisions), r.SHA256)
	for _, w := range r.Warnings {
		line(0, "Warning: %s", w)
	}
	for i := range r.Signatures {
		r.Signatures[i].write(line, r.Revisions)
	}
	return b.String()
}

func (s *SignatureReport) write(line func(int, string, ...any), revisions int) {
	verdict := string(s.Indication)
	if s.SubIndication != "" {
		verdict += " / " + string(s.SubIndication)
	}
	line(0, "")
	line(0, "%s %q: %s", strings.ToUpper(string(s.Kind[:1]))+s.Kind.words()[1:], s.Field, verdict)
	if s.Signer != nil {
		line(1, "Signer: %s", s.who())
		line(1, "Certificate: serial %s, issued by %s, valid %s to %s", s.Signer.Serial, s.Signer.Issuer, stamp3339(s.Signer.NotBefore), stamp3339(s.Signer.NotAfter))
	}
	for _, a := range s.anchors() {
		line(1, "Trust anchor: %s, SHA-256 %s…", a.Subject, a.SHA256[:min(16, len(a.SHA256))])
	}
	if s.Kind != KindTimeStamp {
		if s.Level == LevelNone {
			line(1, "Level: none of PAdES baseline (%s)", s.Format)
		} else {
			line(1, "Level: PAdES %s", s.Level)
		}
		for _, n := range s.LevelNotes {
			line(2, "%s", n)
		}
	}
	if s.ClaimedTime != nil {
		line(1, "Claimed time: %s", stamp3339(*s.ClaimedTime))
	}
	if s.ProvenTime != nil {
		line(1, "Proven time: %s, by %s", stamp3339(*s.ProvenTime), s.ProvenBy)
	}
	switch {
	case s.CoversWholeDocument:
		line(1, "Covers the whole document")
	case s.Revision > 0:
		line(1, "Covers revision %d of %d", s.Revision, revisions)
	default:
		line(1, "Covers no revision of the document")
	}
	for _, c := range s.Changes {
		mark := "afterwards"
		if !c.Allowed {
			mark = "MODIFIED AFTERWARDS"
		}
		line(1, "%s (revision %d): %s", mark, c.Revision, c.Text)
	}
	for _, reason := range s.Reasons {
		line(1, "Reason: %s", reason)
	}
	for _, w := range s.Warnings {
		line(1, "Warning: %s", w)
	}
}
