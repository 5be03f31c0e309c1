package replica

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/chain"
)

// falseLine is a signature line under a cosigner's name and key ID that the cosigner never made: no reader of a note that has it takes the note.
func falseLine(k chain.WitnessKey) string {
	sig := append(binary.BigEndian.AppendUint32(nil, k.KeyHash()), make([]byte, 72)...)
	return fmt.Sprintf("— %s %s\n", k.Name(), base64.StdEncoding.EncodeToString(sig))
}

func pubOf(name string) ed25519.PublicKey { return keyOf(name).Public().(ed25519.PublicKey) }

// TestForeignSignatureLines: a primary that was taken over adds lines to its checkpoints, under the backup's own name and an outside witness's. What the receiver keeps
// can be fetched all the same: otherwise the one who destroys a primary could destroy the way back before.
func TestForeignSignatureLines(t *testing.T) {
	outside, err := chain.NewWitnessKey("witness.example/w1", pubOf("w1"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := startBackup(t, backupOptions{dir: dir})
	c := b.client("client "+testOrigin, testOrigin)
	line, signed := lineNaming(t, `{}`)
	signed = append(signed, falseLine(b.rcv.Key())+falseLine(outside)...)
	for n := range 2 { // as lines come, and as a heartbeat
		a := Append{Lines: line, Checkpoint: signed}
		if n == 1 {
			a = Append{Old: 1, Checkpoint: signed}
		}
		if status, body := raw(t, c, "POST", "/v1/logs/"+LogID(testOrigin)+"/append", a.Marshal()); status != 200 {
			t.Fatal(status, body)
		}
		note, err := c.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, by, err := chain.OpenCosigned(note, testOrigin, logKeyOf(t, testOrigin), b.rcv.Key(), outside); err != nil || len(by) != 1 {
			t.Errorf("what is held cannot be opened: %v %v\n%s", by, err, note)
		}
	}
	src, _, err := OpenFolder(filepath.Join(dir, LogID(testOrigin)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), src, Trust{testOrigin, logKeyOf(t, testOrigin), b.rcv.Key().String()}, t.TempDir()); err != nil {
		t.Errorf("the copy cannot be fetched: %v", err)
	}
}

// TestLyingBackupsSignatureLines: what a backup adds to the checkpoint that it answers to a comparison does not get into the note that evidence is made of.
func TestLyingBackupsSignatureLines(t *testing.T) {
	outside, err := chain.NewWitnessKey("witness.example/w1", pubOf("w1"))
	if err != nil {
		t.Fatal(err)
	}
	p := openPrimary(t, t.TempDir(), testOrigin)
	b := startBackup(t, backupOptions{dir: t.TempDir()})
	s := p.shipper(b, nil)
	stop := run(t, s)
	p.tick(1)
	note := waitFor(t, s, 1).Note
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	got, err := s.open(append(note[:len(note):len(note)], falseLine(outside)...))
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Note) != string(note) || strings.Contains(string(got.Note), outside.Name()) {
		t.Errorf("kept:\n%s", got.Note)
	}
}
