package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

func (a *app) renewCommand() *cobra.Command {
	var in, out, before string
	var stored bool
	var within int
	cmd := &cobra.Command{
		Use:   "renew --in X.pdf --out Y.pdf",
		Short: "Add a further document time stamp before the newest one's proof runs out",
		Long: `Adds to a signed PDF the validation material of its newest time stamp and a new document time stamp over everything (EN 319 142-1 §5.4.3).
The file must still validate: a time stamp cannot bring a dead signature back.

With --stored it does so for every document that the appliance keeps and whose newest time stamp rests on a certificate that ends within
--within days, and for those stamped before --stamped-before, when an algorithm is not to be relied on any longer. What was signed is kept as it is, and each renewal beside it.
The signer must run.`,
		Args: exactly(0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stored {
				if in != "" || out != "" {
					return usage("--stored goes without --in and --out")
				}
				due, err := dueWithin(within, before)
				if err != nil {
					return err
				}
				return a.renewStored(cmd.Context(), due)
			}
			if cmd.Flags().Changed("within") || before != "" {
				return usage("--within and --stamped-before go with --stored")
			}
			if in == "" || out == "" {
				return usage("--in and --out are needed, or --stored")
			}
			return a.renew(cmd.Context(), in, out)
		},
	}
	cmd.Flags().StringVar(&in, "in", "", "the signed PDF")
	cmd.Flags().StringVar(&out, "out", "", "the renewed PDF to write, - for standard output; may be the same file")
	cmd.Flags().BoolVar(&stored, "stored", false, "renew the documents that the appliance keeps")
	cmd.Flags().IntVar(&within, "within", 365, "with --stored: how soon, in days, a certificate ends on which a time stamp rests")
	cmd.Flags().StringVar(&before, "stamped-before", "", "with --stored: also what was stamped before this time (2031-01-01 or 2031-01-01T12:00:00Z)")
	return cmd
}

func (a *app) renew(ctx context.Context, in, out string) (err error) {
	data, err := readInput(in, a.stdin)
	if err != nil {
		return err
	}
	if err := a.reserveOutput(out, len(data)+growth); err != nil {
		return err
	}
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	keeper, err := a.archivist(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keeper.Close()) }()
	roots, err := readCertificates(filepath.Join(cfg.StateDir, signer.RootPEMName))
	if err != nil {
		return err
	}
	defer a.progress("renewing " + in)()
	done, err := pades.Renew(ctx, data, keeper, pades.ValidateOptions{Roots: roots, Limits: limits(cfg)})
	if err != nil {
		return err
	}
	if err := keeper.Renewed(ctx, operator, data, done.PDF); err != nil {
		return err
	}
	if err := a.deliver(cfg.StateDir, out, done.PDF); err != nil {
		return err
	}
	a.say(out, "renewed  %s\n", out)
	return nil
}

// archivist is who renews: the signer that runs, or the appliance opened for as long as it takes.
type archivist interface {
	pades.Archivist
	Renewed(ctx context.Context, actor string, before, after []byte) error
	Close() error
}

func (a *app) archivist(ctx context.Context) (archivist, error) {
	c, err := a.runningSigner(ctx)
	if err != nil {
		return nil, err
	}
	if c == nil {
		s, _, err := a.openSigner(ctx)
		return s, err
	}
	r := &remoteArchivist{Client: c}
	if _, err := c.Call(ctx, wire.OpRenewOpen, wire.Nothing{}, &r.opened, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return r, nil
}

// runningSigner is the administrator's socket of the signer that runs, nil when none does.
func (a *app) runningSigner(ctx context.Context) (*wire.Client, error) {
	cfg, err := a.loadConfig()
	if err != nil {
		return nil, err
	}
	return dialAdmin(ctx, cfg)
}

// remoteArchivist is a running signer.
type remoteArchivist struct {
	*wire.Client
	opened wire.RenewOpened
}

// Now implements pades.Archivist.
func (r *remoteArchivist) Now() (time.Time, error) { return r.opened.Time, nil }

// StampSize implements pades.Stamper.
func (r *remoteArchivist) StampSize() int { return r.opened.StampSize }

// Stamp implements pades.Stamper.
func (r *remoteArchivist) Stamp(ctx context.Context, digest []byte) ([]byte, error) {
	var s wire.Stamped
	_, err := r.Call(ctx, wire.OpRenewStamp, wire.RenewStamp{Digest: digest}, &s, nil)
	return s.Token, err
}

// TokenMaterial implements pades.Archivist.
func (r *remoteArchivist) TokenMaterial(ctx context.Context, token []byte) (pades.Material, error) {
	var m wire.Material
	_, err := r.Call(ctx, wire.OpRenewMaterial, wire.DER{DER: token}, &m, nil)
	return pades.Material(m), err
}

// Renewed records the renewal; the actor is the socket's.
func (r *remoteArchivist) Renewed(ctx context.Context, _ string, before, after []byte) error {
	from, to := sha256.Sum256(before), sha256.Sum256(after)
	_, err := r.Call(ctx, wire.OpRenewed, wire.Renewed{From: hex.EncodeToString(from[:]), To: hex.EncodeToString(to[:]), Size: int64(len(after))}, nil, nil)
	return err
}
