package portal

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// apiVersion is that of the API's description: the second number grows with what is added, the first would with what is taken away.
const apiVersion = "1.0"

const apiDescription = `A booking app sends a prescription with the clinician's own access token, and gets a signed PDF (PAdES-B-LTA); whoever asks later gets the evidence.

Errors are RFC 9457 problem documents: act on ` + "`type`" + `, which is stable and whose page explains it.
Every answer has X-Request-ID: quote it to an operator.`

// routes registers every operation and page with mux, and returns the description of the API.
func (p *Portal) routes(mux *http.ServeMux) ([]byte, error) {
	api := humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "AES appliance", Version: apiVersion, Description: apiDescription},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", BearerFormat: "JWT",
					Description: "An OpenID Connect access token of a realm that is registered with the appliance."}},
			},
			Tags: []*huma.Tag{{Name: "prescriptions"}, {Name: "certificates", Description: "For administrators: the role aes-admin."}, {Name: "verification"},
				{Name: "public", Description: "What certificates and time-stamp clients point to; also over plain http."}},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers: []huma.Transformer{func(ctx huma.Context, _ string, v any) (any, error) {
			if m, ok := v.(*huma.ErrorModel); ok {
				return fromFramework(m, requestOf(ctx.Context()).id), nil
			}
			return v, nil
		}},
	})
	p.signRoutes(api)
	p.documentRoutes(api)
	p.certificateRoutes(api)
	p.verifyRoutes(api)
	p.publicRoutes(api, mux)
	p.pageRoutes(mux)
	return describe(api)
}

// describe finishes the description: what huma says of errors by itself is not what is answered here.
func describe(api huma.API) ([]byte, error) {
	o := api.OpenAPI()
	delete(o.Components.Schemas.Map(), "ErrorModel")
	delete(o.Components.Schemas.Map(), "ErrorDetail")
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("portal: describing the API: %w", err)
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		return nil, fmt.Errorf("portal: describing the API: %w", err)
	}
	// Maps are written in the order of their keys, so the same API is always the same bytes.
	out, err := json.MarshalIndent(tree, "", "  ")
	return append(out, '\n'), err
}

// operation is the part of a huma.Operation that differs.
type operation struct {
	id, method, path string
	tag              string
	summary          string
	text             string
	public           bool // no token needed
}

// smallBody bounds a body that huma reads, in bytes.
const smallBody = 64 << 10

// register adds an operation whose errors all become problems.
func register[I, O any](p *Portal, api huma.API, o operation, f func(context.Context, *I) (*O, error)) {
	registry := api.OpenAPI().Components.Schemas
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Description: o.text, Tags: []string{o.tag},
		MaxBodyBytes: smallBody, BodyReadTimeout: p.cfg.RequestTime, DefaultStatus: http.StatusOK,
		Responses: map[string]*huma.Response{"default": {
			Description: "A problem (RFC 9457): see the types at /problems.",
			Content:     map[string]*huma.MediaType{problemJSON: {Schema: registry.Schema(reflect.TypeFor[Problem](), true, "Problem")}},
		}},
	}
	if o.public {
		op.Middlewares = huma.Middlewares{p.limitPublic}
	} else {
		op.Middlewares = huma.Middlewares{p.authenticate}
		op.Security = []map[string][]string{{"token": {}}}
	}
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, p.problem(ctx, err)
		}
		return out, nil
	})
}

// raw replaces the description of a body that the operation reads itself.
func raw(api huma.API, path string, content map[string]*huma.MediaType) {
	api.OpenAPI().Paths[path].Post.RequestBody = &huma.RequestBody{Required: true, Content: content}
}

// produces replaces the description of an answer that is not JSON.
func produces(o *huma.Operation, contentType, text string) {
	r := o.Responses["200"]
	r.Description = text
	r.Content = map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}
}

// mediaType is the type of a Content-Type without its parameters, in lower case.
func mediaType(header string) string {
	t, _, _ := strings.Cut(header, ";")
	return strings.ToLower(strings.TrimSpace(t))
}
