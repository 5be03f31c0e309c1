package prescription

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 21, 19, 33, 0, 0, time.UTC)

func TestDemoIsValid(t *testing.T) {
	for _, at := range []time.Time{now, now.AddDate(0, 7, 3), time.Date(2026, 6, 30, 23, 30, 0, 0, time.UTC)} {
		if p := Demo(at).Validate(at, nil); p != nil {
			t.Errorf("%v: %v", at, p)
		}
	}
}

// Each change of the demo prescription is answered by exactly the problems listed, as field/code.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Prescription)
		want   string
	}{
		{"address missing", func(p *Prescription) { p.PrescriberAddress = " \n " }, "prescriber_address/missing"},
		{"patient address missing", func(p *Prescription) { p.PatientAddress = "" }, "patient_address/missing"},
		{"no schedule", func(p *Prescription) { p.ControlledDrugSchedule = "" }, "controlled_drug_schedule/missing"},
		{"no pharmacy", func(p *Prescription) { p.PharmacyID, p.PharmacyODS, p.PharmacyName = "", "", "" }, ""},
		{"half a pharmacy", func(p *Prescription) { p.PharmacyName = "" }, "pharmacy_name/missing"},
		{"other half", func(p *Prescription) { p.PharmacyODS = "" }, "pharmacy_ods/missing"},
		{"ODS of a trust", func(p *Prescription) { p.PharmacyODS = "RA701" }, "pharmacy_ods/malformed"},
		{"ODS too long", func(p *Prescription) { p.PharmacyODS = "FZZ999" }, "pharmacy_ods/too_long"},
		{"optional ones empty", func(p *Prescription) { p.SNOMEDCode, p.PatientNHSNumber, p.Strength, p.ClinicPhone = "", "", "", "" }, ""},
		{"SNOMED check digit", func(p *Prescription) { p.SNOMEDCode = "39732311000001105" }, "snomed_code/malformed"},
		{"NHS number with spaces", func(p *Prescription) { p.PatientNHSNumber = "943 476 5919" }, ""},
		{"NHS number check digit", func(p *Prescription) { p.PatientNHSNumber = "943 476 5918" }, "patient_nhs_number/malformed"},
		{"date of another form", func(p *Prescription) { p.PatientDateOfBirth = "14/03/1985" }, "patient_date_of_birth/malformed"},
		{"no such day", func(p *Prescription) { p.PatientDateOfBirth = "1985-02-30" }, "patient_date_of_birth/malformed"},
		{"born tomorrow", func(p *Prescription) { p.PatientDateOfBirth = "2026-11-22" }, "patient_date_of_birth/out_of_range"},
		{"born in 1890", func(p *Prescription) { p.PatientDateOfBirth = "1890-01-01" }, "patient_date_of_birth/out_of_range"},
		{"backdated", func(p *Prescription) { p.AppropriateDate = "2026-11-20" }, "appropriate_date/out_of_range"},
		{"postdated", func(p *Prescription) { p.AppropriateDate = "2026-12-24" }, "appropriate_date/out_of_range"},
		{"far ahead", func(p *Prescription) { p.AppropriateDate = "2028-01-01" }, "appropriate_date/out_of_range"},
		{"unknown type", func(p *Prescription) { p.PrescriberType = "VET" }, "prescriber_type/malformed"},
		{"no type, no register", func(p *Prescription) { p.PrescriberType, p.ProfessionalRegister = "", "" }, "prescriber_type/missing professional_register/missing"},
		{"unknown register", func(p *Prescription) { p.ProfessionalRegister = "HCPC" }, "professional_register/malformed"},
		{"nurse on the GMC", func(p *Prescription) { p.PrescriberType = Nurse }, "professional_register/inconsistent"},
		{"nurse", func(p *Prescription) {
			p.PrescriberType, p.ProfessionalRegister, p.ProfessionalRegistrationNumber = Nurse, NMC, "12A3456B"
		}, ""},
		{"dentist", func(p *Prescription) {
			p.PrescriberType, p.ProfessionalRegister, p.ProfessionalRegistrationNumber = Dentist, GDC, "123456"
		}, ""},
		{"pharmacist", func(p *Prescription) {
			p.PrescriberType, p.PrescriberKind, p.ProfessionalRegister, p.ProfessionalRegistrationNumber = Other, "Pharmacist independent prescriber", GPhC, "2071234"
		}, ""},
		{"other without a kind", func(p *Prescription) { p.PrescriberType = Other }, "prescriber_kind/missing"},
		{"a kind of GP", func(p *Prescription) { p.PrescriberKind = "Dentist" }, "prescriber_kind/inconsistent"},
		{"number of another register", func(p *Prescription) { p.ProfessionalRegistrationNumber = "12A3456B" }, "professional_registration_number/malformed"},
		{"path in the ID", func(p *Prescription) { p.PrescriptionID = "../etc" }, "prescription_id/malformed"},
		{"quote in the ID", func(p *Prescription) { p.PrescriptionID = `RX"1` }, "prescription_id/malformed"},
		{"telephone", func(p *Prescription) { p.ClinicPhone = "ask at the desk" }, "clinic_phone/malformed"},
		{"name too long", func(p *Prescription) { p.ClinicianCN = strings.Repeat("n", 65) }, "clinician_cn/too_long"},
		{"64 letters of two bytes", func(p *Prescription) { p.ClinicianCN = strings.Repeat("ñ", 64) }, ""},
		{"two lines", func(p *Prescription) { p.PatientName = "A\nB" }, "patient_name/malformed"},
		{"nine lines", func(p *Prescription) { p.PatientAddress = "1\n2\n3\n4\n5\n6\n7\n8\n9" }, "patient_address/too_long"},
		{"right-to-left override", func(p *Prescription) { p.Dosage = "Take \u202e01 tablets" }, "dosage/unprintable"},
		{"zero width", func(p *Prescription) { p.ClinicianCN = "Doctor\u200b Clinician" }, "clinician_cn/unprintable"},
		{"soft hyphen", func(p *Prescription) { p.MedicationName = "mor\u00adphine" }, "medication_name/unprintable"},
		{"NUL", func(p *Prescription) { p.Quantity = "21\x00" }, "quantity/unprintable"},
		{"broken UTF-8", func(p *Prescription) { p.Quantity = "21\xff" }, "quantity/malformed"},
		{"private use", func(p *Prescription) { p.PatientName = "\ue000" }, "patient_name/unprintable"},
		{"what was no text", func(p *Prescription) { p.Dosage = "Take \ufffd tablet" }, "dosage/unprintable"},
		{"a blank that is a letter", func(p *Prescription) { p.Dosage = "Take 1\u28000 tablets" }, "dosage/unprintable"},
		{"a variation selector", func(p *Prescription) { p.ClinicianCN = "Doctor\ufe0f Clinician" }, "clinician_cn/unprintable"},
		{"schedule 1", func(p *Prescription) { p.ControlledDrugSchedule = "1" }, "controlled_drug_schedule/controlled_drug"},
		{"schedule 2", func(p *Prescription) { p.ControlledDrugSchedule = "2" }, "controlled_drug_schedule/controlled_drug"},
		{"schedule 3", func(p *Prescription) { p.ControlledDrugSchedule = "3" }, "controlled_drug_schedule/controlled_drug"},
		{"schedule 4", func(p *Prescription) { p.MedicationName, p.ControlledDrugSchedule = "Diazepam", "4" }, ""},
		{"schedule 6", func(p *Prescription) { p.ControlledDrugSchedule = "6" }, "controlled_drug_schedule/malformed"},
		{"said not to be controlled", func(p *Prescription) { p.MedicationName = "Morphine sulfate" }, "medication_name/controlled_drug"},
		{"codeine, undeclared", func(p *Prescription) { p.MedicationName = "Codeine phosphate" }, "controlled_drug_schedule/controlled_drug"},
		{"codeine, declared", func(p *Prescription) { p.MedicationName, p.ControlledDrugSchedule = "Codeine phosphate", "5" }, ""},
		{"codeine for injection", func(p *Prescription) {
			p.MedicationName, p.Form, p.ControlledDrugSchedule = "Codeine phosphate", "Solution for injection ampoules", "5"
		}, "medication_name/controlled_drug"},
		{"weak oral morphine", func(p *Prescription) {
			p.MedicationName, p.Strength, p.Form, p.ControlledDrugSchedule = "Morphine sulfate", "10 mg/5 ml", "Oral solution", "5"
		}, ""},
		{"strong oral morphine", func(p *Prescription) {
			p.MedicationName, p.Strength, p.Form, p.ControlledDrugSchedule = "Morphine sulfate", "20 mg/ml", "Oral solution", "5"
		}, "medication_name/controlled_drug"},
		{"weak morphine for injection", func(p *Prescription) {
			p.MedicationName, p.Strength, p.Form, p.ControlledDrugSchedule = "Morphine sulfate", "2 mg/ml", "Injection, not oral", "5"
		}, "medication_name/controlled_drug"},
		{"Cyrillic letter", func(p *Prescription) { p.MedicationName = "\u041corphine" }, "medication_name/malformed"},
		{"a dotless letter", func(p *Prescription) { p.MedicationName = "morph\u0131ne" }, "medication_name/malformed"},
		{"a letter with a stroke", func(p *Prescription) { p.MedicationName = "m\u00f8rphine" }, "medication_name/malformed"},
		{"digits for letters", func(p *Prescription) { p.MedicationName = "M0rph1ne" }, "medication_name/controlled_drug"},
		{"a one for an l", func(p *Prescription) { p.MedicationName = "fentany1" }, "medication_name/controlled_drug"},
		{"a name in pieces", func(p *Prescription) { p.MedicationName = "Mor ph ine" }, "medication_name/controlled_drug"},
		{"a name in letters", func(p *Prescription) { p.MedicationName = "f-e-n-t-a-n-y-l" }, "medication_name/controlled_drug"},
		{"Greek letter in a Latin word", func(p *Prescription) { p.MedicationName = "m\u03bfrphine" }, "medication_name/malformed"},
		{"micrograms", func(p *Prescription) { p.MedicationName = "Levothyroxine 25µg" }, ""},
		{"interferon beta", func(p *Prescription) { p.MedicationName = "Interferon β-1a" }, ""},
	} {
		p := Demo(now)
		c.change(&p)
		var got []string
		for _, q := range p.Validate(now, nil) {
			got = append(got, q.Field+"/"+string(q.Code))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: got %q, want %q", c.name, s, c.want)
		}
	}
}

