package signer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/backup"
	"github.com/veripath/aes-appliance/internal/dmd"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/wire"
)

// ServerConfig says what a Server allows.
type ServerConfig struct {
	Settings
	Lifetime time.Duration // of a signing operation, from OpSignOpen to OpComplete; 0 = a minute
	// Reload reads the settings anew; nil when they cannot change.
	Reload func() (Settings, error)
	// Outside is who else is asked to vouch for the log.
	Outside Outside
	// Cosigned is what others vouch for of the log; nil: what the backup host does.
	Cosigned Cosigned
	// Patrol is when the whole log is read again.
	Patrol Patrol
	// Clock is when the proof of time is looked at, for the record.
	Clock ClockWatch
	// Backup connects to backup hosts; nil: none is shipped to, and an appliance whose backup held everything once signs nothing.
	Backup backup.Connector
}

// Settings are what can change without a restart.
type Settings struct {
	MaxDocument   int64           // bytes
	ListenerNames []string        // host names and IP addresses of the portal's own certificate; none: OpListener is refused
	AdminClinic   string          // the clinic whose admins administer all others too; "" = none
	Medicines     *dmd.Dictionary // by which the schedules of medicines are decided; nil = by name and by what the request says
}

const defaultLifetime = time.Minute

// What all documents together may take up in memory, in bytes, and how many times over one does: as it comes or goes, sealed, and in a pack.
const (
	documentMemory = 256 << 20
	documentTimes  = 3
)

// Server answers the operations of package wire for a Signer: one dispatch table for the portal's socket, one for the administrator's. The peer on
// the portal's socket is taken for hostile: it may refuse service and choose which digest is signed while somebody's token lives, and that is all.
// A Server is safe for concurrent use.
type Server struct {
	s        *Signer
	log      *slog.Logger
	cfg      ServerConfig
	settings atomic.Pointer[Settings]
	ops      *operations
	public   public
	refusals *allowances
	acts     *allowances // by persons, of what they read and administer
	issues   *allowances // of the portal's own certificates
	memory   *wire.Budget
	heads    heads
	outside  outside
	archive  archive
	copy     copyCheck
}

// NewServer returns a Server for s.
func NewServer(s *Signer, cfg ServerConfig) *Server {
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = defaultLifetime
	}
	if cfg.Cosigned == nil {
		cfg.Cosigned = s.backup
	}
	v := &Server{s: s, log: s.log, cfg: cfg, ops: newOperations(), public: newPublic(), refusals: newAllowances(refusalLines, time.Minute),
		acts: newAllowances(actLines, time.Minute), issues: newAllowances(listenerIssues, time.Hour), memory: wire.NewBudget(documentMemory)}
	v.settings.Store(&cfg.Settings)
	return v
}

// Portal is what the portal may ask for: the list is the permission.
func (v *Server) Portal() map[wire.Op]wire.Handler {
	return v.guard(map[wire.Op]wire.Handler{
		wire.OpAuthenticate:  plain(v.whoIs),
		wire.OpSignOpen:      plain(v.signOpen),
		wire.OpSign:          plain(v.sign),
		wire.OpStamp:         plain(v.stamp),
		wire.OpComplete:      wire.Handle(v.complete),
		wire.OpAbort:         plain(v.abort),
		wire.OpDocument:      wire.Handle(v.document),
		wire.OpEvidence:      plain(v.evidence),
		wire.OpPack:          wire.Handle(v.pack),
		wire.OpPrescriptions: plain(v.prescriptions),
		wire.OpCancel:        plain(v.cancel),
		wire.OpCertIssue:     plain(settled(v, asAdmin(v, v.certIssue))),
		wire.OpCertList:      plain(asAdmin(v, v.certList)),
		wire.OpCertRevoke:    plain(asAdmin(v, v.certRevoke)), // never waits: a key that is not to be trusted is revoked, whatever else is down
		wire.OpCertBind:      plain(settled(v, asAdmin(v, v.certBind))),
		wire.OpTSA:           plain(v.timeStamp),
		wire.OpOCSP:          plain(v.ocsp),
		wire.OpPublished:     plain(v.published),
		wire.OpStatus:        plain(v.status),
		wire.OpRealmKeys:     wire.Handle(v.realmKeys),
		wire.OpListener:      plain(v.listener),
		wire.OpCheckpoint:    plain(v.checkpoint),
		wire.OpWanted:        plain(v.wanted),
		wire.OpDialled:       wire.Handle(v.dialled),
	})
}

