package prescription

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/fonts"
)

func newRenderer(t testing.TB) *Renderer {
	t.Helper()
	r, err := NewRenderer()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func render(t testing.TB, p Prescription) []byte {
	t.Helper()
	out, err := newRenderer(t).Render(p, now)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// full has every field at an unusual length, in several scripts.
func full() Prescription {
	p := Demo(now)
	p.ClinicName = "The Independent Clinic for Family Medicine, Travel Health and Occupational Medicine"
	p.ClinicAddress = "1 Street\nTown\nAB1 2CD"
	p.ClinicianCN = "Dr Oluwaṣẹ́gun Ọlábísí Ẹ̀kúndayọ̀"
	p.PrescriberType, p.PrescriberKind = Other, "Pharmacist independent prescriber"
	p.ProfessionalRegister, p.ProfessionalRegistrationNumber = GPhC, "2071234"
	p.PrescriberAddress = "Suite 4\nThe Old Town Hall Health Centre\nHigh Street North\nUpper Something\nCounty\nAB1 2CD\nUnited Kingdom"
	p.PatientName = "Nguyễn Thị Ánh Tuyết, თამარ Անահիտ Ελένη Ольга Þórbjörg m̀"
	p.PatientDateOfBirth = "2018-03-30"
	p.PatientAddress = "Flat 17, The Old Granary and Maltings\nLlanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch\nYnys Môn\nLL61 5UJ"
	p.MedicationName = strings.TrimSpace(strings.Repeat("Hydrocortisone acetate / Neomycin ", 7))
	p.Strength, p.Form = "1 % w/w, 3,400 units/mL", "Gastro-resistant capsules for oral suspension"
	p.Dosage = strings.TrimSpace(strings.Repeat("Apply thinly to the affected area twice a day, avoiding eyes. ", 9))
	p.ControlledDrugSchedule = Schedule4
	return p
}

// tool runs a program of a Debian package and returns what it prints.
func tool(t *testing.T, pkg, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed: apt-get install %s", name, pkg)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A demonstration's page says so at its head and its foot, to the eye and to who copies the text; another's says nothing of it. JSON has no
// say in it.
func TestDemonstration(t *testing.T) {
	text := func(p Prescription) string {
		file := filepath.Join(t.TempDir(), "p.pdf")
		if err := os.WriteFile(file, render(t, p), 0o600); err != nil {
			t.Fatal(err)
		}
		return tool(t, "poppler-utils", "pdftotext", "-layout", file, "-") + tool(t, "poppler-utils", "pdfinfo", file)
	}
	p := Demo(now)
	if got := text(p); strings.Count(got, "DEMONSTRATION – NOT A PRESCRIPTION") != 3 {
		t.Errorf("want it at the head, at the foot and as the subject\n%s", got)
	}
	p.Demonstration = false
	if got := text(p); strings.Contains(got, "DEMONSTRATION") {
		t.Error(got)
	}
	data, err := json.Marshal(Demo(now))
	if err != nil || bytes.Contains(bytes.ToLower(data), []byte("demonstration")) {
		t.Errorf("%v %s", err, data)
	}
	p = Demo(now)
	if err := json.Unmarshal([]byte(`{"demonstration": false, "Demonstration": false}`), &p); err != nil || !p.Demonstration {
		t.Errorf("JSON cleared it (%v)", err)
	}
}

func TestRenderedFile(t *testing.T) {
	for name, p := range map[string]Prescription{"demo": Demo(now), "full": full()} {
		pdf := render(t, p)
		if len(pdf) > 60<<10 {
			t.Errorf("%s: %d bytes", name, len(pdf))
		}
		for _, key := range []string{"/JavaScript", "/JS", "/EmbeddedFiles", "/URI", "/Launch", "/OpenAction", "/AA", "/Names", "/Annots", "/XFA"} {
			if bytes.Contains(pdf, []byte(key)) {
				t.Errorf("%s holds %s", name, key)
			}
		}
		file := filepath.Join(t.TempDir(), name+".pdf")
		if err := os.WriteFile(file, pdf, 0o600); err != nil {
			t.Fatal(err)
		}
		if out := tool(t, "qpdf", "qpdf", "--check", file); !strings.Contains(out, "No syntax or stream encoding errors") {
			t.Errorf("%s: %s", name, out)
		}
		lines := strings.Split(strings.TrimSpace(tool(t, "poppler-utils", "pdffonts", file)), "\n")[2:]
		for _, line := range lines {
			if !regexp.MustCompile(`^[A-Z]{6}\+(Liberation|DejaVu)Sans(-Bold)? +TrueType +(WinAnsi|Custom) +yes yes`).MatchString(line) {
				t.Errorf("%s: font %s", name, line)
			}
		}
		if len(lines) < 2 {
			t.Errorf("%s: fonts %v", name, lines)
		}
		info := tool(t, "poppler-utils", "pdfinfo", "-isodates", file)
		for _, want := range []string{"Prescription RX-134", p.ClinicianCN, "CreationDate:    2026-11-21T19:33:00Z\n", "ModDate:         2026-11-21T19:33:00Z\n", "A4", "Metadata Stream: yes", "Pages:           1\n", "PDF version:     1.7"} {
			if !strings.Contains(info, want) {
				t.Errorf("%s: pdfinfo lacks %q:\n%s", name, want, info)
			}
		}
		if strings.Contains(info, p.PatientName) {
			t.Errorf("%s: the metadata names the patient", name)
		}
		for _, date := range []string{"/CreationDate (D:20261121193300Z)", "/ModDate (D:20261121193300Z)", "<xmp:CreateDate>2026-11-21T19:33:00Z<", "<xmp:ModifyDate>2026-11-21T19:33:00Z<"} {
			if !bytes.Contains(pdf, []byte(date)) {
				t.Errorf("%s: no %s", name, date)
			}
		}
		if !bytes.Contains(pdf, []byte("/Lang (en-GB)")) || !regexp.MustCompile(`/ID \[<[0-9a-f]{32}> <[0-9a-f]{32}>\]`).Match(pdf) {
			t.Errorf("%s: no language or no ID", name)
		}
	}
}

// What a program reads from the page is what was asked for, word for word.
func TestRenderedText(t *testing.T) {
	for name, p := range map[string]Prescription{"demo": Demo(now), "full": full()} {
		file := filepath.Join(t.TempDir(), name+".pdf")
		if err := os.WriteFile(file, render(t, p), 0o600); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(strings.Fields(tool(t, "poppler-utils", "pdftotext", "-raw", file, "-")), " ")
		p = p.Normalize()
		wants := []string{"PRIVATE PRESCRIPTION", "21 November 2026", p.Kind(), "registration number " + p.ProfessionalRegistrationNumber, "NHS number 999 000 0018",
			"ODS code " + p.PharmacyODS}
		// HMR 217(4)(e), the age of a child; 217(5)(a), how long it can be dispensed.
		wants = append(wants, map[string][]string{
			"demo": {"Born 14 March 1985 (age 41)", "May be dispensed within six months of this date"},
			"full": {"Born 30 March 2018 (age 8 years 7 months)", "May be dispensed within 28 days of this date"},
		}[name]...)
		for _, f := range p.fields() {
			switch f.name {
			case "prescriber_kind", "professional_registration_number", "patient_nhs_number", "patient_date_of_birth", "appropriate_date", "pharmacy_id", "clinic_address":
				continue // shown in another form, or not at all
			}
			wants = append(wants, strings.Split(*f.value, "\n")...)
		}
		for _, want := range wants {
			if !strings.Contains(got, want) && !strings.Contains(strings.ReplaceAll(got, " ", ""), strings.ReplaceAll(want, " ", "")) {
				t.Errorf("%s: the page lacks %q:\n%s", name, want, got)
			}
		}
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	r := newRenderer(t)
	want, err := r.Render(full(), now)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := r.Render(full(), now)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("another file (%v)", err)
			}
		})
	}
	wg.Wait()
	if again := render(t, full()); !bytes.Equal(again, want) {
		t.Error("another renderer makes another file")
	}
}

