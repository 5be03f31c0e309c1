package portal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Bounds of the public endpoints, in bytes and time.
const (
	maxQuery  = 16 << 10         // of a time-stamp or OCSP request
	publicAge = 10 * time.Minute // how long an OCSP answer, a list or a certificate may be kept by a cache
)

func (p *Portal) publicRoutes(api huma.API, mux *http.ServeMux) {
	mux.HandleFunc("POST /tsa", p.publicly(p.tsa))
	mux.HandleFunc("POST /ocsp", p.publicly(p.ocspPost))
	// GET /ocsp/… does not go through the mux, see passOCSP.
	mux.HandleFunc("GET /crl/{name}", p.publicly(p.published(".crl")))
	mux.HandleFunc("GET /ca/{name}", p.publicly(p.published(".cer")))
	mux.HandleFunc("GET /log/checkpoint", p.publicly(p.checkpoint))
	mux.HandleFunc("GET "+rootPath, p.publicly(p.anchor(rootOf)))
	mux.HandleFunc("GET "+logKeyPath, p.publicly(p.anchor(logKeyOf)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, "ok\n") // the client is gone
	})
	mux.HandleFunc("GET /openapi.json", p.publicly(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.openapi))
	}))
	describePublic(api.OpenAPI())
}

// describePublic describes what is not registered through huma.
func describePublic(o *huma.OpenAPI) {
	binary := func(contentType string) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}
	}
	add := func(method, path, id, summary, takes, gives string, parameter *huma.Param) {
		op := &huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"public"},
			Responses: map[string]*huma.Response{"200": {Description: http.StatusText(http.StatusOK), Content: binary(gives)}}}
		if takes != "" {
			op.RequestBody = &huma.RequestBody{Required: true, Content: binary(takes)}
		}
		if parameter != nil {
			op.Parameters = []*huma.Param{parameter}
		}
		o.AddOperation(op)
	}
	in := func(name, text string) *huma.Param {
		return &huma.Param{Name: name, In: "path", Required: true, Description: text, Schema: &huma.Schema{Type: "string"}}
	}
	add("POST", "/tsa", "time-stamp", "Time-stamp a digest (RFC 3161)", "application/timestamp-query", "application/timestamp-reply", nil)
	add("POST", "/ocsp", "ocsp", "Ask for a certificate's status (RFC 6960)", "application/ocsp-request", "application/ocsp-response", nil)
	add("GET", "/ocsp/{request}", "ocsp-get", "Ask for a certificate's status (RFC 6960 A.1)", "", "application/ocsp-response", in("request", "base64 of the request, URL-escaped"))
	add("GET", "/crl/{name}", "crl", "Get a revocation list", "", "application/pkix-crl", in("name", "as certificates point to it"))
	add("GET", "/log/checkpoint", "checkpoint", "Get the newest signed and cosigned state of the audit log (C2SP tlog-checkpoint)", "", "text/plain; charset=utf-8", nil)
	add("GET", "/ca/{name}", "ca", "Get a CA's certificate", "", "application/pkix-cert", in("name", "as certificates point to it"))
	add("GET", rootPath, "root", "Get the root certificate, PEM: what \"appliance verify --trust\" takes. Over https only", "", "text/plain", nil)
	add("GET", logKeyPath, "log-key", "Get the log's verifier key (C2SP signed note): what \"appliance verify --log-key\" takes. Over https only", "", "text/plain", nil)
}

// publicly limits what one address may ask for without a token.
func (p *Portal) publicly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a := p.public.take(addressKey(requestOf(r.Context()).client), p.cfg.Now()); !p.allowed(w, a, "public") {
			writeProblem(w, p.problem(r.Context(), limited(a)))
			return
		}
		next(w, r)
	}
}

// query reads a small DER request of the only content type that is taken.
func (p *Portal) query(w http.ResponseWriter, r *http.Request, contentType string) ([]byte, bool) {
	if mediaType(r.Header.Get("Content-Type")) != contentType {
		writeProblem(w, p.problem(r.Context(), problem("unsupported", "The Content-Type is not "+contentType+".")))
		return nil, false
	}
	der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery))
	if err != nil {
		writeProblem(w, p.problem(r.Context(), problem("too-large", fmt.Sprintf("The request is longer than %d bytes, or did not arrive whole.", maxQuery))))
		return nil, false
	}
	return der, true
}

