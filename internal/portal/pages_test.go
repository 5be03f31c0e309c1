package portal

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"mime/multipart"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

var loads = regexp.MustCompile(`(?i)(src|href|action|url)\s*[=(]\s*["']?([^"'\s>)]+)`)

// TestPagesLoadNothingFromElsewhere: what a page names is of the same host; nothing runs; a browser is told so.
func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	p, _ := newPortal(t, nil)
	for _, path := range []string{"/", "/docs", "/problems", "/problems/token-expired", "/privacy", "/verify", "/admin"} {
		w := ask(p, "GET", path, "")
		body := w.Body.String()
		if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || w.Header().Get("Content-Security-Policy") != pageCSP {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		for _, m := range loads.FindAllStringSubmatch(body, -1) {
			if !strings.HasPrefix(m[2], "/") && !strings.HasPrefix(m[2], "#") {
				t.Errorf("%s loads or leads to %s", path, m[2])
			}
		}
		for _, want := range []string{`<html lang="en-GB">`, "<title>", "<h1>", `<main id="main">`, `class="skip"`, "Demo appliance"} {
			if strings.Count(body, want) != 1 {
				t.Errorf("%s has %q %d times", path, want, strings.Count(body, want))
			}
		}
		for _, never := range []string{"<script", "<style", " style=", "javascript:", "onclick"} {
			if strings.Contains(body, never) {
				t.Errorf("%s has %s", path, never)
			}
		}
	}
	css := ask(p, "GET", "/style.css", "")
	if css.Code != 200 || strings.Contains(css.Body.String(), "url(") || strings.Contains(css.Body.String(), "@import") {
		t.Errorf("the style sheet: %d", css.Code)
	}
}

func TestReferenceShowsEveryOperation(t *testing.T) {
	p, _ := newPortal(t, nil)
	body := ask(p, "GET", "/docs", "").Body.String()
	var doc document
	if err := json.Unmarshal(p.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for _, op := range methods {
			if !strings.Contains(body, `id="`+op.ID+`"`) || !strings.Contains(body, path) {
				t.Errorf("%s %s is not shown", op.ID, path)
			}
		}
	}
	for _, name := range []string{"controlled_drug_schedule", "record.aes_pdf_sha256", "X-Forwarded-For"} {
		if !strings.Contains(body, name) {
			t.Errorf("%s is not shown", name)
		}
	}
}

func TestAdminPage(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpPrescriptions] = func(any, *os.File) (any, *os.File, error) {
		return wire.PrescriptionPage{Prescriptions: []wire.PrescriptionSummary{{PrescriptionID: "RX-<b>", ClinicianCN: "Doctor Clinician", Status: "signed", SignedAt: time.Unix(1e9, 0)}}}, nil, nil
	}
	const form = "application/x-www-form-urlencoded"
	w := ask(p, "POST", "/admin", url.Values{"token": {" " + goodToken + "\n"}}.Encode(), "Content-Type", form)
	if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, "RX-&lt;b&gt;") || strings.Contains(body, goodToken) {
		t.Errorf("%d %s", w.Code, body)
	}
	for body, want := range map[string]int{"token=expired": 401, "token=": 401, "token=roleless": 403, "token=a%20b": 401} {
		if w := ask(p, "POST", "/admin", body, "Content-Type", form); w.Code != want || !strings.Contains(w.Body.String(), `role="alert"`) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	if w := ask(p, "POST", "/admin", "token="+goodToken, "Content-Type", "text/plain"); w.Code != 415 {
		t.Errorf("not a form: %d", w.Code)
	}
}

