package setup

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Item is one question of an interview, or a heading.
type Item struct {
	Heading string // alone: what the next questions are about
	Key     string // of the answer
	Label   string // what is asked for, in a few words
	// When says whether to ask, by what was answered so far; nil: always.
	When func(answered map[string]string) bool
	// Needed makes an answer mandatory that is not in the table.
	Needed bool
	// Default stands in brackets and is taken for an empty line; nil or "" = the table's.
	Default func(answered map[string]string) string
}

// Interview asks a person, line by line: it works over ssh, on a serial line and in a pipe.
type Interview struct {
	in   *bufio.Reader
	out  io.Writer
	role config.Role
}

// NewInterview returns one over these streams.
func NewInterview(role config.Role, in io.Reader, out io.Writer) *Interview {
	return &Interview{bufio.NewReader(in), out, role}
}

// Hold asks everything and returns an answers file. What is wrong is said at once and asked again. before gives what was answered in an earlier interview, which stands in brackets
// then. Errors: Invalid (the input ended).
func (v *Interview) Hold(ctx context.Context, items []Item, before func(key string) string) ([]byte, error) {
	answered, lines := map[string]string{}, map[string][]string{}
	var sections []string
	for _, i := range items {
		if i.When != nil && !i.When(answered) {
			continue
		}
		if i.Key == "" {
			fmt.Fprintf(v.out, "\n%s\n", i.Heading)
			continue
		}
		typed, line, err := v.ask(ctx, i, answered, before(i.Key))
		if err != nil {
			return nil, err
		}
		answered[i.Key] = typed
		if line == "" {
			continue
		}
		section, _, _ := strings.Cut(i.Key, ".")
		if lines[section] == nil {
			sections = append(sections, section)
		}
		lines[section] = append(lines[section], line)
	}
	var file strings.Builder
	for _, s := range sections {
		fmt.Fprintf(&file, "[%s]\n%s\n", s, strings.Join(lines[s], "\n"))
	}
	return []byte(file.String()), nil
}

// ask asks one question until the answer is good; line is it as a line of a file, "" when it is left out.
func (v *Interview) ask(ctx context.Context, i Item, answered map[string]string, before string) (typed, line string, err error) {
	q, ok := config.Ask(v.role, i.Key)
	if !ok {
		panic("setup: a question about " + i.Key + ", which is no answer")
	}
	fallback := q.Default
	if i.Default != nil {
		if own := i.Default(answered); own != "" {
			fallback = own
		}
	}
	if before != "" {
		fallback = before
	}
	prompt := "  " + i.Label + i.hint(q, fallback)
	for {
		if err := ctx.Err(); err != nil {
			return "", "", err
		}
		if typed, err = v.line(prompt + ": "); err != nil {
			return "", "", err
		}
		if typed == "?" {
			fmt.Fprintf(v.out, "    %s\n    For instance %s\n", q.Doc, q.Example)
			continue
		}
		switch {
		case typed == "":
			typed = fallback
		case typed == "-" && !q.Mandatory && !i.Needed && q.Default == "":
			typed = ""
		}
		if typed == "" {
			if !q.Mandatory && !i.Needed {
				return "", "", nil
			}
			fmt.Fprintln(v.out, "    this must be answered; ? explains")
			continue
		}
		line, understood, err := q.Line(typed)
		if err == nil {
			return understood, line, nil
		}
		fmt.Fprintf(v.out, "    that %v\n", err)
	}
}

// hint is what stands behind a label.
func (i Item) hint(q config.Question, fallback string) string {
	const most = 32 // characters of an example: a longer one is for who asks
	needed := q.Mandatory || i.Needed
	switch {
	case fallback != "" && !needed && i.Default == nil && q.Default == "":
		return " [" + fallback + "; - for none]"
	case fallback != "":
		return " [" + fallback + "]"
	case needed && len(q.Example) <= most:
		return " (such as " + q.Example + ")"
	case needed:
		return " (? explains)"
	}
	return " (empty: none)"
}

// maxLine bounds what is typed in one line.
const maxLine = 4096

// line reads one line.
func (v *Interview) line(prompt string) (string, error) {
	if _, err := io.WriteString(v.out, prompt); err != nil {
		return "", err
	}
	var b strings.Builder
	for {
		c, err := v.in.ReadByte()
		if err == io.EOF && b.Len() > 0 || err == nil && c == '\n' {
			return strings.TrimSpace(b.String()), nil
		}
		if err != nil {
			fmt.Fprintln(v.out)
			return "", fault.New(fault.Invalid, "the input ended before everything was answered").WithCause(err).
				WithHint("nothing was changed; answer at a terminal, or give a file: appliance setup --example >answers.toml, then --answers answers.toml")
		}
		if b.WriteByte(c); b.Len() > maxLine {
			return "", fault.New(fault.Invalid, "a line is longer than any answer").WithHint("nothing was changed")
		}
	}
}

// Confirm asks a question of yes or no; an empty line is what fallback says.
func (v *Interview) Confirm(question string, fallback bool) (bool, error) {
	hint := " [yes]: "
	if !fallback {
		hint = " [no]: "
	}
	for {
		typed, err := v.line(question + hint)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(typed) {
		case "":
			return fallback, nil
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
		fmt.Fprintln(v.out, "    yes or no")
	}
}

// Line asks for one line that is kept nowhere: a code.
func (v *Interview) Line(prompt string) (string, error) { return v.line(prompt + ": ") }
