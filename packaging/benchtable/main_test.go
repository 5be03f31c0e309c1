package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// full is the output of a run in which every row of the table was measured.
func full() string {
	var b strings.Builder
	for _, r := range rows {
		name, metric, _ := strings.Cut(r.name, "/")
		fmt.Fprintf(&b, "Benchmark%s-2 \t 10 \t 5 ns/op \t 12.5 %s\n", strings.ToUpper(name[:1])+name[1:], metric)
	}
	return b.String() + "PASS\n"
}

func TestTableAndJSON(t *testing.T) {
	out := filepath.Join(t.TempDir(), "bench.json")
	var table strings.Builder
	if err := run(strings.NewReader(full()), &table, out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(table.String(), "\n"); n != len(rows)+1 {
		t.Errorf("%d lines for %d rows:\n%s", n, len(rows), &table)
	}
	if !strings.Contains(table.String(), "1.00 of token_p256_32/per_s") {
		t.Errorf("no ratio:\n%s", &table)
	}
	data, err := os.ReadFile(out)
	if err != nil || !strings.Contains(string(data), `"document_32/cpu_ms": {`) || !strings.Contains(string(data), `"unit": "ms"`) {
		t.Errorf("%v\n%s", err, data)
	}
}

func TestNoTableFromABadRun(t *testing.T) {
	for name, input := range map[string]string{
		"nothing":         "",
		"a failure":       full() + "--- FAIL: BenchmarkX\n",
		"a row too few":   "BenchmarkToken_P256/1-2 10 5 ns/op 3 per_s\n",
		"a broken number": "BenchmarkToken_P256/1-2 10 x ns/op\n",
	} {
		if err := run(strings.NewReader(input), &strings.Builder{}, filepath.Join(t.TempDir(), "x.json")); err == nil {
			t.Errorf("%s: a table was made", name)
		}
	}
}
