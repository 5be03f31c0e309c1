package manual

import (
	"bytes"
	"fmt"
	"strings"
)

// page is one manual page in the making, in the macros of man(7).
type page struct{ b bytes.Buffer }

func newPage(name string, section int, manual string, info Info) *page {
	p := &page{}
	fmt.Fprintf(&p.b, ".TH %s %d %s %s %s\n.nh\n.ad l\n", quoted(strings.ToUpper(name)), section,
		quoted(info.Date.UTC().Format("2006-01-02")), quoted("aes-appliance "+info.Version), quoted(manual))
	return p
}

func (p *page) bytes() []byte { return p.b.Bytes() }

func (p *page) section(title string) *page {
	fmt.Fprintf(&p.b, ".SH %s\n", quoted(title))
	return p
}

// text writes words that are filled into lines.
func (p *page) text(s string) *page { return p.line(escape(s)) }

// line writes what is roff already, on a line of its own.
func (p *page) line(roff string) *page {
	p.b.WriteString(guard(roff) + "\n")
	return p
}

// prose writes paragraphs, which blank lines keep apart; lines that are indented stand as they are.
func (p *page) prose(s string) *page {
	for i, block := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			p.b.WriteString(".PP\n")
		}
		if strings.HasPrefix(block, "  ") {
			p.verbatim(block)
			continue
		}
		p.text(strings.Join(strings.Fields(block), " "))
	}
	return p
}

func (p *page) verbatim(s string) *page {
	p.b.WriteString(".nf\n")
	for line := range strings.Lines(strings.Trim(s, "\n")) {
		p.line(escape(strings.TrimRight(line, "\n")))
	}
	p.b.WriteString(".fi\n")
	return p
}

// synopsis writes a command line: the command's words in bold, what the user puts in as it is.
func (p *page) synopsis(s string) {
	words := strings.Fields(s)
	for i, w := range words {
		if w == strings.ToUpper(w) || strings.ContainsAny(w, "[]") || w == "verb" {
			words[i] = italic(w)
			continue
		}
		words[i] = bold(w)
	}
	p.line(strings.Join(words, " ")).line(".br")
}

func (p *page) tagged(head, text string) {
	p.b.WriteString(".TP\n" + guard(head) + "\n")
	p.text(strings.Join(strings.Fields(text), " "))
}

// more goes on with the entry that tagged began, on a new line.
func (p *page) more(text string) { p.b.WriteString(".br\n"); p.text(text) }

func bold(s string) string   { return `\fB` + escape(s) + `\fR` }
func italic(s string) string { return `\fI` + escape(s) + `\fR` }

// escape keeps roff from taking text for its own: backslashes, and hyphens, which are to be copied from a page as the characters they are.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
}

// guard keeps a line of text that begins like a request from being one. What this package writes as a request begins with a dot and a letter.
func guard(s string) string {
	if strings.HasPrefix(s, "'") || strings.HasPrefix(s, ".") && s != ".br" {
		return `\&` + s
	}
	return s
}

// quoted is an argument of a macro.
func quoted(s string) string { return `"` + strings.ReplaceAll(escape(s), `"`, `\(dq`) + `"` }
