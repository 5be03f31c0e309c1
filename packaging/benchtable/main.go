// Command benchtable turns the output of "go test -bench" into a table with ratios and a flat JSON file.
//
// Usage: go test -bench ... | benchtable -out build/bench.json. Every metric of every benchmark becomes name/metric -> {value, unit}; the goals
// and the ratios of the table are those of docs/performance.md.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

// measure is one figure; the JSON form is fixed.
type measure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// row is one line of the table: what it is, which figure, what it is compared with, what is wanted.
type row struct {
	what, name, against string
	goal                string
}

var rows = []row{
	{"raw P-256 token signatures, 1 at once", "token_p256_1/per_s", "", ""},
	{"raw P-256 token signatures, 32 at once", "token_p256_32/per_s", "", ""},
	{"wrapped P-256 (unwrap, sign, destroy), 32 at once", "token_wrapped_32/per_s", "token_p256_32/per_s", ""},
	{"time stamps, 1 at once", "time_stamp_1/per_s", "token_p256_1/per_s", ">= 60 % of raw"},
	{"time stamps, 32 at once", "time_stamp_32/per_s", "token_p256_32/per_s", ">= 60 % of raw"},
	{"OCSP answers with a nonce, 8 at once", "ocsp_8/per_s", "token_p256_32/per_s", ""},
	{"B-LTA documents, 1 at once", "document_1/per_s", "", ""},
	{"  p50", "document_1/p50_ms", "", ""},
	{"  p99", "document_1/p99_ms", "", ""},
	{"B-LTA documents, 32 at once", "document_32/per_s", "document_1/per_s", ">= 700/s"},
	{"  p50", "document_32/p50_ms", "", ""},
	{"  p99", "document_32/p99_ms", "", ""},
	{"  CPU per document", "document_32/cpu_ms", "", "<= 2 ms (replaced system: 107 ms)"},
	{"validations, 2 at once", "validate_2/per_s", "document_32/per_s", ""},
	{"50 MB document: whole", "large_50mb/sign_s", "", ""},
	{"50 MB document: beyond hashing it", "large_50mb/beyond_hash_s", "large_50mb/sign_s", "< 1 s"},
	{"50 MB document: peak heap / size", "large_50mb/memory_ratio", "", "<= 3"},
	{"start with 10,000 certificates", "start_10k/start_s", "", "< 2 s"},
	{"POST /api/sign over TLS, 1 client", "api_sign_1/per_s", "", ""},
	{"  p50", "api_sign_1/p50_ms", "", ""},
	{"  p99", "api_sign_1/p99_ms", "", "<= 120 ms"},
	{"POST /api/sign over TLS, 8 clients", "api_sign_8/per_s", "api_sign_1/per_s", ""},
	{"  p50", "api_sign_8/p50_ms", "", ""},
	{"  p99", "api_sign_8/p99_ms", "", "<= 120 ms"},
	{"POST /api/sign over TLS, 32 clients", "api_sign_32/per_s", "api_sign_1/per_s", ">= 400/s"},
	{"  p50", "api_sign_32/p50_ms", "", ""},
	{"  p99", "api_sign_32/p99_ms", "", "<= 120 ms"},
	{"  CPU of the signer per prescription", "api_sign_32/signer_cpu_ms", "document_32/cpu_ms", ""},
	{"  CPU of the portal per prescription", "api_sign_32/portal_cpu_ms", "document_32/cpu_ms", ""},
	{"  CPU of the clients per prescription", "api_sign_32/cpu_ms", "document_32/cpu_ms", ""},
	{"both processes after the load, idle: memory (PSS)", "api_idle/pss_mib", "", "<= 80 MB"},
	{"log lines appended, 512 at once", "log_append/per_s", "", ">= 20,000/s"},
	{"log lines verified", "log_million/verified_per_s", "", ">= 300,000/s"},
	{"start with a log of 1,000,000 lines, index present", "log_million/start_s", "", "< 2 s"},
	{"start with a log of 1,000,000 lines, index rebuilt", "log_million/rebuild_s", "", "< 60 s"},
	{"log lines cosigned by a backup, 256 at once", "ship/per_s", "log_append/per_s", ">= 20,000/s"},
	{"  memory of the receiver, peak", "ship/receiver_mib", "", "<= 64 MB"},
	{"one line, then cosigned", "synced_line/synced_ms", "", ""},
	{"  of that, the line alone", "synced_line/local_ms", "synced_line/synced_ms", ""},
	{"one line with an object, then cosigned", "synced_object/synced_ms", "synced_line/synced_ms", ""},
	{"a new backup gets 1,000,000 lines", "catchup/total_s", "", "<= 60 s"},
	{"  memory of the receiver, peak", "catchup/receiver_mib", "", "<= 64 MB"},
	{"start of the receiver over 1,000,000 lines", "catchup/restart_s", "", ""},
}

func main() {
	out := flag.String("out", "build/bench.json", "JSON file to write")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *out); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, w io.Writer, out string) error {
	measures, err := parse(io.TeeReader(in, os.Stderr))
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(measures, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return table(w, measures)
}

// parse reads "BenchmarkName-2   10   123 ns/op   45 per_s" lines; a failed run is an error, so that no stale table looks good.
func parse(r io.Reader) (map[string]measure, error) {
	measures := map[string]measure{}
	s := bufio.NewScanner(r)
	for s.Scan() {
		line := s.Text()
		if strings.HasPrefix(line, "--- FAIL") || strings.HasPrefix(line, "FAIL") {
			return nil, errors.New("a benchmark failed: " + line)
		}
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(f[0], "Benchmark"), "-")
		name = snake(name)
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			metric, unit := f[i+1], f[i+1]
			if strings.HasSuffix(metric, "per_s") {
				unit = "1/s"
			} else if i := strings.LastIndexByte(metric, '_'); i > 0 {
				unit = metric[i+1:]
			}
			measures[name+"/"+metric] = measure{v, unit}
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(measures) == 0 {
		return nil, errors.New("there was no benchmark in the input")
	}
	return measures, nil
}

func snake(name string) string { return strings.ToLower(strings.ReplaceAll(name, "/", "_")) }

func table(w io.Writer, measures map[string]measure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\tratio\tgoal")
	for _, r := range rows {
		m, ok := measures[r.name]
		if !ok {
			return fmt.Errorf("the run has no %s", r.name)
		}
		ratio := ""
		if base, ok := measures[r.against]; ok && base.Value > 0 {
			ratio = fmt.Sprintf("%.2f of %s", m.Value/base.Value, r.against)
		}
		fmt.Fprintf(t, "%s\t%.4g %s\t%s\t%s\n", r.what, m.Value, m.Unit, ratio, r.goal)
	}
	return t.Flush()
}