func TestEverythingAtOnce(t *testing.T) {
	problems := Prescription{}.Validate(now, nil)
	var got []string
	for _, p := range problems {
		got = append(got, p.Field)
		if p.Code != Missing {
			t.Errorf("%v", p)
		}
	}
	for _, f := range []string{"prescription_id", "clinic_name", "clinician_cn", "prescriber_type", "professional_register", "professional_registration_number",
		"prescriber_address", "patient_name", "patient_address", "patient_date_of_birth", "appropriate_date", "medication_name", "form", "quantity",
		"dosage", "controlled_drug_schedule"} {
		if !slices.Contains(got, f) {
			t.Errorf("%s is not reported", f)
		}
	}
	if len(got) != 16 {
		t.Errorf("%d problems: %v", len(got), got)
	}
}

// No text of a problem repeats what a field holds: problems are logged, patients' data is not.
func TestProblemsQuoteNothing(t *testing.T) {
	p := Demo(now)
	for _, f := range p.fields() {
		*f.value = "Xyzzy\u202e\n\x01" + strings.Repeat("q", 700)
	}
	p.PrescriberType, p.ProfessionalRegister, p.ControlledDrugSchedule = "Xyzzy", "Xyzzy", "Xyzzy"
	for _, q := range p.Validate(now, nil) {
		if strings.Contains(q.Text, "Xyzzy") || strings.Contains(q.Text, "qq") {
			t.Errorf("%v", q)
		}
	}
}

