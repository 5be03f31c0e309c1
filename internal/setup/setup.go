// Package setup takes a host from installed to at work, step by step: it asks, looks what there is, does what is missing, and tells.
//
// A step finds out by the facts whether it was done, never by a note that it was: whatever kills a setup, wherever, the next run goes on from there. What the
// steps do with keys, log and services is not known here.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Step is one part of a setup.
type Step struct {
	Name string // a word or two
	// Run looks what there is, does what is missing, and returns what there is then, in a few words: more lines are shown below the first.
	Run func(context.Context) (string, error)
}

// ErrLater is returned, with a text, by a step that is left for later: the setup goes on.
var ErrLater = errors.New("setup: left for later")

// nameWidth is the column of what a step says.
const nameWidth = 16

// Run does the steps in their order and ends with the first that fails. Each is named in w when it begins, so that a watcher knows what takes its time.
func Run(ctx context.Context, w io.Writer, steps []Step) error {
	for _, s := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "  %-*s", nameWidth, s.Name); err != nil {
			return err
		}
		said, err := s.Run(ctx)
		if errors.Is(err, ErrLater) {
			said, err = "later: "+said, nil
		}
		if err != nil {
			fmt.Fprintln(w, "failed")
			return err
		}
		if _, err := fmt.Fprintln(w, Indent(said)); err != nil {
			return err
		}
	}
	return nil
}

// Indent puts the lines after the first below it.
func Indent(said string) string {
	return strings.ReplaceAll(strings.TrimSpace(said), "\n", "\n"+strings.Repeat(" ", nameWidth+2))
}

// Problem is one reason why a setup cannot begin.
type Problem struct{ Text, Cure string }

// Problems is all of them; it is an error of the kind Invalid.
type Problems []Problem

// Err returns nil when there is none, else one error that names each with its cure.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Text + " (" + one.Cure + ")"
	}
	return fault.New(fault.Invalid, "setup cannot begin:\n"+strings.Join(lines, "\n")).WithHint("nothing was changed; mend what is named, then run it again")
}

// Speak writes bytes so that two people can compare them by voice: hexadecimal, in groups of four, eight groups a line.
func Speak(sum []byte) string {
	var b strings.Builder
	for i := 0; i < len(sum); i += 2 {
		switch {
		case i == 0:
		case i%16 == 0:
			b.WriteByte('\n')
		default:
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%x", sum[i:min(i+2, len(sum))])
	}
	return b.String()
}
