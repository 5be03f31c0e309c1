package dmd

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// The extract in testdata is written by hand after the published schema (NHSBSA, dm+d Technical Specification of Data Files, release 2.0 version 3.1): real extracts
// need a licence from TRUD and are not in this repository. Its products and codes are invented.
const testExtract = "testdata/extract"

// packed zips the test extract with some files changed: name -> old, new.
func packed(t testing.TB, changes map[string][2]string) []byte {
	t.Helper()
	entries, err := os.ReadDir(testExtract)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		data, err := os.ReadFile(testExtract + "/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		name := e.Name()
		for part, c := range changes {
			if !strings.HasPrefix(e.Name(), "f_"+part+"2_") {
				continue
			}
			if c[0] == "name" {
				name = c[1]
				continue
			}
			if !bytes.Contains(data, []byte(c[0])) {
				t.Fatalf("%s does not hold %q", e.Name(), c[0])
			}
			n := 1
			if c[0] == "AMPS" || c[0] == "CONTROL_DRUG_INFO" { // both tags
				n = -1
			}
			data = bytes.Replace(data, []byte(c[0]), []byte(c[1]), n)
		}
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func imported(data []byte) (*Dictionary, error) {
	return Import(bytes.NewReader(data), int64(len(data)))
}

func TestImport(t *testing.T) {
	d, err := imported(packed(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if d.Release != "2026-11-16" || len(d.Source) != 64 || len(d.SHA256) != 64 {
		t.Errorf("release %q, source %q, file %q", d.Release, d.Source, d.SHA256)
	}
	for code, want := range map[string]string{
		"39732311000001104": "none", "99000031000001109": "none", "99000451000001106": "1",
		"99000101000001104": "2", "99001501000001101": "2",
		"99000171000001105": "3", "99001571000001107": "3", "99001641000001104": "3", "99001711000001109": "3",
		"99000241000001109": "4", "99000311000001100": "4", "99000381000001105": "5",
		"99000801000001107": "none", "99000871000001101": "2", "99000941000001103": "3", // actual products
		"99001011000001107": "none", "99001081000001102": "2", "99001151000001107": "5", // packs
		"99001221000001106": "none", "99001291000001109": "2", // actual packs
		"99000591000001104": "2", // a former code
		"99000661000001107": "3", // a former code of two: the stricter
		"99000521000001102": "",  // a product of which nothing is said
		"99001361000001107": "",  // a brand of that
		"99001431000001109": "", "": "", "1": "", "099000031000001109": "", "9900003100000110": "", "990000310000011099": "", "x": "",
	} {
		if got, known := d.Schedule(code); got != want || known != (want != "") {
			t.Errorf("%s: %q %v, want %q", code, got, known, want)
		}
	}
	if d.Len() != 22 || d.Controlled() != 17 {
		t.Errorf("%d codes, %d controlled", d.Len(), d.Controlled())
	}
	again, err := Parse(d.Marshal())
	if err != nil || !reflect.DeepEqual(again, d) {
		t.Errorf("read back: %v", err)
	}
	if s, known := (*Dictionary)(nil).Schedule("39732311000001104"); known || s != "" {
		t.Error("no dictionary knows a code")
	}
}

func TestImportRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		part, old, new, want string
	}{
		"a document type":      {"vmp", "<VIRTUAL_MED", "<!DOCTYPE x [<!ENTITY a \"b\">]><VIRTUAL_MED", "document type"},
		"an entity":            {"vmp", "&amp;", "&lol;", "not the XML"},
		"another encoding":     {"amp", "utf-8", "utf-16", "not the XML"},
		"an instruction":       {"amp", "<AMPS>", "<?php x?><AMPS>", "processing instruction"},
		"cut off":              {"amp", "</ACTUAL_MEDICINAL_PRODUCTS>", "", "ends too early"},
		"crossed tags":         {"amp", "</AMP>", "</AMPS>", "closes what is not open"},
		"a second root":        {"amp", "</ACTUAL_MEDICINAL_PRODUCTS>", "</ACTUAL_MEDICINAL_PRODUCTS><X/>", "second root"},
		"text after the end":   {"amp", "</ACTUAL_MEDICINAL_PRODUCTS>", "</ACTUAL_MEDICINAL_PRODUCTS>x", "outside"},
		"a deep tree":          {"amp", "<AMPS>", "<AMPS>" + strings.Repeat("<a>", 9), "deep"},
		"elements in a field":  {"amp", "<APID>", "<APID><b/>", "holds elements"},
		"a field twice":        {"amp", "<APID>", "<APID>1</APID><APID>", "second <APID>"},
		"a long field":         {"amp", "<APID>", "<APID>" + strings.Repeat("1", 300), "more than 256"},
		"a huge text":          {"amp", "<NM>", "<NM>" + strings.Repeat("x", 1<<18), "more than 65536"},
		"a huge comment":       {"amp", "<AMPS>", "<!--" + strings.Repeat("<a>", 1<<17) + "--><AMPS>", "more than 65536"},
		"a huge tag":           {"amp", "<AMPS>", "<AMPS a=\"" + strings.Repeat("x", 1<<18) + "\">", "more than 65536"},
		"no records":           {"amp", "AMPS", "OTHERS", "has no <AMPS>"},
		"no control info":      {"vmp", "CONTROL_DRUG_INFO", "OTHERS", "has no <CONTROL_DRUG_INFO>"},
		"a code of letters":    {"amp", "99000801000001107", "99000801x00001107", "is no APID"},
		"a code of 19 digits":  {"amp", "99000801000001107", "9900080100000110799", "is no APID"},
		"no code":              {"vmp", "<VPID>39732311000001104</VPID>", "", "is no VPID"},
		"a product twice":      {"amp", "99000801000001107", "99000871000001101", "there twice"},
		"a virtual one twice":  {"vmp", "99000101000001104", "99000031000001109", "there twice"},
		"a brand of nothing":   {"amp", "<VPID>99000031000001109", "<VPID>99001431000001109", "nowhere"},
		"a pack of nothing":    {"ampp", "99001011000001107", "99001431000001109", "nowhere"},
		"an unknown category":  {"vmp", "<CATCD>0002", "<CATCD>0099", "category"},
		"control of nothing":   {"vmp", "<CONTROL_INFO>\n<VPID>39732311000001104", "<CONTROL_INFO>\n<VPID>99001431000001109", "of no product"},
		"words not understood": {"lookup", "Schedule 2 (CD)", "Schedule 6 (CD)", "not understood"},
		"words missing":        {"lookup", "<DESC>No Controlled Drug Status</DESC>", "", "not understood"},
		"a category twice":     {"lookup", "<CD>0002</CD>", "<CD>0000</CD>", "there twice"},
		"a file missing":       {"ampp", "name", "ampp.xml", "f_ampp2_3DDMMYY.xml is not in it"},
		"another date":         {"ampp", "name", "f_ampp2_3171126.xml", "different dates"},
		"a file twice":         {"ampp", "name", "sub/f_amp2_3161126.xml", "two files"},
		"a date that is none":  {"ampp", "name", "f_ampp2_3999999.xml", "different dates"},
	} {
		_, err := imported(packed(t, map[string][2]string{c.part: {c.old, c.new}}))
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.PublicOf(err), c.want) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, data := range [][]byte{nil, []byte("PK"), packed(t, nil)[:500]} {
		if _, err := imported(data); fault.KindOf(err) != fault.Invalid || err == nil {
			t.Errorf("%.10q: %v", data, err)
		}
	}
	if _, err := Import(bytes.NewReader(nil), MaxArchive+1); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a huge archive: %v", err)
	}
}

// TestBomb: a file that says that it unpacks to too much is not unpacked, and one that does not say so is unpacked no further than the bound.
func TestBomb(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	if _, err := w.CreateRaw(&zip.FileHeader{Name: "f_vmp2_3161126.xml", Method: zip.Deflate, UncompressedSize64: maxUnpacked + 1}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := imported(b.Bytes()); err == nil || !strings.Contains(err.Error(), "f_vmp2_3161126.xml has more than") {
		t.Error(err)
	}
	in := &bounded{r: strings.NewReader(strings.Repeat("<a></a>", 1000)), left: 100}
	if n, err := io.Copy(io.Discard, in); err == nil || n > 100 {
		t.Errorf("%d bytes of 100: %v", n, err)
	}
}

func codes(each ...uint64) (raw []byte) {
	for _, c := range each {
		raw = binary.BigEndian.AppendUint64(raw, c)
	}
	return raw
}

func TestParseRefuses(t *testing.T) {
	d, err := imported(packed(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	good := d.Marshal()
	// resealed changes something before the checksum, and puts that right again.
	resealed := func(old, new string) []byte {
		x := bytes.Replace(good[:len(good)-32], []byte(old), []byte(new), 1)
		sum := sha256.Sum256(x)
		return append(x, sum[:]...)
	}
	swapped := &Dictionary{Release: d.Release, Source: d.Source, codes: codes(d.at(1), d.at(0))}
	twice := &Dictionary{Release: d.Release, Source: d.Source, codes: codes(d.at(0), d.at(0)|3)}
	short := &Dictionary{Release: d.Release, Source: d.Source, codes: codes(99_999 << 3)}
	schedule := &Dictionary{Release: d.Release, Source: d.Source, codes: codes(d.at(0) | 7)}
	none := &Dictionary{Release: d.Release, Source: d.Source}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":               {nil, "begin with"},
		"another version":       {resealed("aes-dmd 1", "aes-dmd 2"), "begin with"},
		"a byte changed":        {append([]byte("aes-dmd 1\nrelease 2027"), good[len("aes-dmd 1\nrelease 2027"):]...), "checksum"},
		"cut":                   {good[:len(good)-1], "as many"},
		"longer":                {append(bytes.Clone(good), 0), "as many"},
		"no release":            {resealed("release", "relaese"), `"release"`},
		"a date that is not":    {resealed("2026-11-16", "2026-11-31"), "no date"},
		"a source that is none": {resealed("source "+d.Source[:1], "source x"), "SHA-256"},
		"capital letters":       {resealed("source "+d.Source, "source "+strings.ToUpper(d.Source)), "SHA-256"},
		"another count":         {resealed("codes 22", "codes 21"), "as many"},
		"a count with zero":     {resealed("codes 22", "codes 022"), "as many"},
		"a negative count":      {resealed("codes 22", "codes -1"), "as many"},
		"out of order":          {swapped.Marshal(), "out of order"},
		"a code twice":          {twice.Marshal(), "out of order"},
		"a short code":          {short.Marshal(), "out of order"},
		"schedule 7":            {schedule.Marshal(), "out of order"},
		"no codes":              {none.Marshal(), "as many"},
		"a long header":         {resealed("release ", "release "+strings.Repeat(" ", 300)), `"release"`},
	} {
		if _, err := Parse(c.data); fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.PublicOf(err), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	d, err := imported(packed(f, nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data)
		if err == nil && !bytes.Equal(d.Marshal(), data) {
			t.Error("what was read is written otherwise")
		}
	})
}

// FuzzXML feeds one file of the extract with anything.
func FuzzXML(f *testing.F) {
	data, err := os.ReadFile(testExtract + "/f_lookup2_3161126.xml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("<a><CONTROL_DRUG_CATEGORY><INFO><CD>1</CD></INFO></CONTROL_DRUG_CATEGORY></a>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := newExtract()
		if err := x.parts()[0].read(bytes.NewReader(data)); err == nil && len(x.categories) == 0 {
			t.Error("taken without a category")
		}
	})
}

func FuzzImport(f *testing.F) {
	f.Add(packed(f, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := imported(data)
		if err == nil && d.Len() == 0 {
			t.Error("taken without a code")
		}
	})
}
