package prescription

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
)

// Problem is one thing that is wrong with a prescription. Field is the JSON name; Text says what is wrong and what would be right.
// Text never repeats what the field holds.
type Problem struct {
	Field string `json:"field"`
	Code  Code   `json:"code"`
	Text  string `json:"text"`
}

// Code says what sort of problem it is; stable, for programs.
type Code string

const (
	Missing        Code = "missing"
	Malformed      Code = "malformed"
	TooLong        Code = "too_long"
	Unprintable    Code = "unprintable"
	OutOfRange     Code = "out_of_range"
	Inconsistent   Code = "inconsistent"
	ControlledDrug Code = "controlled_drug"
)

// String is "field: text".
func (p Problem) String() string { return p.Field + ": " + p.Text }

// field describes a free-text field: every string of Prescription that has no values of its own.
type field struct {
	name     string
	value    *string
	max      int // characters
	required bool
	lines    bool // may hold line breaks
}

func (p *Prescription) fields() []field {
	return []field{
		{"prescription_id", &p.PrescriptionID, 64, true, false},
		{"clinic_name", &p.ClinicName, 100, true, false},
		{"clinic_address", &p.ClinicAddress, 250, false, true},
		{"clinic_phone", &p.ClinicPhone, 30, false, false},
		{"clinician_cn", &p.ClinicianCN, 64, true, false}, // ub-common-name of RFC 5280
		{"prescriber_kind", &p.PrescriberKind, 60, p.PrescriberType == Other, false},
		{"professional_registration_number", &p.ProfessionalRegistrationNumber, 20, true, false},
		{"prescriber_address", &p.PrescriberAddress, 250, true, true},
		{"patient_name", &p.PatientName, 120, true, false},
		{"patient_address", &p.PatientAddress, 250, true, true},
		{"patient_date_of_birth", &p.PatientDateOfBirth, 10, true, false},
		{"patient_nhs_number", &p.PatientNHSNumber, 12, false, false},
		{"appropriate_date", &p.AppropriateDate, 10, true, false},
		{"medication_name", &p.MedicationName, 255, true, false}, // dm+d: VMP and AMP names have at most 255
		{"strength", &p.Strength, 100, false, false},
		{"form", &p.Form, 100, true, false},
		{"quantity", &p.Quantity, 100, true, false},
		{"dosage", &p.Dosage, 600, true, false},
		{"snomed_code", &p.SNOMEDCode, 18, false, false},
		{"pharmacy_id", &p.PharmacyID, 64, false, false},
		{"pharmacy_ods", &p.PharmacyODS, 5, p.PharmacyName != "", false},
		{"pharmacy_name", &p.PharmacyName, 120, p.PharmacyODS != "", false},
	}
}

// Dictionary knows in which schedule of the Misuse of Drugs Regulations a medicine is, by its SNOMED CT code: "1" to "5", or "none". known is false
// for a code that it has not.
type Dictionary interface {
	Schedule(code string) (schedule string, known bool)
}

// Validate returns everything that is wrong with p when it is to be signed at now; nil when nothing is. It looks at p as Normalize
// would leave it. What medicines, which may be nil, knows of a code decides over controlled_drug_schedule. Whether the page can show every
// character, and has room, is Renderer.Lay's to say.
func (p Prescription) Validate(now time.Time, medicines Dictionary) []Problem {
	p = p.Normalize()
	v := &validation{failed: map[string]bool{}}
	for _, f := range p.fields() {
		v.text(f)
	}
	v.codes(&p)
	v.prescriber(&p)
	v.dates(&p, now)
	v.medicine(&p)
	if medicines != nil {
		v.byCode(&p, medicines)
	}
	return v.problems
}

const addressLines = 8

type validation struct {
	problems []Problem
	failed   map[string]bool // fields with a problem: a second check of the same field would only repeat it
}

func (v *validation) add(name string, code Code, format string, args ...any) {
	v.failed[name] = true
	v.problems = append(v.problems, Problem{name, code, fmt.Sprintf(format, args...)})
}

// filled tells whether a field holds something whose format is worth a check.
func (v *validation) filled(name, value string) bool { return value != "" && !v.failed[name] }

func (v *validation) text(f field) {
	s := *f.value
	switch {
	case s == "" && f.required:
		v.add(f.name, Missing, "is required")
	case !utf8.ValidString(s):
		v.add(f.name, Malformed, "is not valid UTF-8")
	case utf8.RuneCountInString(s) > f.max:
		v.add(f.name, TooLong, "is longer than %d characters", f.max)
	case !f.lines && strings.Contains(s, "\n"):
		v.add(f.name, Malformed, "must be on one line")
	case strings.Count(s, "\n") >= addressLines:
		v.add(f.name, TooLong, "has more than %d lines", addressLines)
	default:
		for _, r := range s {
			if hidden(r) {
				v.add(f.name, Unprintable, "holds an invisible character (U+%04X): remove it", r)
				return
			}
		}
	}
}

