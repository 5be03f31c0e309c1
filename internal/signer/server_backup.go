package signer

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/objects"
	"github.com/veripath/aes-appliance/internal/wire"
)

// openBackup takes up what the log says of a backup host.
func (s *Signer) openBackup() (err error) {
	s.backup, err = backup.Open(backup.Config{
		Replication: s.cfg.Replication, Ledger: s.ledger, Origin: s.Origin(), Key: s.ca.ReplicationKey, NewKey: s.ca.NewReplicationKey, KeyOf: s.ca.ReplicationKeyOf, Now: s.clock.Estimate, Log: s.log,
		LogKey: func() (ed25519.PublicKey, error) {
			key, _, err := s.logKey()
			if err != nil {
				return nil, err
			}
			return key.Public().(ed25519.PublicKey), nil // logKey made sure
		},
	})
	return err
}

// Backup returns what decides about the backup host.
func (s *Signer) Backup() *backup.Keeper { return s.backup }

// Objects returns the sealed objects.
func (s *Signer) Objects() *objects.Store { return s.objects }

// CosignedFile is where the last checkpoint that a backup host cosigned is kept across restarts, by the log's origin and its cosigner key.
func (s *Signer) CosignedFile(cosigner string) string {
	return filepath.Join(s.cfg.StateDir, cosigned+"-"+hexSum([]byte(s.Origin() + "\n" + cosigner))[:16])
}

// originOf names the log of an appliance that is founded with cfg.
func originOf(cfg config.Config) string {
	return strings.TrimPrefix(cfg.PKI.BaseURL, "http://") + "/log"
}

// Origin names the log, in checkpoints.
func (s *Signer) Origin() string {
	if s.founded.Origin == "" { // founded by a version that did not record it
		return originOf(s.cfg.Config)
	}
	return s.founded.Origin
}

// LogKey returns the key that signs checkpoints, and its verifier key.
func (s *Signer) LogKey() (crypto.Signer, string, error) { return s.logKey() }

// lastWait bounds how long a signer that stops waits for the backup to have its last lines.
const lastWait = 2 * time.Second

// ship runs the connection to the backup host beside everything else, until stop is called: it outlives ctx, so that answers that wait for the backup
// still get it while the signer stops.
func (v *Server) ship(ctx context.Context) (stop func()) {
	hangUp := context.AfterFunc(ctx, v.s.backup.Dials().Close)
	if v.cfg.Backup == nil {
		return func() { hangUp() }
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := v.s.backup.Run(running, v.cfg.Backup); err != nil {
			v.log.ErrorContext(ctx, "shipping to the backup ended", "error", err)
		}
	}()
	return func() {
		hangUp()
		last, done := context.WithTimeout(running, lastWait)
		lines, _ := v.s.ledger.Head()
		if err := v.s.backup.Flush(last, lines); err != nil {
			v.log.WarnContext(ctx, "the last lines are not on the backup yet", "error", err)
		}
		done()
		cancel()
		<-ended
	}
}

// settled makes an operation one that begins only when the backup allows it, and whose answer waits for the backup.
func settled[In, Out any](v *Server, f func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (out Out, err error) {
		if err := v.s.backup.Await(ctx); err != nil {
			return out, err
		}
		if out, err = f(ctx, in); err != nil {
			return out, err
		}
		lines, _ := v.s.ledger.Head()
		if _, err := v.s.backup.Settle(ctx, lines); err != nil {
			var none Out
			return none, err
		}
		return out, nil
	}
}

// settle waits for the backup to have the line of a prescription, and says how that stands.
func (v *Server) settle(ctx context.Context, line uint64) (wire.Backup, error) {
	s, err := v.s.backup.Settle(ctx, line+1)
	return statement(s), err
}

func statement(s backup.Statement) wire.Backup {
	return wire.Backup{State: string(s.State), Cosigned: s.Cosigned, Lines: s.Lines, At: s.At, By: s.By}
}

// wanted answers OpWanted.
func (v *Server) wanted(ctx context.Context, _ wire.Nothing) (wire.Wanted, error) {
	id, address := v.s.backup.Dials().Wanted(ctx, wire.Peer(ctx))
	return wire.Wanted{ID: id, Address: address}, nil
}

// dialled answers OpDialled: the connection is the portal's, what is said over it is the signer's.
func (v *Server) dialled(_ context.Context, in wire.Dialled, fd *os.File) (wire.Nothing, *os.File, error) {
	if fd == nil {
		v.s.backup.Dials().Give(in.ID, nil, fault.New(fault.Unavailable, "the portal could not connect").WithCause(errors.New(clean(in.Error, maxAddress))))
		return wire.Nothing{}, nil, nil
	}
	conn, err := tcp(fd)
	if err != nil {
		return wire.Nothing{}, nil, err
	}
	v.s.backup.Dials().Give(in.ID, conn, nil)
	return wire.Nothing{}, nil, nil
}

