package portal

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// family is a metric with its labels.
type family struct {
	kind   string
	labels []string
}

// allMetrics are those that the portal can show, as it shows them when everything has a value.
func allMetrics(t *testing.T) map[string]family {
	t.Helper()
	p, _ := newPortal(t, nil)
	p.metrics.begin()("GET /healthz", 200, time.Millisecond)
	p.metrics.signer("status", errors.New("x"), time.Millisecond)
	p.metrics.refusal(egressRealm)
	p.metrics.gauge("aes_portal_tls_certificate_expires_seconds", func() float64 { return 1 }) // as Serve does
	var b strings.Builder
	p.metrics.write(&b)
	now := time.Unix(1700000000, 0)
	writeBackup(&b, wire.Status{Ready: true, Clock: wire.Clock{Proven: true, MaxError: time.Millisecond}, Backup: wire.Backup{State: "sync", At: now}, Verified: wire.LogVerified{At: now}, Witnessed: wire.Witnessed{Asked: 1, At: now}})
	examined := filepath.Join(t.TempDir(), "doctor.json")
	if err := os.WriteFile(examined, []byte(`{"at":"2026-03-01T06:00:00Z","findings":{"ok":1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	writeExamined(&b, examined)
	all := map[string]family{}
	for line := range strings.Lines(b.String()) {
		if f := strings.Fields(line); f[0] == "#" {
			all[f[2]] = family{kind: f[3]}
			continue
		}
		m := regexp.MustCompile(`^([a-z_]+)(\{(.*)\})? `).FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q is no metric", line)
		}
		name := base(m[1], all)
		f := all[name]
		for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(m[3], -1) {
			if l[1] != "le" && !slices.Contains(f.labels, l[1]) {
				f.labels = append(f.labels, l[1])
			}
		}
		all[name] = f
	}
	return all
}

// base is the family that a name is of: histograms have three names each.
func base(name string, all map[string]family) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if short, ok := strings.CutSuffix(name, suffix); ok && all[short].kind == "histogram" {
			return short
		}
	}
	return name
}

// TestMetricsDocumented: docs/monitoring.md has every metric with its type and labels, and no other.
func TestMetricsDocumented(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "monitoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]family{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(aes_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|").FindAllStringSubmatch(string(data), -1) {
		f := family{kind: m[2]}
		for _, l := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(m[3], -1) {
			f.labels = append(f.labels, l[1])
		}
		said[m[1]] = f
	}
	all := allMetrics(t)
	for name, f := range all {
		if s := said[name]; s.kind != f.kind || !slices.Equal(slices.Sorted(slices.Values(s.labels)), slices.Sorted(slices.Values(f.labels))) {
			t.Errorf("%s is a %s with the labels %q, and is said to be a %q with %q", name, f.kind, f.labels, s.kind, s.labels)
		}
	}
	for name := range said {
		if _, ok := all[name]; !ok {
			t.Errorf("docs/monitoring.md has %s, which the portal has not", name)
		}
	}
}

// expressions returns the queries of the example rules and of the dashboard, by who asks them.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	dir, all := filepath.Join("..", "..", "packaging", "monitoring"), map[string]string{}
	rules, err := os.ReadFile(filepath.Join(dir, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)\n(?:\s+#.*\n)?\s+expr: '(.*)'\n`).FindAllStringSubmatch(string(rules), -1) {
		all[m[1]] = m[2]
	}
	if n := strings.Count(string(rules), "- alert:"); n != len(all) || n == 0 {
		t.Fatalf("%d of %d rules were read", len(all), n)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("the panel %q asks nothing", p.Title)
		}
		for i, x := range p.Targets {
			all[p.Title+" "+string(rune('A'+i))] = x.Expr
		}
	}
	return all
}

// TestMonitoringAsksForWhatThereIs: every query names metrics, labels and routes that the portal has.
func TestMonitoringAsksForWhatThereIs(t *testing.T) {
	all := allMetrics(t)
	routes, err := os.ReadFile(filepath.Join("..", "..", "docs", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for who, query := range expressions(t) {
		for _, m := range regexp.MustCompile(`\b(aes_[a-z_]+)(\{([^}]*)\})?`).FindAllStringSubmatch(query, -1) {
			f, ok := all[base(m[1], all)]
			if !ok {
				t.Errorf("%s asks for %s, which the portal has not", who, m[1])
			}
			used[base(m[1], all)] = true
			for _, l := range regexp.MustCompile(`([a-z_]+)=~?"`).FindAllStringSubmatch(m[3], -1) {
				if l[1] != "instance" && !slices.Contains(f.labels, l[1]) {
					t.Errorf("%s asks for %s by %q, which is no label of it", who, m[1], l[1])
				}
			}
		}
		for _, m := range regexp.MustCompile(`route="[A-Z]+ ([^"]+)"`).FindAllStringSubmatch(query, -1) {
			if !strings.Contains(string(routes), `"`+m[1]+`"`) {
				t.Errorf("%s asks for the route %s, which there is not", who, m[1])
			}
		}
	}
	for name := range all {
		if !used[name] {
			t.Errorf("nobody looks at %s: leave it out, or show it", name)
		}
	}
}

// TestAlertsByPromtool has Prometheus itself read the rules, and the dashboard's queries as rules.
func TestAlertsByPromtool(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not installed: packaging/deps.sh test")
		}
		t.Skip("promtool is not installed: packaging/deps.sh test")
	}
	check := func(path string) {
		if out, err := exec.Command("promtool", "check", "rules", path).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	check(filepath.Join("..", "..", "packaging", "monitoring", "alerts.yml"))
	var b strings.Builder
	b.WriteString("groups:\n  - name: queries\n    rules:\n")
	for _, query := range expressions(t) {
		raw, err := json.Marshal(query) // a double-quoted YAML text
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("      - record: a:b\n        expr: " + string(raw) + "\n        labels: {n: \"" + strings.Repeat("x", b.Len()%997) + "\"}\n")
	}
	path := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	check(path)
}

// TestRunbookHasEveryAlert: each rule has its entry in docs/operations.md, where its annotation says.
func TestRunbookHasEveryAlert(t *testing.T) {
	book, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile(filepath.Join("..", "..", "packaging", "monitoring", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(names) == 0 {
		t.Fatal("there are no rules")
	}
	for _, m := range names {
		if !strings.Contains(string(book), "\n### "+m[1]+"\n") {
			t.Errorf("docs/operations.md has no entry %s", m[1])
		}
		if !strings.Contains(string(rules), `runbook: "docs/operations.md#`+strings.ToLower(m[1])+`"`) {
			t.Errorf("%s does not point to its entry", m[1])
		}
	}
}
