package signer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// actorSelf is the actor of what the signer does of its own accord.
const actorSelf = "system"

// BackUpToken makes a backup of the token with its PIN, for the recipients of the configuration: as an object, which goes to the backup host like every other, and as a
// file where the configuration names a folder. The line that names it is token_backed_up.
//
// Errors: Invalid (there are no recipients), Unsupported (a vendor's token), Unavailable (the PIN file or the folder).
func (s *Signer) BackUpToken(ctx context.Context, actor string) (wire.TokenBackup, error) {
	to := s.cfg.Token.BackupRecipients
	if len(to) == 0 {
		return wire.TokenBackup{}, fault.New(fault.Invalid, "the configuration names nobody who could open a backup of the token").
			WithHint("make an identity with age-keygen on another machine, and set token.backup_recipients to its recipient")
	}
	// Before the copy: what the log knows of the token by now is in it.
	lines, _ := s.ledger.Head()
	files, err := s.token.Files()
	if err != nil {
		return wire.TokenBackup{}, err
	}
	pin, err := os.ReadFile(s.cfg.Token.PINFile)
	if err != nil {
		return wire.TokenBackup{}, fault.New(fault.Unavailable, "cannot read the PIN file for the token's backup").WithCause(err)
	}
	defer clear(pin)
	if bytes.ContainsRune(bytes.TrimRight(pin, "\r\n"), '\n') {
		return wire.TokenBackup{}, fault.New(fault.Unavailable, "the token's PIN is being changed").WithHint(`systemctl restart aes-signer gives it the one that is kept; if it says this again, finish the change: appliance token change-pin`)
	}
	b := escrow.Backup{Origin: s.Origin(), Made: time.Now(), Lines: lines, Label: s.cfg.Token.Label, PIN: bytes.TrimRight(pin, "\r\n")}
	for _, f := range files {
		b.Files = append(b.Files, escrow.File(f))
	}
	var sealed bytes.Buffer
	if err := escrow.Seal(&sealed, to, b); err != nil {
		return wire.TokenBackup{}, err
	}
	id := hexSum(sealed.Bytes())
	if err := s.objects.Import(ctx, id, bytes.NewReader(sealed.Bytes())); err != nil {
		return wire.TokenBackup{}, err
	}
	out := wire.TokenBackup{Object: id, Recipients: to}
	if dir := s.cfg.Token.BackupDir; dir != "" {
		out.File = filepath.Join(dir, fmt.Sprintf("token-%08d-%s.age", lines, id[:8]))
		if err := durable.WriteFile(durable.OS{}, out.File, sealed.Bytes(), 0o600); err != nil {
			return wire.TokenBackup{}, fault.New(fault.Unavailable, "cannot write the token's backup into "+dir).WithCause(err).
				WithHint("the folder of token.backup_dir must be there, and the signer's user must be able to write to it")
		}
	}
	return out, s.backup.TokenBackedUp(ctx, actor, id, to, lines, out.File != "")
}

// keepTokenBackup makes a backup of the token when it has changed since the last one, and there is anybody to make it for.
func (s *Signer) keepTokenBackup(ctx context.Context) error {
	if len(s.cfg.Token.BackupRecipients) == 0 || s.cfg.Token.Module != "" {
		return nil
	}
	r, err := s.backup.Report()
	if err != nil || !r.TokenDue {
		return err
	}
	if _, err := s.BackUpToken(ctx, actorSelf); err != nil {
		return fmt.Errorf("backing the token up: %w", err)
	}
	return nil
}

// tokenBackup answers OpTokenBackup.
func (v *Server) tokenBackup(ctx context.Context, _ wire.Nothing) (wire.TokenBackup, error) {
	return v.s.BackUpToken(ctx, operatorActor)
}
