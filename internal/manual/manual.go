// Package manual writes the manual pages: those of the verbs from what the verbs say of themselves, those of the configuration files from
// the table of keys. There is no second text that could be wrong.
package manual

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/veripath/aes-appliance/internal/config"
)

// Info is what stands in the head and foot of every page.
type Info struct {
	Version string
	Date    time.Time
}

// ConfigPages are the manual pages of the two configuration files, by the names that other pages refer to.
const (
	AppliancePage = "appliance.toml"
	ReceiverPage  = "receiver.toml"
)

// Verbs returns a page of section 1 for root and for every verb under it that is not hidden, by file name: "appliance-cert-issue.1".
func Verbs(root *cobra.Command, info Info) map[string][]byte {
	pages := map[string][]byte{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		pages[pageName(c)+".1"] = verb(c, info)
		for _, sub := range shown(c) {
			walk(sub)
		}
	}
	walk(root)
	return pages
}

// Files returns the pages of section 5 for the two configuration files, by file name: "appliance.toml.5".
func Files(info Info) map[string][]byte {
	return map[string][]byte{
		AppliancePage + ".5": file(AppliancePage, config.Path, "configuration of the AES appliance", "appliance-config", config.Document(), info),
		ReceiverPage + ".5":  file(ReceiverPage, config.ReceiverPath, "configuration of a backup host of the AES appliance", "appliance-receiver-config", config.ReceiverDocument(), info),
	}
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// shown returns the verbs under c that a person is told of.
func shown(c *cobra.Command) (list []*cobra.Command) {
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			list = append(list, sub)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name() < list[j].Name() })
	return list
}

func verb(c *cobra.Command, info Info) []byte {
	p := newPage(pageName(c), 1, "AES appliance", info)
	p.section("NAME").text(pageName(c) + " - " + lowerFirst(strings.TrimSuffix(c.Short, ".")))
	p.section("SYNOPSIS")
	subs := shown(c)
	if c.Runnable() {
		p.synopsis(strings.TrimSuffix(c.UseLine(), " [flags]") + optional(c.HasAvailableFlags(), " [options]"))
	}
	if len(subs) > 0 {
		p.synopsis(c.CommandPath() + " verb [options]")
	}
	p.section("DESCRIPTION")
	if c.Long != "" {
		p.prose(c.Long)
	} else {
		p.prose(strings.TrimSuffix(c.Short, ".") + ".")
	}
	if len(subs) > 0 {
		p.section("VERBS")
		for _, sub := range subs {
			p.tagged(bold(sub.Name()), sub.Short)
		}
	}
	p.flags("OPTIONS", c.NonInheritedFlags())
	p.flags("OPTIONS OF EVERY VERB", c.InheritedFlags())
	if c.Example != "" {
		p.section("EXAMPLES").verbatim(c.Example)
	}
	if c.HasParent() {
		p.section("EXIT STATUS").text("0 good, 1 bad, 2 could not judge, 64 wrong usage: appliance(1) says more.")
	} else {
		p.section("FILES")
		p.tagged(italic(config.Path), "configuration of the appliance, appliance.toml(5)")
		p.tagged(italic(config.ReceiverPath), "configuration of a backup host, receiver.toml(5)")
	}
	p.seeAlso(c, subs)
	return p.bytes()
}

// seeAlso points to the page above, those below, and those of the configuration files.
func (p *page) seeAlso(c *cobra.Command, subs []*cobra.Command) {
	var names []string
	if c.HasParent() {
		names = append(names, pageName(c.Parent())+"(1)")
	}
	for _, sub := range subs {
		names = append(names, pageName(sub)+"(1)")
	}
	p.section("SEE ALSO").text(strings.Join(append(names, AppliancePage+"(5)", ReceiverPage+"(5)"), ", "))
}

// flags writes a section with one entry for each flag, or nothing.
func (p *page) flags(title string, set *pflag.FlagSet) {
	if !set.HasAvailableFlags() {
		return
	}
	p.section(title)
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		head := bold("--" + f.Name)
		if f.Shorthand != "" {
			head = bold("-"+f.Shorthand) + ", " + head
		}
		if value != "" {
			head += " " + italic(value)
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" && f.DefValue != "0s" {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		p.tagged(head, usage)
	})
}

func file(name, path, short, checker string, doc config.Description, info Info) []byte {
	p := newPage(name, 5, "AES appliance", info)
	p.section("NAME").text(name + " - " + short)
	p.section("SYNOPSIS").line(italic(path))
	p.section("DESCRIPTION").
		prose("A file in TOML. Keys that it does not know are refused, and everything that is wrong is said at once: " + strings.ReplaceAll(checker, "-", " ") +
			" check. Secrets are never in it, only the paths of files that hold them. A relative path is taken from the folder of the file.")
	for _, s := range doc.Sections {
		if s.Name == "" {
			p.section("KEYS BEFORE THE FIRST SECTION")
		} else {
			p.section("SECTION [" + strings.ToUpper(s.Name) + "]").prose(s.Doc)
		}
		for _, k := range s.Keys {
			p.tagged(bold(k.Name), k.Doc)
			switch {
			case k.Mandatory:
				p.more("Must be set, for instance " + k.Name + " = " + k.Example)
			case k.Default == `""`:
				p.more("Empty when absent. For instance " + k.Name + " = " + k.Example)
			default:
				p.more("When absent: " + k.Default)
			}
		}
	}
	p.section("SEE ALSO").text(checker + "-check(1), " + checker + "-example(1), appliance(1)")
	return p.bytes()
}

func optional(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}

// lowerFirst writes "Issue a certificate" as a page's NAME wants it, and leaves "TLS" as it is.
func lowerFirst(s string) string {
	if len(s) > 1 && s[0] >= 'A' && s[0] <= 'Z' && (s[1] < 'A' || s[1] > 'Z') {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
