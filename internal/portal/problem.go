package portal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/prescription"
)

// Problem is an RFC 9457 problem document. Type is what programs act on; it never changes its meaning.
type Problem struct {
	Type      string         `json:"type" doc:"Which problem it is, stable, for programs: the page of that address explains it." example:"/problems/token-expired"`
	Title     string         `json:"title" doc:"The same for every problem of this type."`
	Status    int            `json:"status" doc:"The HTTP status." example:"401"`
	Detail    string         `json:"detail" doc:"What is wrong this time."`
	WhatToDo  string         `json:"what_to_do,omitempty" doc:"What puts it right."`
	RequestID string         `json:"request_id" doc:"Names this request in the appliance's logs: quote it to an operator."`
	Errors    []FieldProblem `json:"errors,omitempty" doc:"Everything that is wrong with the content, all fields at once."`

	retryAfter int // seconds; 0: none is said
}

// FieldProblem is what is wrong with one field. Text never repeats what the field holds.
type FieldProblem struct {
	Field string `json:"field" example:"snomed_code"`
	Code  string `json:"code" example:"malformed" doc:"missing, malformed, too_long, unprintable, out_of_range, inconsistent, controlled_drug or unknown."`
	Text  string `json:"text"`
}

// Error implements error.
func (p *Problem) Error() string { return fmt.Sprintf("%s: %s", p.Type, p.Detail) }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(p))
	}
	return h
}

// ContentType implements huma.ContentTypeFilter: RFC 9457 §3.
func (*Problem) ContentType(string) string { return problemJSON }

const (
	problemJSON         = "application/problem+json"
	certificateNotFound = "certificate-not-found" // "Certificate not found for clinician: NAME"

	problemPath = "/problems/"
)

// challenge is RFC 6750 §3: a request without a token gets no error code.
func challenge(p *Problem) string {
	if p.Type == problemPath+"token-missing" {
		return `Bearer realm="aes-appliance"`
	}
	return fmt.Sprintf(`Bearer realm="aes-appliance", error="invalid_token", error_description="%s"`, strings.Map(quotable, p.Title))
}

func quotable(r rune) rune {
	if r < ' ' || r > '~' || r == '"' || r == '\\' {
		return ' '
	}
	return r
}

// problemType is one row of the table: all that is the same for every problem of one type.
type problemType struct {
	Code     string // the last part of Type
	Status   int
	Title    string
	WhatToDo string // unless the error says something of its own
}

// find returns the row of an error's code, or else of its kind.
func find(code string, kind fault.Kind) problemType {
	types := problemTypes()
	if i := slices.IndexFunc(types, func(t problemType) bool { return t.Code == code }); i >= 0 {
		return types[i]
	}
	fallback := byKind(kind)
	i := slices.IndexFunc(types, func(t problemType) bool { return t.Code == fallback })
	if i < 0 {
		panic("portal: no problem type " + fallback)
	}
	t := types[i]
	if code != "" { // a code that this table has no words for still tells programs apart
		t.Code = code
	}
	return t
}

// byKind is the one table from kinds of errors to problems.
func byKind(k fault.Kind) string {
	switch k {
	case fault.Invalid:
		return "invalid-request"
	case fault.NotFound:
		return "not-found"
	case fault.Conflict:
		return "conflict"
	case fault.Unauthorized:
		return "token-invalid"
	case fault.Forbidden:
		return "forbidden"
	case fault.TooLarge:
		return "too-large"
	case fault.Unsupported:
		return "unsupported"
	case fault.Unavailable:
		return "unavailable"
	}
	return "internal"
}

// newProblem turns any error into what may be shown of it.
func newProblem(err error, requestID string) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		its := *p
		its.RequestID = requestID
		return &its
	}
	t := find(fault.CodeOf(err), fault.KindOf(err))
	if fault.KindOf(err) == fault.Corrupt {
		// Damage names files and what the operator is to do with them: it is in the signer's journal.
		p := t.problem("Something that the appliance keeps is damaged.")
		p.RequestID = requestID
		return p
	}
	detail := capital(fault.PublicOf(err))
	if t.Code != certificateNotFound { // existing clients compare that text to its end, which is the name
		detail += "."
	}
	p := t.problem(detail)
	if hint := fault.HintOf(err); hint != "" {
		p.WhatToDo = capital(hint) + "."
	}
	p.RequestID = requestID
	return p
}

func (t problemType) problem(detail string) *Problem {
	p := &Problem{Type: problemPath + t.Code, Title: t.Title, Status: t.Status, Detail: detail, WhatToDo: t.WhatToDo}
	if t.Status == http.StatusServiceUnavailable || t.Status == http.StatusTooManyRequests {
		p.retryAfter = 2
	}
	return p
}

// problem is the problem with this code of the table.
func problem(code, detail string) *Problem { return find(code, fault.Internal).problem(detail) }

func capital(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// invalidContent is the problem for everything that is wrong with what was to be signed, or nil.
func invalidContent(content []prescription.Problem, more ...FieldProblem) *Problem {
	var list []FieldProblem
	code := "consent-missing"
	controlled := false
	for _, c := range content {
		list = append(list, FieldProblem{Field: c.Field, Code: string(c.Code), Text: c.Text})
		controlled = controlled || c.Code == prescription.ControlledDrug
		code = "invalid-content"
	}
	for _, m := range more {
		list = append(list, m)
		if !strings.HasPrefix(m.Field, "consent_") {
			code = "invalid-content"
		}
	}
	if len(list) == 0 {
		return nil
	}
	if controlled {
		code = "controlled-drug"
	}
	p := problem(code, fmt.Sprintf("%d field is not as it must be.", len(list)))
	if len(list) > 1 {
		p.Detail = fmt.Sprintf("%d fields are not as they must be.", len(list))
	}
	p.Errors = list
	return p
}

// fromFramework turns huma's own errors, which know a status and messages only, into problems.
func fromFramework(m *huma.ErrorModel, requestID string) *Problem {
	code := "invalid-request"
	switch m.Status {
	case http.StatusBadRequest:
		code = "invalid-json"
	case http.StatusRequestEntityTooLarge:
		code = "too-large"
	case http.StatusRequestTimeout:
		code = "too-slow"
	case http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		code = "unsupported"
	case http.StatusInternalServerError:
		code = "internal"
	}
	p := problem(code, capital(m.Detail)+".")
	p.RequestID = requestID
	if code == "internal" {
		p.Detail = "Something went wrong inside the appliance."
		return p
	}
	for _, e := range m.Errors {
		f := FieldProblem{Field: strings.TrimPrefix(e.Location, "body."), Code: "malformed", Text: e.Message}
		if name, missing := strings.CutPrefix(e.Message, "expected required property "); missing {
			f.Field, f.Code, f.Text = strings.TrimSuffix(name, " to be present"), "missing", "is missing"
		}
		if e.Message == "unexpected property" {
			f.Code = "unknown"
		}
		p.Errors = append(p.Errors, f)
	}
	return p
}

// writeProblem answers with p.
func writeProblem(w http.ResponseWriter, p *Problem) {
	h := w.Header()
	for name, values := range p.GetHeaders() {
		h[name] = values
	}
	h.Set("Content-Type", problemJSON)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(p) // the client is gone
}
