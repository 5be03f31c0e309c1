package dmd

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// part is what is read of one file.
type part struct {
	file     string
	sections []section
}

// section is a list of records within the file's root element: <SECTION><RECORD><FIELD>text</FIELD>…</RECORD>…</SECTION>.
type section struct {
	name, record string
	fields       []string               // of which the texts are wanted
	take         func(v []string) error // is given them, in that order, "" for what is not there
}

// Bounds of the XML.
const (
	maxDepth = 6       // the files have 4 levels: root, section, record, field
	maxToken = 1 << 16 // bytes between one token and the next; a name has at most 700 characters
	maxField = 256     // bytes of a field that is wanted
)

// read reads one file as a stream: nothing is kept but the fields of one record. Nothing is expanded: a document type is refused, and so is an entity
// that is not one of XML's own five.
func (p part) read(in io.Reader) error {
	meter := &meter{r: in}
	d := xml.NewDecoder(meter)
	s := &scan{part: p, counts: map[string]int{}}
	for {
		meter.left = maxToken
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("is not the XML that it should be: %w", err)
		}
		if err := s.token(token); err != nil {
			line, _ := d.InputPos()
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	if len(s.path) > 0 || !s.rooted {
		return errors.New("ends too early")
	}
	for _, want := range p.sections {
		if s.counts[want.name] == 0 {
			return fmt.Errorf("has no <%s> with a <%s>", want.name, want.record)
		}
	}
	return nil
}

// meter bounds what one token can make the decoder hold.
type meter struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, fmt.Errorf("one element, text or comment has more than %d bytes", maxToken)
	}
	n, err := m.r.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// scan is the state of reading one file.
type scan struct {
	part   part
	path   []string
	rooted bool
	values []string // of the record that is being read
	seen   []bool
	text   strings.Builder
	counts map[string]int // records, by section
}

func (s *scan) token(t xml.Token) error {
	switch t := t.(type) {
	case xml.StartElement:
		return s.open(t.Name.Local)
	case xml.EndElement:
		return s.close(t.Name.Local)
	case xml.CharData:
		if len(s.path) == 0 && strings.TrimLeft(string(t), "\ufeff \t\r\n") != "" {
			return errors.New("there is text outside of the root element")
		}
		if _, wanted := s.field(); wanted {
			if s.text.Len()+len(t) > maxField {
				return fmt.Errorf("<%s> has more than %d bytes", s.path[3], maxField)
			}
			s.text.Write(t)
		}
	case xml.Directive:
		return errors.New("a document type is not taken here")
	case xml.ProcInst:
		if t.Target != "xml" || s.rooted {
			return errors.New("a processing instruction is not taken here")
		}
	}
	return nil
}

func (s *scan) open(name string) error {
	if len(s.path) == 0 && s.rooted {
		return errors.New("there is a second root element")
	}
	if len(s.path) >= maxDepth {
		return fmt.Errorf("elements are more than %d deep", maxDepth)
	}
	s.rooted = true
	if _, inField := s.field(); inField {
		return fmt.Errorf("<%s> holds elements", s.path[3])
	}
	s.path = append(s.path, name)
	if in := s.section(); in != nil && len(s.path) == 3 {
		s.values, s.seen = make([]string, len(in.fields)), make([]bool, len(in.fields))
	}
	if i, wanted := s.field(); wanted {
		if s.seen[i] {
			return fmt.Errorf("there is a second <%s>", name)
		}
		s.seen[i] = true
		s.text.Reset()
	}
	return nil
}

func (s *scan) close(name string) error {
	last := len(s.path) - 1
	if last < 0 || s.path[last] != name {
		return fmt.Errorf("</%.40s> closes what is not open", name)
	}
	if i, wanted := s.field(); wanted {
		s.values[i] = strings.TrimSpace(s.text.String())
	}
	in := s.section()
	s.path = s.path[:last]
	if in == nil || last != 2 {
		return nil
	}
	s.counts[in.name]++
	return in.take(s.values)
}

// section returns the section whose record the path is in, nil outside.
func (s *scan) section() *section {
	if len(s.path) < 3 {
		return nil
	}
	i := slices.IndexFunc(s.part.sections, func(one section) bool { return one.name == s.path[1] && one.record == s.path[2] })
	if i < 0 {
		return nil
	}
	return &s.part.sections[i]
}

// field returns which wanted field of the record the path ends in.
func (s *scan) field() (int, bool) {
	in := s.section()
	if in == nil || len(s.path) != 4 {
		return 0, false
	}
	i := slices.Index(in.fields, s.path[3])
	return i, i >= 0
}
