package portal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Examined is what the daily examination of the machine ("appliance doctor") came to, for the metrics: who examines, as root, writes it into a file.
type Examined struct {
	At       time.Time      `json:"at"`
	Findings map[string]int `json:"findings"` // how many, by verdict
}

// ExaminedFile is where that file is: in the folder of the portal's socket, which is root's and which the portal can read.
func ExaminedFile(portalSocket string) string {
	return filepath.Join(filepath.Dir(portalSocket), "doctor.json")
}

// maxExamined bounds the file, in bytes.
const maxExamined = 4 << 10

// parseExamined reads such a file. Verdicts that it does not know are refused: they would become labels.
func parseExamined(data []byte) (e Examined, err error) {
	if err := json.Unmarshal(data, &e); err != nil {
		return Examined{}, err
	}
	if e.At.IsZero() || len(e.Findings) == 0 {
		return Examined{}, errors.New("it does not say when, or what")
	}
	for verdict, n := range e.Findings {
		if !slices.Contains([]string{"ok", "warn", "unknown", "bad"}, verdict) || n < 0 {
			return Examined{}, fmt.Errorf("%d findings of the verdict %.20q", n, verdict)
		}
	}
	return e, nil
}

// writeExamined shows the last examination, in the text format of Prometheus; nothing while there was none, or when it cannot be read.
func writeExamined(w io.Writer, path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxExamined))
	if err != nil {
		return
	}
	e, err := parseExamined(data)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "# TYPE aes_doctor_examined_timestamp_seconds gauge\naes_doctor_examined_timestamp_seconds %d\n# TYPE aes_doctor_findings gauge\n", e.At.Unix())
	for _, verdict := range slices.Sorted(maps.Keys(e.Findings)) {
		fmt.Fprintf(w, "aes_doctor_findings{verdict=%q} %d\n", verdict, e.Findings[verdict])
	}
}
