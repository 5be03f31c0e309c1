package pdf

import (
	"crypto"
	"slices"
	"strings"
)

// Flags of a seed value dictionary's Ff: which constraints must be met (§12.7.5.5 table 237).
const (
	svFilter = 1 << iota
	svSubFilter
	svV
	svReasons
	svLegalAttestation
	svAddRevInfo
	svDigestMethod
	svLockDocument
	svAppearanceFilter
)

// seed checks o against the seed value dictionary of an existing field, and returns the digest algorithms that may be used; nil = any.
// A mandatory constraint that this package cannot meet or judge is an error.
func (f *File) seed(o Object, opt SignatureOptions) (digests []crypto.Hash, err error) {
	sv, err := f.resolveDict(o, "/SV")
	if err != nil || sv == nil {
		return nil, err
	}
	ff, err := f.resolveInt(sv["Ff"], "/Ff of /SV", 0)
	if err != nil {
		return nil, err
	}
	if ff&(svLegalAttestation|svAddRevInfo|svLockDocument|svAppearanceFilter) != 0 || ff>>9 != 0 {
		return nil, unsupported("the field demands a legal attestation, embedded revocation information, a locked document or an appearance of its choice (/SV /Ff %d)", ff)
	}
	filter, err := f.resolveName(sv["Filter"], "/Filter of /SV")
	if err != nil {
		return nil, err
	}
	if ff&svFilter != 0 && filter != "" && filter != sigFilter {
		return nil, forbidden("the field demands the signature handler /%s", filter)
	}
	if v, _ := f.Resolve(sv["V"]); ff&svV != 0 && v != nil {
		if n, err := f.Number(v); err != nil || n > 3 {
			return nil, unsupported("the field demands version %v of the seed value dictionary", v)
		}
	}
	if err := f.seedNames(sv, ff, opt); err != nil {
		return nil, err
	}
	if err := f.seedNested(sv, opt); err != nil {
		return nil, err
	}
	if ff&svDigestMethod == 0 {
		return nil, nil
	}
	return f.seedDigests(sv)
}

// seedNames checks SubFilter and Reasons.
func (f *File) seedNames(sv Dict, ff int64, opt SignatureOptions) error {
	subs, err := f.resolveArray(sv["SubFilter"], "/SubFilter of /SV")
	if err != nil {
		return err
	}
	if ff&svSubFilter != 0 && len(subs) > 0 && !slices.Contains(subs, Object(opt.SubFilter)) {
		return forbidden("the field does not accept a signature of /SubFilter /%s", opt.SubFilter)
	}
	reasons, err := f.resolveArray(sv["Reasons"], "/Reasons of /SV")
	if err != nil || ff&svReasons == 0 {
		return err
	}
	// An empty array, or a single period, forbids a reason.
	if len(reasons) == 0 || len(reasons) == 1 && f.isText(reasons[0], ".") {
		if opt.Reason != "" {
			return forbidden("the field accepts no reason for signing")
		}
		return nil
	}
	if !slices.ContainsFunc(reasons, func(o Object) bool { return f.isText(o, opt.Reason) }) {
		return forbidden("the field demands one of its own reasons for signing")
	}
	return nil
}

func (f *File) isText(o Object, want string) bool {
	v, err := f.Resolve(o)
	s, ok := v.(String)
	return err == nil && ok && Text(s) == want
}

// seedNested checks MDP, Cert and TimeStamp, which are dictionaries with demands of their own.
func (f *File) seedNested(sv Dict, opt SignatureOptions) error {
	mdp, err := f.resolveDict(sv["MDP"], "/MDP of /SV")
	if err != nil {
		return err
	}
	if mdp != nil {
		p, err := f.resolveInt(mdp["P"], "/P of /MDP", 0)
		if err != nil {
			return err
		}
		if p != int64(opt.Certify) {
			return forbidden("the field demands a signature with DocMDP P %d (0 is an approval), not %d", p, opt.Certify)
		}
	}
	for _, key := range []Name{"Cert", "TimeStamp"} {
		d, err := f.resolveDict(sv[key], "/"+string(key)+" of /SV")
		if err != nil {
			return err
		}
		ff, err := f.resolveInt(d["Ff"], "/Ff of /"+string(key), 0)
		if err != nil {
			return err
		}
		if ff != 0 {
			return unsupported("the field makes demands on the certificate or the time stamp (/SV /%s /Ff %d)", key, ff)
		}
	}
	return nil
}

// seedDigests returns the algorithms that a mandatory DigestMethod names.
func (f *File) seedDigests(sv Dict) ([]crypto.Hash, error) {
	names, err := f.resolveArray(sv["DigestMethod"], "/DigestMethod of /SV")
	if err != nil {
		return nil, err
	}
	known := map[string]crypto.Hash{"SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512}
	var out []crypto.Hash
	for _, o := range names {
		v, err := f.Resolve(o)
		if err != nil {
			return nil, err
		}
		var name string
		switch s := v.(type) {
		case String:
			name = Text(s)
		case Name:
			name = string(s)
		}
		if h, ok := known[strings.ReplaceAll(strings.ToUpper(name), "-", "")]; ok {
			out = append(out, h)
		}
	}
	if len(out) == 0 {
		return nil, forbidden("the field demands a digest algorithm other than SHA-256, SHA-384 or SHA-512")
	}
	return out, nil
}
