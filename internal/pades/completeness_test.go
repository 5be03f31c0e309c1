package pades

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/pdf"
)

// Every entry of every object of a signed file, changed or removed by an update, is noticed, but for those of this list.
func TestEveryEntry(t *testing.T) {
	// What other software may write after a signature, by object of the vector. See difference.go.
	allowed := map[string]string{
		"Info ModDate": "writers set it", "Info Producer": "writers set it",
		"Catalog Extensions": "names only", "Catalog Version": "a version is one", "Catalog Metadata": "checked to be XMP",
	}
	data, roots := readVector(t, "lta-renewed-three-tier")
	f := labOpen(t, data)
	catalog, _, err := f.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	info := f.Trailer()["Info"]
	dss := validationObjects(t, f, catalog["DSS"])
	for _, ref := range f.Refs() {
		o, err := f.Get(ref)
		if err != nil {
			t.Fatal(err)
		}
		dict, _ := o.(pdf.Dict)
		stream, isStream := o.(*pdf.Stream)
		if isStream {
			dict = stream.Dict
		}
		title := fmt.Sprint(ref)
		switch {
		case ref == info:
			title = "Info"
		case dict["Type"] == pdf.Name("Catalog"):
			title = "Catalog"
		case slices.Contains(dss, ref) || dict["Type"] == pdf.Name("Metadata"):
			continue
		}
		for key := range dict {
			if isStream && key == "Length" {
				continue
			}
			for _, value := range []pdf.Object{nil, pdf.Name("Evil"), ref2(t, f)} {
				changed := pdf.Dict{}
				for k, v := range dict {
					changed[k] = v
				}
				if changed[key] = value; value == nil {
					delete(changed, key)
				}
				body := show(changed)
				if isStream {
					body = show(&pdf.Stream{Dict: changed, Raw: stream.Raw})
				}
				if equal(changed, dict) || allowed[title+" "+string(key)] != "" && value != nil || title == "Info" && allowed[title+" "+string(key)] != "" {
					continue
				}
				attacked := labUpdate(t, data, objects{int(ref.Num): body})
				r, err := Validate(context.Background(), attacked, ValidateOptions{Roots: roots, At: judged})
				if err == nil && r.Good() && !(title == "Catalog" && (key == "Extensions" || key == "Version")) {
					t.Errorf("%s: entry %s set to %v, still valid\n%s", describe(ref, o), key, value, r.Text())
				}
			}
		}
		if isStream {
			attacked := labUpdate(t, data, objects{int(ref.Num): labStream("", "q Q")})
			if r, err := Validate(context.Background(), attacked, ValidateOptions{Roots: roots, At: judged}); err == nil && r.Good() {
				t.Errorf("%s: replaced, still valid", describe(ref, o))
			}
		}
		attacked := labUpdate(t, data, objects{int(ref.Num): ""})
		if r, err := Validate(context.Background(), attacked, ValidateOptions{Roots: roots, At: judged}); err == nil && r.Good() {
			t.Errorf("%s: freed, still valid", describe(ref, o))
		}
	}
}

// ref2 returns a reference to the page's content: what an attacker would point to.
func ref2(t *testing.T, f *pdf.File) pdf.Object {
	t.Helper()
	pages, err := f.Pages()
	if err != nil {
		t.Fatal(err)
	}
	page, err := f.Get(pages[0])
	if err != nil {
		t.Fatal(err)
	}
	return page.(pdf.Dict)["Contents"]
}

func validationObjects(t *testing.T, f *pdf.File, o pdf.Object) []pdf.Ref {
	t.Helper()
	var list []pdf.Ref
	root, ok := o.(pdf.Ref)
	if !ok {
		t.Fatal("no DSS")
	}
	value, err := f.Get(root)
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, root)
	for _, value := range value.(pdf.Dict) {
		array, _ := value.(pdf.Array)
		for _, one := range array {
			list = append(list, one.(pdf.Ref))
		}
	}
	return list
}

