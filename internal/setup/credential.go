package setup

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/veripath/aes-appliance/internal/fault"
)

// CredentialStore is where systemd looks for encrypted credentials (systemd.exec(5), LoadCredentialEncrypted=).
const CredentialStore = "/etc/credstore.encrypted"

// Credential is a secret that systemd decrypts for one service, by a key of this machine's and, where there is one, its TPM2.
type Credential struct {
	Name string // as the service knows it
	File string // in CredentialStore
}

// Path is where it is.
func (c Credential) Path() string { return path.Join(CredentialStore, c.File) }

// CredentialAt tells what a service's configuration means by a path below /run/credentials (systemd.exec(5), $CREDENTIALS_DIRECTORY): whose credential it is, and where setup puts that.
// unit is "" when the path is no credential.
func CredentialAt(path string) (unit string, c Credential) {
	rest, is := strings.CutPrefix(path, "/run/credentials/")
	unit, name, found := strings.Cut(rest, "/")
	if !is || !found {
		return "", Credential{}
	}
	return unit, Credential{Name: name, File: strings.TrimSuffix(unit, "service") + name}
}

// Sealing is the command by which an operator puts a secret into a file, from another, or - for the keyboard.
func Sealing(name, from, to string) string {
	return "systemd-creds encrypt --tpm2-pcrs=" + unmeasured + " --name=" + name + " " + from + " " + to
}

// Encrypt puts a secret there. It goes through a pipe: no argument, no environment and no file ever holds it. It is decrypted again before it counts.
//
// Errors: Conflict (there is one already), Unavailable.
func (h Host) Encrypt(ctx context.Context, c Credential, secret []byte) error {
	if h.Has(c.Path()) {
		return fault.New(fault.Conflict, "there is a credential "+h.Path(c.Path())+" already").WithHint("setup overwrites no secret")
	}
	sealed, err := h.seal(ctx, c, secret)
	if err != nil {
		return err
	}
	return h.Write(c.Path(), sealed, 0o600)
}

// Replace puts a secret in the place of one that is there, which stays until the new one is whole. One that takes the TPM2 to open is not replaced by one that does not.
func (h Host) Replace(ctx context.Context, c Credential, secret []byte) error {
	sealed, err := h.seal(ctx, c, secret)
	if err != nil {
		return err
	}
	if was, err := h.Read(c.Path(), maxCredential); err == nil && takesTPM2(was) && !takesTPM2(sealed) {
		return fault.New(fault.Unavailable, "systemd cannot encrypt "+h.Path(c.Path())+" to this machine's TPM2 now, as it is; nothing was changed").
			WithHint("systemd-creds has-tpm2 says what is missing; then do it again")
	}
	return h.Write(c.Path(), sealed, 0o600)
}