// tcp makes a connection of a descriptor that the portal handed over; fd stays open.
func tcp(fd *os.File) (net.Conn, error) {
	conn, err := net.FileConn(fd)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the descriptor is not of a connection").WithCause(err)
	}
	if _, ok := conn.(*net.TCPConn); !ok || conn.RemoteAddr() == nil {
		conn.Close()
		return nil, fault.New(fault.Invalid, "the descriptor is not of a TCP connection")
	}
	return conn, nil
}

// backupEnrol answers OpBackupEnrol.
func (v *Server) backupEnrol(ctx context.Context, in wire.BackupEnrol) (wire.BackupOffer, error) {
	if v.cfg.Backup == nil {
		return wire.BackupOffer{}, fault.New(fault.Unavailable, "no signer is running that could connect to a backup").
			WithHint("start the services: the backup is enrolled over the connection that the portal makes for the signer")
	}
	code, o, err := v.s.backup.OfferTo(ctx, operatorActor, in.Address, in.Replace)
	if err == nil { // the first time this made a key
		err = v.s.keepTokenBackup(ctx)
	}
	return wire.BackupOffer{Code: code, Address: o.Address, Expires: o.Expires}, err
}

// backupGiveUp answers OpBackupGiveUp.
func (v *Server) backupGiveUp(ctx context.Context, in wire.BackupGiveUp) (wire.BackupStatus, error) {
	if err := v.s.backup.Disable(ctx, operatorActor, in.Reason); err != nil {
		return wire.BackupStatus{}, err
	}
	return v.backupStatus(ctx, wire.Nothing{})
}

// backupStatus answers OpBackupStatus.
func (v *Server) backupStatus(context.Context, wire.Nothing) (wire.BackupStatus, error) {
	r, err := v.s.backup.Report()
	if err != nil {
		return wire.BackupStatus{}, err
	}
	out := wire.BackupStatus{
		Backup: statement(r.Statement), LogLines: r.LogLines, Lag: r.Lag.Milliseconds(), Connected: r.Connected, Trouble: r.Trouble, Mismatch: r.Mismatch,
		Token: r.Token, TokenDue: r.TokenDue,
	}
	if p := r.Peer; p != nil {
		out.Address, out.Receiver, out.Primary, out.EnrolledAt, out.DisabledAt, out.Reason = p.Address, p.Receiver, p.Primary, p.EnrolledAt, p.Disabled, p.Reason
	}
	if o := r.Offer; o != nil {
		out.Offered, out.OfferEnds, out.OfferError = o.Address, o.Expires, o.Trouble
	}
	if err := v.s.maySign(); err != nil {
		out.Signing = fmt.Sprintf("%s (%s)", fault.PublicOf(err), fault.HintOf(err))
	}
	return out, nil
}

// backupDrill answers OpBackupDrill. The log is asked whether it had such a tree: a drill over another log is none.
func (v *Server) backupDrill(ctx context.Context, in wire.BackupDrill) (wire.Nothing, error) {
	if in.Lines == 0 {
		return wire.Nothing{}, fault.New(fault.Invalid, "a drill over no lines")
	}
	f, err := v.s.ledger.FrontierAt(ctx, in.Lines)
	if err != nil {
		return wire.Nothing{}, err
	}
	if tree := f.Tree(); hex.EncodeToString(tree.Root[:]) != in.Root {
		return wire.Nothing{}, fault.New(fault.Conflict, "what was fetched is not a beginning of this log").WithHint(`"appliance backup status" says how the backup stands`)
	}
	return wire.Nothing{}, v.s.backup.Drilled(ctx, operatorActor, backup.Drilled(in))
}

// backupRotate answers OpBackupRotate.
func (v *Server) backupRotate(ctx context.Context, _ wire.Nothing) (wire.BackupOffer, error) {
	if v.cfg.Backup == nil {
		return v.backupEnrol(ctx, wire.BackupEnrol{}) // which says what is missing
	}
	code, o, err := v.s.backup.RotateKey(ctx, operatorActor)
	if err == nil {
		err = v.s.keepTokenBackup(ctx)
	}
	return wire.BackupOffer{Code: code, Address: o.Address, Expires: o.Expires}, err
}

// retireKeys destroys replication keys that no backup host knows any more.
func (s *Signer) retireKeys(ctx context.Context) error {
	inUse, err := s.backup.InUse()
	if err != nil || inUse == nil {
		return err
	}
	return s.ca.RetireReplicationKeys(ctx, actorSelf, inUse)
}
