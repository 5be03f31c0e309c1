package portal

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/prescription"
	"github.com/veripath/aes-appliance/internal/wire"
)

type signInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"Names this attempt: the same key with the same content gets the same answer, and nothing is signed twice. Without it, prescription_id does that."`
}

type signOutput struct{ Body signAnswer }

// signAnswer is what the booking app gets.
type signAnswer struct {
	PrescriptionID string    `json:"prescription_id" example:"RX-134"`
	Status         string    `json:"status" enum:"signed,cancelled"`
	SignedAt       time.Time `json:"signed_at"`
	PDFBase64      []byte    `json:"pdf_base64" doc:"The signed PDF: PAdES-B-LTA."`
	PDFSHA256      string    `json:"pdf_sha256" doc:"Of the signed PDF, hexadecimal."`
	PDFSize        int64     `json:"pdf_size" doc:"Of the signed PDF, in bytes."`
	PDFPath        string    `json:"pdf_path" doc:"Where the PDF can be had again." example:"/api/pdf/RX-134"`
	EvidencePath   string    `json:"evidence_path" doc:"Where the Evidence Summary is." example:"/api/evidence/RX-134"`
	EvidenceSHA256 string    `json:"evidence_sha256" doc:"Of the core of the evidence, which was fixed at signing time."`
	Certificate    string    `json:"certificate_serial"`
	Level          string    `json:"level" doc:"How signing was activated: token."`
	Label          string    `json:"label,omitempty" doc:"What must be said wherever this signature is shown; a signature made with a service account is no advanced electronic signature."`
	Repeated       bool      `json:"repeated,omitempty" doc:"The same content was signed before: this is that answer again."`
	Backup         backup    `json:"backup" doc:"How the line of the audit log that this answer rests on stands to the backup host."`
	Record         record    `json:"record" doc:"What a booking app keeps, under the names that it keeps it by."`
}

// backup is how a line of the log stands to the host that holds a copy of it.
type backup struct {
	State    string    `json:"state" enum:"none,disabled,catching-up,comparing,mismatch,sync,async" doc:"sync: answers leave only when the backup host has cosigned what they rest on. async: they do not wait. none, disabled: there is none."`
	Cosigned bool      `json:"cosigned" doc:"The backup host has cosigned the line."`
	Lines    uint64    `json:"cosigned_lines" doc:"How many lines of the log it has cosigned in all."`
	At       time.Time `json:"cosigned_at,omitzero" doc:"When, by its clock."`
	By       string    `json:"cosigned_by,omitempty" doc:"Its verifier key (C2SP signed-note)."`
}

// record has the names of the booking apps' own columns.
type record struct {
	PrescriptionID   string    `json:"aes_prescription_id"`
	SignedPDFPath    string    `json:"aes_signed_pdf_path"`
	SignedAt         time.Time `json:"aes_signed_at"`
	Status           string    `json:"aes_status"`
	DeliveryStatus   string    `json:"aes_delivery_status"`
	PDFSHA256        string    `json:"aes_pdf_sha256"`
	ClientIP         string    `json:"aes_client_ip"`
	ClientUA         string    `json:"aes_client_ua"`
	ConsentText      string    `json:"aes_consent_text"`
	ConsentTimestamp time.Time `json:"aes_consent_timestamp"`
}

func (p *Portal) signRoutes(api huma.API) {
	const path = "/api/sign"
	register(p, api, operation{id: "sign", method: http.MethodPost, path: path, tag: "prescriptions",
		summary: "Sign a prescription",
		text: "Checks the prescription, renders it as a page of A4, and signs that with the clinician's certificate on the clinician's own token. " +
			"Everything that is wrong with the content is reported at once. prescription_id is unique per clinic: the same content gets the same answer again, other content is refused."}, p.sign)
	registry := api.OpenAPI().Components.Schemas
	schema := registry.Schema(reflect.TypeFor[signBody](), true, "")
	own := registry.SchemaFromRef(schema.Ref)
	form := &huma.Schema{Type: "object", Required: own.Required, AdditionalProperties: false, Properties: maps.Clone(own.Properties)}
	delete(form.Properties, "pdf_base64")
	form.Properties["pdf"] = &huma.Schema{Type: "string", Format: "binary", Description: "A PDF to sign, as pdf_base64 in JSON."}
	raw(api, path, map[string]*huma.MediaType{"application/json": {Schema: schema}, "multipart/form-data": {Schema: form}})
}

// maxData bounds a body without a PDF, in bytes.
const maxData = 256 << 10

// order is a request to sign that has been checked.
type order struct {
	prescription prescription.Prescription
	page         *prescription.Page // of it
	consent      wire.Consent
	given        []byte // nil: the page is signed
	key          string
	wrong        error // why it cannot be signed now; what was signed already, yesterday say, is answered again all the same
}

func (p *Portal) sign(ctx context.Context, in *signInput) (*signOutput, error) {
	q := requestOf(ctx)
	limit, places := int64(maxData), p.light
	if q.caller.GivenPDFAllowed {
		limit, places = p.cfg.BodyBytes, p.heavy
	}
	// The whole body first: whoever sends slowly keeps nobody from the places where work is done.
	data, done, err := q.taken(p.orders, q.caller.Clinic+"\x00"+q.caller.Sub, limit)
	if err != nil {
		return nil, err
	}
	defer done()
	release, err := slot(ctx, places)
	if err != nil {
		return nil, err
	}
	defer release()
	o, err := p.readOrder(ctx, in, data)
	if err != nil {
		return nil, err
	}
	opened, err := p.open(ctx, o)
	if o.wrong != nil && (err != nil || opened.Done == nil) {
		err = o.wrong
	}
	if err != nil {
		return nil, err
	}
	var result wire.SignResult
	var document []byte
	if opened.Done != nil {
		result = *opened.Done
		if _, document, err = p.document(ctx, result.PrescriptionID, false); err != nil {
			return nil, err
		}
	} else if result, document, err = p.perform(ctx, o, opened); err != nil {
		return nil, err
	}
	return &signOutput{p.answer(ctx, o, result, document)}, nil
}

// readOrder checks everything about a body that can be checked without the signer.
func (p *Portal) readOrder(ctx context.Context, in *signInput, data []byte) (order, error) {
	q := requestOf(ctx)
	body, given, wrong, err := decodeSign(q.http.Header.Get("Content-Type"), data)
	if err != nil {
		return order{}, err
	}
	if body.PDFBase64 != "" {
		if given, err = base64.StdEncoding.Strict().DecodeString(body.PDFBase64); err != nil {
			wrong = append(wrong, FieldProblem{Field: givenField, Code: "malformed", Text: "is not base64 (RFC 4648 §4)"})
		} else if len(given) == 0 { // line breaks alone
			wrong = append(wrong, emptyPDF(givenField))
		}
	}
	if body.ClientIP != "" {
		if q.browser, err = netip.ParseAddr(body.ClientIP); err != nil {
			wrong = append(wrong, FieldProblem{Field: "client_ip", Code: "malformed", Text: "is not an IP address"})
		}
	}
	if body.ClientUserAgent != "" {
		q.userAgent = plainText(body.ClientUserAgent, maxUserAgent)
	}
	status, _, err := p.lately(ctx)
	if err != nil {
		return order{}, err
	}
	o := order{prescription: body.prescription(), given: given, key: in.IdempotencyKey}
	o.prescription.Demonstration = status.Demo // a mark on the page alone: what the signer records of the data is the same without
	page, content := p.renderer.Lay(o.prescription, p.cfg.Now(), p.medicines.Load())
	o.page = page
	var about []FieldProblem
	o.consent, about = body.consent()
	if bad := invalidContent(content, append(wrong, about...)...); bad != nil {
		if len(wrong)+len(about) > 0 || o.prescription.PrescriptionID == "" {
			return order{}, bad
		}
		o.wrong = bad
		return o, nil
	}
	if o.given != nil {
		if err := p.acceptable(q.caller, o.given); err != nil {
			return order{}, err
		}
	}
	return o, nil
}

// acceptable checks a PDF that the caller gave.
func (p *Portal) acceptable(caller wire.Caller, data []byte) error {
	if !caller.GivenPDFAllowed {
		return problem("given-pdf-not-allowed", "The clinic's policy does not allow to sign a PDF that is given.")
	}
	if int64(len(data)) > caller.MaxDocument && caller.MaxDocument > 0 {
		return fault.New(fault.TooLarge, fmt.Sprintf("the PDF has %d bytes, and %d are allowed", len(data), caller.MaxDocument))
	}
	f, err := pades.Open(data, p.pdfLimits())
	if err == nil {
		err = pades.Acceptable(f)
	}
	if err != nil {
		return problem("given-pdf-refused", capital(fault.PublicOf(err))+".")
	}
	return nil
}

// open has the signer decide whether this may be signed by this caller.
func (p *Portal) open(ctx context.Context, o order) (wire.SignOpened, error) {
	data, err := json.Marshal(o.prescription)
	if err != nil {
		return wire.SignOpened{}, fmt.Errorf("portal: encoding the prescription: %w", err)
	}
	ask := wire.SignOpen{Credentials: requestOf(ctx).credentials(), Prescription: data, Consent: o.consent, IdempotencyKey: o.key, Source: wire.SourceRendered, RepeatOnly: o.wrong != nil}
	if o.given != nil {
		hash := sha256.Sum256(o.given)
		ask.Source, ask.GivenSHA256 = wire.SourceGiven, hex.EncodeToString(hash[:])
	}
	var opened wire.SignOpened
	_, err = p.call(ctx, wire.OpSignOpen, ask, &opened, nil)
	return opened, err
}

// perform makes the signed document, and gives the operation up when that fails.
func (p *Portal) perform(ctx context.Context, o order, opened wire.SignOpened) (result wire.SignResult, document []byte, err error) {
	defer func() {
		if err == nil || fault.CodeOf(err) == "not-yet-replicated" { // then it has ended well, but for the answer
			return
		}
		if fault.KindOf(err) == fault.NotFound { // it began with a signer that was restarted since, or took too long: nothing that the caller named is missing
			err = fault.New(fault.Unavailable, "the signer has ended this operation before the document was complete").WithHint("try again: the same content is never signed twice").WithCause(err)
			return
		}
		// The caller may be gone: whoever waits for this operation to end is the log.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if _, aborted := p.call(ctx, wire.OpAbort, wire.Abort{Operation: opened.Operation, Reason: "the portal could not finish the document"}, nil, nil); aborted != nil {
			p.log.WarnContext(ctx, "an operation was not given up; it expires", "request", requestOf(ctx).id, "cause", aborted)
		}
	}()
	options := pades.SignOptions{Name: opened.Name, Time: opened.Time, Limits: p.pdfLimits()}
	data := o.given
	if data == nil {
		if data, err = o.page.Render(opened.Time); err != nil {
			return result, nil, err
		}
		if options.Appearance, err = p.panel(ctx, opened); err != nil {
			return result, nil, err
		}
	}
	signed, err := pades.Sign(ctx, data, &authority{p: p, opened: opened}, options)
	if err != nil {
		return result, nil, err
	}
	fd, err := wire.Memfd("signed.pdf", signed.PDF)
	if err != nil {
		return result, nil, err
	}
	defer fd.Close()
	complete := wire.Complete{Operation: opened.Operation, SignatureRange: signed.Signature, StampRange: signed.TimeStamp}
	_, err = p.call(ctx, wire.OpComplete, complete, &result, fd)
	return result, signed.PDF, err
}

func (p *Portal) answer(ctx context.Context, o order, r wire.SignResult, document []byte) signAnswer {
	q := requestOf(ctx)
	a := signAnswer{
		PrescriptionID: r.PrescriptionID, Status: r.Status, SignedAt: r.SignedAt, PDFBase64: document,
		PDFSHA256: r.SHA256, PDFSize: r.Size, PDFPath: "/api/pdf/" + r.PrescriptionID, EvidencePath: "/api/evidence/" + r.PrescriptionID,
		EvidenceSHA256: r.EvidenceSHA256, Certificate: r.Certificate, Level: r.Level, Label: r.Label, Repeated: r.Repeated, Backup: backup(r.Backup),
	}
	a.Record = record{
		PrescriptionID: a.PrescriptionID, SignedPDFPath: a.PDFPath, SignedAt: a.SignedAt, Status: a.Status, DeliveryStatus: "not_sent",
		PDFSHA256: a.PDFSHA256, ClientUA: q.userAgent, ConsentText: o.consent.Text, ConsentTimestamp: o.consent.Timestamp,
	}
	if q.browser.IsValid() {
		a.Record.ClientIP = q.browser.String()
	}
	return a
}
