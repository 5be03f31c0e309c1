package setup

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"

	"github.com/veripath/aes-appliance/internal/fault"
)

// CredentialStore is where systemd looks for encrypted credentials (systemd.exec(5), LoadCredentialEncrypted=).
const CredentialStore = "/etc/credstore.encrypted"

// Credential is a secret that systemd decrypts for one service, by a key of this machine's: its TPM2 where there is one.
type Credential struct {
	Name string // as the service knows it
	File string // in CredentialStore
}

// Path is where it is.
func (c Credential) Path() string { return path.Join(CredentialStore, c.File) }

// Encrypt puts a secret there. It goes through a pipe: no argument, no environment and no file ever holds it. It is decrypted again before it counts.
//
// Errors: Conflict (there is one already), Unavailable.
func (h Host) Encrypt(ctx context.Context, c Credential, secret []byte) error {
	if h.Has(c.Path()) {
		return fault.New(fault.Conflict, "there is a credential "+h.Path(c.Path())+" already").WithHint("setup overwrites no secret")
	}
	if err := h.Folder(CredentialStore, 0o700, nil); err != nil {
		return err
	}
	sealed, err := h.Run(ctx, secret, "systemd-creds", "encrypt", "--name="+c.Name, "-", "-")
	if err != nil {
		return fmt.Errorf("encrypting %s: %w", c.Name, err)
	}
	if again, err := h.Run(ctx, sealed, "systemd-creds", "decrypt", "--name="+c.Name, "-", "-"); err != nil || !bytes.Equal(again, secret) {
		clear(again)
		return fault.New(fault.Internal, "what systemd-creds encrypted for "+c.Name+" does not decrypt to the same").WithCause(err).WithHint("is the TPM2 of this machine in order?")
	}
	return h.Write(c.Path(), sealed, 0o600)
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
			WithHint("it was made on another machine, or with another TPM2; the token's backup holds the PIN")
	}
	return secret, nil
}

// Keeper says by what this machine encrypts credentials.
func (h Host) Keeper(ctx context.Context) string {
	if _, err := h.Run(ctx, nil, "systemd-creds", "has-tpm2"); err == nil {
		return "its TPM2 and a key of its own"
	}
	return "a key of its own (it has no TPM2: who has the whole disk has the key)"
}

// Give has systemd decrypt a credential for a service, by a drop-in of its unit.
func (h Host) Give(service string, creds ...Credential) error {
	var text bytes.Buffer
	text.WriteString("# Written by \"appliance setup\".\n[Service]\n")
	for _, c := range creds {
		fmt.Fprintf(&text, "LoadCredentialEncrypted=%s:%s\n", c.Name, c.Path())
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
