package evidence

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGoldenPack: the format does not change. Packs that were written once, one of each kind, stay valid, and those with today's wording are written so
// again.
func TestGoldenPack(t *testing.T) {
	for name, c := range map[string]struct {
		make func(*fixture)
		says string // in the README, and in no other kind's
	}{
		"pack":       {func(*fixture) {}, "Give the program the keys of those whom you trust"}, // cosigned
		"pack-plain": {func(f *fixture) { f.cosigners = nil; f.finish(t) }, "Whoever controls the appliance could have written such a log afterwards."},
		"pack-service": {func(f *fixture) {
			f.in.Activation.Kind = KindService
			f.write(t)
		}, "does NOT show that the prescriber acted in"},
		"pack-cancelled": {func(f *fixture) {
			why := NewReason([32]byte{2}, "wrong strength")
			f.cancel(t, "RX-134", "wharf-lane", "8d1f", why, "8d1f", why)
		}, "State        CANCELLED."},
		"pack-demo": {func(f *fixture) {
			f.in.Signature.Issuer, f.in.Clock = "DEMO ONLY Clinician CA", Clock{}
			f.write(t)
		}, "DEMO ONLY    Made by a demonstration appliance"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.make(f)
			data, path := f.archive(t), "testdata/"+name+".zip"
			if *update {
				write(t, path, data)
				write(t, "testdata/log-key.txt", logKeyText(f.pack.LogKey))
			}
			golden := must[[]byte](t)(os.ReadFile(path))
			if r := verify(t, golden, f.trusting()); r.Verdict != Valid {
				t.Errorf("the golden pack is not valid\n%s", r.Text())
			}
			entries := must[[]entry](t)(decodeArchive(golden))
			var m manifest
			if err := json.Unmarshal(entries[1].data, &m); err != nil {
				t.Fatal(err)
			}
			if m.Readme == readmeVersion && !bytes.Equal(golden, data) {
				t.Error("a pack is written otherwise than the golden one: that is another version of the format, or of the README")
			}
			if !strings.Contains(string(entries[0].data), c.says) {
				t.Errorf("the README does not say %q", c.says)
			}
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReadmeVersions: the wording of a version is fixed, all versions stay known, and a pack says which it has.
func TestReadmeVersions(t *testing.T) {
	fixed := map[int]string{
		1: "5ee1202662f783505d918ae7273fd00f7114715d85f9c1c42bc3ef0dbe81da7c",
	}
	for version := 1; version <= readmeVersion; version++ {
		if text := must[string](t)(readmeText(version)); SHA256([]byte(text)) != fixed[version] {
			t.Errorf("the wording of version %d is not what it was (SHA-256 %s): another wording is another version", version, SHA256([]byte(text)))
		}
	}
	for _, version := range []int{0, -1, readmeVersion + 1} {
		f := newFixture(t)
		files := must[[]entry](t)(f.pack.files())
		list := append(files[:1:1], files[2:]...)
		files[1].data = must[[]byte](t)(canonical(newManifest(version, f.pack.CreatedAt, "RX-134", list)))
		r := verify(t, must[[]byte](t)(encodeArchive(files)), f.trusting())
		if r.Verdict != Invalid || !strings.Contains(failed(r, "readme"), "knows no README of version") {
			t.Errorf("version %d: %s", version, r.Text())
		}
	}
}
