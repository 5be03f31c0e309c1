package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/token"
)

// rootTokenLabel is the root token's, and that of its sealed form.
const rootTokenLabel = "aes-root"

// Ceremony does what only the root's key can do, over a root token that stays in dir (a demo's), in a process that has no other token open. It makes the token when there is none.
func Ceremony(ctx context.Context, module, dir string, pin []byte, cfg ca.RootConfig, r ca.CeremonyRequest) (a ca.CeremonyAnswer, err error) {
	if _, err := os.Stat(filepath.Join(dir, "tokens")); errors.Is(err, fs.ErrNotExist) {
		if err := newRootToken(module, dir, pin); err != nil {
			return a, err
		}
	}
	err = withRootToken(ctx, module, dir, pin, func(t *token.Token) error {
		cfg.Keys = ca.TokenKeys(t)
		a, err = ca.RootCeremony(ctx, cfg, r)
		return err
	})
	return a, err
}

// RootRequest is a ceremony over a root token that is kept sealed, away from the machine. It crosses as JSON.
type RootRequest struct {
	Ceremony   ca.CeremonyRequest `json:"ceremony"`
	Sealed     []byte             `json:"sealed,omitempty"`     // the root's token; absent at the first ceremony, which makes it
	Identity   []byte             `json:"identity,omitempty"`   // age identities that open it
	Recipients []string           `json:"recipients,omitempty"` // age recipients that it is sealed to; with Sealed, only to change them
}

// RootAnswer is what such a ceremony made.
type RootAnswer struct {
	Ceremony ca.CeremonyAnswer `json:"ceremony"`
	Sealed   []byte            `json:"sealed,omitempty"` // the root's token, when Recipients were given
}

// SealedCeremony does what only the root's key can do. The root's token is in scratch, which should be in memory, for as long as that takes; its PIN is known to this process
// only, and leaves it within Sealed only. What is left in scratch by a crash cannot be opened without that PIN, which is of 128 random bits.
//
// With an identity and no sealed token (a first ceremony), the new one is opened with it before anything is answered.
//
// Errors: Invalid (the request), Forbidden (the identity does not open the token), Corrupt, and those of ca.RootCeremony.
func SealedCeremony(ctx context.Context, module, scratch string, cfg ca.RootConfig, r RootRequest) (a RootAnswer, err error) {
	pin, err := r.bring(module, scratch)
	if err != nil {
		return a, err
	}
	defer clear(pin)
	var files []token.File
	err = withRootToken(ctx, module, scratch, pin, func(t *token.Token) error {
		cfg.Keys = ca.TokenKeys(t)
		if a.Ceremony, err = ca.RootCeremony(ctx, cfg, r.Ceremony); err != nil {
			return err
		}
		files, err = t.Files()
		return err
	})
	if err != nil || len(r.Recipients) == 0 {
		return a, err
	}
	root, err := x509.ParseCertificate(a.Ceremony.Root)
	if err != nil {
		return a, err
	}
	b := escrow.Backup{Origin: rootOrigin(root), Made: cfg.Now, Label: rootTokenLabel, PIN: pin}
	for _, f := range files {
		b.Files = append(b.Files, escrow.File(f))
	}
	var sealed bytes.Buffer
	if err := escrow.Seal(&sealed, r.Recipients, b); err != nil {
		return a, fault.New(fault.Invalid, "the root's token cannot be sealed").WithCause(err)
	}
	a.Sealed = sealed.Bytes()
	if len(r.Identity) == 0 {
		return a, nil
	}
	_, err = OpenRoot(a.Sealed, r.Identity, root)
	return a, err
}

// bring puts the root's token into scratch, a new one or the one that was sealed, and returns its PIN.
func (r RootRequest) bring(module, scratch string) (pin []byte, err error) {
	if len(r.Sealed) == 0 {
		if len(r.Recipients) == 0 || r.Ceremony.Root != nil {
			return nil, fault.New(fault.Invalid, "the ceremony lacks the sealed root token").WithHint("bring the file that setup made, and an identity that opens it")
		}
		if pin, err = NewPIN(); err != nil {
			return nil, err
		}
		return pin, newRootToken(module, scratch, pin)
	}
	root, err := x509.ParseCertificate(r.Ceremony.Root)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the ceremony's request has no root certificate").WithCause(err)
	}
	b, err := OpenRoot(r.Sealed, r.Identity, root)
	if err != nil {
		return nil, err
	}
	files := make([]token.File, len(b.Files))
	for i, one := range b.Files {
		files[i] = token.File(one)
	}
	return b.PIN, token.Restore(scratch, files)
}

// OpenRoot opens a sealed root token with age identities, and sees that it is root's. Errors: Forbidden, Invalid, Conflict.
func OpenRoot(sealed, identity []byte, root *x509.Certificate) (escrow.Backup, error) {
	b, err := escrow.Open(bytes.NewReader(sealed), bytes.NewReader(identity))
	switch {
	case errors.Is(err, escrow.ErrIdentity):
		return b, fault.New(fault.Forbidden, "the sealed root token cannot be opened with this identity").WithCause(err).
			WithHint("it was sealed for the recipients that the ceremony's transcript names")
	case errors.Is(err, escrow.ErrFormat):
		return b, fault.New(fault.Invalid, "this is no sealed root token, or a damaged one").WithCause(err).WithHint("its SHA-256 is in the ceremony's transcript")
	case err != nil:
		return b, fault.New(fault.Invalid, "the identity cannot be read").WithCause(err).WithHint("it is a file of age-keygen's: AGE-SECRET-KEY-1…")
	case b.Label != rootTokenLabel || !strings.HasPrefix(b.Origin, "root "):
		return b, fault.New(fault.Invalid, "this is the backup of another token than the root's").WithHint("the root's is the file root-….age")
	case b.Origin != rootOrigin(root):
		return b, fault.New(fault.Conflict, "this is the token of another root").WithHint("the root's SHA-256 is in its ceremony's transcript")
	}
	return b, nil
}

// rootOrigin is what a sealed root token says of whose it is.
func rootOrigin(root *x509.Certificate) string {
	sum := sha256.Sum256(root.Raw)
	return "root " + hex.EncodeToString(sum[:])
}

// newRootToken makes the root's token.
func newRootToken(module, dir string, pin []byte) error {
	soPIN, err := NewPIN() // kept nowhere
	if err != nil {
		return err
	}
	defer clear(soPIN)
	return token.Init(rootToken(module, dir, pin), soPIN)
}

func rootToken(module, dir string, pin []byte) token.Config {
	return token.Config{Module: module, Dir: dir, Label: rootTokenLabel, PIN: pin, SigningOnly: true}
}

// withRootToken opens the root's token, and closes it when f is done.
func withRootToken(ctx context.Context, module, dir string, pin []byte, f func(*token.Token) error) error {
	t, err := token.Open(ctx, rootToken(module, dir, pin))
	if err != nil {
		return err
	}
	if err := errors.Join(f(t), t.Close()); err != nil {
		return fmt.Errorf("the root's token: %w", err)
	}
	return nil
}