// tsa is RFC 3161 §3.4.
func (p *Portal) tsa(w http.ResponseWriter, r *http.Request) {
	if der, ok := p.query(w, r, "application/timestamp-query"); ok {
		p.relay(w, r, wire.OpTSA, der, "application/timestamp-reply", "no-store")
	}
}

// ocspPost is RFC 6960 A.1 with POST.
func (p *Portal) ocspPost(w http.ResponseWriter, r *http.Request) {
	if der, ok := p.query(w, r, "application/ocsp-request"); ok {
		p.relay(w, r, wire.OpOCSP, der, "application/ocsp-response", "no-store")
	}
}

// passOCSP handles GET /ocsp/…, whose base64 may hold slashes in a row, which a mux would "clean".
func (p *Portal) passOCSP(next http.Handler) http.Handler {
	get := p.publicly(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.EscapedPath(), "/ocsp/")
		der, err := cert.DecodeOCSPPath(path)
		if err != nil || len(der) > maxQuery {
			der = nil // RFC 6960 §2.3: the signer answers malformedRequest
		}
		p.relay(w, r, wire.OpOCSP, der, "application/ocsp-response", fmt.Sprintf("public, max-age=%d", int(publicAge.Seconds())))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.HasPrefix(r.URL.Path, "/ocsp/") {
			r.Pattern = "GET /ocsp/{request}"
			get(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// relay has the signer answer one structure with another.
func (p *Portal) relay(w http.ResponseWriter, r *http.Request, op wire.Op, der []byte, contentType, cache string) {
	release, err := p.relayed(r.Context())
	if err != nil {
		writeProblem(w, p.problem(r.Context(), err))
		return
	}
	defer release()
	var answer wire.DER
	if _, err := p.call(r.Context(), op, wire.DER{DER: der}, &answer, nil); err != nil {
		writeProblem(w, p.problem(r.Context(), err))
		return
	}
	h := w.Header()
	if op == wire.OpOCSP && !cacheable(answer.DER) {
		cache = "no-store"
	}
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", cache)
	h.Set("Content-Length", fmt.Sprint(len(answer.DER)))
	w.Write(answer.DER) // the client is gone
}

// What waits of anyone's questions to the signer, and for how long. Between the processes there is room for more calls than these: however many ask for
// time stamps and statuses, a signature does not wait behind them.
const (
	maxRelays = 32
	relayWait = 2 * time.Second
)

func (p *Portal) relayed(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, relayWait)
	defer cancel()
	return slot(ctx, p.relays)
}

// cacheable reports whether an OCSP answer may be given to another client: RFC 6960 §4.4.1, one with a nonce is for one client.
func cacheable(der []byte) bool {
	r, err := cert.ParseOCSPResponse(der)
	return err == nil && r.Status == 0 && r.Nonce == nil
}

// checkpoint serves the log's newest checkpoint, for anybody to keep (C2SP tlog-tiles: text/plain, not to be cached beyond a few seconds).
func (p *Portal) checkpoint(w http.ResponseWriter, r *http.Request) {
	var got wire.Checkpoint
	if _, err := p.call(r.Context(), wire.OpCheckpoint, wire.Nothing{}, &got, nil); err != nil {
		writeProblem(w, p.problem(r.Context(), err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=2")
	h.Set("Content-Length", fmt.Sprint(len(got.Note)))
	w.Write(got.Note) // the client is gone
}

// published serves what the CAs publish: with the names that stand in certificates, and nothing else.
func (p *Portal) published(suffix string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if !strings.HasSuffix(name, suffix) || len(name) > 128 {
			writeProblem(w, p.problem(r.Context(), problem("not-found", "No CA publishes a file of that name.")))
			return
		}
		got, err := p.publishedFile(r.Context(), name)
		if err != nil {
			writeProblem(w, p.problem(r.Context(), err))
			return
		}
		hash := sha256.Sum256(got.DER)
		h := w.Header()
		h.Set("Content-Type", got.ContentType)
		h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(publicAge.Seconds())))
		h.Set("ETag", `"`+hex.EncodeToString(hash[:16])+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(got.DER))
	}
}

func (p *Portal) publishedFile(ctx context.Context, name string) (got wire.Published, err error) {
	_, err = p.call(ctx, wire.OpPublished, wire.PublishedRequest{Name: name}, &got, nil)
	return got, err
}
