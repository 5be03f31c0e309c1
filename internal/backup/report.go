package backup

import (
	"context"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Report is all that is known of the backup.
type Report struct {
	Statement        // of the whole log
	Peer      *Peer  // nil: none was ever enrolled
	Offer     *Offer // a join code that is out; nil: none
	LogLines  uint64
	Lag       time.Duration // age of the oldest line that is not cosigned; 0 when all are
	Connected bool
	Trouble   string
	Mismatch  string
	Token     string    // object of the token's last backup
	TokenDue  bool      // the token has changed since
	TokenAt   time.Time // of that backup; zero: there is none
	Drill     Drill
	Copy      Drill // the last verification of the copy
}

// Report returns how everything stands.
func (k *Keeper) Report() (Report, error) {
	s := k.now()
	lines, _ := k.cfg.Ledger.Head()
	r := Report{Statement: k.say(s, lines), LogLines: lines, Connected: s.Connected, Trouble: s.Trouble, Mismatch: s.Mismatch}
	k.mu.Lock()
	if k.peer != nil {
		p := *k.peer
		r.Peer = &p
	}
	if k.offer != nil {
		o := *k.offer
		r.Offer = &o
	}
	k.mu.Unlock()
	if r.Lines < lines && r.Peer != nil {
		var err error
		if r.Lag, err = k.behind(r.Lines); err != nil {
			return r, err
		}
	}
	t, err := load[tokenState](k.cfg.Ledger, keyToken)
	if err != nil {
		return r, err
	}
	r.Token, r.TokenDue, r.TokenAt = t.Object, t.Changed > t.Backed, t.At
	if r.Drill, err = load[Drill](k.cfg.Ledger, keyDrill); err != nil {
		return r, err
	}
	r.Copy, err = load[Drill](k.cfg.Ledger, keyCopy)
	return r, err
}

// TokenBackedUp records a backup of the token as it was when the log had so many lines.
func (k *Keeper) TokenBackedUp(ctx context.Context, actor, object string, recipients []string, lines uint64, folder bool) error {
	return k.append(ctx, eventTokenBackup, actor, tokenBackup{Object: object, Recipients: recipients, Lines: lines, Folder: folder})
}

// Restored records that this state is what the backup held.
func (k *Keeper) Restored(ctx context.Context, actor string, d Restored) error {
	return k.append(ctx, eventRestored, actor, d)
}

// Drilled records that what the backup holds was fetched, verified and opened elsewhere.
func (k *Keeper) Drilled(ctx context.Context, actor string, d Drilled) error {
	return k.append(ctx, eventDrilled, actor, d)
}

// FetchCopy brings everything that the enrolled backup host holds into dir and verifies it, as the host's primary, without any secret of a restore. Conflict: none is enrolled.
func (k *Keeper) FetchCopy(ctx context.Context, c Connector, dir string) (Copied, error) {
	p := k.enrolled()
	if p == nil {
		return Copied{}, fault.New(fault.Conflict, "no backup is enrolled")
	}
	pub, err := publicKey(p.Primary)
	if err != nil {
		return Copied{}, err
	}
	key, err := k.cfg.KeyOf(pub)
	if err != nil {
		return Copied{}, err
	}
	return c.Fetch(ctx, *p, key, dir)
}

// Copied records that the copy was fetched and verified.
func (k *Keeper) Copied(ctx context.Context, actor string, d Copied) error {
	return k.append(ctx, eventCopied, actor, d)
}

// Flush waits until the backup has cosigned the first lines of the log, when there is one to do so; not longer than ctx.
func (k *Keeper) Flush(ctx context.Context, lines uint64) error {
	s := k.now()
	if s.link == nil || s.state != Sync && s.state != Async && s.state != CatchingUp || !s.Connected || s.Cosigned.Size >= lines {
		return nil
	}
	return s.link.Wait(ctx, lines)
}
