package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Init makes a token: with Dir, a new SoftHSM2 token in that folder with its user PIN and, unless SigningOnly, the two AES keys that wrap.
// It comes into being as a whole (by a rename) or not at all. Without Dir, cfg names a vendor's token that is initialised already: soPIN
// must be nil and only the AES keys are made. A folder that holds a token is a Conflict. Wipe both PINs afterwards.
func Init(cfg Config, soPIN []byte) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if err := process.take(); err != nil {
		return err
	}
	defer process.release()
	f := folder(cfg.Dir)
	if f == "" {
		if soPIN != nil {
			return fault.New(fault.Invalid, "a vendor's token is initialised with the vendor's own tool")
		}
		return initModule(cfg, nil)
	}
	if len(soPIN) == 0 {
		return fault.New(fault.Invalid, "token SO PIN is empty")
	}
	if bytes.IndexByte(soPIN, 0) >= 0 || bytes.IndexByte(cfg.PIN, 0) >= 0 {
		return fault.New(fault.Invalid, "a PIN must not hold a NUL byte")
	}
	unlock, err := f.lock(context.Background())
	if err != nil {
		return refused(err)
	}
	defer unlock()
	return refused(f.create(func() error { return initModule(cfg, soPIN) }))
}

// initModule initialises the token where the module looks for it now.
func initModule(cfg Config, soPIN []byte) (err error) {
	p := pkcs11.New(cfg.Module)
	if p == nil {
		return openError(cfg, errors.New("failed to open module"))
	}
	defer p.Destroy()
	if err := p.Initialize(); err != nil {
		return p11Error("initialising the PKCS#11 module", err)
	}
	defer func() { err = errors.Join(err, p11Error("finalising the PKCS#11 module", p.Finalize())) }()
	if soPIN != nil {
		if err := initToken(p, cfg, soPIN); err != nil {
			return err
		}
	}
	slot, err := findSlot(p, cfg.Label)
	if err != nil || cfg.SigningOnly {
		return err
	}
	return inSession(p, slot, pkcs11.CKU_USER, cfg.PIN, func(s pkcs11.SessionHandle) error {
		return errors.Join(generateSecret(p, s, keyKEK), generateSecret(p, s, objectKEK))
	})
}

// initToken initialises the first free slot and sets the user PIN.
func initToken(p *pkcs11.Ctx, cfg Config, soPIN []byte) error {
	slots, err := p.GetSlotList(true)
	if err != nil {
		return p11Error("listing slots", err)
	}
	for _, slot := range slots {
		info, err := p.GetTokenInfo(slot)
		if err != nil {
			return p11Error("reading a slot", err)
		}
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			continue
		}
		if err := p.InitToken(slot, text(soPIN), cfg.Label); err != nil {
			return p11Error("initialising the token", err)
		}
		if slot, err = findSlot(p, cfg.Label); err != nil { // SoftHSM2 numbers its slots anew
			return err
		}
		return inSession(p, slot, pkcs11.CKU_SO, soPIN, func(s pkcs11.SessionHandle) error {
			return p11Error("setting the user PIN", p.InitPIN(s, text(cfg.PIN)))
		})
	}
	return fault.New(fault.Unavailable, "the PKCS#11 module has no free slot")
}

// inSession calls f in a session that is logged in as user and logged out afterwards.
func inSession(p *pkcs11.Ctx, slot, user uint, pin []byte, f func(pkcs11.SessionHandle) error) error {
	s, err := p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return p11Error("opening a session", err)
	}
	err = login(p, s, user, pin)
	if err == nil {
		err = errors.Join(f(s), p11Error("logging out", p.Logout(s)))
	}
	return errors.Join(err, p11Error("closing a session", p.CloseSession(s)))
}

// login proves the PIN. A token that is logged in already proves nothing: whoever logged in, it was not with this PIN.
func login(p *pkcs11.Ctx, s pkcs11.SessionHandle, user uint, pin []byte) error {
	err := p.Login(s, user, text(pin))
	if isRV(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) || isRV(err, pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN) {
		return fault.New(fault.Conflict, "the token is already logged in, so that the PIN cannot be checked").WithCause(err)
	}
	return p11Error("logging in", err)
}

// text is pin as the string that miekg/pkcs11 wants, without a copy that could not be wiped. (Its own copy for C is freed, not wiped.)
func text(pin []byte) string { return unsafe.String(unsafe.SliceData(pin), len(pin)) }

// findSlot returns the slot of the one initialised token with this label.
func findSlot(p *pkcs11.Ctx, label string) (uint, error) {
	slots, err := p.GetSlotList(true)
	if err != nil {
		return 0, p11Error("listing slots", err)
	}
	var found []uint
	for _, slot := range slots {
		info, err := p.GetTokenInfo(slot)
		if err != nil {
			return 0, p11Error("reading a slot", err)
		}
		if info.Label == label && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, noToken(label)
	}
	return 0, fault.New(fault.Conflict, fmt.Sprintf("%d tokens are labelled %q", len(found), label)).
		WithHint("take the others out of the token's folder, or give them other labels")
}