func TestVerifyPageAndAPI(t *testing.T) {
	p, _ := newPortal(t, nil)
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	part, err := form.CreateFormFile("pdf", "x.pdf")
	if err != nil {
		t.Fatal(err)
	}
	part.Write([]byte("not a PDF"))
	form.Close()
	w := ask(p, "POST", "/verify", b.String(), "Content-Type", form.FormDataContentType())
	if w.Code != 422 || !strings.Contains(w.Body.String(), "cannot be read as a PDF") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	pdf, err := p.renderer.Render(demoPrescription(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w = ask(p, "POST", "/api/verify", string(pdf), "Content-Type", "application/pdf")
	var report struct {
		ExitCode int `json:"exit_code"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil || w.Code != 200 || report.ExitCode != 2 {
		t.Errorf("an unsigned PDF: %d %s", w.Code, w.Body)
	}
	for contentType, body := range map[string]string{"application/json": `{"pdf":1}`, "text/html": "x", "multipart/form-data; boundary=x": "--x--\r\n", "application/pdf": "%PDF-1.7"} {
		if w := ask(p, "POST", "/api/verify", body, "Content-Type", contentType); w.Code < 400 || w.Code >= 500 {
			t.Errorf("%s: %d %s", contentType, w.Code, w.Body)
		}
	}
}

func TestRateLimits(t *testing.T) {
	p, d := newPortal(t, func(c *Config) { c.PublicRate, c.CallerRate = 1, 2 })
	p.cfg.Now = func() time.Time { return time.Unix(1e9, 0) }
	d.do[wire.OpPrescriptions] = func(any, *os.File) (any, *os.File, error) { return wire.PrescriptionPage{}, nil, nil }
	for i := range 4 {
		if w := ask(p, "GET", "/api/prescriptions", "", authorised()...); w.Code != 200 || w.Header().Get("RateLimit") != `"caller";r=`+strconv.Itoa(3-i)+`;t=`+map[bool]string{true: "1", false: "0"}[i == 3] {
			t.Errorf("%d: %d %q", i, w.Code, w.Header().Get("RateLimit"))
		}
	}
	w := ask(p, "GET", "/api/prescriptions", "", authorised()...)
	if got := problemOf(t, w); w.Code != 429 || got.Type != "/problems/rate-limited" || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	for i := range 3 {
		if w := ask(p, "GET", "/verify", ""); (w.Code == 429) != (i == 2) {
			t.Errorf("page %d: %d", i, w.Code)
		}
	}
	// An address whose tokens are refused does not reach the signer for ever.
	before := d.count(wire.OpAuthenticate)
	for range 10 {
		ask(p, "GET", "/api/prescriptions", "", "Authorization", "Bearer forged")
	}
	if n := d.count(wire.OpAuthenticate) - before; n != 2 {
		t.Errorf("%d forged tokens of ten reached the signer", n)
	}
}

func TestPanicIsAProblem(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpTSA] = func(any, *os.File) (any, *os.File, error) { panic("no") }
	if got := problemOf(t, ask(p, "POST", "/tsa", "x", "Content-Type", "application/timestamp-query")); got.Type != "/problems/internal" {
		t.Errorf("%+v", got)
	}
}

// TestEveryCodeHasWords: each code that a package names in the errors that can come here is a problem type with its page.
func TestEveryCodeHasWords(t *testing.T) {
	known := map[string]bool{}
	for _, p := range problemTypes() {
		if known[p.Code] {
			t.Errorf("%s is there twice", p.Code)
		}
		known[p.Code] = true
		if p.Status < 400 || p.Title == "" || p.WhatToDo == "" && p.Code != "forbidden" || strings.HasSuffix(p.Title, ".") {
			t.Errorf("%+v", p)
		}
	}
	for k := range 10 {
		if !known[byKind(fault.Kind(k))] {
			t.Errorf("kind %v has no type", fault.Kind(k))
		}
	}
	seen := 0
	for _, folder := range []string{"activation", "jwt", "signer", "wire", "ca", "pades", "prescription"} {
		err := filepath.WalkDir(filepath.Join("..", folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if strings.HasSuffix(path, "activation/refusal.go") || strings.HasSuffix(path, "jwt/doc.go") {
					for _, code := range constants(n) {
						if seen++; !known[code] {
							t.Errorf("%s: the code %s has no problem type", path, code)
						}
					}
					return true
				}
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 {
					return true
				}
				if s, ok := call.Fun.(*ast.SelectorExpr); !ok || s.Sel.Name != "WithCode" {
					return true
				}
				if lit, ok := call.Args[0].(*ast.BasicLit); ok {
					code, err := strconv.Unquote(lit.Value)
					seen++
					if err != nil || !known[code] {
						t.Errorf("%s: the code %s has no problem type", path, lit.Value)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if seen < 25 {
		t.Errorf("only %d codes were found", seen)
	}
}

// constants returns the values of constants that are texts.
func constants(n ast.Node) []string {
	v, ok := n.(*ast.ValueSpec)
	if !ok {
		return nil
	}
	var texts []string
	for _, value := range v.Values {
		if lit, ok := value.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				texts = append(texts, s)
			}
		}
	}
	return texts
}