// Bytes changed, moved and repeated at random: an answer or an error, and never good when what is signed differs.
func TestMutations(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	updated := amend(t, signed, docField, set("V", pdf.String("11")), nil)
	roots, at := l.roots(), labTime.Add(time.Hour)
	random := rand.New(rand.NewPCG(1, 2))
	tokens := []string{"null", "[", "]", "<<", ">>", "R", "obj", "endobj", "stream", "endstream", "xref", "trailer", "startxref", "%%EOF", "/Prev", "/V", "/Kids", "/Parent",
		"/Annots", "/Fields", "/ByteRange", "/Contents", "-1", "99999999999", "0 0 R", "1 0 R", "3 0 R", "12 0 R", "13 0 R", "(", ")", "<", ">"}
	for range 400 {
		data := slices.Clone(updated)
		for range 1 + random.IntN(4) {
			i := random.IntN(len(data))
			switch random.IntN(4) {
			case 0:
				data[i] = byte(random.IntN(256))
			case 1:
				data = slices.Insert(data, i, []byte(tokens[random.IntN(len(tokens))])...)
			case 2:
				copy(data[i:], tokens[random.IntN(len(tokens))])
			case 3:
				n := min(random.IntN(200), len(data)-i)
				data = slices.Insert(data, random.IntN(len(data)), slices.Clone(data[i:i+n])...)
			}
		}
		r, err := Validate(context.Background(), data, ValidateOptions{Roots: roots, At: at})
		if err == nil && r.Good() && string(data[:len(signed)]) != string(signed) {
			// Only hints within the last Contents may differ.
			s := r.Signatures[0]
			if end := s.ByteRange[2] + s.ByteRange[3]; string(data[:end]) != string(signed[:end]) {
				t.Fatalf("the signed part differs, still valid\n%s", r.Text())
			}
		}
	}
}

// Objects rewritten at random by an update that is well-formed in itself: no panic, and valid only when the object is one that may change.
func TestRandomUpdates(t *testing.T) {
	l := newLab(t)
	signed := l.lta(labDocument(labObjects()), seal{})
	f := labOpen(t, signed)
	catalog, _, err := f.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	free := append(validationObjects(t, f, catalog["DSS"]), ref(docInfo), ref(docXMP), ref(docField))
	roots, at := l.roots(), labTime.Add(time.Hour)
	random := rand.New(rand.NewPCG(3, 4))
	tokens := []string{" null ", " [ ", " ] ", " << ", " >> ", " 4 0 R ", " 9 0 R ", " 99 0 R ", " 12 0 R ", " /V ", " /Kids ", " /AP ", " /Annots ", " /Parent ", " (x) ", " 0 ", " -1 ", " true ",
		" /FT /Sig ", " /Rect [0 0 9 9] ", " /F 2 ", " /A << /S /JavaScript /JS (1) >> ", " /DSS 4 0 R ", " /Fields [7 0 R] ", " /Type /Metadata "}
	refs := f.Refs()
	judged, good := 0, 0
	for range 600 {
		target := refs[random.IntN(len(refs))]
		o, err := f.Get(target)
		if err != nil {
			t.Fatal(err)
		}
		if _, isStream := o.(*pdf.Stream); isStream {
			continue // TestEveryEntry
		}
		body := show(o)
		for range 1 + random.IntN(2) {
			i := random.IntN(len(body))
			switch random.IntN(3) {
			case 0:
				body = body[:i] + tokens[random.IntN(len(tokens))] + body[i:]
			case 1:
				j := min(len(body), i+1+random.IntN(12))
				body = body[:i] + body[j:]
			case 2:
				body = body[:i] + string(rune('0'+random.IntN(10))) + body[i+1:]
			}
		}
		data := labUpdate(t, signed, objects{int(target.Num): body})
		r, err := Validate(context.Background(), data, ValidateOptions{Roots: roots, At: at})
		if err != nil {
			continue
		}
		judged++
		if !r.Good() {
			continue
		}
		good++
		after, err := labOpen(t, data).Get(target)
		named := slices.ContainsFunc(r.Signatures[0].Changes, func(c Change) bool { return c.Kind == ChangeForm })
		if err == nil && equal(after, o) || slices.Contains(free, target) || target == ref(docForm) && named {
			continue
		}
		t.Errorf("%v rewritten as %s: still valid\n%s", target, body, r.Text())
	}
	t.Logf("%d judged, %d of them valid", judged, good)
}
