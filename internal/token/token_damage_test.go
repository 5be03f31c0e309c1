//go:build builtin_softhsm

package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// damageStep is how far apart the bytes are that the test damages: prime to the 8 bytes of a length, so that each byte of one has its turn.
const damageStep = 3

// TestDamagedObjects flips a bit of the object files, one after another. Whatever the bit, using the token works or fails with an error
// that says something; the process never just ends. SoftHSM2 as Debian has it calls exit(5) without a word for many of them, which nothing
// outside of it can prevent: the built-in one is patched (packaging/softhsm2/damaged-objects.patch).
func TestDamagedObjects(t *testing.T) {
	if dir := os.Getenv("TOKEN_DAMAGE_DIR"); dir != "" {
		if err := damageEach(testConfig(dir)); err != nil {
			t.Fatal(err)
		}
		return
	}
	cfg := initNew(t)
	tok := openToken(t, cfg)
	generate(t, tok, "k", ECDSAP256)
	closeToken(t, tok)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, exe, "-test.run", "^"+t.Name()+"$")
	c.Env = append(os.Environ(), "TOKEN_DAMAGE_DIR="+cfg.Dir)
	out, err := c.Output()
	lines := strings.Split(string(out), "\n")
	if last := lines[max(0, len(lines)-4):]; err != nil || !strings.Contains(string(out), "\nall damaged: ") {
		t.Fatalf("the process ended while it used a damaged token (%v): %q", err, last)
	}
	for _, line := range lines {
		if summary, ok := strings.CutPrefix(line, "all damaged: "); ok {
			t.Log(summary)
		}
	}
}

// damageEach uses the token with each damage in turn, and prints what it is about to do.
func damageEach(cfg Config) error {
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "tokens", "*", "*.object"))
	if err != nil || len(files) < 3 { // token.object, and the halves of the pair
		return fmt.Errorf("object files: %v %w", files, err)
	}
	worked, failed := 0, 0
	for _, path := range files {
		if filepath.Base(path) == "token.object" { // its copy restores it: TestDamagedTokenObject
			continue
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := 0; i < len(whole); i += damageStep {
			damaged := []byte(string(whole))
			damaged[i] ^= 1 << (i / damageStep % 8)
			fmt.Printf("%s: byte %d of %d, %#x instead of %#x\n", filepath.Base(path), i, len(whole), damaged[i], whole[i])
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				return err
			}
			if err := useToken(cfg); err == nil {
				worked++
			} else if failed++; err.Error() == "" {
				return errors.New("an error without words")
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			return err
		}
	}
	if worked == 0 || failed == 0 {
		return fmt.Errorf("%d worked, %d failed: the test tests nothing", worked, failed)
	}
	if err := useToken(cfg); err != nil {
		return fmt.Errorf("mended: %w", err)
	}
	fmt.Printf("\nall damaged: %d worked all the same, %d failed\n", worked, failed)
	return nil
}

// useToken does what a start and a signature do. A signature that does not verify is worse than an error.
func useToken(cfg Config) (err error) {
	tok, err := Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tok.Close()) }()
	keys, err := tok.Keys()
	if err != nil {
		return err
	}
	for _, info := range keys {
		k, err := tok.Key(info.Label, info.ID, info.Public)
		if err != nil {
			return err
		}
		digest := make([]byte, 32)
		sig, err := k.Sign(nil, digest, crypto.SHA256)
		if err != nil {
			return err
		}
		if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest, sig) {
			panic("a damaged key made a signature that does not verify")
		}
	}
	if len(keys) == 0 {
		return errors.New("no key is found")
	}
	return nil
}
