package token

import (
	"bytes"
	"crypto"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

const otherPIN = "another-pin-5512"

// TestChangePIN: the keys are there under the new PIN, and the old one opens nothing any more, not the token's copy for its backup either. Done again it changes nothing.
func TestChangePIN(t *testing.T) {
	cfg := initNew(t)
	tok := openToken(t, cfg)
	key := generate(t, tok, "kept", ECDSAP256)
	public := key.Info().Public
	wantKind(t, ChangePIN(t.Context(), cfg, []byte(otherPIN)), fault.Conflict) // it is open
	closeToken(t, tok)
	for range 2 {
		if err := ChangePIN(t.Context(), cfg, []byte(otherPIN)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Open(t.Context(), cfg)
	wantKind(t, err, fault.Unauthorized)
	changed := cfg
	changed.PIN = []byte(otherPIN)
	tok = openToken(t, changed)
	if again, err := tok.Key("kept", []byte("id of kept"), public); err != nil {
		t.Fatal(err)
	} else {
		signAndVerify(t, again, []byte("after the change"), crypto.SHA256)
	}
	files, err := tok.Files()
	if err != nil {
		t.Fatal(err)
	}
	closeToken(t, tok)
	copied := changed
	copied.Dir = t.TempDir()
	if err := Restore(copied.Dir, files); err != nil {
		t.Fatal(err)
	}
	closeToken(t, openToken(t, copied))
	copied.PIN = []byte(testPIN)
	_, err = Open(t.Context(), copied)
	wantKind(t, err, fault.Unauthorized)
	if _, err := os.Stat(filepath.Join(cfg.Dir, "new")); err == nil {
		t.Error("the copy that was changed is left")
	}
}

func TestChangePINRefuses(t *testing.T) {
	cfg := initNew(t)
	for name, pin := range map[string][]byte{"empty": nil, "a NUL byte": []byte("a\x00b"), "the old one": []byte(testPIN)} {
		if err := ChangePIN(t.Context(), cfg, pin); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong := cfg
	wrong.PIN = []byte("neither")
	wantKind(t, ChangePIN(t.Context(), wrong, []byte(otherPIN)), fault.Unauthorized)
	vendor := cfg
	vendor.Dir, vendor.Module = "", "/usr/lib/softhsm/libsofthsm2.so"
	wantKind(t, ChangePIN(t.Context(), vendor, []byte(otherPIN)), fault.Unsupported)
	before := openToken(t, cfg) // by the PIN that it had
	closeToken(t, before)
}

// TestKillWhileChangingThePIN kills a process that changes the PIN to and fro: one of the two opens the token, the other does not, its key signs, and the change can be done.
func TestKillWhileChangingThePIN(t *testing.T) {
	cfg := initNew(t)
	tok := openToken(t, cfg)
	public := generate(t, tok, "kept", ECDSAP256).Info().Public
	closeToken(t, tok)
	seen := map[string]bool{}
	now := testPIN
	for range kills {
		c := startChild(t, "change PIN", cfg.Dir, "TOKEN_TEST_PIN="+now)
		c.line(t)
		time.Sleep(rand.N(60 * time.Millisecond))
		c.kill()
		opened := 0
		for _, pin := range []string{testPIN, otherPIN} {
			with := cfg
			with.PIN = []byte(pin)
			tok, err := Open(t.Context(), with)
			if err != nil {
				wantKind(t, err, fault.Unauthorized)
				continue
			}
			opened++
			now, seen[pin] = pin, true
			key, err := tok.Key("kept", []byte("id of kept"), public)
			if err != nil {
				t.Fatal(err)
			}
			signAndVerify(t, key, []byte("after the crash"), crypto.SHA256)
			closeToken(t, tok)
		}
		if opened != 1 {
			t.Fatalf("%d PINs open the token", opened)
		}
	}
	t.Logf("after a kill it was opened by %d of 2 PINs", len(seen))
	with := cfg
	with.PIN = []byte(now)
	if err := ChangePIN(t.Context(), with, bytes.Repeat([]byte("p"), 32)); err != nil {
		t.Error(err)
	}
}
