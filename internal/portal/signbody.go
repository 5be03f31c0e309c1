package portal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Particulars is prescription.Prescription with what the API's description says of each field; the compiler keeps the two alike, since one is
// converted to the other.
type Particulars struct {
	PrescriptionID string `json:"prescription_id" doc:"The booking app's own number, unique in the clinic; becomes a file name." example:"RX-134"`

	ClinicName    string `json:"clinic_name" doc:"The organisation in the clinician's certificate, or a trading name in the clinic's policy." example:"Wharf Lane Clinic"`
	ClinicAddress string `json:"clinic_address,omitempty" doc:"Left out when it is the practitioner's. Lines are separated by line feeds."`
	ClinicPhone   string `json:"clinic_phone,omitempty" example:"0117 496 0134"`

	ClinicianCN                    string                      `json:"clinician_cn" doc:"The clinician's full name, exactly as in their certificate." example:"Doctor Clinician"`
	PrescriberType                 prescription.PrescriberType `json:"prescriber_type" enum:"GP,DENTIST,NURSE,OTHER" example:"GP"`
	PrescriberKind                 string                      `json:"prescriber_kind,omitempty" doc:"The kind of practitioner in words, when prescriber_type is OTHER."`
	ProfessionalRegister           prescription.Register       `json:"professional_register" enum:"GMC,NMC,GDC,GPhC" example:"GMC"`
	ProfessionalRegistrationNumber string                      `json:"professional_registration_number" example:"7654321"`
	PrescriberAddress              string                      `json:"prescriber_address" doc:"Lines are separated by line feeds." example:"14 Wharf Lane\nBristol\nBS1 9ZZ"`

	PatientName        string `json:"patient_name" example:"Zoë Anne Example"`
	PatientAddress     string `json:"patient_address" doc:"Lines are separated by line feeds." example:"27 Orchard Rise\nBristol\nBS8 9ZZ"`
	PatientDateOfBirth string `json:"patient_date_of_birth" doc:"YYYY-MM-DD." example:"1985-03-14"`
	PatientNHSNumber   string `json:"patient_nhs_number,omitempty" doc:"Ten digits; spaces are allowed." example:"9990000018"`

	AppropriateDate        string                `json:"appropriate_date" doc:"HMR 2012 regulation 217(7)(b): the day of signing in the United Kingdom. YYYY-MM-DD." example:"2026-11-21"`
	MedicationName         string                `json:"medication_name" example:"Amoxicillin"`
	Strength               string                `json:"strength,omitempty" example:"500 mg"`
	Form                   string                `json:"form" example:"capsules"`
	Quantity               string                `json:"quantity" example:"21 capsules"`
	Dosage                 string                `json:"dosage" example:"One capsule three times a day for 7 days"`
	SNOMEDCode             string                `json:"snomed_code,omitempty" doc:"SNOMED CT or dm+d concept." example:"39732311000001104"`
	ControlledDrugSchedule prescription.Schedule `json:"controlled_drug_schedule" enum:"none,1,2,3,4,5" doc:"Schedule of the Misuse of Drugs Regulations 2001. 1 to 3 are refused." example:"none"`

	PharmacyID   string `json:"pharmacy_id,omitempty" doc:"The booking app's own reference."`
	PharmacyODS  string `json:"pharmacy_ods,omitempty" example:"FA123"`
	PharmacyName string `json:"pharmacy_name,omitempty"`

	Demonstration bool `json:"-"`
}

// signBody is the body of POST /api/sign.
type signBody struct {
	Particulars
	ConsentText      string `json:"consent_text" doc:"What the clinician agreed to, word for word." example:"I have reviewed this prescription and sign it."`
	ConsentTimestamp string `json:"consent_timestamp" doc:"When they agreed, RFC 3339." example:"2026-11-21T10:15:30Z"`
	ClientIP         string `json:"client_ip,omitempty" doc:"The address of the clinician's browser, as the booking app saw it. Without it, X-Forwarded-For is looked at."`
	ClientUserAgent  string `json:"client_user_agent,omitempty" doc:"The User-Agent of the clinician's browser. Without it, this request's is taken."`
	PDFBase64        string `json:"pdf_base64,omitempty" doc:"A PDF to sign instead of the one that the appliance would make; only where the clinic's policy allows it."`
}

func (b *signBody) prescription() prescription.Prescription {
	return prescription.Prescription(b.Particulars).Normalize()
}

// decodeSign reads the body of POST /api/sign: JSON, or a form with the same names and the PDF as a file "pdf". given is that PDF, nil when there
// is none. What cannot be understood at all is a *Problem; what is wrong in single fields comes back in wrong, so that it can be reported with the rest.
func decodeSign(contentType string, body []byte) (b signBody, given []byte, wrong []FieldProblem, err error) {
	switch mediaType(contentType) {
	case "application/json":
		wrong, err = decodeFields(body, &b)
		return b, nil, wrong, err
	case "multipart/form-data":
		return decodeForm(contentType, body)
	}
	return b, nil, nil, problem("unsupported", "The body is neither application/json nor multipart/form-data.")
}

