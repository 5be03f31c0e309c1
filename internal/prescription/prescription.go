// Package prescription is what a private prescription says: its particulars, the checks on them, and the one A4 page that shows them.
//
// The particulars are those of regulation 217 of the Human Medicines Regulations 2012 (HMR): the practitioner's signature (which is
// not this package's), name, address and kind, an appropriate date, the patient's name, address and age, and the medicine. Validate
// finds every problem at once; Renderer.Render makes the PDF. The package is pure: it reads no clock and no file.
package prescription

import (
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"
)

// Prescription is one item for one patient. Fields are UTF-8 text under the names that the booking apps use. Dates are YYYY-MM-DD.
// Addresses may hold line breaks; no other field may.
type Prescription struct {
	PrescriptionID string `json:"prescription_id"` // unique per clinic; becomes a file name

	ClinicName    string `json:"clinic_name"`
	ClinicAddress string `json:"clinic_address,omitempty"` // empty when it is the practitioner's
	ClinicPhone   string `json:"clinic_phone,omitempty"`

	ClinicianCN                    string         `json:"clinician_cn"`
	PrescriberType                 PrescriberType `json:"prescriber_type"`
	PrescriberKind                 string         `json:"prescriber_kind,omitempty"` // in words, when the type is OTHER
	ProfessionalRegister           Register       `json:"professional_register"`
	ProfessionalRegistrationNumber string         `json:"professional_registration_number"`
	PrescriberAddress              string         `json:"prescriber_address"`

	PatientName        string `json:"patient_name"`
	PatientAddress     string `json:"patient_address"`
	PatientDateOfBirth string `json:"patient_date_of_birth"`
	PatientNHSNumber   string `json:"patient_nhs_number,omitempty"` // digits, spaces allowed

	AppropriateDate        string   `json:"appropriate_date"` // HMR 217(7)(b): the day of signing
	MedicationName         string   `json:"medication_name"`
	Strength               string   `json:"strength,omitempty"`
	Form                   string   `json:"form"`
	Quantity               string   `json:"quantity"`
	Dosage                 string   `json:"dosage"`
	SNOMEDCode             string   `json:"snomed_code,omitempty"`
	ControlledDrugSchedule Schedule `json:"controlled_drug_schedule"`

	PharmacyID   string `json:"pharmacy_id,omitempty"` // the booking app's own reference; not printed
	PharmacyODS  string `json:"pharmacy_ods,omitempty"`
	PharmacyName string `json:"pharmacy_name,omitempty"`

	// Demonstration makes the page say that it is none. No JSON can set it, and none can clear it.
	Demonstration bool `json:"-"`
}

// PrescriberType is the kind of practitioner, as the clinics' registration knows it.
type PrescriberType string

const (
	GP      PrescriberType = "GP"
	Dentist PrescriberType = "DENTIST"
	Nurse   PrescriberType = "NURSE"
	Other   PrescriberType = "OTHER"
)

// Register is the professional register that the registration number belongs to.
type Register string

const (
	GMC  Register = "GMC"
	NMC  Register = "NMC"
	GDC  Register = "GDC"
	GPhC Register = "GPhC"
)

// Schedule is the schedule of the Misuse of Drugs Regulations 2001 that the medicine is in.
type Schedule string

const (
	NotControlled Schedule = "none"
	Schedule1     Schedule = "1"
	Schedule2     Schedule = "2"
	Schedule3     Schedule = "3"
	Schedule4     Schedule = "4"
	Schedule5     Schedule = "5"
)

// Kind is the kind of practitioner in words, as HMR 217(4)(c) wants it on the prescription.
func (p *Prescription) Kind() string {
	switch p.PrescriberType {
	case GP:
		return "Doctor (general practitioner)"
	case Dentist:
		return "Dentist"
	case Nurse:
		return "Nurse independent prescriber"
	}
	return p.PrescriberKind
}

// Normalize returns p as it is kept and signed: Unicode NFC, lines trimmed, runs of blanks made one, empty lines dropped, and the
// NHS number as ten digits. Normalize(Normalize(p)) == Normalize(p).
func (p Prescription) Normalize() Prescription {
	for _, f := range p.fields() {
		*f.value = clean(*f.value)
	}
	p.PatientNHSNumber = strings.ReplaceAll(p.PatientNHSNumber, " ", "")
	p.PrescriberType = PrescriberType(clean(string(p.PrescriberType)))
	p.ProfessionalRegister = Register(clean(string(p.ProfessionalRegister)))
	p.ControlledDrugSchedule = Schedule(clean(string(p.ControlledDrugSchedule)))
	return p
}

func clean(s string) string {
	lines := strings.Split(strings.ReplaceAll(norm.NFC.String(s), "\r\n", "\n"), "\n")
	kept := lines[:0]
	for _, l := range lines {
		if l = strings.Join(strings.FieldsFunc(l, blank), " "); l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "\n")
}

// blank is a space of any kind within a line; other controls stay, to be reported.
func blank(r rune) bool {
	return r == ' ' || r == '\t' || r == 0xa0 || r == 0x202f || 0x2000 <= r && r <= 0x200a
}

// Demo is the prescription that "appliance demo" signs. Its people, places and numbers are invented, and its page says so.
func Demo(now time.Time) Prescription {
	return Prescription{
		PrescriptionID:                 "RX-134",
		ClinicName:                     "Wharf Lane Clinic",
		ClinicPhone:                    "0117 496 0134", // of the numbers that Ofcom keeps for fiction
		ClinicianCN:                    "Doctor Clinician",
		PrescriberType:                 GP,
		ProfessionalRegister:           GMC,
		ProfessionalRegistrationNumber: "7654321",
		PrescriberAddress:              "Wharf Lane Clinic\n14 Wharf Lane\nBristol\nBS1 9ZZ",
		PatientName:                    "Zoë Anne Example",
		PatientAddress:                 "27 Orchard Rise\nClifton\nBristol\nBS8 9ZZ",
		PatientDateOfBirth:             "1985-03-14",
		PatientNHSNumber:               "9990000018", // of the range that is never issued
		AppropriateDate:                UKDate(now),
		MedicationName:                 "Amoxicillin",
		Strength:                       "500 mg",
		Form:                           "Capsules",
		Quantity:                       "21 capsules",
		Dosage:                         "Take ONE capsule THREE times a day for seven days. Finish the course.",
		SNOMEDCode:                     "39732311000001104",
		ControlledDrugSchedule:         NotControlled,
		PharmacyID:                     "17",
		PharmacyODS:                    "FZZ99",
		PharmacyName:                   "Harbour Street Pharmacy, Bristol",
		Demonstration:                  true,
	}
}