// hidden is a character that a reader cannot see or that changes how others are shown: controls, bidirectional and zero-width
// formatting, separators, private use and unassigned ones; and U+FFFD, which stands where a decoder met bytes that are no text: nobody knows what was meant.
func hidden(r rune) bool {
	if r == '\n' {
		return false
	}
	p, _ := bidi.LookupRune(r)
	switch p.Class() {
	case bidi.LRE, bidi.RLE, bidi.LRO, bidi.RLO, bidi.PDF, bidi.LRI, bidi.RLI, bidi.FSI, bidi.PDI:
		return true
	}
	return unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) || r == 0x034f || r == 0x115f || r == 0x1160 || r == 0x3164 || r == 0xffa0 || r == 0x2800 || r == utf8.RuneError ||
		unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) ||
		!unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Zs)
}

func (v *validation) codes(p *Prescription) {
	if v.filled("prescription_id", p.PrescriptionID) && !idFormat.MatchString(p.PrescriptionID) {
		v.add("prescription_id", Malformed, "must be letters, digits, '.', '_' and '-', and start with a letter or digit")
	}
	if v.filled("snomed_code", p.SNOMEDCode) && !ValidSNOMED(p.SNOMEDCode) {
		v.add("snomed_code", Malformed, "is not a SNOMED CT concept identifier: 6 to 18 digits whose check digit fits")
	}
	if v.filled("pharmacy_ods", p.PharmacyODS) && !odsFormat.MatchString(p.PharmacyODS) {
		v.add("pharmacy_ods", Malformed, "is not the ODS code of a pharmacy: F and four letters or digits")
	}
	if v.filled("patient_nhs_number", p.PatientNHSNumber) && !ValidNHSNumber(p.PatientNHSNumber) {
		v.add("patient_nhs_number", Malformed, "is not an NHS number: ten digits whose check digit fits")
	}
	if v.filled("clinic_phone", p.ClinicPhone) && strings.Trim(p.ClinicPhone, "+0123456789 ()-x") != "" {
		v.add("clinic_phone", Malformed, "must be digits, spaces, '+', '-' and brackets")
	}
}

// registers that each type of prescriber can be on.
var registers = map[PrescriberType][]Register{GP: {GMC}, Dentist: {GDC}, Nurse: {NMC}, Other: {GMC, NMC, GDC, GPhC}}

func (v *validation) prescriber(p *Prescription) {
	allowed, known := registers[p.PrescriberType]
	switch {
	case p.PrescriberType == "":
		v.add("prescriber_type", Missing, "is required: GP, DENTIST, NURSE or OTHER")
	case !known:
		v.add("prescriber_type", Malformed, "must be GP, DENTIST, NURSE or OTHER")
	case p.PrescriberType != Other && p.PrescriberKind != "":
		v.add("prescriber_kind", Inconsistent, "is only for prescriber_type OTHER")
	}
	format, listed := registrationFormats[p.ProfessionalRegister]
	switch {
	case p.ProfessionalRegister == "":
		v.add("professional_register", Missing, "is required: GMC, NMC, GDC or GPhC")
		return
	case !listed:
		v.add("professional_register", Malformed, "must be GMC, NMC, GDC or GPhC")
		return
	case known && !slices.Contains(allowed, p.ProfessionalRegister):
		v.add("professional_register", Inconsistent, "must be %s for prescriber_type %s", allowed[0], p.PrescriberType)
	}
	const number = "professional_registration_number"
	if v.filled(number, p.ProfessionalRegistrationNumber) && !format.MatchString(p.ProfessionalRegistrationNumber) {
		v.add(number, Malformed, "is not a %s number: %s", p.ProfessionalRegister, registrationHints[p.ProfessionalRegister])
	}
}

func (v *validation) dates(p *Prescription, now time.Time) {
	birth, okBirth := v.date("patient_date_of_birth", p.PatientDateOfBirth)
	on, okOn := v.date("appropriate_date", p.AppropriateDate)
	today, err := time.Parse(dateLayout, UKDate(now))
	if err != nil {
		panic("prescription: date does not parse: " + err.Error())
	}
	// HMR 217(7)(b): of what is no health prescription, the appropriate date is that of signing.
	if okOn && !on.Equal(today) {
		v.add("appropriate_date", OutOfRange, "is not today's date in the United Kingdom: a private prescription is dated the day it is signed")
	}
	if okBirth && birth.After(today) {
		v.add("patient_date_of_birth", OutOfRange, "is in the future")
	}
	if okBirth && today.Year()-birth.Year() > 130 {
		v.add("patient_date_of_birth", OutOfRange, "is more than 130 years ago")
	}
}

func (v *validation) date(name, s string) (time.Time, bool) {
	if !v.filled(name, s) {
		return time.Time{}, false
	}
	t, err := time.Parse(dateLayout, s)
	if err != nil {
		v.add(name, Malformed, "is not a date in the form YYYY-MM-DD")
		return time.Time{}, false
	}
	return t, true
}