// decodeFields reads a JSON object of texts into the fields of b, and says which are unknown, given twice or not texts.
func decodeFields(body []byte, b *signBody) ([]FieldProblem, error) {
	fields := b.fields()
	var wrong []FieldProblem
	seen := map[string]bool{}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, problem("invalid-json", "The body is not a JSON object.")
	}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, problem("invalid-json", "The body is not valid JSON.")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, problem("invalid-json", "The body is not valid JSON.")
		}
		to := fields[name]
		switch {
		case len(wrong) >= maxWrong:
		case to == nil:
			wrong = append(wrong, FieldProblem{Field: plainText(name, 64), Code: "unknown", Text: "is not a field of a prescription: see /docs"})
		case seen[name]:
			wrong = append(wrong, FieldProblem{Field: name, Code: "malformed", Text: "is there twice"})
		case string(value) == "null": // as if it were left out
		case len(value) == 0 || value[0] != '"':
			wrong = append(wrong, FieldProblem{Field: name, Code: "malformed", Text: "is not a text in quotes"})
		default:
			var s string
			if err := json.Unmarshal(value, &s); err != nil {
				return nil, problem("invalid-json", "The body is not valid JSON.")
			}
			if s == "" && name == givenField {
				wrong = append(wrong, emptyPDF(name))
			}
			to.SetString(s)
		}
		seen[name] = true
	}
	if _, err := d.Token(); err != nil {
		return nil, problem("invalid-json", "The body is not valid JSON.")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, problem("invalid-json", "There is something after the JSON object.")
	}
	return wrong, nil
}

// givenField is the field of a PDF to sign.
const givenField = "pdf_base64"

// emptyPDF is what is wrong with a PDF of no bytes: whoever means to give one must not get another one signed.
func emptyPDF(field string) FieldProblem {
	return FieldProblem{Field: field, Code: "malformed", Text: "is empty: give the PDF to sign, or leave the field out"}
}

// maxWrong bounds how many unknown fields are named.
const maxWrong = 50

// fields returns where each name goes; every field of a signBody is a text.
func (b *signBody) fields() map[string]*reflect.Value {
	to := map[string]*reflect.Value{}
	for _, s := range []reflect.Value{reflect.ValueOf(b).Elem(), reflect.ValueOf(&b.Particulars).Elem()} {
		for i := range s.NumField() {
			name, _, _ := strings.Cut(s.Type().Field(i).Tag.Get("json"), ",")
			if f := s.Field(i); name != "" && f.Kind() == reflect.String {
				to[name] = &f
			}
		}
	}
	return to
}

// decodeForm reads multipart/form-data (RFC 7578).
func decodeForm(contentType string, body []byte) (b signBody, given []byte, wrong []FieldProblem, err error) {
	bad := func(text string) (signBody, []byte, []FieldProblem, error) {
		return signBody{}, nil, nil, problem("invalid-request", text)
	}
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return bad("The form has no boundary.")
	}
	fields := b.fields()
	delete(fields, givenField)
	var seen []string
	form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return b, given, wrong, nil
		}
		if err != nil || len(seen) > len(fields)+maxWrong {
			return bad("The form cannot be read.")
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return bad("The form cannot be read.")
		}
		name := part.FormName()
		switch {
		case slices.Contains(seen, name):
			wrong = append(wrong, FieldProblem{Field: plainText(name, 64), Code: "malformed", Text: "is there twice"})
		case name == "pdf":
			if given = value; len(value) == 0 {
				wrong = append(wrong, emptyPDF(name))
			}
		case fields[name] == nil:
			wrong = append(wrong, FieldProblem{Field: plainText(name, 64), Code: "unknown", Text: "is not a field of a prescription: see /docs"})
		default:
			fields[name].SetString(string(value))
		}
		seen = append(seen, name)
	}
}

// maxConsent bounds the text of a consent, in bytes, as the signer does.
const maxConsent = 4000

// consent checks the form of the consent; whether it is recent enough is the signer's to say.
func (b *signBody) consent() (wire.Consent, []FieldProblem) {
	var wrong []FieldProblem
	text := strings.TrimSpace(b.ConsentText)
	switch {
	case text == "":
		wrong = append(wrong, FieldProblem{Field: "consent_text", Code: "missing", Text: "is missing: the words that the clinician agreed to"})
	case len(text) > maxConsent:
		wrong = append(wrong, FieldProblem{Field: "consent_text", Code: "too_long", Text: fmt.Sprintf("has more than %d bytes", maxConsent)})
	}
	if b.ConsentTimestamp == "" {
		return wire.Consent{}, append(wrong, FieldProblem{Field: "consent_timestamp", Code: "missing", Text: "is missing: when the clinician agreed, RFC 3339"})
	}
	at, err := time.Parse(time.RFC3339Nano, b.ConsentTimestamp)
	if err != nil {
		wrong = append(wrong, FieldProblem{Field: "consent_timestamp", Code: "malformed", Text: "is not a time with its zone, such as 2026-11-21T10:15:30Z"})
	}
	return wire.Consent{Text: text, Timestamp: at.UTC()}, wrong
}