// Reseal has a secret take the place of a credential that this machine cannot decrypt, and says what it did. One that it can decrypt stays. The other is kept beside it: what could not
// be decrypted now, because the TPM2 is out for a while, is perhaps the only one of its kind.
//
// Errors: Conflict (it can, and to another secret), Unavailable.
func (h Host) Reseal(ctx context.Context, c Credential, secret []byte) (string, error) {
	have, err := h.Decrypt(ctx, c)
	defer clear(have)
	switch {
	case err == nil && bytes.Equal(bytes.TrimRight(have, "\r\n"), secret):
		return h.Path(c.Path()) + " is in order already", nil
	case err == nil:
		return "", fault.New(fault.Conflict, h.Path(c.Path())+" holds another secret, which this machine can decrypt").WithHint("is the backup of this appliance? Then move the file away, and do it again: the right one takes its place")
	case fault.KindOf(err) != fault.Corrupt && !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	sealed, err := h.seal(ctx, c, secret)
	if err != nil {
		return "", err
	}
	kept, err := h.setAside(c)
	if err != nil {
		return "", err
	}
	if err := h.Write(c.Path(), sealed, 0o600); err != nil {
		return "", err
	}
	return h.Path(c.Path()) + " was encrypted anew, by " + h.Keeper(c) + kept, nil
}

// setAside copies a credential, if there is one, to a name that nothing has, and says so.
func (h Host) setAside(c Credential) (string, error) {
	was, err := h.Read(c.Path(), maxCredential)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name := c.Path() + ".before"
	for n := 2; h.Has(name); n++ {
		name = fmt.Sprintf("%s.before-%d", c.Path(), n)
	}
	return "; what was there is " + h.Path(name), h.Write(name, was, 0o600)
}

// seal encrypts a secret by the machine's own key and, where there is one that works, its TPM2; what does not decrypt to the same is not used.
func (h Host) seal(ctx context.Context, c Credential, secret []byte) (sealed []byte, err error) {
	if err := h.Folder(CredentialStore, 0o700, nil); err != nil {
		return nil, err
	}
	if h.Has(tpmDevice) { // by itself systemd takes a TPM2 that the firmware names, too, and no other
		if sealed, err = h.sealBy(ctx, c, secret, "--with-key=host+tpm2", "--tpm2-pcrs="+unmeasured); err == nil {
			return sealed, nil
		}
	}
	return h.sealBy(ctx, c, secret, "--with-key=host")
}

// unmeasured is the TPM2's register for debugging, which nothing measures into. What firmware measures changes with each of its updates, which would keep the secret from the machine
// that it is for, and says nothing of the kernel that runs; and Debian 12's systemd cannot decrypt what is bound to no register.
const unmeasured = "16"

func (h Host) sealBy(ctx context.Context, c Credential, secret []byte, keys ...string) ([]byte, error) {
	sealed, err := h.Run(ctx, secret, "systemd-creds", append(append([]string{"encrypt"}, keys...), "--name="+c.Name, "-", "-")...)
	if err != nil {
		return nil, fmt.Errorf("encrypting %s: %w", c.Name, err)
	}
	again, err := h.Run(ctx, sealed, "systemd-creds", "decrypt", "--name="+c.Name, "-", "-")
	defer clear(again)
	if err != nil || !bytes.Equal(again, secret) {
		return nil, fault.New(fault.Internal, "what systemd-creds encrypted for "+c.Name+" does not decrypt to the same").WithCause(err)
	}
	return sealed, nil
}

// maxCredential bounds an encrypted credential; systemd's own bound is of that size.
const maxCredential = 1 << 20

// Decrypt returns a secret that Encrypt put there; fs.ErrNotExist is in the error's tree when nobody did.
func (h Host) Decrypt(ctx context.Context, c Credential) ([]byte, error) {
	sealed, err := h.Read(c.Path(), maxCredential)
	if err != nil {
		return nil, err
	}
	secret, err := h.Run(ctx, sealed, "systemd-creds", "decrypt", "--name="+c.Name, "-", "-")
	if err != nil {
		return nil, fault.New(fault.Corrupt, "the credential "+h.Path(c.Path())+" cannot be decrypted on this machine").WithCause(err).
			WithHint("it was made on another machine, or with another TPM2. The token's PIN is in the token's backup: appliance backup pin --identity FILE. Any other secret: move the file away, and have setup ask for it again")
	}
	return secret, nil
}

// Keeper says by what keys a credential is encrypted. Its own header says so.
func (h Host) Keeper(c Credential) string {
	const own = "a key of its own"
	text, err := h.Read(c.Path(), maxCredential)
	if err != nil {
		return own
	}
	switch {
	case takesTPM2(text):
		return "its TPM2 and " + own
	case h.Has(tpmDevice):
		return own + " alone (it has a TPM2, which systemd could not use: are libtss2-esys-3.0.2-0 and libtss2-rc0 installed? As it is, who has the whole disk has the key)"
	}
	return own + " (it has no TPM2: who has the whole disk has the key)"
}

// takesTPM2 reports whether a credential opens with the machine's key and its TPM2 only.
func takesTPM2(credential []byte) bool {
	head, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(credential)), ""))
	return err == nil && bytes.HasPrefix(head, []byte(byHostAndTPM2))
}

// byHostAndTPM2 begins a credential that takes both keys (systemd's CRED_AES256_GCM_BY_HOST_AND_TPM2_HMAC).
const byHostAndTPM2 = "\x93\xa8\x94\x09\x48\x74\x44\x90\x90\xca\xf2\xfc\x93\xca\xb5\x53"

// tpmDevice is there when the kernel has found a TPM2.
const tpmDevice = "/dev/tpmrm0"

// Give has systemd decrypt a credential for a service, by a drop-in of its unit. It is named by its file alone: one that is not there yet keeps no service from starting.
func (h Host) Give(service string, creds ...Credential) error {
	var text bytes.Buffer
	text.WriteString("# Written by \"appliance setup\".\n[Service]\n")
	for _, c := range creds {
		fmt.Fprintf(&text, "LoadCredentialEncrypted=%s:%s\n", c.Name, c.File)
	}
	file := "/etc/systemd/system/" + service + ".d/" + givenName
	if old, err := os.ReadFile(h.Path(file)); err == nil && bytes.Equal(old, text.Bytes()) {
		return nil
	}
	return h.Write(file, text.Bytes(), 0o644)
}

// givenName is the drop-in that Give writes.
const givenName = "50-setup-credentials.conf"

// Given reports whether a setting of a drop-in is what Give writes there.
func Given(file, name string) bool {
	return path.Base(file) == givenName && name == "LoadCredentialEncrypted"
}
