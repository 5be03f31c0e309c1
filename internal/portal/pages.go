package portal

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

//go:embed pages/*.html pages/style.css
var files embed.FS

// pages are the parsed templates, each with the frame around it.
type pages struct {
	style     []byte
	templates map[string]*template.Template
	reference reference
}

func newPages(openapi []byte) (*pages, error) {
	g := &pages{templates: map[string]*template.Template{}}
	var err error
	if g.style, err = files.ReadFile("pages/style.css"); err != nil {
		return nil, err
	}
	for _, name := range []string{"home", "docs", "problems", "privacy", "verify", "admin"} {
		g.templates[name], err = template.New("frame.html").Funcs(template.FuncMap{"when": when}).ParseFS(files, "pages/frame.html", "pages/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("portal: page %s: %w", name, err)
		}
	}
	g.reference, err = newReference(openapi)
	return g, err
}

func when(t time.Time) string { return t.UTC().Format("2 January 2006 15:04:05 UTC") }

// page is what every page is made from.
type page struct {
	Title string
	Path  string // of the page, to mark it in the navigation
	Demo  bool
	Error *Problem
	Data  any
}

// pageCSP lets a page have the appliance's own style sheet and forms, and nothing else.
const pageCSP = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (p *Portal) pageRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", p.publicly(p.static("home", "AES appliance", nil)))
	mux.HandleFunc("GET /docs", p.publicly(func(w http.ResponseWriter, r *http.Request) {
		p.show(w, r, "docs", page{Title: "API", Data: p.pages.reference})
	}))
	mux.HandleFunc("GET /problems", p.publicly(p.static("problems", "Problems", problemTypes())))
	mux.HandleFunc("GET /problems/{code}", p.publicly(p.problemPage))
	mux.HandleFunc("GET /privacy", p.publicly(p.static("privacy", "Privacy notice", nil)))
	mux.HandleFunc("GET /verify", p.publicly(p.static("verify", "Verify a signed PDF", nil)))
	mux.HandleFunc("POST /verify", p.publicly(p.verifyPage))
	mux.HandleFunc("GET /admin", p.publicly(p.static("admin", "Recent prescriptions", nil)))
	mux.HandleFunc("POST /admin", p.adminPage)
	mux.HandleFunc("GET /style.css", p.publicly(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.pages.style))
	}))
}

// static is a page that is the same for everyone.
func (p *Portal) static(name, title string, data any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { p.show(w, r, name, page{Title: title, Data: data}) }
}

// show writes a page.
func (p *Portal) show(w http.ResponseWriter, r *http.Request, name string, g page) {
	g.Path = r.URL.Path
	if status, _, err := p.lately(r.Context()); err == nil { // a page is shown without the signer, too
		g.Demo = status.Demo
	}
	var b bytes.Buffer
	if err := p.pages.templates[name].Execute(&b, g); err != nil {
		writeProblem(w, p.problem(r.Context(), fmt.Errorf("portal: page %s: %w", name, err)))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pageCSP)
	h.Set("Cache-Control", "no-store")
	if g.Error != nil {
		w.WriteHeader(g.Error.Status)
	}
	w.Write(b.Bytes()) // the client is gone
}

func (p *Portal) problemPage(w http.ResponseWriter, r *http.Request) {
	types := problemTypes()
	i := slices.IndexFunc(types, func(t problemType) bool { return t.Code == r.PathValue("code") })
	if i < 0 {
		writeProblem(w, p.problem(r.Context(), problem("not-found", "There is no such type of problem.")))
		return
	}
	p.show(w, r, "problems", page{Title: types[i].Title, Data: types[i : i+1]})
}

// verifyPage judges an uploaded PDF.
func (p *Portal) verifyPage(w http.ResponseWriter, r *http.Request) {
	g := page{Title: "Verify a signed PDF"}
	data, done, err := p.uploaded(r.Context())
	if err == nil {
		defer done()
		g.Data, err = p.judge(r.Context(), data, time.Time{})
	}
	if err != nil {
		g.Data, g.Error = nil, p.problem(r.Context(), err)
	}
	p.show(w, r, "verify", g)
}

// adminPage lists the recent prescriptions for the token that the form brings, which is used for this and kept nowhere.
func (p *Portal) adminPage(w http.ResponseWriter, r *http.Request) {
	g := page{Title: "Recent prescriptions"}
	list, err := p.recent(w, r)
	if err != nil {
		g.Error = p.problem(r.Context(), err)
	} else {
		g.Data = list
	}
	p.show(w, r, "admin", g)
}

func (p *Portal) recent(w http.ResponseWriter, r *http.Request) (*recentList, error) {
	q := requestOf(r.Context())
	now := p.cfg.Now()
	if a := p.failures.peek(addressKey(q.client), now); !a.ok {
		return nil, limited(a)
	}
	r.Body = http.MaxBytesReader(w, r.Body, smallBody)
	if mediaType(r.Header.Get("Content-Type")) != "application/x-www-form-urlencoded" || r.ParseForm() != nil {
		return nil, problem("unsupported", "The form cannot be read.")
	}
	h := http.Header{}
	if token := strings.TrimSpace(r.PostForm.Get("token")); token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	if err := p.identify(r.Context(), h); err != nil {
		p.failures.take(addressKey(q.client), now)
		return nil, err
	}
	if a := p.callers.take(q.caller.Clinic+"\x00"+q.caller.Sub, now); !p.allowed(w, a, "caller") {
		return nil, limited(a)
	}
	got, err := p.prescriptions(r.Context(), "", 50)
	if err != nil {
		return nil, err
	}
	return &recentList{Clinic: q.caller.Clinic, Who: q.caller.Name, Prescriptions: got.Prescriptions, More: got.Next != ""}, nil
}

type recentList struct {
	Clinic, Who   string
	Prescriptions []wire.PrescriptionSummary
	More          bool
}

// reference is the API's description as the page shows it.
type reference struct {
	Version string
	Groups  []referenceGroup
}

type referenceGroup struct {
	Name, Text string
	Operations []referenceOperation
}

type referenceOperation struct {
	ID, Method, Path, Summary, Text string
	Token                           bool
	Parameters                      []referenceField
	Takes, Gives                    string // content types
	Body, Answer                    []referenceField
}

type referenceField struct {
	Name, Kind, Text string
	Required         bool
}

// newReference reads back what /openapi.json says, so that the page cannot say anything else.
func newReference(openapi []byte) (reference, error) {
	var doc document
	if err := json.Unmarshal(openapi, &doc); err != nil {
		return reference{}, fault.New(fault.Internal, "the API's description cannot be read").WithCause(err)
	}
	return doc.reference(), nil
}
