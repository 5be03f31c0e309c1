package prescription

import (
	"fmt"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fonts"
)

const (
	pageWidth, pageHeight = 595.28, 841.89 // A4
	margin                = 48.0
	inner                 = pageWidth - 2*margin
	mm                    = 72 / 25.4

	panelWidth, panelHeight = 70 * mm, 25 * mm
	panelX                  = pageWidth - margin - panelWidth - 4
	panelBottom             = 118.0 // above the foot of the page

	footTop = pageHeight - 86 // where the notes at the foot begin
)

// PanelRect is the place that the page keeps for a visible signature, 70 × 25 mm, as a PDF rectangle [x1 y1 x2 y2] on page 0.
func PanelRect() [4]float64 {
	return [4]float64{panelX, panelBottom, panelX + panelWidth, panelBottom + panelHeight}
}

var (
	navy  = colour{0x12, 0x35, 0x5b}
	ink   = colour{0x14, 0x1a, 0x22}
	grey  = colour{0x56, 0x63, 0x73}
	hair  = colour{0xc3, 0xce, 0xd9}
	tint  = colour{0xf2, 0xf5, 0xf9}
	white = colour{0xff, 0xff, 0xff}
	alarm = colour{0xb4, 0x1f, 0x2a}

	titleStyle  = style{fonts.Bold, 17, navy}
	kickerStyle = style{fonts.Bold, 11, navy}
	labelStyle  = style{fonts.Bold, 7, grey}
	strongStyle = style{fonts.Bold, 12, ink}
	bodyStyle   = style{fonts.Regular, 9.5, ink}
	smallStyle  = style{fonts.Regular, 8.5, grey}
	noteStyle   = style{fonts.Regular, 7.2, grey}
	symbolStyle = style{fonts.Regular, 34, navy}
	drugStyle   = style{fonts.Bold, 15, ink}
	itemStyle   = style{fonts.Regular, 11, ink}
	itemBold    = style{fonts.Bold, 11, ink}
	bandStyle   = style{fonts.Bold, 13, white}
	warnStyle   = style{fonts.Bold, 9, alarm}
)

func plain(s string) text { return text{value: s} }

// layout puts p, which is valid and normalised, on the sheet. What does not fit or cannot be shown becomes a problem.
func (s *sheet) layout(p *Prescription) {
	top := s.letterhead(p) + 14
	top = s.cards(p, top) + 16
	bottom := s.prescriber(p) - 16
	s.item(p, top, bottom)
	s.foot(p)
	if p.Demonstration {
		s.demonstration()
	}
}

const demonstration = "DEMONSTRATION – NOT A PRESCRIPTION"

// demonstration puts a band at the head of the page, and says the same at its foot.
func (s *sheet) demonstration() {
	const top, height = 13, 23
	s.boxes = append(s.boxes, box{x: margin, y: top, w: inner, h: height, fill: &alarm})
	s.centred(plain(demonstration), bandStyle, pageWidth/2, top+16.4)
	s.centred(plain(demonstration), warnStyle, pageWidth/2, pageHeight-28)
}

// letterhead is the clinic on the left, the kind of document and its number on the right.
func (s *sheet) letterhead(p *Prescription) float64 {
	title := titleStyle
	if len(p.ClinicName) > 50 {
		title = title.scaled(0.76)
	}
	y := s.flow(text{"clinic_name", p.ClinicName}, title, margin, 60, 330)
	y -= title.size*leading - 14
	address := p.ClinicAddress
	if address == "" {
		address = strings.TrimPrefix(p.PrescriberAddress, p.ClinicName+"\n")
	}
	y = s.flow(text{"clinic_address", joined(address)}, smallStyle, margin, y, 330)
	if p.ClinicPhone != "" {
		y = s.flow(text{"clinic_phone", "Telephone " + p.ClinicPhone}, smallStyle, margin, y, 330)
	}
	edge := pageWidth - margin
	s.right(plain("PRIVATE PRESCRIPTION"), kickerStyle, edge, 58)
	s.right(text{"prescription_id", "No. " + p.PrescriptionID}, style{fonts.Regular, min(9.5, 280/float64(len(p.PrescriptionID)+4)), ink}, edge, 73)
	y = max(y, 90)
	s.rules = append(s.rules, rule{margin, y, edge, y, 1.4, navy})
	return y
}

