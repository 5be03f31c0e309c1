package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// pillars are the names that a core has, exactly.
var pillars = []string{pillarCryptographic, pillarIdentity, pillarForensic, pillarIntent, pillarTemporal, pillarCustody, pillarTamper}

// parseCore reads a core. It must be canonical, of this version, and have every pillar with every fact tagged.
func parseCore(b []byte) (*core, error) {
	if !isCanonical(b) {
		return nil, errors.New("evidence: the core is not canonical JSON")
	}
	var c core
	if err := strict(b, &c); err != nil {
		return nil, fmt.Errorf("evidence: the core: %w", err)
	}
	if c.Format != coreFormat || c.Type != EvidenceType {
		return nil, fmt.Errorf("evidence: the core is of format %q and type %q, not %q and %q", c.Format, c.Type, coreFormat, EvidenceType)
	}
	if len(c.Pillars) != len(pillars) {
		return nil, fmt.Errorf("evidence: the core has %d pillars, not %d", len(c.Pillars), len(pillars))
	}
	for _, name := range pillars {
		if len(c.Pillars[name]) == 0 {
			return nil, fmt.Errorf("evidence: the core says nothing %s", name)
		}
		for key, f := range c.Pillars[name] {
			if !slices.Contains([]Basis{Verified, Observed, Asserted}, f.Basis) {
				return nil, fmt.Errorf("evidence: the core does not say how %s.%s is known", name, key)
			}
		}
	}
	if !isHash(c.PDF.SHA256) || c.Prescription.ID == "" {
		return nil, errors.New("evidence: the core names no prescription or no document")
	}
	if a := c.Activation; a.Statement != (Activation{a.Level, a.Kind}).Statement() {
		return nil, errors.New("evidence: the core describes its activation in other words")
	}
	// What Core returns has each member once, under its exact name: encoding/json alone would take others for it.
	again, err := canonical(c)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errors.New("evidence: the core is not written as Core writes it")
	}
	return &c, nil
}

// text returns a fact that is a string, "" when there is none.
func (c *core) text(pillar, name string) string {
	s, _ := c.Pillars[pillar][name].Value.(string)
	return s
}

// strict decodes b into v; an unknown member, or anything after the value, is an error.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON value")
	}
	return nil
}

// unmarshal decodes b into v, with numbers kept as they are written.
func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}

// value decodes a fact into v, which stays as it is when there is none.
func (c *core) value(pillar, name string, v any) error {
	f, ok := c.Pillars[pillar][name]
	if !ok {
		return fmt.Errorf("the core does not say %s.%s", pillar, name)
	}
	b, err := json.Marshal(f.Value)
	if err != nil {
		return err
	}
	if err := strict(b, v); err != nil {
		return fmt.Errorf("the core's %s.%s: %w", pillar, name, err)
	}
	return nil
}
