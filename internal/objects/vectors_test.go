package objects

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"testing"
)

// TestVectors: objects as they are published in docs/vectors/objects/vectors.json are made and opened. Old objects must open for as long as there are
// any: this program changes to agree with the vectors, never the other way round.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("../../docs/vectors/objects/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v []struct {
		Kind      string `json:"kind"`
		Key       string `json:"key"`
		SealedKey string `json:"sealed_key"`
		Size      int    `json:"size"`
		ID        string `json:"id"`
		Object    string `json:"object"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v) < 6 {
		t.Fatalf("%d vectors", len(v))
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range v {
		content := make([]byte, c.Size)
		for i := range content {
			content[i] = byte(7 * i)
		}
		var b bytes.Buffer
		if err := sealTo(&b, c.Kind, unhex(c.Key), unhex(c.SealedKey), bytes.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
		if id := sha256.Sum256(b.Bytes()); hex.EncodeToString(id[:]) != c.ID || c.Object != "" && hex.EncodeToString(b.Bytes()) != c.Object {
			t.Errorf("%d bytes: sealed to %x", c.Size, id)
		}
		h, err := readHeader(&b)
		if err != nil || h.kind != c.Kind || hex.EncodeToString(h.sealedKey) != c.SealedKey {
			t.Fatalf("%+v %v", h, err)
		}
		o, err := newOpener(&b, h, unhex(c.Key))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: opened to %d, %v", c.Size, len(got), err)
		}
	}
}