func TestRenderRefuses(t *testing.T) {
	r := newRenderer(t)
	for _, c := range []struct {
		name   string
		change func(*Prescription)
		want   string
	}{
		{"Chinese name", func(p *Prescription) { p.PatientName = "王伟" }, "patient_name: character '王' (U+738B) cannot be printed"},
		{"Arabic name", func(p *Prescription) { p.ClinicianCN = "محمد" }, "clinician_cn: character 'م' (U+0645) cannot be printed: text that runs from right to left"},
		{"emoji", func(p *Prescription) { p.Dosage = "Take 😀" }, "dosage: character '😀' (U+1F600)"},
		{"invalid", func(p *Prescription) { p.Quantity = "" }, "quantity: is required"},
		{"two at once", func(p *Prescription) { p.PatientName, p.Dosage = "王", "王" }, "dosage: character"},
		{"too many letters", func(p *Prescription) {
			p.Dosage = ""
			for r := rune(0x100); r < 0x250; r++ {
				p.Dosage += string(r)
			}
		}, "dosage: the texts hold more different characters"},
		{"no room", func(p *Prescription) {
			p.MedicationName, p.Dosage = strings.Repeat("W", 255), strings.Repeat("W", 600)
			p.PatientAddress = strings.Repeat("Wide Street\n", 8)
		}, "dosage: the particulars do not fit"},
	} {
		p := Demo(now)
		c.change(&p)
		out, err := r.Render(p, now)
		if out != nil || fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.PublicOf(err), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if check(r, p) == nil {
			t.Errorf("%s: Lay finds nothing", c.name)
		}
	}
	if problems := check(r, full()); problems != nil {
		t.Error(problems)
	}
}

