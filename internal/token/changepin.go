package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// ChangePIN gives a SoftHSM2 token that nobody has open another user PIN: cfg.PIN is the one until now. Its keys stay as they are. The change is made to a copy of token.object,
// which takes the place of the pristine one by a rename: before that the old PIN opens the token and no other, after it the new one. A token that newPIN opens already is left alone,
// so that who was interrupted does the same again.
//
// Errors: Unauthorized (neither PIN opens it), Unsupported (a vendor's token), and those of Open. Wipe both PINs afterwards.
func ChangePIN(ctx context.Context, cfg Config, newPIN []byte) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if cfg.Dir == "" {
		return fault.New(fault.Unsupported, "a vendor's token has its PIN changed with the vendor's own tool")
	}
	if len(newPIN) == 0 || bytes.IndexByte(newPIN, 0) >= 0 || bytes.Equal(newPIN, cfg.PIN) {
		return fault.New(fault.Invalid, "the new PIN is empty, holds a NUL byte, or is the old one")
	}
	if err := process.take(); err != nil {
		return err
	}
	defer process.release()
	f := folder(cfg.Dir)
	unlock, err := f.lock(ctx)
	if err != nil {
		return refused(err)
	}
	defer unlock()
	if _, err := f.prepare(); err != nil {
		return refused(err)
	}
	return refused(f.changePIN(cfg, newPIN))
}

// changePIN works on a copy under new/, which is removed again. The caller holds the lock.
func (f folder) changePIN(cfg Config, newPIN []byte) (err error) {
	found, err := filepath.Glob(f.path("tokens", "*", "token.object"))
	if err != nil || len(found) != 1 {
		return errors.Join(fault.New(fault.Corrupt, fmt.Sprintf("there are %d tokens, not one", len(found))), err)
	}
	id := filepath.Base(filepath.Dir(found[0]))
	pristine, err := os.ReadFile(f.path("pristine", id))
	if err != nil {
		return fmt.Errorf("reading the token's pristine copy: %w", err)
	}
	if err := os.RemoveAll(f.path("new")); err != nil {
		return fmt.Errorf("clearing away an unfinished change: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.path("new"))) }()
	scratch := f.path("new", "tokens", id, "token.object")
	if err := errors.Join(os.MkdirAll(filepath.Dir(scratch), 0o700), os.WriteFile(scratch, pristine, 0o600)); err != nil {
		return fmt.Errorf("copying the token: %w", err)
	}
	if err := f.configure("new/tokens"); err != nil {
		return err
	}
	changed, err := setPIN(cfg, newPIN)
	if err != nil || !changed {
		return err
	}
	made, err := os.ReadFile(scratch)
	if err != nil || len(made) <= generationSize {
		return errors.Join(fault.New(fault.Corrupt, "SoftHSM2 wrote no token"), err)
	}
	// Here the new PIN takes the old one's place: a start puts back what the pristine copy is.
	if err := durable.WriteFile(durable.OS{}, f.path("pristine", id), made, 0o600); err != nil {
		return err
	}
	if err := protect(f.path("pristine", id)); err != nil {
		return err
	}
	if _, err := f.restorePristine(); err != nil {
		return err
	}
	return syncfs(string(f))
}

// setPIN changes the PIN of the token where the module looks for it now, and proves that the new one opens it and the old one does not. changed is false when the new one did already.
func setPIN(cfg Config, newPIN []byte) (changed bool, err error) {
	p := pkcs11.New(cfg.Module)
	if p == nil {
		return false, openError(cfg, errors.New("failed to open module"))
	}
	defer p.Destroy()
	if err := p.Initialize(); err != nil {
		return false, p11Error("initialising the PKCS#11 module", err)
	}
	defer func() { err = errors.Join(err, p11Error("finalising the PKCS#11 module", p.Finalize())) }()
	slot, err := findSlot(p, cfg.Label)
	if err != nil {
		return false, err
	}
	nothing := func(pkcs11.SessionHandle) error { return nil }
	if err := inSession(p, slot, pkcs11.CKU_USER, newPIN, nothing); err == nil {
		return false, nil
	}
	err = inSession(p, slot, pkcs11.CKU_USER, cfg.PIN, func(s pkcs11.SessionHandle) error {
		return p11Error("changing the PIN", p.SetPIN(s, text(cfg.PIN), text(newPIN)))
	})
	if err != nil {
		return false, err
	}
	if err := inSession(p, slot, pkcs11.CKU_USER, cfg.PIN, nothing); fault.KindOf(err) != fault.Unauthorized {
		return false, fault.New(fault.Corrupt, "the old PIN still opens the token after it was changed").WithCause(err)
	}
	// The last log-in is a right one, so that what is kept does not tell of wrong ones.
	return true, inSession(p, slot, pkcs11.CKU_USER, newPIN, nothing)
}
