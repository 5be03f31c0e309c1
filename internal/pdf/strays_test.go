package pdf

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// evil is what a repairing reader would show in place of object 4.
const evil = "4 0 obj\n<< /Length 4 >>\nstream\nEVIL\nendstream\nendobj\n"

// What an update of a signed file may hold besides what its sections list.
func TestStrays(t *testing.T) {
	base := func() *builder { return newBuilder().page("", "").obj(4, "null").table("") }
	raw := func(d *builder, s string) *builder {
		d.b = append(d.b, s...)
		return d
	}
	packed := base()
	packed.objStm(8, 4, "null", "null")
	delete(packed.inStm, 4)
	packed.xrefStream(9, "")
	swapped := base()
	swapped.objStm(8, 4, "null", "null")
	delete(swapped.inStm, 4)
	swapped.inStm[12], swapped.size = [2]int{8, 0}, 13
	swapped.xrefStream(9, "")
	for name, c := range map[string]struct {
		d    *builder
		want string // "" = none
	}{
		"nothing":            {base().obj(5, "null").table(""), ""},
		"a writer's name":    {raw(base().obj(5, "null"), "%Writer-7.2.5 (c) someone\n").table(""), ""},
		"stream":             {base().stream(5, "", []byte("q Q no object: obj objects 12obj 7 obj")).table(""), ""},
		"object stream":      {base().objStm(8, 4, "null", "null").xrefStream(9, ""), ""},
		"object":             {raw(base(), evil).obj(5, "null").table(""), "no listed object: 4 0 obj"},
		"object between":     {raw(base().obj(5, "null"), evil).obj(6, "null").table(""), "no listed object: 4 0 obj"},
		"object after xref":  {raw(base().obj(5, "null").table(""), evil), "no listed object: 4 0 obj"},
		"one letter":         {raw(base().obj(5, "null"), "x").table(""), "no listed object: x"},
		"trailer":            {raw(base().obj(5, "null"), "trailer\n<< /Root 5 0 R >>\n").table(""), "no listed object: trailer"},
		"comment":            {raw(base().obj(5, "null"), "% "+strings.ReplaceAll(evil, "\n", " ")+"\n").table(""), "a comment"},
		"long comment":       {raw(base().obj(5, "null"), "%"+strings.Repeat("-", 200)+"\n").table(""), "a comment"},
		"comment in object":  {base().obj(5, "% "+strings.ReplaceAll(evil, "\n", " ")+"\nnull").table(""), "inside of a listed object, what looks like an object: 4 0 obj"},
		"comments between":   {base().obj(5, "(4 % 1 0\n % 2 0\n 0 % x\n obj)").table(""), "what looks like an object: 4 % 1 0"},
		"glued":              {base().obj(5, "(4 0obj)").table(""), "what looks like an object: 4 0obj"},
		"in a stream":        {base().stream(5, "", []byte("endstream endobj\n"+evil)).table(""), "what looks like an object: 4 0 obj"},
		"trailer in stream":  {base().stream(5, "", []byte("\ntrailer<< /Root 4 0 R >>")).table(""), "the keyword trailer"},
		"startxref in it":    {base().stream(5, "", []byte("\nstartxref\n9\n%%EOF")).table(""), "the keyword startxref"},
		"xref in a string":   {base().obj(5, "(\nxref\n0 1)").table(""), "the keyword xref"},
		"in a trailer":       {base().obj(5, "null").table("/S (\n" + evil + ")"), "what looks like an object: 4 0 obj"},
		"unlisted in ObjStm": {packed, "object stream 8 0 holds object 4"},
		"misnamed in ObjStm": {swapped, "object stream 8 0 holds object 4"},
		"later listed":       {raw(base(), "9 0 obj null endobj\n").obj(5, "null").table(""), "no listed object: 9 0 obj"},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, c.d.b)
			got, err := f.Strays(1)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) == 0 || !strings.Contains(got[0].Text, c.want)) {
				t.Errorf("%+v, want %q", got, c.want)
			}
			for _, s := range got {
				if s.Offset < f.Revisions()[1].Start || s.Offset >= int64(len(c.d.b)) {
					t.Errorf("at %d", s.Offset)
				}
			}
			if first, err := f.Strays(0); err != nil || len(first) > 0 {
				t.Errorf("the first revision: %+v, %v", first, err)
			}
		})
	}
	if _, err := open(t, base().b).Strays(1); err == nil {
		t.Error("a revision that is not there")
	}
}

// What this package writes has none, at any point of its history.
func TestStraysOfOwnUpdates(t *testing.T) {
	for name, data := range kinds() {
		if name == "junk before" || name == "header later" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			f := open(t, data)
			n := len(f.Revisions())
			if name == "junk behind" { // which belongs to the update after it
				n++
				f = sign(t, f, SignatureOptions{})
			}
			f = sign(t, f, SignatureOptions{Appearance: &Appearance{Rect: [4]float64{0, 0, 9, 9}, Content: []byte("q Q")}})
			f, err := AppendDSS(f, DSS{Certs: [][]byte{{1}, {2}}})
			if err != nil {
				t.Fatal(err)
			}
			f = sign(t, f, SignatureOptions{Type: "DocTimeStamp"})
			for _, g := range []*File{f, open(t, bytes.Clone(f.Bytes()))} {
				for i := n; i < n+3; i++ {
					if got, err := g.Strays(i); err != nil || len(got) > 0 {
						t.Error(fmt.Sprint(i), got, err)
					}
				}
			}
		})
	}
}