func TestClassify(t *testing.T) {
	for medicine, want := range map[string]Schedule{
		"Amoxicillin":                    "",
		"Apomorphine":                    "", // not morphine
		"Dextromethorphan":               "",
		"Loperamide":                     "",
		"Diazepam":                       "", // Schedule 4
		"Zopiclone":                      "",
		"Testosterone":                   "",
		"Sativex oromucosal spray":       "",
		"Cannabidiol / Dronabinol spray": "",
		"Cannabis flos":                  Schedule1,
		"Psilocybin":                     Schedule1,
		"OXYCODONE hydrochloride":        Schedule2,
		"Oxycodone/Naloxone":             Schedule2,
		"MST Continus":                   Schedule2,
		"Méthadone":                      Schedule2,
		"Ｆｅｎｔａｎｙｌ":                       Schedule2,
		"Sodium oxybate":                 Schedule2,
		"Lisdexamfetamine":               Schedule2,
		"Concerta XL":                    Schedule2,
		"Dronabinol":                     Schedule2,
		"Co-proxamol":                    Schedule2,
		"Dihydrocodeine":                 Schedule2, // and exempt
		"Oxy-Norm":                       Schedule2,
		"Methyl phenidate MR":            Schedule2,
		"Omeprazole gastro-resistant":    "",
		"Pregabalin":                     Schedule3,
		"Gabapentin":                     Schedule3,
		"tramadol hydrochloride":         Schedule3,
		"Temazepam":                      Schedule3,
		"Tenuate Dospan":                 Schedule3,
		"Fortral 50mg":                   Schedule3,
		"Palfium":                        Schedule2,
		"Pamergan P100":                  Schedule2,
		"Midazolam":                      Schedule3,
		"Buprenorphine":                  Schedule3,
		"Phenobarbital":                  Schedule3,
	} {
		if got := classify(medicine, ""); got.schedule != want {
			t.Errorf("%s: %+v, want %q", medicine, got, want)
		}
	}
}

