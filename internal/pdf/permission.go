package pdf

import (
	"slices"
	"strconv"
)

// permissions are what the signatures already in a document leave to those that follow.
type permissions struct {
	p      int // the strictest DocMDP P, 0 = none
	by     string
	signed string // the name of a signed field that is no document time stamp; "" = none
	usage  bool   // usage rights that restrict, without the right to sign

	// What FieldMDP and signature field lock dictionaries lock (§12.8.2.4, §12.7.5.5 table 236), each with the signature that does.
	all       string            // locks every field; "" = none
	include   map[string]string // locks these fields and those below them
	excludes  int               // so many lock every field but some
	excludeBy string
	spared    map[string]int // by so many of them
	names     int            // read so far
}

// maxLockNames bounds the names in all locks together.
const maxLockNames = 1 << 17

// lockedBy returns the signature that locks the field called name; "" = none.
func (pm *permissions) lockedBy(name string) string {
	if pm.all != "" {
		return pm.all
	}
	spared := 0
	for i := 1; i <= len(name); i++ { // the name, and those of the fields above it
		if i < len(name) && name[i] != '.' {
			continue
		}
		if by, ok := pm.include[name[:i]]; ok {
			return by
		}
		spared = max(spared, pm.spared[name[:i]])
	}
	if spared < pm.excludes {
		return pm.excludeBy
	}
	return ""
}

// permissions reads what signed fields and the catalog's Perms say. What is malformed counts at its strictest.
func (f *File) permissions(fm *form, sigs []Signature) (*permissions, error) {
	pm := &permissions{include: map[string]string{}, spared: map[string]int{}}
	signed := map[Ref]bool{}
	for _, s := range sigs {
		signed[s.FieldRef] = true
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
		if !signed[fd.ref] {
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
			return f.lock(pm, parms, s.Field)
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
	if err := f.lock(pm, d, by); err != nil {
		return err
	}
	p, err := f.resolveInt(d["P"], "/P of a field's /Lock", 0)
	if err == nil && p != 0 {
		pm.restrict(clampP(p), by)
	}
	return err
}

// lock adds a dictionary with Action and Fields.
func (f *File) lock(pm *permissions, d Dict, by string) error {
	by = strconv.Quote(by)
	action, err := f.resolveName(d["Action"], "/Action of a lock")
	if err != nil {
		return err
	}
	names, err := f.resolveArray(d["Fields"], "/Fields of a lock")
	if err != nil {
		return err
	}
	if pm.names += len(names); pm.names > maxLockNames {
		return tooLarge("signatures lock more than %d fields", maxLockNames)
	}
	spared := map[string]bool{}
	for _, o := range names {
		v, err := f.Resolve(o)
		if err != nil {
			return err
		}
		s, ok := v.(String)
		if !ok {
			return invalid("/Fields of a lock holds something other than strings")
		}
		switch name := Text(s); action {
		case "Include":
			pm.include[name] = by
		case "Exclude":
			if !spared[name] {
				pm.spared[name]++
			}
			spared[name] = true
		}
	}
	switch action {
	case "Include":
	case "Exclude":
		pm.excludes++
		pm.excludeBy = by
	default: // All, and whatever is not known
		pm.all = by
	}
	return nil
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
