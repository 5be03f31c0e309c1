package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/veripath/aes-appliance/"

// rows is the order of docs/architecture.md: a package imports only packages of lower rows, never its own row's.
var rows = [][]string{
	{"fault", "durable", "chain", "der", "fonts", "porttest"},
	{"config", "wire", "enrol", "escrow", "pdf", "cms", "tsp", "cert", "jwt", "prescription", "dmd", "panel"},
	{"token", "clock", "objects", "index", "firewall", "manual"},
	{"ledger"},
	{"ca", "tsa", "pades", "activation", "oidctest", "demorealm", "evidence", "backup", "alarm", "witness", "onboarding", "delivery", "setup"},
	{"signer", "portal", "replica"},
	{"doctor", "statement"},
}

// cgo is allowed in one package; the key-value store and the PKCS#11 libraries stay behind theirs.
var onlyIn = map[string]string{
	"C":                                 "token",
	"github.com/miekg/pkcs11":           "token",
	"github.com/ThalesGroup/crypto11":   "token",
	"go.etcd.io/bbolt":                  "index",
	"github.com/BurntSushi/toml":        "config",
	"github.com/zmap/zlint/v3":          "cert",
	"github.com/lestrrat-go/jwx/v2/jwk": "jwt",
	"github.com/lestrrat-go/jwx/v2/jws": "jwt",
	"github.com/lestrrat-go/jwx/v2/jwt": "jwt",
}

func TestImportsPointDownward(t *testing.T) {
	row := map[string]int{}
	for i, names := range rows {
		for _, n := range names {
			row[n] = i
		}
	}
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		if pkg == "." {
			return nil
		}
		mine, known := row[pkg]
		if !known {
			t.Errorf("%s: package internal/%s has no row: internal packages are one level deep and listed here", path, pkg)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		isTest := strings.HasSuffix(path, "_test.go") // tests may use any peer
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			seen++
			if owner, ok := onlyIn[imported]; ok && owner != pkg && !isTest {
				t.Errorf("%s imports %s, which belongs to internal/%s", path, imported, owner)
			}
			name, ours := strings.CutPrefix(imported, module+"internal/")
			if !ours {
				if strings.HasPrefix(imported, module) {
					t.Errorf("%s imports %s: nothing below imports a command", path, imported)
				}
				continue
			}
			if its, ok := row[name]; !isTest && (!ok || its >= mine) {
				t.Errorf("%s imports %s: row %d may only import lower rows, not row %d", path, name, mine, its)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no import was seen: the test looks in the wrong place")
	}
}

// ofDocuments is what the packages that have the token and the log name of those which read documents: what they are handed and what they make, nothing that opens one.
var ofDocuments = map[string][]string{
	"pdf":   nil,
	"pades": {"Archivist", "Authority", "Material", "Signature", "Signed", "Stamper"},
	"evidence": {"Activation", "Backup", "Cancellation", "Certificate", "CertificateNow", "CheckpointTime", "Clock", "Consent", "Core", "Document", "Input", "Kind", "KindClinician", "KindService", "LevelToken",
		"Live", "Medicine", "NewCheckpoint", "NewReason", "Pack", "PackLine", "Position", "Prescription", "Reason", "Request", "Revision", "Revocation", "SHA256", "Signature", "Stamp", "Stamped", "StateOn",
		"Summary", "Token", "WritePack"},
}

// TestSignerParsesNoDocument: a document that is made to break its reader breaks a process that has neither the token nor the log.
func TestSignerParsesNoDocument(t *testing.T) {
	seen := 0
	for _, pkg := range []string{"signer", "ca", "tsa", "activation", "token", "ledger"} {
		files, err := filepath.Glob(filepath.Join(pkg, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", pkg, err, len(files))
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range f.Imports {
				imported, _ := strconv.Unquote(spec.Path.Value)
				if _, ok := ofDocuments[strings.TrimPrefix(imported, module+"internal/")]; ok && spec.Name != nil {
					t.Errorf("%s imports %s by another name: what it uses of it is not seen here", path, imported)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				of, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				from, ok := of.X.(*ast.Ident)
				if !ok {
					return true
				}
				if may, ok := ofDocuments[from.Name]; ok {
					seen++
					if !slices.Contains(may, of.Sel.Name) {
						t.Errorf("%s uses %s.%s", path, from.Name, of.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if seen == 0 {
		t.Fatal("nothing was seen: the test looks in the wrong place")
	}
}
