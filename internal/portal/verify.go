package portal

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pades"
)

type verifyInput struct {
	At time.Time `query:"at" doc:"Judge as of this time, RFC 3339; left out, now."`
}

type verifyOutput struct{ Body *pades.Report }

func (p *Portal) verifyRoutes(api huma.API) {
	const path = "/api/verify"
	register(p, api, operation{id: "verify", method: http.MethodPost, path: path, tag: "verification", public: true,
		summary: "Verify a signed PDF",
		text: "Judges every signature and time stamp of a PDF (ETSI EN 319 102-1) by this appliance's root. Needs no token. Nothing of the PDF is kept. " +
			"The same judgement can be had offline: \"appliance verify\"."}, p.verify)
	pdf := &huma.Schema{Type: "string", Format: "binary"}
	raw(api, path, map[string]*huma.MediaType{
		"application/pdf":     {Schema: pdf},
		"multipart/form-data": {Schema: &huma.Schema{Type: "object", Required: []string{"pdf"}, Properties: map[string]*huma.Schema{"pdf": pdf}}},
		"application/json": {Schema: &huma.Schema{Type: "object", Required: []string{"pdf_base64"}, AdditionalProperties: false,
			Properties: map[string]*huma.Schema{"pdf_base64": {Type: "string", ContentEncoding: "base64"}}}},
	})
}

func (p *Portal) verify(ctx context.Context, in *verifyInput) (*verifyOutput, error) {
	data, done, err := p.uploaded(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	report, err := p.judge(ctx, data, in.At)
	if err != nil {
		return nil, err
	}
	return &verifyOutput{report}, nil
}

// judge validates a PDF by the appliance's root, on half of the cores at most: signing has the rest.
func (p *Portal) judge(ctx context.Context, data []byte, at time.Time) (*pades.Report, error) {
	release, err := slot(ctx, p.verifier)
	if err != nil {
		return nil, err
	}
	defer release()
	_, root, err := p.lately(ctx)
	if err != nil {
		return nil, err
	}
	if at.IsZero() {
		at = p.cfg.Now()
	}
	report, err := pades.Validate(ctx, data, pades.ValidateOptions{Roots: []*x509.Certificate{root}, At: at, Limits: p.pdfLimits()})
	if err == nil {
		return report, nil
	}
	switch fault.KindOf(err) {
	case fault.Invalid, fault.Unsupported, fault.TooLarge:
		return nil, problem("unreadable-pdf", capital(fault.PublicOf(err))+".")
	}
	return nil, err
}

// uploaded returns the PDF that came with the request; done is to be called when it is not needed any more.
func (p *Portal) uploaded(ctx context.Context) (pdf []byte, done func(), err error) {
	q := requestOf(ctx)
	body, done, err := q.taken(p.uploads, addressKey(q.client), p.cfg.BodyBytes)
	if err != nil {
		return nil, nil, err
	}
	if pdf, err = unwrap(q.http.Header.Get("Content-Type"), body); err != nil {
		done()
		return nil, nil, err
	}
	return pdf, done, nil
}

// unwrap returns the PDF of a body: itself, a file "pdf" of a form, or base64 in JSON.
func unwrap(contentType string, body []byte) ([]byte, error) {
	switch mediaType(contentType) {
	case "application/pdf", "application/octet-stream":
		return body, nil
	case "application/json":
		var in struct {
			PDF string `json:"pdf_base64"`
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			return nil, problem("invalid-json", "The body is not a JSON object with pdf_base64.")
		}
		data, err := base64.StdEncoding.Strict().DecodeString(in.PDF)
		if err != nil {
			return nil, problem("invalid-request", "pdf_base64 is not base64 (RFC 4648 §4).")
		}
		return data, nil
	case "multipart/form-data":
		_, params, err := mime.ParseMediaType(contentType)
		if err != nil || params["boundary"] == "" {
			return nil, problem("invalid-request", "The form has no boundary.")
		}
		form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
		for range 100 {
			part, err := form.NextPart()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, problem("invalid-request", "The form cannot be read.")
			}
			if part.FormName() != "pdf" {
				continue
			}
			data, err := io.ReadAll(part)
			if err != nil {
				return nil, problem("invalid-request", "The form cannot be read.")
			}
			return data, nil
		}
		return nil, problem("invalid-request", "The form has no file named pdf.")
	}
	return nil, problem("unsupported", "The body is neither application/pdf nor multipart/form-data nor application/json.")
}
