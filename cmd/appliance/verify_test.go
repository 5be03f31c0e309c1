package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/evidence"
)

// An evidence pack is verified offline, by whom one trusts for it; exit codes are those of a PDF.
func TestVerifyPack(t *testing.T) {
	const at = "2026-11-21T20:00:00Z"
	within := func(name string) string {
		path, err := filepath.Abs(filepath.Join("..", "..", "internal", name))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	pack, key, root := within("evidence/testdata/pack.zip"), within("evidence/testdata/log-key.txt"), within("pades/testdata/vectors/lta-two-tier.root.pem")
	data, err := os.ReadFile(pack)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	changed := bytes.Clone(data)
	changed[len(changed)/2] ^= 1
	bad := write("bad.zip", changed)
	longer := write("longer.zip", append(bytes.Clone(data), 0))
	otherKey := write("other-key.txt", []byte("aes.example/audit+00000000+AAAA\n"))
	t.Chdir(dir) // where there is no appliance
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"both trusted", []string{pack, "--trust", root, "--log-key", key, "--at", at}, exitGood, "Evidence pack: VALID"},
		{"no log key", []string{pack, "--trust", root, "--at", at}, exitUnjudged, "compare it with the key that the operator publishes"},
		{"no log key, and what to do", []string{pack, "--trust", root, "--at", at}, exitUnjudged, "--log-key log-key.txt"},
		{"no root", []string{pack, "--log-key", key, "--at", at}, exitUnjudged, "COULD NOT JUDGE"},
		{"changed", []string{bad, "--trust", root, "--log-key", key, "--at", at}, exitBad, "its CRC does not match"},
		{"with a byte more", []string{longer, "--trust", root, "--log-key", key, "--at", at}, exitBad, "1 bytes follow its end"},
		{"a key that is none", []string{pack, "--trust", root, "--log-key", otherKey, "--at", at}, exitUnjudged, ""},
		{"a key that is missing", []string{pack, "--trust", root, "--log-key", "nowhere", "--at", at}, exitUnjudged, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, problems bytes.Buffer
			code := Main(context.Background(), append([]string{"verify"}, c.args...), nil, &out, &problems)
			if code != c.code || !strings.Contains(out.String()+problems.String(), c.says) {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, &out, &problems)
			}
		})
	}
	var out, problems bytes.Buffer
	code := Main(context.Background(), []string{"verify", "-", "--json", "--trust", root, "--log-key", key, "--at", at}, bytes.NewReader(data), &out, &problems)
	var report evidence.PackReport
	if err := json.Unmarshal(out.Bytes(), &report); code != exitGood || err != nil || report.Verdict != evidence.Valid || report.PDF == nil {
		t.Errorf("exit code %d, %v\n%s%s", code, err, &out, &problems)
	}
}
