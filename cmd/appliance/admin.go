package main

import (
	"context"
	"encoding/json"
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
	c, err := wire.Dial(ctx, cfg.Signer.AdminSocket)
	if err == nil {
		defer c.Close()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err = c.Call(ctx, op, in, out, nil)
		return err
	}
	return a.administerHere(ctx, cfg, op, in, out)
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
