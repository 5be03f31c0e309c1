package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/replica"
	"github.com/veripath/aes-appliance/internal/wire"
)

// demoReceiver is where the demo's backup host listens unless somebody else does.
const demoReceiver = "127.0.0.1:7443"

const demoReceiverConfig = `# Made by "appliance demo": a backup host on the same machine, which shows how one works and protects nothing.
state_dir = "state"
listen = %q
`

// openBackup starts the demo's backup host and has it enrolled, as an operator would, and waits until answers wait for it.
func (h *demoHouse) openBackup(ctx context.Context) (err error) {
	cfg, err := h.configureBackup(demoReceiver)
	if err != nil {
		return err
	}
	const tries = 5
	for n := 1; ; n++ {
		if h.receiver, err = startProcess("receiver", h.files.receiver, h.files.receiverLog); err != nil {
			return err
		}
		err = h.receiver.await(ctx, h.receiver.saysReady)
		if err == nil {
			break
		}
		if n == tries || !strings.Contains(fault.PublicOf(err), "cannot listen") {
			return err
		}
		h.receiver = nil // it has ended
		if err := os.Remove(h.files.receiver); err != nil {
			return err
		}
		if cfg, err = h.configureBackup("127.0.0.1:0"); err != nil {
			return err
		}
	}
	if err := h.enrolBackup(ctx, cfg); err != nil {
		return err
	}
	return h.signer.await(ctx, func(ctx context.Context) error {
		if err := h.ask(ctx, wire.OpBackupStatus, wire.Nothing{}, &h.backup); err != nil {
			return err
		}
		if h.backup.Address != cfg.Listen || h.backup.State != string(backup.Sync) || !h.backup.Cosigned {
			return fault.New(fault.Unavailable, "the backup host has not caught up: "+h.backup.State+" "+h.backup.Mismatch+h.backup.OfferError)
		}
		return nil
	})
}

// saysReady returns nil once a service has said so: that something answers on its port does not tell that it is this one.
func (p *process) saysReady(context.Context) error {
	said, err := os.ReadFile(p.log)
	if err == nil && !strings.Contains(string(said), " msg=ready ") {
		err = fault.New(fault.Unavailable, "the "+p.name+" has not said that it is ready")
	}
	return err
}

// configureBackup writes the backup host's configuration unless there is one, and reads it.
func (h *demoHouse) configureBackup(listen string) (config.Receiver, error) {
	if _, err := os.Stat(h.files.receiver); os.IsNotExist(err) {
		if err := os.MkdirAll(filepath.Dir(h.files.receiver), 0o700); err != nil {
			return config.Receiver{}, fault.New(fault.Unavailable, "cannot make the folder of the demo's backup host"+reason(err)).WithCause(err)
		}
		ports := free{}
		defer ports.release()
		if err := writeOutput(h.files.receiver, fmt.Appendf(nil, demoReceiverConfig, ports.address(listen))); err != nil {
			return config.Receiver{}, err
		}
	}
	return config.LoadReceiver(h.files.receiver)
}

// enrolBackup has the backup host enrolled, unless it is: the code goes from one side to the other by hand.
func (h *demoHouse) enrolBackup(ctx context.Context, cfg config.Receiver) error {
	var st wire.BackupStatus
	if err := h.ask(ctx, wire.OpBackupStatus, wire.Nothing{}, &st); err != nil {
		return err
	}
	enrolled := st.Address != "" && st.DisabledAt.IsZero()
	if enrolled && st.Address == cfg.Listen {
		return nil
	}
	var o wire.BackupOffer
	if err := h.ask(ctx, wire.OpBackupEnrol, wire.BackupEnrol{Address: cfg.Listen, Replace: enrolled}, &o); err != nil {
		return err
	}
	host, err := replica.OpenHost(cfg.StateDir, time.Now)
	if err != nil {
		return err
	}
	_, err = host.Expect(o.Code)
	return err
}

// closeBackup gives the backup host up before it ends: without it nothing would be signed in this folder, and its end is the demo's decision.
func (h *demoHouse) closeBackup() error {
	if h.receiver == nil {
		return nil
	}
	var err error
	if h.backup.Address != "" && h.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopWait)
		defer cancel()
		err = h.ask(ctx, wire.OpBackupGiveUp, wire.BackupGiveUp{Reason: "the demo ends, and its backup host with it"}, nil)
		if fault.CodeOf(err) == "signer-unreachable" { // it ended first, for a reason that is told elsewhere
			err = nil
		}
	}
	return err
}
