package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/wire"
)

// renewStored renews the documents that the appliance keeps and whose proof runs out. It parses them, so that the signer need not: this process has no key and
// sees no state. What fails is said, and does not keep the others from being renewed.
func (a *app) renewStored(ctx context.Context, due wire.ArchiveDue) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	c, err := dialAdmin(ctx, cfg)
	if err != nil {
		return err
	}
	if c == nil {
		return fault.New(fault.Unavailable, "the signer does not run").WithHint("start it: stored documents are renewed while it serves")
	}
	defer c.Close()
	done, failed := 0, 0
	for {
		var page wire.ArchiveList
		if _, err := c.Call(ctx, wire.OpArchiveDue, due, &page, nil); err != nil {
			return err
		}
		for _, ref := range page.Documents {
			err := renewOne(ctx, c, cfg, ref)
			if ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			if err != nil {
				failed++
				fmt.Fprintf(a.stderr, "error: %s, clinic %s, was not renewed: %s\n", ref.PrescriptionID, ref.Clinic, fault.PublicOf(err))
				continue
			}
			done++
		}
		if due.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	fmt.Fprintf(a.stdout, "renewed  %d\n", done)
	if failed > 0 {
		return fault.New(fault.Unavailable, fmt.Sprintf("%d of %d stored documents that are due were not renewed", failed, done+failed)).
			WithHint("a time stamp cannot bring back what does not validate any more; see what each says, and try again before the proof runs out")
	}
	return nil
}

// renewOne has one stored document renewed.
func renewOne(ctx context.Context, c *wire.Client, cfg config.Config, ref wire.ArchiveRef) error {
	var opened wire.ArchiveOpened
	fd, err := c.Call(ctx, wire.OpArchiveOpen, ref, &opened, nil)
	if err != nil {
		return err
	}
	if fd != nil {
		defer fd.Close()
	}
	data, err := wire.ReadDocument(fd, opened.Size)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(opened.Root)
	if err != nil {
		return fmt.Errorf("the signer's root certificate: %w", err)
	}
	keeper := &storedArchivist{remoteArchivist{Client: c, opened: opened.RenewOpened}, ref}
	renewed, err := pades.Renew(ctx, data, keeper, pades.ValidateOptions{Roots: []*x509.Certificate{root}, Limits: limits(cfg)})
	if err != nil {
		return err
	}
	tail, err := wire.Memfd("renewal", renewed.PDF[len(data):])
	if err != nil {
		return err
	}
	var kept wire.Archived
	_, err = c.Call(ctx, wire.OpArchiveKeep, wire.ArchiveKeep{ArchiveRef: ref, StampRange: renewed.TimeStamp}, &kept, tail)
	return errors.Join(err, tail.Close())
}

// storedArchivist is the running signer, for the renewal of one stored document.
type storedArchivist struct {
	remoteArchivist
	ref wire.ArchiveRef
}

// Stamp implements pades.Stamper.
func (s *storedArchivist) Stamp(ctx context.Context, digest []byte) ([]byte, error) {
	var out wire.Stamped
	_, err := s.Call(ctx, wire.OpArchiveStamp, wire.ArchiveStamp{ArchiveRef: s.ref, Digest: digest}, &out, nil)
	return out.Token, err
}

// maxWithin bounds --within in days: a time.Duration holds it.
const maxWithin = 36500

// dueWithin says which stored documents the flags of renew mean.
func dueWithin(days int, before string) (due wire.ArchiveDue, err error) {
	if days < 0 || days > maxWithin {
		return due, usage("--within is from 0 to %d days", maxWithin)
	}
	due.Within = time.Duration(days) * 24 * time.Hour
	if before != "" {
		due.StampedBefore, err = parseTime(before)
	}
	return due, err
}
