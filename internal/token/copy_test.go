package token

import (
	"bytes"
	"crypto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// TestCopyIsTheSameToken: what was copied from an open token is, elsewhere, a token with the same keys, which also opens what the first one sealed.
func TestCopyIsTheSameToken(t *testing.T) {
	tok := openNew(t)
	key := generate(t, tok, "copied", ECDSAP256)
	wrapped, pub, err := tok.GenerateWrapped(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte{7}, 32)
	sealed, err := tok.SealKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	files, err := tok.Files()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "token")
	if err := Restore(dir, files); err != nil {
		t.Fatal(err)
	}
	wantKind(t, Restore(dir, files), fault.Conflict)
	closeToken(t, tok)

	again := openToken(t, testConfig(dir))
	if list := again.Findings(); len(list) > 0 {
		t.Errorf("the copy had to be mended: %v", list)
	}
	same, err := again.Key("copied", key.Info().ID, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	signAndVerify(t, same, []byte("text"), crypto.SHA256)
	signAndVerify(t, again.WrappedSigner(wrapped, pub), []byte("text"), crypto.SHA256)
	if got, err := again.OpenKey(sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%x, %v", got, err)
	}
	more, err := again.Files()
	if err != nil || len(more) < len(files) {
		t.Errorf("%d files, then %d, %v", len(files), len(more), err)
	}
}

func TestRestoreRefusesWhatIsNoToken(t *testing.T) {
	const uuid = "0b2f1c9e-1111-2222-3333-444455556666"
	good := []File{{"pristine/" + uuid, []byte("123456789")}, {"tokens/" + uuid + "/token.object", []byte("123456789")}}
	for what, files := range map[string][]File{
		"nothing":          nil,
		"no pristine copy": good[1:],
		"no token.object":  good[:1],
		"a path upward":    append(slices.Clone(good), File{"tokens/" + uuid + "/../../x.object", nil}),
		"an absolute path": append(slices.Clone(good), File{"/etc/x.object", nil}),
		"another place":    append(slices.Clone(good), File{"intent", nil}),
		"a file twice":     append(slices.Clone(good), good[1]),
		"two tokens":       append(slices.Clone(good), File{strings.Replace(good[1].Name, "0b2f", "0b2e", 1), nil}),
		"a deep path":      append(slices.Clone(good), File{"tokens/" + uuid + "/a/b.object", nil}),
	} {
		dir := filepath.Join(t.TempDir(), "token")
		if err := Restore(dir, files); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "tokens")); err == nil {
			t.Errorf("%s: there is a token", what)
		}
	}
}
