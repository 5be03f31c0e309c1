package pdf

import (
	"bytes"
	"crypto/sha256"
	"maps"
)

// DSS is a document security store (EN 319 142-1 §5.4.2): DER certificates, OCSP responses and CRLs.
type DSS struct{ Certs, OCSPs, CRLs [][]byte }

// esicLevel is the extension level that a DSS needs before PDF 2.0: prefix ESIC, base version 1.7 (EN 319 142-1 §5.6).
const (
	esicBase  = "1.7"
	esicLevel = 1
)

// maxDSS bounds the entries of each kind.
const maxDSS = 10000

// What one certificate or OCSP response, what one CRL, and what all that is decoded may have, in bytes. The rest is shared with the file.
const (
	maxDSSItem  = 1 << 20
	maxDSSCRL   = 16 << 20
	maxDSSTotal = 32 << 20
)

// store is the document security store as it stands, and what is in it.
type store struct {
	ref   Ref // of the DSS dictionary; zero when it stands in the catalog, or there is none
	dict  Dict
	kinds [3]storeKind
	held  int // bytes that were decoded
}

type storeKind struct {
	key   Name
	limit int64 // bytes of one item
	refs  Array
	data  [][]byte
	known map[[32]byte]bool
}

// store reads the document security store; an empty one when there is none.
func (f *File) store() (*store, error) {
	c, _, err := f.Catalog()
	if err != nil {
		return nil, err
	}
	s := &store{kinds: [3]storeKind{{key: "Certs", limit: maxDSSItem}, {key: "OCSPs", limit: maxDSSItem}, {key: "CRLs", limit: maxDSSCRL}}}
	s.ref, _ = c["DSS"].(Ref)
	if s.dict, err = f.resolveDict(c["DSS"], "/DSS"); err != nil {
		return nil, err
	}
	for i := range s.kinds {
		if err := f.readKind(s, &s.kinds[i]); err != nil {
			return nil, within("/DSS", err)
		}
	}
	return s, nil
}

func (f *File) readKind(s *store, k *storeKind) error {
	var err error
	if k.refs, err = f.resolveArray(s.dict[k.key], "/"+string(k.key)); err != nil {
		return err
	}
	if len(k.refs) > maxDSS {
		return tooLarge("/%s has %d entries; at most %d are read", k.key, len(k.refs), maxDSS)
	}
	k.known = make(map[[32]byte]bool, len(k.refs))
	met := map[Ref]bool{}
	for _, o := range k.refs {
		if r, ok := o.(Ref); ok {
			if met[r] {
				continue
			}
			met[r] = true
		}
		v, err := f.Resolve(o)
		if err != nil {
			return err
		}
		st, ok := v.(*Stream)
		if !ok {
			return invalid("/%s holds something other than streams", k.key)
		}
		b, err := f.decode(st, k.limit)
		if err != nil {
			return within("/"+string(k.key), err)
		}
		if k.note(b) && st.Dict["Filter"] != nil {
			if s.held += len(b); s.held > maxDSSTotal {
				return tooLarge("what it holds decodes to more than %d bytes", maxDSSTotal)
			}
			k.data[len(k.data)-1] = bytes.Clone(b) // without the decoder's spare room
		}
	}
	return nil
}

// note takes b in unless it is there; it tells whether it was new.
func (k *storeKind) note(b []byte) bool {
	h := sha256.Sum256(b)
	if k.known[h] {
		return false
	}
	k.known[h] = true
	k.data = append(k.data, b)
	return true
}

// ReadDSS returns what the document security store holds, each once; empty when there is none. The bytes are shared with the file.
func ReadDSS(f *File) (DSS, error) {
	s, err := f.store()
	if err != nil {
		return DSS{}, err
	}
	return DSS{Certs: s.kinds[0].data, OCSPs: s.kinds[1].data, CRLs: s.kinds[2].data}, nil
}

// AppendDSS appends a section that adds to the document security store what is not in it yet, and declares the ESIC extension in a
// document before PDF 2.0; f itself when nothing is new. It is allowed whatever signatures permit (EN 319 142-1 §5.4.1, §5.5).
func AppendDSS(f *File, d DSS) (*File, error) {
	s, err := f.store()
	if err != nil {
		return nil, err
	}
	news := [3][][]byte{d.Certs, d.OCSPs, d.CRLs}
	room, n := 4096, 0
	for i := range s.kinds {
		k := &s.kinds[i]
		var fresh [][]byte
		for _, b := range news[i] {
			if int64(len(b)) > k.limit {
				return nil, tooLarge("an item of %d bytes for /%s of the DSS; at most %d are read again", len(b), k.key, k.limit)
			}
			if k.note(b) {
				fresh = append(fresh, b)
				room += len(b) + 256
			}
		}
		if len(k.refs)+len(fresh) > maxDSS {
			return nil, tooLarge("/%s of the DSS would have more than %d entries", k.key, maxDSS)
		}
		news[i] = fresh
		n += len(fresh)
	}
	if n == 0 {
		return f, nil
	}
	u, err := f.newUpdate(room)
	if err != nil {
		return nil, err
	}
	if err := s.write(u, news); err != nil {
		return nil, err
	}
	if err := u.finish(); err != nil {
		return nil, err
	}
	g, err := f.extend(u)
	if err != nil {
		return nil, err
	}
	g.mid = maps.Clone(f.mid)
	return g, nil
}

// write writes the new streams, the store and the catalog.
func (s *store) write(u *update, news [3][][]byte) error {
	f := u.f
	dict := maps.Clone(s.dict)
	if dict == nil {
		dict = Dict{}
	}
	for i, k := range s.kinds {
		refs := append(Array{}, k.refs...)
		for _, b := range news[i] {
			refs = append(refs, u.stream(nil, b))
		}
		if len(refs) > 0 {
			dict[k.key] = refs
		}
	}
	catalog, root, err := f.Catalog()
	if err != nil {
		return err
	}
	catalog = maps.Clone(catalog)
	changed, err := f.declareESIC(catalog)
	if err != nil {
		return err
	}
	if o, err := f.Get(s.ref); err == nil && isDict(o) && s.ref != (Ref{}) {
		u.write(s.ref, dict)
	} else {
		catalog["DSS"], changed = u.add(dict), true
	}
	if changed {
		u.write(root, catalog)
	}
	return nil
}

// declareESIC adds the developer extension to the catalog of a document before PDF 2.0 (§7.12), and the version that it extends.
func (f *File) declareESIC(catalog Dict) (changed bool, err error) {
	version := f.Version()
	if version >= "2.0" {
		return false, nil
	}
	ext, err := f.resolveDict(catalog["Extensions"], "/Extensions")
	if err != nil {
		return false, err
	}
	have, err := f.Resolve(ext["ESIC"])
	if err != nil {
		return false, err
	}
	if _, many := have.(Array); many || have != nil && f.esicLevel(have) >= esicLevel {
		return false, nil
	}
	if ext = maps.Clone(ext); ext == nil {
		ext = Dict{}
	}
	ext["ESIC"] = Dict{"Type": Name("DeveloperExtensions"), "BaseVersion": Name(esicBase), "ExtensionLevel": int64(esicLevel)}
	catalog["Extensions"] = ext
	if version < esicBase { // §7.12.2: BaseVersion is not above the document's version
		catalog["Version"] = Name(esicBase)
	}
	return true, nil
}

func (f *File) esicLevel(o Object) int64 {
	d, _ := o.(Dict)
	n, err := f.resolveInt(d["ExtensionLevel"], "/ExtensionLevel", 0)
	if err != nil {
		return 0
	}
	return n
}
