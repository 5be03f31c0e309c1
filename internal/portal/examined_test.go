package portal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

const examinedGood = `{"at":"2026-03-01T05:00:00Z","findings":{"ok":30,"warn":2,"unknown":0,"bad":1}}`

// TestExaminedInTheMetrics: what the daily examination came to is shown; a file that is none, or not there, shows nothing.
func TestExaminedInTheMetrics(t *testing.T) {
	path := ExaminedFile(filepath.Join(t.TempDir(), "signer.sock"))
	shown := func() string {
		var b bytes.Buffer
		writeExamined(&b, path)
		return b.String()
	}
	if got := shown(); got != "" {
		t.Errorf("without a file: %q", got)
	}
	for name, text := range map[string]string{
		"empty": "", "no JSON": "bad 1", "no time": `{"findings":{"ok":1}}`, "no findings": `{"at":"2026-03-01T05:00:00Z"}`, "another verdict": `{"at":"2026-03-01T05:00:00Z","findings":{"a\"}1":1}}`,
		"fewer than none": `{"at":"2026-03-01T05:00:00Z","findings":{"ok":-1}}`, "no number": `{"at":"2026-03-01T05:00:00Z","findings":{"ok":"1"}}`, "too much": examinedGood[:len(examinedGood)-1] + string(bytes.Repeat([]byte(" "), maxExamined)) + "}",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := shown(); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if err := os.WriteFile(path, []byte(examinedGood), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "# TYPE aes_doctor_examined_timestamp_seconds gauge\naes_doctor_examined_timestamp_seconds 1772341200\n# TYPE aes_doctor_findings gauge\n" +
		"aes_doctor_findings{verdict=\"bad\"} 1\naes_doctor_findings{verdict=\"ok\"} 30\naes_doctor_findings{verdict=\"unknown\"} 0\naes_doctor_findings{verdict=\"warn\"} 2\n"
	if got := shown(); got != want {
		t.Errorf("%s", got)
	}
}

func FuzzParseExamined(f *testing.F) {
	f.Add([]byte(examinedGood))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseExamined(data)
		if err == nil && (e.At.IsZero() || len(e.Findings) == 0 || len(e.Findings) > 4) {
			t.Errorf("%+v", e)
		}
	})
}