// Wrapped lines fit the width, and put together again they are the text.
func TestWrap(t *testing.T) {
	s := &sheet{fonts: newRenderer(t).fonts}
	for _, value := range []string{
		"one", "one two three four five six seven eight nine ten", strings.Repeat("x", 300), "a " + strings.Repeat("W", 90) + " b", strings.Repeat("ẹ́", 80),
		"first\nsecond line which is longer than the others by far\nthird", strings.Repeat("i ", 200) + "end",
	} {
		for _, width := range []float64{40, 100, 333} {
			var got strings.Builder
			for _, line := range s.wrap(text{"f", value}, bodyStyle, width) {
				if points(line.Width, bodyStyle.size) > width+0.01 {
					t.Errorf("%.20q at %v: a line of %v", value, width, points(line.Width, bodyStyle.size))
				}
				if len(line.Glyphs) == 0 || line.Glyphs[0].X != 0 || line.Glyphs[0].Mark {
					t.Errorf("%.20q at %v: a line starts wrongly", value, width)
				}
				for _, g := range line.Glyphs {
					got.WriteRune(g.Rune)
				}
			}
			bare := strings.NewReplacer(" ", "", "\n", "")
			if bare.Replace(got.String()) != bare.Replace(value) {
				t.Errorf("%.20q at %v became %q", value, width, got.String())
			}
		}
	}
}

// No two texts of a sheet overlap, and none leaves the page or enters the signature's place, for many lengths of every field.
func TestNothingOverlaps(t *testing.T) {
	r := newRenderer(t)
	fit := 0
	for n := 1; n <= 600; n += 13 {
		p := full()
		for _, f := range p.fields() {
			switch f.name {
			case "clinic_name", "clinician_cn", "patient_name", "medication_name", "strength", "form", "quantity", "dosage", "pharmacy_name":
				*f.value = strings.TrimSpace(strings.Repeat("Word and ", 70)[:min(n, f.max)])
			case "patient_address", "prescriber_address", "clinic_address":
				*f.value = strings.TrimSpace(strings.Repeat("Street 1\n", 8)[:min(n, 44)])
			}
		}
		s := r.sheet(ptr(p.Normalize()))
		if s.problems == nil {
			fit++
			checkOverlaps(t, fmt.Sprintf("length %d", n), s)
		}
	}
	if fit < 15 {
		t.Errorf("only %d of 47 lengths fit", fit)
	}
}

