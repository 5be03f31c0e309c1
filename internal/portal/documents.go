package portal

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/veripath/aes-appliance/internal/wire"
)

type prescriptionInput struct {
	ID string `path:"prescription_id" maxLength:"128" example:"RX-134" doc:"The booking app's own number."`
}

type documentInput struct {
	ID       string `path:"prescription_id" maxLength:"128" example:"RX-134" doc:"The booking app's own number."`
	Revision string `query:"revision" enum:"signed,newest" default:"signed" doc:"signed: the document as it was signed, whose SHA-256 the answer to the signing has. newest: with all time stamps that were added since, to keep its proof alive; what was signed is the beginning of it, byte for byte, and live.revisions of the Evidence Summary lists the states."`
}

// fileOutput is a document as it is.
type fileOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition" doc:"attachment, with the file's name"`
	SHA256      string `header:"X-Content-SHA256" doc:"Of the body, hexadecimal"`
	Body        []byte
}

type evidenceOutput struct {
	Body json.RawMessage
}

type listInput struct {
	Cursor string `query:"cursor" maxLength:"256" doc:"next of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
}

type listOutput struct{ Body prescriptionList }

// prescriptionList is a page of prescriptions, the newest first.
type prescriptionList struct {
	Prescriptions []prescriptionEntry `json:"prescriptions"`
	Next          string              `json:"next,omitempty" doc:"The cursor of the next page; absent on the last."`
}

// prescriptionEntry is wire.PrescriptionSummary with what the API's description says of it.
type prescriptionEntry struct {
	PrescriptionID string    `json:"prescription_id"`
	ClinicianCN    string    `json:"clinician_cn"`
	MedicationName string    `json:"medication_name"`
	Strength       string    `json:"strength,omitempty"`
	Form           string    `json:"form,omitempty"`
	Quantity       string    `json:"quantity,omitempty"`
	PharmacyODS    string    `json:"pharmacy_ods,omitempty"`
	PharmacyName   string    `json:"pharmacy_name,omitempty"`
	Status         string    `json:"status" enum:"signed,cancelled"`
	SignedAt       time.Time `json:"signed_at"`
	SHA256         string    `json:"sha256" doc:"Of the signed PDF, hexadecimal."`
	Size           int64     `json:"size"`
	Level          string    `json:"level"`
	Label          string    `json:"label,omitempty"`
	CancelledAt    time.Time `json:"cancelled_at,omitzero"`
	CancelReason   string    `json:"cancel_reason,omitempty"`
	Incomplete     bool      `json:"incomplete,omitempty" doc:"What is kept of this prescription is damaged: only what can still be said of it is here. Tell the operator."`
}

type cancelInput struct {
	ID   string `path:"prescription_id" maxLength:"128" example:"RX-134" doc:"The booking app's own number."`
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why it is not to be dispensed. Stays in the log for ever: no patient data." example:"wrong strength"`
	}
}

type cancelOutput struct{ Body cancelled }

// cancelled is a prescription that was just cancelled.
type cancelled struct {
	prescriptionEntry
	Backup backup `json:"backup" doc:"How the line of the audit log that records it stands to the backup host."`
}

func (p *Portal) documentRoutes(api huma.API) {
	register(p, api, operation{id: "get-pdf", method: http.MethodGet, path: "/api/pdf/{prescription_id}", tag: "prescriptions",
		summary: "Download a signed PDF", text: "The download is logged before the PDF leaves."}, p.getPDF)
	produces(api.OpenAPI().Paths["/api/pdf/{prescription_id}"].Get, "application/pdf", "The signed PDF")
	register(p, api, operation{id: "get-evidence", method: http.MethodGet, path: "/api/evidence/{prescription_id}", tag: "prescriptions",
		summary: "Get the Evidence Summary", text: "Who signed what when, by which login, with which consent, and what proves each of it. The download is logged before."}, p.getEvidence)
	api.OpenAPI().Paths["/api/evidence/{prescription_id}"].Get.Responses["200"].Content =
		map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: "object", AdditionalProperties: true, Description: "See docs/booking-app.md for its names."}}}
	register(p, api, operation{id: "get-evidence-pack", method: http.MethodGet, path: "/api/evidence/{prescription_id}/pack", tag: "prescriptions",
		summary: "Download the evidence pack", text: "A zip with everything that proves the signature offline: check it with \"appliance verify PACK.zip\". The download is logged before."}, p.getPack)
	produces(api.OpenAPI().Paths["/api/evidence/{prescription_id}/pack"].Get, "application/zip", "The evidence pack")
	register(p, api, operation{id: "list-prescriptions", method: http.MethodGet, path: "/api/prescriptions", tag: "prescriptions",
		summary: "List the clinic's prescriptions", text: "The newest first. Nothing in the list names a patient."}, p.listPrescriptions)
	register(p, api, operation{id: "cancel-prescription", method: http.MethodPost, path: "/api/prescriptions/{prescription_id}/cancel", tag: "prescriptions",
		summary: "Cancel a prescription", text: "Records that it is not to be dispensed, by whom and why. Nothing is deleted: the signed PDF stays valid as a document, and says nothing of this."}, p.cancel)
}

