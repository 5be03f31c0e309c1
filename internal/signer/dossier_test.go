package signer

import (
	"bytes"
	"strings"
	"testing"
)

func TestReadDossierRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":                    "",
		"half a length":              "\x00\x00\x00\x00",
		"shorter than it says":       "\x00\x00\x00\x00\x00\x00\x00\x03{}",
		"longer than any":            "\x00\x00\x00\x00\x00\x10\x00\x01" + strings.Repeat(" ", maxDossier+1),
		"longer than memory":         "\xff\xff\xff\xff\xff\xff\xff\xff{}",
		"a document of the old form": "%PDF-1.7\n",
	} {
		if got, err := readDossier(strings.NewReader(in)); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func FuzzReadDossier(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x02{}%PDF"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		got, err := readDossier(r)
		if err == nil && lengthSize+len(got)+r.Len() != len(in) {
			t.Fatalf("%d bytes are %d of dossier and %d behind it", len(in), len(got), r.Len())
		}
	})
}
