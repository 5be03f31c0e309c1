package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// administer performs one operation of the administrator's: by the signer that runs, over its socket, or, when none does, by opening the appliance for
// as long as it takes.
func (a *app) administer(ctx context.Context, op wire.Op, in, out any) error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	c, err := dialAdmin(ctx, cfg)
	if err != nil {
		return err
	}
	if c != nil {
		defer c.Close()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err = c.Call(ctx, op, in, out, nil)
		return err
	}
	return a.administerHere(ctx, cfg, op, in, out)
}

// dialAdmin is the administrator's socket of the signer that runs, nil when none does. Errors: Forbidden, when it is not this user's.
func dialAdmin(ctx context.Context, cfg config.Config) (*wire.Client, error) {
	c, err := wire.Dial(ctx, cfg.Signer.AdminSocket)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fault.New(fault.Forbidden, "the signer's administration is root's").WithCause(err).WithHint("run this as root")
	}
	if err != nil {
		return nil, ctx.Err() // opening the appliance says whether somebody has it
	}
	return c, nil
}

func (a *app) administerHere(ctx context.Context, cfg config.Config, op wire.Op, in, out any) error {
	return a.withSigner(ctx, func(s *signer.Signer) error {
		handle, ok := signer.NewServer(s, signer.ServerConfig{Settings: serverSettings(cfg, nil)}).Admin()[op]
		if !ok {
			return fault.New(fault.Internal, "the signer has no operation "+string(op))
		}
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		answer, _, err := handle(ctx, body, nil)
		if err != nil || out == nil {
			return err
		}
		raw, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		return wire.Decode(raw, out)
	})
}