// document fetches a signed PDF as it was signed, or with its renewals; the signer logs it as downloaded first.
func (p *Portal) document(ctx context.Context, id string, newest bool) (wire.DocumentInfo, []byte, error) {
	return p.file(ctx, wire.OpDocument, wire.DocumentRef{Credentials: requestOf(ctx).credentials(), PrescriptionID: id, Newest: newest})
}

func (p *Portal) file(ctx context.Context, op wire.Op, of any) (wire.DocumentInfo, []byte, error) {
	var info wire.DocumentInfo
	fd, err := p.call(ctx, op, of, &info, nil)
	if err != nil {
		return info, nil, err
	}
	if fd != nil {
		defer fd.Close()
	}
	data, err := wire.ReadDocument(fd, maxFile)
	return info, data, err
}

// maxFile bounds what the signer hands over, in bytes: a document with its evidence.
const maxFile = 1 << 30

func (p *Portal) getPDF(ctx context.Context, in *documentInput) (*fileOutput, error) {
	info, data, err := p.document(ctx, in.ID, in.Revision == "newest")
	if err != nil {
		return nil, err
	}
	return attachment(info, "application/pdf", data), nil
}

func (p *Portal) getPack(ctx context.Context, in *prescriptionInput) (*fileOutput, error) {
	info, data, err := p.file(ctx, wire.OpPack, wire.PrescriptionRef{Credentials: requestOf(ctx).credentials(), PrescriptionID: in.ID})
	if err != nil {
		return nil, err
	}
	return attachment(info, "application/zip", data), nil
}

func attachment(info wire.DocumentInfo, contentType string, data []byte) *fileOutput {
	return &fileOutput{ContentType: contentType, Disposition: disposition(info.FileName), SHA256: info.SHA256, Body: data}
}

// disposition is RFC 6266: clients know the form attachment; filename="RX-134.pdf", with quotes.
func disposition(name string) string {
	for _, r := range name {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return mime.FormatMediaType("attachment", map[string]string{"filename": name})
		}
	}
	return `attachment; filename="` + name + `"`
}

func (p *Portal) getEvidence(ctx context.Context, in *prescriptionInput) (*evidenceOutput, error) {
	var e wire.Evidence
	_, err := p.call(ctx, wire.OpEvidence, wire.PrescriptionRef{Credentials: requestOf(ctx).credentials(), PrescriptionID: in.ID}, &e, nil)
	return &evidenceOutput{Body: json.RawMessage(e.Evidence)}, err
}

func (p *Portal) listPrescriptions(ctx context.Context, in *listInput) (*listOutput, error) {
	page, err := p.prescriptions(ctx, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &listOutput{prescriptionList{Prescriptions: []prescriptionEntry{}, Next: page.Next}}
	for _, s := range page.Prescriptions {
		out.Body.Prescriptions = append(out.Body.Prescriptions, prescriptionEntry(s))
	}
	return out, nil
}

func (p *Portal) prescriptions(ctx context.Context, cursor string, limit int) (page wire.PrescriptionPage, err error) {
	ask := wire.PrescriptionsRequest{Credentials: requestOf(ctx).credentials(), Cursor: cursor, Limit: limit}
	_, err = p.call(ctx, wire.OpPrescriptions, ask, &page, nil)
	return page, err
}

func (p *Portal) cancel(ctx context.Context, in *cancelInput) (*cancelOutput, error) {
	var s wire.Cancelled
	_, err := p.call(ctx, wire.OpCancel, wire.CancelRequest{Credentials: requestOf(ctx).credentials(), PrescriptionID: in.ID, Reason: in.Body.Reason}, &s, nil)
	return &cancelOutput{cancelled{prescriptionEntry(s.PrescriptionSummary), backup(s.Backup)}}, err
}