func ptr[T any](v T) *T { return &v }

func checkOverlaps(t *testing.T, name string, s *sheet) {
	t.Helper()
	type area struct{ x1, y1, x2, y2 float64 }
	overlap := func(a, b area) bool { return a.x1 < b.x2 && b.x1 < a.x2 && a.y1 < b.y2 && b.y1 < a.y2 }
	panel := area{panelX, pageHeight - panelBottom - panelHeight, panelX + panelWidth, pageHeight - panelBottom}
	var all []area
	for _, p := range s.texts {
		// From the capitals' height to the baseline: descenders may come between the accents of the next line.
		a := area{p.x, p.y - 0.72*p.style.size, p.x + points(p.line.Width, p.style.size), p.y}
		if a.x1 < margin-0.1 || a.x2 > pageWidth-margin+0.1 || a.y1 < 20 || a.y2 > pageHeight-20 {
			t.Errorf("%s: text outside the margins at %+v", name, a)
		}
		if overlap(a, panel) {
			t.Errorf("%s: text in the signature's place at %+v", name, a)
		}
		if i := slices.IndexFunc(all, func(b area) bool { return overlap(a, b) }); i >= 0 {
			t.Errorf("%s: text at %+v overlaps text at %+v", name, a, all[i])
		}
		all = append(all, a)
	}
}

func TestEncodingHasRoom(t *testing.T) {
	set := newRenderer(t).fonts
	var many []rune
	for r := rune(0x400); r < 0x450; r++ {
		many = append(many, r)
	}
	line, err := set.Shape(fonts.Regular, string(many)+"é€ÿ")
	if err != nil {
		t.Fatal(err)
	}
	enc, err := encode([]placedText{{line: line, style: bodyStyle}}, nil)
	if err != nil || len(enc) != 1 {
		t.Fatal(err, len(enc))
	}
	seen := map[byte]rune{}
	for r, c := range enc[0].codes {
		if seen[c] != 0 || c < 32 {
			t.Errorf("U+%04X and U+%04X share code %d", r, seen[c], c)
		}
		seen[c] = r
	}
	for r := rune(0x100); r < 0x180; r++ {
		many = append(many, r)
	}
	if line, err = set.Shape(fonts.Regular, string(many)); err != nil {
		t.Fatal(err)
	}
	if _, err := encode([]placedText{{line: line}}, nil); err != errTooVaried {
		t.Errorf("%d characters beyond WinAnsi: %v", len(many), err)
	}
}

func FuzzRender(f *testing.F) {
	r := newRenderer(f)
	f.Add("RX-1", "Doctor Clinician", "1 Street\nTown", "Amoxicillin", "Take one", "39732311000001104", "none")
	f.Add("", "ẹ́", strings.Repeat("W\n", 9), "Morphine", strings.Repeat("W", 600), "x", "2")
	f.Add("a", "م", "\u202e", "\xff", "\x00", "322341003", "4")
	f.Fuzz(func(t *testing.T, id, name, address, medicine, dosage, code, schedule string) {
		p := Demo(now)
		p.PrescriptionID, p.ClinicianCN, p.PatientName, p.PatientAddress, p.PrescriberAddress = id, name, name, address, address
		p.MedicationName, p.Dosage, p.SNOMEDCode, p.ControlledDrugSchedule = medicine, dosage, code, Schedule(schedule)
		problems := check(r, p)
		out, err := r.Render(p, now)
		if (problems == nil) != (err == nil) {
			t.Fatalf("Lay finds %v, Render says %v", problems, err)
		}
		if err == nil && !bytes.HasPrefix(out, []byte("%PDF-1.7\n")) {
			t.Fatal("not a PDF")
		}
	})
}

func BenchmarkRender(b *testing.B) {
	r, p := newRenderer(b), Demo(now)
	b.ReportAllocs()
	for b.Loop() {
		out, err := r.Render(p, now)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(out)), "bytes")
	}
}

// check returns what keeps p from being laid.
func check(r *Renderer, p Prescription) []Problem {
	_, problems := r.Lay(p, now, nil)
	return problems
}