// Admin is what the operator's commands may ask for. Who can open that socket is root, or was given the right by root.
func (v *Server) Admin() map[wire.Op]wire.Handler {
	return v.guard(map[wire.Op]wire.Handler{
		wire.OpStatus:        plain(v.status),
		wire.OpCertIssue:     plain(asOperator(v.certIssue)),
		wire.OpCertList:      plain(asOperator(v.certList)),
		wire.OpCertRevoke:    plain(asOperator(v.certRevoke)),
		wire.OpCertBind:      plain(asOperator(v.certBind)),
		wire.OpCertRenew:     plain(v.certRenew),
		wire.OpCertGet:       plain(v.certGet),
		wire.OpClinicAdd:     plain(v.clinicAdd),
		wire.OpClinicList:    plain(v.clinicList),
		wire.OpClinicPolicy:  plain(v.clinicPolicy),
		wire.OpRealmAdd:      plain(v.realmAdd),
		wire.OpRealmRemove:   plain(v.realmRemove),
		wire.OpRealmList:     plain(v.realmList),
		wire.OpReload:        plain(v.reload),
		wire.OpCheckpoint:    plain(v.checkpoint),
		wire.OpBackupEnrol:   plain(v.backupEnrol),
		wire.OpBackupGiveUp:  plain(v.backupGiveUp),
		wire.OpBackupStatus:  plain(v.backupStatus),
		wire.OpBackupRotate:  plain(v.backupRotate),
		wire.OpTokenBackup:   plain(v.tokenBackup),
		wire.OpBackupDrill:   plain(v.backupDrill),
		wire.OpBackupCopy:    plain(v.backupCopy),
		wire.OpExamine:       plain(v.examine),
		wire.OpAuditReport:   plain(v.auditReport),
		wire.OpRenewOpen:     plain(v.renewOpen),
		wire.OpRenewMaterial: plain(v.renewMaterial),
		wire.OpRenewStamp:    plain(v.renewStamp),
		wire.OpRenewed:       plain(v.renewed),
		wire.OpArchiveDue:    plain(v.archiveDue),
		wire.OpArchiveOpen:   wire.Handle(v.archiveOpen),
		wire.OpArchiveStamp:  plain(v.archiveStamp),
		wire.OpArchiveKeep:   wire.Handle(v.archiveKeep),

		wire.OpCeremonyBegin:    plain(v.ceremonyBegin),
		wire.OpCeremonyComplete: plain(v.ceremonyComplete),
	})
}

// Refused is what a signer that cannot be opened answers to both: err, whatever it is asked.
func Refused(err error) (portal, admin map[wire.Op]wire.Handler) {
	none := new(Server)
	portal, admin = none.Portal(), none.Admin()
	for _, table := range []map[wire.Op]wire.Handler{portal, admin} {
		for op := range table {
			table[op] = func(context.Context, wire.Raw, *os.File) (any, *os.File, error) { return nil, nil, diskFault(err) }
		}
	}
	return portal, admin
}

// plain makes a Handler of an operation to and from which no descriptor goes.
func plain[In, Out any](f func(context.Context, In) (Out, error)) wire.Handler {
	return wire.Handle(func(ctx context.Context, in In, fd *os.File) (out Out, _ *os.File, err error) {
		if fd != nil {
			return out, nil, fault.New(fault.Invalid, "no descriptor belongs to this operation")
		}
		out, err = f(ctx, in)
		return out, nil, err
	})
}

// Serve answers on both sockets until ctx ends, and keeps the appliance alive meanwhile: upkeep of the PKI, expiry of operations, aggregated lines.
// What is being signed then is finished, for which drainTime is given; what is open after that is closed as incomplete. An error is one of the log:
// nothing can be acknowledged any more.
func (v *Server) Serve(ctx context.Context, portal, admin *net.UnixListener) error {
	// A service's start is a line at once; whoever opens the appliance for one act has it before that act.
	if err := v.s.ledger.settle(ctx); err != nil {
		return err
	}
	if d := v.settings.Load().Medicines; d != nil {
		if err := v.medicinesLine(ctx, d); err != nil {
			return err
		}
	}
	if err := v.openOutside(); err != nil {
		return err
	}
	told := ctx.Done()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	serve := func(l *net.UnixListener, table map[wire.Op]wire.Handler, done chan<- error) {
		done <- wire.Serve(ctx, l, table, v.observe)
	}
	ended := make(chan error, 2)
	go serve(portal, v.Portal(), ended)
	go serve(admin, v.Admin(), ended)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		v.keep(ctx)
	}()
	hangUp := v.ship(ctx)
	defer v.copy.during(ctx)()
	look := v.watch(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { v.patrol(ctx) })
	watching.Go(func() { v.watchClock(ctx) })

	var errs []error
	select {
	case <-told:
		v.drain()
		cancel(nil)
	case <-v.s.ledger.Failed():
		cancel(v.s.ledger.Err())
	case err := <-ended:
		errs = append(errs, fmt.Errorf("signer: a socket ended: %w", err))
		cancel(err)
		ended <- nil
	}
	v.ops.shut()
	errs = append(errs, <-ended, <-ended)
	<-kept
	watching.Wait()
	look()
	if err := v.s.ledger.Err(); err != nil {
		errs = append(errs, err)
	} else {
		last := context.WithoutCancel(ctx)
		all := func(*operation) bool { return true }
		errs = append(errs, v.abandon(last, all, "the signer was stopped"), v.publicLine(last), v.s.endLease(last))
		_, err := v.s.ledger.Append(last, ledger.Event{Type: eventShutdown, Actor: "system"})
		errs = append(errs, err)
	}
	hangUp()
	return errors.Join(errs...)
}