func TestNormalize(t *testing.T) {
	p := Demo(now)
	p.PatientName = "  Zoe\u0308\u00a0 \tExample "
	p.PatientAddress = " 1 Street \r\n\n  Town\n"
	p.PatientNHSNumber = "943 476 5919"
	got := p.Normalize()
	if got.PatientName != "Zoë Example" || got.PatientAddress != "1 Street\nTown" || got.PatientNHSNumber != "9434765919" {
		t.Errorf("%+v", got)
	}
	if !reflect.DeepEqual(got.Normalize(), got) {
		t.Error("not idempotent")
	}
	if p.PatientNHSNumber != "943 476 5919" {
		t.Error("Normalize changed its operand")
	}
}

// codes is a Dictionary.
type codes map[string]string

func (c codes) Schedule(code string) (string, bool) { s, ok := c[code]; return s, ok }

// TestCodeDecides: what a dictionary has of the code decides over the field, and lifts nothing that the name or the field refuses.
func TestCodeDecides(t *testing.T) {
	const code = "39732311000001104"
	for _, c := range []struct {
		name     string
		known    string // "" = the dictionary does not have it
		stated   Schedule
		medicine string
		want     string // "field code" of each problem
	}{
		{"not controlled, and so stated", "none", NotControlled, "Amoxicillin", ""},
		{"schedule 4, and so stated", "4", Schedule4, "Fourine", ""},
		{"schedule 5, and so stated", "5", Schedule5, "Codeine phosphate", ""},
		{"not in the dictionary", "", Schedule4, "Amoxicillin", ""},
		{"schedule 1", "1", NotControlled, "Amoxicillin", "snomed_code controlled_drug"},
		{"schedule 2", "2", NotControlled, "Amoxicillin", "snomed_code controlled_drug"},
		{"schedule 3", "3", Schedule5, "Amoxicillin", "snomed_code controlled_drug"},
		{"stated none", "4", NotControlled, "Amoxicillin", "controlled_drug_schedule inconsistent"},
		{"stated 5", "4", Schedule5, "Amoxicillin", "controlled_drug_schedule inconsistent"},
		{"stated 4", "none", Schedule4, "Amoxicillin", "controlled_drug_schedule inconsistent"},
		{"a harmless code, and a name that is not", "none", NotControlled, "Morphine sulfate", "medication_name controlled_drug"},
		{"a harmless code, and a schedule that is not", "none", Schedule2, "Amoxicillin", "controlled_drug_schedule controlled_drug"},
		{"not in the dictionary, and a name", "", NotControlled, "Morphine sulfate", "medication_name controlled_drug"},
		{"no schedule stated", "2", "", "Amoxicillin", "controlled_drug_schedule missing, snomed_code controlled_drug"},
	} {
		known := codes{}
		if c.known != "" {
			known[code] = c.known
		}
		p := Demo(now)
		p.SNOMEDCode, p.ControlledDrugSchedule, p.MedicationName = code, c.stated, c.medicine
		var got []string
		for _, q := range p.Validate(now, known) {
			got = append(got, q.Field+" "+string(q.Code))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	p := Demo(now)
	p.SNOMEDCode = "39732311000001105" // a wrong check digit: not looked up
	if got := p.Validate(now, codes{"39732311000001105": "2"}); len(got) != 1 || got[0].Code != Malformed {
		t.Errorf("a malformed code: %v", got)
	}
}
