package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/objects"
)

func (a *app) backupPIN() *cobra.Command {
	var identityFile string
	cmd := &cobra.Command{
		Use:   "pin --identity FILE",
		Short: "Seal the token's PIN for this machine anew, out of the token's backup",
		Long: `For a machine whose disk is whole and which cannot decrypt the PIN any more: its TPM2 was cleared or exchanged, or the disk came into another machine. The newest backup of the
token, which is among the objects here, is opened with the identity, and its PIN takes the place of the credential that this machine cannot open. Nothing else changes.`,
		Example: `  appliance backup pin --identity /root/identity.txt && systemctl restart aes-signer`,
		Args:    exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if identityFile == "" {
				return usage("--identity names the file of an age identity")
			}
			return a.sealPINAnew(cmd.Context(), identityFile)
		},
	}
	cmd.Flags().StringVar(&identityFile, "identity", "", "file of the age identity (AGE-SECRET-KEY-1…) of one of token.backup_recipients")
	return cmd
}

func (a *app) sealPINAnew(ctx context.Context, identityFile string) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	if cfg.Token.PINFile != sealedPIN() {
		return fault.New(fault.Conflict, "token.pin_file is "+cfg.Token.PINFile+", which systemd does not decrypt").WithHint("write the PIN into that file yourself; it is in the token's backup")
	}
	if err := unseen(); err != nil {
		return err
	}
	identity, err := os.ReadFile(identityFile)
	if err != nil {
		return unreadable(identityFile, err)
	}
	defer clear(identity)
	if err := escrow.CheckIdentities(bytes.NewReader(identity)); err != nil {
		return fault.New(fault.Invalid, identityFile+" holds no age identity").WithCause(err).WithHint("it is what age-keygen wrote: a line that begins with AGE-SECRET-KEY-1")
	}
	told, err := readEvents(filepath.Join(cfg.StateDir, ledger.FileName))
	if err != nil {
		return err
	}
	if told.token == "" {
		return fault.New(fault.NotFound, "the token of this appliance was never backed up").WithHint("without its PIN its keys are lost; what it signed can still be verified")
	}
	b, err := openTokenBackup(cfg.StateDir, told.token, identity)
	if err != nil {
		return err
	}
	defer clear(b.PIN)
	if b.Origin != told.origin {
		return fault.New(fault.Corrupt, "the token's backup is of another appliance")
	}
	if told.pinChanged > b.Lines {
		return fault.New(fault.Conflict, "the PIN was changed after the newest backup of the token, which has the one before").
			WithHint("what this machine cannot decrypt is the only one that opens its token: see that it has its TPM2 again. Otherwise restore the appliance from its backup host, which brings back token and PIN as they were: appliance restore")
	}
	said, err := a.site.host.Reseal(ctx, pinCredential(), b.PIN)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s\nStart the services: systemctl restart aes-signer\n", said)
	return err
}

// openTokenBackup opens the token's backup that is an object in a state folder.
func openTokenBackup(stateDir, object string, identity []byte) (escrow.Backup, error) {
	sealed, err := os.Open(filepath.Join(stateDir, "objects", objects.Place(object)))
	if err != nil {
		return escrow.Backup{}, fault.New(fault.Corrupt, "the token's backup is not among the objects in "+stateDir).WithCause(err)
	}
	defer sealed.Close()
	b, err := escrow.Open(sealed, bytes.NewReader(identity))
	if err != nil {
		return b, fault.New(fault.Forbidden, "the token's backup cannot be opened with this identity").WithCause(err).WithHint("it was made for the recipients that the line token_backed_up names")
	}
	return b, nil
}

// sealedPIN is the token.pin_file of an appliance whose PIN systemd decrypts for the signer's unit.
func sealedPIN() string {
	return filepath.Join("/run/credentials/aes-signer.service", pinCredential().Name)
}