// cards are the patient and, beside it, the dates and the pharmacy, on one height.
func (s *sheet) cards(p *Prescription, top float64) float64 {
	const gutter, pad = 12, 12
	left := inner*0.56 - gutter/2
	right := inner - left - gutter
	x2 := margin + left + gutter
	behind := len(s.boxes)
	s.boxes = append(s.boxes, box{x: margin, y: top, w: left, fill: &tint}, box{x: x2, y: top, w: right, fill: &tint})

	x, w := margin+pad, left-2*pad
	y := s.label("PATIENT", x, top+16)
	y = s.flow(text{"patient_name", p.PatientName}, strongStyle, x, y+5, w)
	y = s.flow(text{"patient_date_of_birth", s.born(p)}, bodyStyle, x, y, w)
	if n := p.PatientNHSNumber; n != "" {
		y = s.flow(text{"patient_nhs_number", "NHS number " + n[:3] + " " + n[3:6] + " " + n[6:]}, bodyStyle, x, y, w)
	}
	end := s.flow(text{"patient_address", p.PatientAddress}, bodyStyle, x, y+4, w)

	x, w = x2+pad, right-2*pad
	y = s.label("APPROPRIATE DATE", x, top+16)
	y = s.flow(text{"appropriate_date", longDate(p.AppropriateDate)}, strongStyle, x, y+5, w)
	y = s.flow(plain(validity(p)), smallStyle, x, y-1, w)
	y = s.label("PHARMACY", x, y+9)
	if p.PharmacyName == "" {
		y = s.flow(plain("Any pharmacy of the patient's choice"), bodyStyle, x, y+2, w)
	} else {
		y = s.flow(text{"pharmacy_name", p.PharmacyName}, bodyStyle, x, y+2, w)
		y = s.flow(text{"pharmacy_ods", "ODS code " + p.PharmacyODS}, bodyStyle, x, y, w)
	}
	end = max(end, y) - bodyStyle.size*leading + 13
	s.boxes[behind].h, s.boxes[behind+1].h = end-top, end-top
	return end
}

func (s *sheet) label(t string, x, y float64) float64 {
	s.at(plain(t), labelStyle, x, y)
	return y + 11
}

// born is the date of birth with the age on the appropriate date: HMR 217(4)(e) wants the age of a child under 12.
func (s *sheet) born(p *Prescription) string {
	birth, err1 := time.Parse(dateLayout, p.PatientDateOfBirth)
	on, err2 := time.Parse(dateLayout, p.AppropriateDate)
	if err1 != nil || err2 != nil {
		return ""
	}
	years, months := age(birth, on)
	how := fmt.Sprintf("age %d", years)
	switch {
	case years < 2:
		how = fmt.Sprintf("age %s", count(years*12+months, "month"))
	case years < 12:
		how = fmt.Sprintf("age %s %s", count(years, "year"), count(months, "month"))
	}
	return "Born " + birth.Format("2 January 2006") + " (" + how + ")"
}