// drainTime is how long a stop waits for prescriptions that are being signed. One takes a tenth of a second; a peer that does not go on is not waited
// for longer.
const drainTime = 3 * time.Second

// drain lets no new prescription in and waits for those that are open and can be finished: their next steps come in separate requests.
func (v *Server) drain() {
	v.ops.shut()
	awaited := func(op *operation) bool { return !op.orphaned() }
	for begun := time.Now(); len(v.ops.list(awaited)) > 0 && v.s.ledger.Err() == nil && time.Since(begun) < drainTime; {
		time.Sleep(5 * time.Millisecond)
	}
}

// Periods of what keep does.
const (
	expiryInterval = time.Second
	upkeepInterval = 5 * time.Minute
	upkeepRetry    = 15 * time.Second // after one that did not do all
)

// lostPeer is why an operation of which nobody knows any more is closed: whoever asks again must not wait for it.
const lostPeer = "whoever asked for it is gone"

// keep does what is due until ctx ends.
func (v *Server) keep(ctx context.Context) {
	expiry, upkeep := time.NewTicker(expiryInterval), time.NewTicker(upkeepInterval)
	defer expiry.Stop()
	defer upkeep.Stop()
	tried := time.Now()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case now := <-expiry.C:
			late := func(op *operation) bool { return now.After(op.expires) }
			err = errors.Join(v.abandon(ctx, late, "it was not completed in time"), v.abandon(ctx, (*operation).orphaned, lostPeer), v.s.proven(ctx))
			if v.s.due.Load() && now.Sub(tried) >= upkeepRetry {
				tried = now
				_, again := v.s.Maintain(ctx)
				err = errors.Join(err, again)
			}
		case tried = <-upkeep.C:
			_, err = v.s.Maintain(ctx)
			err = errors.Join(err, v.publicLine(ctx))
		}
		if err != nil && ctx.Err() == nil {
			v.log.ErrorContext(ctx, "upkeep", "error", err)
		}
	}
}

// observe writes what was answered to the journal; causes go there and nowhere else. What is wrong with an input is not written: it can quote a
// patient's particulars.
func (v *Server) observe(op wire.Op, took time.Duration, err error) {
	what := []any{"op", clean(string(op), maxAddress), "ms", took.Milliseconds()}
	if err == nil {
		v.log.Debug("answered", what...)
		return
	}
	kind, level := fault.KindOf(err), slog.LevelInfo
	if kind == fault.Internal || kind == fault.Corrupt {
		level = slog.LevelError
	}
	what = append(what, "kind", kind.String(), "code", fault.CodeOf(err))
	if kind == fault.Corrupt { // of damage the portal tells its callers neither which file it is nor what to do: that is for the operator
		what = append(what, "hint", fault.HintOf(err))
	}
	if kind != fault.Invalid {
		what = append(what, "error", err)
	}
	v.log.Log(context.Background(), level, "refused", what...)
}

// reload implements OpReload; SIGHUP does the same.
func (v *Server) reload(ctx context.Context, _ wire.Nothing) (wire.Nothing, error) {
	return wire.Nothing{}, v.Reload(ctx)
}

// Reload takes up settings that have changed. What is wrong with the new ones is the error, and the old ones stay.
func (v *Server) Reload(ctx context.Context) error {
	if v.cfg.Reload == nil {
		return fault.New(fault.Unsupported, "nothing can be read again here")
	}
	next, err := v.cfg.Reload()
	if err != nil {
		return err
	}
	if _, err := v.s.ledger.Append(ctx, ledger.Event{Type: eventReloaded, Actor: operatorActor}); err != nil {
		return err
	}
	if was := v.settings.Load().Medicines; was.Identity() != next.Medicines.Identity() {
		if err := v.medicinesLine(ctx, next.Medicines); err != nil {
			return err
		}
	}
	v.settings.Store(&next)
	return nil
}

// medicinesLine records by which dictionary, nil for none, the schedules of medicines are decided from here on.
func (v *Server) medicinesLine(ctx context.Context, d *dmd.Dictionary) error {
	details := medicines{}
	if d != nil {
		details = medicines{InUse: true, Release: d.Release, File: d.SHA256, Extract: d.Source, Codes: d.Len()}
	}
	_, err := v.s.ledger.Append(ctx, ledger.Event{Type: eventMedicines, Actor: operatorActor, Details: details})
	return err
}

// operatorActor is the actor of what comes over the administrator's socket.
const operatorActor = "operator"

// Healthy says whether the signer still does its work: what a watchdog asks.
func (v *Server) Healthy() error { return v.s.ledger.Err() }
