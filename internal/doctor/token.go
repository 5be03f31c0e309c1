package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// pinCredential is where setup seals the PIN for the signer's unit.
const pinCredential = "/etc/credstore.encrypted/aes-signer.token-pin"

const cureToken = "restore the token from its backup (/usr/share/doc/aes-appliance/operations.md, \"The token is damaged\"); never make a new one over it"

func (e *exam) token(ctx context.Context, s *sheet) {
	e.tokenFiles(s)
	opens := e.pinOpens(ctx)
	said, err := e.signer.examined(ctx)
	e.pin(s, func() bool { return err == nil || <-opens })
	if err != nil {
		s.unasked("token.keys", err)
		return
	}
	broken := 0
	for _, k := range said.Keys {
		if k.Trouble != "" {
			broken++
			s.bad("token.keys", cureToken, "key %s (%s): %s", k.Label, k.Purpose, k.Trouble)
		}
	}
	if broken == 0 && len(said.Keys) > 0 {
		s.ok("token.keys", "all %d keys that are in use are in the token, and each signs", len(said.Keys)).with("keys", len(said.Keys))
	} else if len(said.Keys) == 0 {
		s.bad("token.keys", "appliance setup: it holds the ceremony", "the token has no key")
	}
}

// tokenFiles looks at what can be seen of SoftHSM2's folder without opening it.
func (e *exam) tokenFiles(s *sheet) {
	if m := e.Appliance.Token.Module; m != "" {
		if _, err := os.Stat(e.m.path(m)); err != nil {
			s.bad("token.files", "install the vendor's module, or correct token.module", "the PKCS#11 module cannot be looked at: %v", err)
			return
		}
		s.ok("token.files", "the keys are in a vendor's token, by %s", m)
		return
	}
	dir, objects, empty, main := filepath.Join(e.Appliance.StateDir, "token"), 0, 0, false
	err := filepath.WalkDir(e.m.path(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".object") {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		objects++
		if info.Size() == 0 {
			empty++
		}
		main = main || d.Name() == "token.object" && info.Size() > 0
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrPermission):
		s.unknown("token.files", "run it as root", "the token's folder cannot be read: %v", err)
	case err != nil:
		s.bad("token.files", cureToken, "the token's folder cannot be read: %v", err)
	case !main:
		s.bad("token.files", "systemctl restart aes-signer puts its pristine copy back; if it does not: "+cureToken, "token.object, which holds the token's master key, is missing or empty in %s", dir)
	case empty > 0:
		s.warn("token.files", "systemctl restart aes-signer sweeps what a crash left", "%d of the token's %d objects are empty", empty, objects)
	default:
		s.ok("token.files", "the token's folder is there, with %d objects", objects)
	}
}

// pin looks for the PIN without reading it. opens says, of one that is sealed, whether this machine can decrypt it.
func (e *exam) pin(s *sheet, opens func() bool) {
	path := e.Appliance.Token.PINFile
	info, err := os.Stat(e.m.path(path))
	if err == nil && !notHandedOver(path, info) {
		switch {
		case info.Mode().Perm()&0o077 != 0 && !strings.HasPrefix(path, "/run/credentials/"):
			s.bad("token.pin", "chmod 600 "+path, "the PIN's file %s may be read by others (mode %04o)", path, info.Mode().Perm())
		case info.Size() == 0:
			s.bad("token.pin", cureToken, "the PIN's file %s is empty", path)
		default:
			s.ok("token.pin", "the PIN is in %s", path)
		}
		return
	}
	if info, sealed := os.Stat(e.m.path(pinCredential)); sealed == nil && info.Size() > 0 && strings.HasPrefix(path, "/run/credentials/") {
		if !opens() {
			s.bad("token.pin", "appliance backup pin --identity FILE (operations.md, \"The PIN cannot be decrypted\")", "this machine cannot decrypt the PIN in %s (another TPM2, or another machine's disk): the signer cannot start", pinCredential)
			return
		}
		s.ok("token.pin", "the PIN is sealed for the signer's unit, in %s", pinCredential)
		return
	}
	if errors.Is(err, fs.ErrPermission) {
		s.unknown("token.pin", "run it as root", "the PIN's file cannot be looked at: %v", err)
		return
	}
	s.bad("token.pin", "appliance backup pin --identity FILE brings it back out of the token's backup", "the PIN is neither in %s nor sealed for the unit: the signer cannot start", path)
}

// notHandedOver reports whether this is what a unit is given whose credential could not be decrypted: an empty file.
func notHandedOver(path string, info fs.FileInfo) bool {
	return info.Size() == 0 && strings.HasPrefix(path, "/run/credentials/")
}

// pinOpens asks for the PIN while the signer is asked, for either may take all the time that there is; and only where no unit has it.
func (e *exam) pinOpens(ctx context.Context) <-chan bool {
	answer := make(chan bool, 1)
	if info, err := os.Stat(e.m.path(e.Appliance.Token.PINFile)); err == nil && !notHandedOver(e.Appliance.Token.PINFile, info) {
		answer <- true
		return answer
	}
	go func() { answer <- e.opens(ctx, "token-pin", pinCredential) }()
	return answer
}

// opens reports whether this machine can decrypt a credential, which goes nowhere: its TPM2 may be another one. Where that cannot be asked, or takes too long, it is taken to.
func (e *exam) opens(ctx context.Context, name, sealed string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.Deadline+stuckTime-time.Second)
	defer cancel()
	_, err := e.m.Run(ctx, "systemd-creds", "decrypt", "--name="+name, e.m.path(sealed), os.DevNull)
	return ctx.Err() != nil || !errors.As(err, new(*exec.ExitError))
}

// Bounds of what is said of certificates.
const (
	warnEnd = 60 * 24 * time.Hour
	badEnd  = 7 * 24 * time.Hour
)