func count(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

func longDate(s string) string {
	t, err := time.Parse(dateLayout, s)
	if err != nil {
		return ""
	}
	return t.Format("2 January 2006")
}

// validity: HMR 217(5)(a), six months; MDR 2001 regulation 16, 28 days for a drug in Schedule 4.
func validity(p *Prescription) string {
	if p.ControlledDrugSchedule == Schedule4 {
		return "May be dispensed within 28 days of this date"
	}
	return "May be dispensed within six months of this date"
}

// item is the medicine, in the frame between top and bottom, in smaller type when it is long.
func (s *sheet) item(p *Prescription, top, bottom float64) {
	s.boxes = append(s.boxes, box{x: margin, y: top, w: inner, h: bottom - top, stroke: &hair})
	s.marks = append(s.marks, placedText{s.set(plain("℞"), symbolStyle), symbolStyle, margin + 16, top + 39})
	for _, scale := range []float64{1, 0.88, 0.76} {
		texts, rules := len(s.texts), len(s.rules)
		if s.particulars(p, top, bottom, scale) {
			return
		}
		s.texts, s.rules = s.texts[:texts], s.rules[:rules]
	}
	s.report(Problem{"dosage", TooLong, "the particulars do not fit on one page together: shorten the directions, the medicine's name or an address"})
}

// particulars sets the item in type of the given scale; false when it reaches beyond bottom.
func (s *sheet) particulars(p *Prescription, top, bottom, scale float64) bool {
	drug, line, bold, body := drugStyle.scaled(scale), itemStyle.scaled(scale), itemBold.scaled(scale), bodyStyle.scaled(max(scale, 0.88))
	x, w := margin+62, inner-62-16
	y := s.flow(text{"medication_name", p.MedicationName}, drug, x, top+28, w)
	if p.Strength != "" {
		y = s.flow(text{"strength", p.Strength}, bold, x, y-1, w)
	}
	y = s.flow(text{"form", p.Form}, line, x, y, w) - 2
	s.rules = append(s.rules, rule{x, y, x + w, y, 0.6, hair})
	y = s.row("Quantity", text{"quantity", p.Quantity}, bold, x, y+16, w)
	y = s.row("Directions", text{"dosage", p.Dosage}, line, x, y, w)
	if p.SNOMEDCode != "" {
		y = s.row("SNOMED CT", text{"snomed_code", p.SNOMEDCode}, body, x, y, w)
	}
	end := s.row("Controlled drug", plain(controlled(p.ControlledDrugSchedule)), body, x, y, w) - 2
	if end > bottom-6 {
		return false
	}
	// The blank is struck out, as by hand, so that nothing can be written in.
	s.rules = append(s.rules, rule{x, end, x + w, end, 0.6, hair})
	if bottom-end > 18 {
		s.at(plain("End of prescription: one item"), noteStyle, x, end+12)
	}
	if foot := bottom - 14; foot-end > 40 {
		s.rules = append(s.rules, rule{x, foot, x + w, end + 18, 0.6, hair}, rule{x, foot, x + w, foot, 0.6, hair})
	}
	return true
}

func (s *sheet) row(label string, t text, st style, x, y, w float64) float64 {
	const indent = 86
	s.at(plain(label), style{fonts.Regular, min(9.5, st.size), grey}, x, y)
	return s.flow(t, st, x+indent, y, w-indent) + 6
}

func controlled(c Schedule) string {
	if c == NotControlled {
		return "No"
	}
	return "Yes, Schedule " + string(c)
}

// prescriber is the practitioner beside the signature. It starts level with the signature, or higher when it is long, and returns that height.
func (s *sheet) prescriber(p *Prescription) float64 {
	const w = panelX - margin - 24
	const frame = 4 // around the panel
	panelTop := pageHeight - panelBottom - panelHeight - frame
	name, kind := text{"clinician_cn", p.ClinicianCN}, text{"prescriber_kind", p.Kind()}
	number := text{"professional_registration_number", string(p.ProfessionalRegister) + " registration number " + p.ProfessionalRegistrationNumber}
	address := text{"prescriber_address", p.PrescriberAddress}
	h := 16 + s.height(name, strongStyle, w) + s.height(kind, bodyStyle, w) + s.height(number, bodyStyle, w) + 4 + s.height(address, bodyStyle, w)
	top := min(panelTop-13, footTop-h-2)

	y := s.label("PRESCRIBER", margin, top+7)
	y = s.flow(name, strongStyle, margin, y+5, w)
	y = s.flow(kind, bodyStyle, margin, y, w)
	y = s.flow(number, bodyStyle, margin, y, w)
	s.flow(address, bodyStyle, margin, y+4, w)

	s.at(plain("ELECTRONIC SIGNATURE"), labelStyle, panelX-frame, panelTop-6)
	s.boxes = append(s.boxes, box{x: panelX - frame, y: panelTop, w: panelWidth + 2*frame, h: panelHeight + 2*frame, fill: &white, stroke: &hair})
	return top
}

const advice = "This document is signed electronically: the signature is part of the PDF file and is checked in the file. A print, a photograph " +
	"or a copied text does not carry it. Before dispensing, check that the file shows a valid signature of the prescriber named above and " +
	"that nothing has changed since. Human Medicines Regulations 2012, regulations 217 and 219."

func (s *sheet) foot(p *Prescription) {
	edge := pageWidth - margin
	s.rules = append(s.rules, rule{margin, footTop, edge, footTop, 0.6, hair})
	y := s.flow(plain(advice), noteStyle, margin, footTop+13, inner)
	s.at(text{"prescription_id", "Prescription " + p.PrescriptionID}, noteStyle, margin, y+5)
	s.right(plain("Page 1 of 1"), noteStyle, edge, y+5)
}

func joined(lines string) string { return strings.ReplaceAll(lines, "\n", ", ") }
