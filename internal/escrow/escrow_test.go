package escrow

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

func backup() Backup {
	return Backup{
		Origin: "aes.example/audit", Made: time.Unix(1_800_000_000, 0).UTC(), Lines: 77, Label: "aes", PIN: []byte("1234-secret"),
		Files: []File{{"pristine/x", []byte("one")}, {"tokens/x/y.lock", nil}, {"tokens/x/token.object", bytes.Repeat([]byte{1}, 70_000)}},
	}
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func file(ids ...*age.X25519Identity) *strings.Reader {
	text := "# made for a test\n"
	for _, id := range ids {
		text += id.String() + "\n"
	}
	return strings.NewReader(text)
}

func TestBackupComesBackToEachRecipient(t *testing.T) {
	a, b, other := identity(t), identity(t), identity(t)
	var sealed bytes.Buffer
	if err := Seal(&sealed, []string{a.Recipient().String(), b.Recipient().String()}, backup()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"1234-secret", "pristine", "aes.example"} {
		if bytes.Contains(sealed.Bytes(), []byte(secret)) {
			t.Errorf("%q can be read in the backup", secret)
		}
	}
	want := backup()
	want.Files[1].Data = []byte{}
	for _, id := range []*age.X25519Identity{a, b} {
		if got, err := Open(bytes.NewReader(sealed.Bytes()), file(other, id)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := Open(bytes.NewReader(sealed.Bytes()), file(other)); !errors.Is(err, ErrIdentity) {
		t.Errorf("for others: %v", err)
	}
	for _, at := range []int{sealed.Len() - 1, sealed.Len() - 20_000, 300, 30} {
		damaged := bytes.Clone(sealed.Bytes())
		damaged[at] ^= 1
		if _, err := Open(bytes.NewReader(damaged), file(a)); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrIdentity) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	for _, n := range []int{0, 10, 300, sealed.Len() - 1} {
		if _, err := Open(bytes.NewReader(sealed.Bytes()[:n]), file(a)); err == nil {
			t.Errorf("the first %d bytes were taken", n)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	to := []string{identity(t).Recipient().String()}
	for what, err := range map[string]error{
		"nobody":       Seal(&bytes.Buffer{}, nil, backup()),
		"a wrong name": Seal(&bytes.Buffer{}, []string{"age1x"}, backup()),
		"no PIN":       Seal(&bytes.Buffer{}, to, func() Backup { b := backup(); b.PIN = nil; return b }()),
		"no files":     Seal(&bytes.Buffer{}, to, func() Backup { b := backup(); b.Files = nil; return b }()),
		"a file twice": Seal(&bytes.Buffer{}, to, func() Backup { b := backup(); b.Files = append(b.Files, b.Files[0]); return b }()),
	} {
		if err == nil {
			t.Errorf("for %s it was sealed", what)
		}
	}
}

// plain writes a tar of entries, the manifest first.
func plain(t testing.TB, m any, entries ...tar.Header) []byte {
	t.Helper()
	head, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range append([]tar.Header{{Name: nameManifest, PAXRecords: nil}}, entries...) {
		data := []byte("data")
		if e.Name == nameManifest {
			data = head
		}
		e.Mode, e.Size = 0o600, int64(len(data))
		if e.Typeflag == tar.TypeSymlink {
			data, e.Size = nil, 0
		}
		if err := w.WriteHeader(&e); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPlainTextsRejected(t *testing.T) {
	m := manifest{Format: format, Files: []manifestFile{{"a", sum([]byte("data")), 4}}}
	pin, a := tar.Header{Name: namePIN}, tar.Header{Name: dirFiles + "a"}
	if _, err := parse(bytes.NewReader(plain(t, m, pin, a))); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	other := m
	other.Format = "aes-appliance token backup 2"
	wrong := manifest{Format: format, Files: []manifestFile{{"a", sum(nil), 4}}}
	for what, text := range map[string][]byte{
		"nothing":                   nil,
		"no tar":                    []byte(strings.Repeat("x", 2048)),
		"another version":           plain(t, other, pin, a),
		"an unknown member":         plain(t, map[string]any{"format": format, "evil": 1}, pin, a),
		"no PIN":                    plain(t, m, a),
		"a file missing":            plain(t, m, pin),
		"a file too many":           plain(t, m, pin, a, tar.Header{Name: dirFiles + "b"}),
		"another file":              plain(t, m, pin, tar.Header{Name: dirFiles + "b"}),
		"a file twice":              plain(t, manifest{Format: format, Files: append(m.Files, m.Files...)}, pin, a, a),
		"other content":             plain(t, wrong, pin, a),
		"a link":                    plain(t, m, pin, tar.Header{Name: dirFiles + "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"no files":                  plain(t, manifest{Format: format}, pin),
		"a megabyte behind":         append(plain(t, m, pin, a), make([]byte, 1<<21)...),
		"the manifest not in front": plain(t, m, pin, a)[1024:],
	} {
		if b, err := parse(bytes.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", what, b)
		}
	}
}

func FuzzParse(f *testing.F) {
	m := manifest{Format: format, Files: []manifestFile{{"a", sum([]byte("data")), 4}}}
	f.Add(plain(f, m, tar.Header{Name: namePIN}, tar.Header{Name: dirFiles + "a"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := b.write(&again); err != nil {
			t.Fatal(err)
		}
		if c, err := parse(&again); err != nil || !reflect.DeepEqual(b.Files, c.Files) || !bytes.Equal(b.PIN, c.PIN) {
			t.Errorf("%v", err)
		}
	})
}

// TestNewerBackup: a later version's backup is refused with what to do, whatever else its manifest holds.
func TestNewerBackup(t *testing.T) {
	text := plain(t, map[string]any{"format": "aes-appliance token backup 2", "what": "nobody knows yet"}, tar.Header{Name: namePIN})
	if b, err := parse(bytes.NewReader(text)); err == nil || !strings.Contains(err.Error(), "restore with that version") {
		t.Errorf("%+v %v", b, err)
	}
}
