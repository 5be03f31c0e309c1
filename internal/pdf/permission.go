package pdf

import (
	"slices"
	"strconv"
	"strings"
)

// permissions are what the signatures already in a document leave to those that follow.
type permissions struct {
	p      int // the strictest DocMDP P, 0 = none
	by     string
	locks  []lock
	signed string // the name of a signed field that is no document time stamp; "" = none
	usage  bool   // usage rights that restrict, without the right to sign
}

// lock is what FieldMDP or a signature field lock dictionary says (§12.8.2.4, §12.7.5.5 table 236).
type lock struct {
	action Name
	fields []string
	by     string
}

// covers tells whether the lock forbids a value for the field called name.
func (l lock) covers(name string) bool {
	in := slices.ContainsFunc(l.fields, func(s string) bool { return name == s || strings.HasPrefix(name, s+".") })
	switch l.action {
	case "Include":
		return in
	case "Exclude":
		return !in
	}
	return true // All, and whatever is not known
}

// permissions reads what signed fields and the catalog's Perms say. What is malformed counts at its strictest.
func (f *File) permissions(fm *form, sigs []Signature) (*permissions, error) {
	pm := &permissions{}
	for _, s := range sigs {
		if s.Type != "DocTimeStamp" && pm.signed == "" {
			pm.signed = s.Field
		}
		if s.Dict == nil { // malformed, or another field's, which counts there
			continue
		}
		if err := f.signaturePermissions(pm, s); err != nil {
			return nil, within("signature "+strconv.Quote(s.Field), err)
		}
	}
	for _, fd := range fm.fields {
		if fd.typ != "Sig" || !slices.ContainsFunc(sigs, func(s Signature) bool { return s.FieldRef == fd.ref }) {
			continue
		}
		d, err := f.resolveDict(fd.dict["Lock"], "/Lock of a signature field")
		if err != nil {
			return nil, err
		}
		if err := f.lockPermissions(pm, d, fd.name); err != nil {
			return nil, err
		}
	}
	return pm, f.catalogPermissions(pm)
}

func (pm *permissions) restrict(p int, by string) {
	if p > 0 && (pm.p == 0 || p < pm.p) {
		pm.p, pm.by = p, by
	}
}

// signaturePermissions adds the DocMDP and FieldMDP references of one signature.
func (f *File) signaturePermissions(pm *permissions, s Signature) error {
	return f.references(s.Dict, func(method Name, parms Dict) error {
		switch method {
		case "DocMDP":
			p, err := f.resolveInt(parms["P"], "/P of DocMDP", 2)
			if err != nil {
				return err
			}
			pm.restrict(clampP(p), s.Field)
		case "FieldMDP":
			l, err := f.lock(parms, s.Field)
			if err != nil {
				return err
			}
			pm.locks = append(pm.locks, l)
		}
		return nil
	})
}

// clampP takes a P that does not exist for the strictest.
func clampP(p int64) int {
	if p < 1 || p > 3 {
		return 1
	}
	return int(p)
}

// lockPermissions adds a signed field's lock dictionary.
func (f *File) lockPermissions(pm *permissions, d Dict, by string) error {
	if d == nil {
		return nil
	}
	l, err := f.lock(d, by)
	if err != nil {
		return err
	}
	pm.locks = append(pm.locks, l)
	p, err := f.resolveInt(d["P"], "/P of a field's /Lock", 0)
	if err == nil && p != 0 {
		pm.restrict(clampP(p), by)
	}
	return err
}

func (f *File) lock(d Dict, by string) (lock, error) {
	action, err := f.resolveName(d["Action"], "/Action of a lock")
	if err != nil {
		return lock{}, err
	}
	names, err := f.resolveArray(d["Fields"], "/Fields of a lock")
	if err != nil {
		return lock{}, err
	}
	l := lock{action: action, by: by}
	for _, o := range names {
		v, err := f.Resolve(o)
		if err != nil {
			return lock{}, err
		}
		s, ok := v.(String)
		if !ok {
			return lock{}, invalid("/Fields of a lock holds something other than strings")
		}
		l.fields = append(l.fields, Text(s))
	}
	return l, nil
}

// catalogPermissions adds what the catalog's Perms dictionary says (§12.8.6).
func (f *File) catalogPermissions(pm *permissions) error {
	c, _, err := f.Catalog()
	if err != nil {
		return err
	}
	perms, err := f.resolveDict(c["Perms"], "/Perms")
	if err != nil {
		return err
	}
	cert, err := f.resolveDict(perms["DocMDP"], "/DocMDP of /Perms")
	if err != nil {
		return err
	}
	if cert != nil {
		p, err := f.docMDP(cert)
		if err != nil {
			return err
		}
		pm.restrict(clampP(int64(p)), "the certification")
		if pm.signed == "" {
			pm.signed = "the certification"
		}
	}
	rights, err := f.resolveDict(perms["UR3"], "/UR3 of /Perms")
	if err != nil || rights == nil {
		return err
	}
	return f.references(rights, func(method Name, parms Dict) error {
		only, _ := f.Resolve(parms["P"])
		sign, err := f.resolveArray(parms["Signature"], "/Signature of /UR3")
		if method == "UR3" && only == true && !slices.Contains(sign, Object(Name("Modify"))) {
			pm.usage = true
		}
		return err
	})
}

// lockedBy returns the signature that locks the field called name; "" = none.
func (pm *permissions) lockedBy(name string) string {
	for _, l := range pm.locks {
		if l.covers(name) {
			return strconv.Quote(l.by)
		}
	}
	return ""
}

// allow refuses a signature that the document does not permit. fresh: its field is a new one.
func (pm *permissions) allow(o SignatureOptions, name string, fresh bool) error {
	stamp := o.Type == "DocTimeStamp"
	by := pm.lockedBy(name)
	switch {
	case by != "" && !(fresh && stamp):
		return forbidden("the field %q is locked by the signature %s", name, by)
	case o.Certify > 0 && pm.signed != "":
		// §12.8.2.2.1: the certification is the first signature, and the only one of its kind.
		return forbidden("the document cannot be certified: it is signed already (%s)", pm.signed)
	case stamp && fresh && o.Appearance == nil:
		return nil // EN 319 142-1 §5.5: document time stamps and the DSS are allowed whatever P says
	case !stamp && pm.p == 1:
		return forbidden("the document permits no changes since it was certified (P 1, by %s), so no further signature", pm.by)
	case !stamp && pm.usage:
		return forbidden("the document's usage rights do not include signing")
	case fresh && o.Appearance != nil && (pm.p == 1 || pm.p == 2):
		// §12.8.2.2.2 table 257: P 2 permits signing, not new annotations.
		return forbidden("the document permits no new visible fields since it was certified (P %d, by %s)", pm.p, pm.by).
			WithHint("sign without an appearance, or in a signature field that the document has")
	}
	return nil
}
