package signer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Patrol says when the running signer reads its whole log again, and how fast. Zero is the default of each.
type Patrol struct {
	After     time.Duration // the start [30 s: the backup has been compared with by then]
	Every     time.Duration // after the end of the last one [24 h; an hour when the last one was not good]
	PerSecond int64         // bytes read [8 MiB]
}

func (p Patrol) withDefaults() Patrol {
	if p.After <= 0 {
		p.After = 30 * time.Second
	}
	if p.Every <= 0 {
		p.Every = 24 * time.Hour
	}
	if p.PerSecond <= 0 {
		p.PerSecond = 8 << 20
	}
	return p
}

// patrolAgain is how soon a verification that was not good is repeated.
const patrolAgain = time.Hour

// codeDamaged is the problem that ends signing.
const codeDamaged = "log-damaged"

// maxDamage bounds what is kept of a finding, in bytes.
const maxDamage = 300

// damageName is the file that keeps what was found across restarts: signing stays off until the whole log was verified and is good.
const damageName = "log-damage"

// verified is what the verifications of the whole log have found. It is safe for concurrent use.
type verified struct {
	path string // of the damage file

	mu       sync.Mutex
	good     time.Time // end of the last good one; zero: none in this process
	lines    uint64    // that it covered
	failures uint64    // those that were not good, in this process
	damage   string    // what is wrong with the log; "" = nothing that is known
}

// openVerified takes up what an earlier process found.
func (s *Signer) openVerified() error {
	s.verified.path = filepath.Join(s.cfg.StateDir, damageName)
	text, err := os.ReadFile(s.verified.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading what was found of the log: %w", err)
	}
	if err == nil {
		s.verified.damage = clean(string(text), maxDamage)
		if s.verified.damage == "" {
			s.verified.damage = "an earlier verification found it damaged"
		}
	}
	return nil
}

// maySign returns why nothing is signed, nil when the log is not known to be damaged.
func (d *verified) maySign() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.damage == "" {
		return nil
	}
	return fault.New(fault.Unavailable, "signing is off: the log is damaged: "+d.damage).WithCode(codeDamaged).
		WithHint(`an operator runs "appliance audit verify" and restores the log from the backup's copy; signing goes on when the whole log has been verified again, after a restart of the signer at the latest`)
}

// maySign returns why nothing can be signed now: the log, the disk, or the backup.
func (s *Signer) maySign() error {
	if err := s.verified.maySign(); err != nil {
		return err
	}
	if err := s.room(); err != nil {
		return err
	}
	return s.backup.MaySign()
}

func (d *verified) say() wire.LogVerified {
	d.mu.Lock()
	defer d.mu.Unlock()
	return wire.LogVerified{At: d.good, Lines: d.lines, Failures: d.failures, Damage: d.damage}
}

// patrol reads the whole log after the start and then daily, until ctx ends.
func (v *Server) patrol(ctx context.Context) {
	p := v.cfg.Patrol.withDefaults()
	for next := time.NewTimer(p.After); ; {
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
		}
		err := v.verifyLog(ctx, p.PerSecond)
		if ctx.Err() != nil {
			return
		}
		wait := p.Every
		if err != nil {
			v.log.ErrorContext(ctx, "the log was not verified", "error", err, "hint", fault.HintOf(err), "signing", v.s.verified.maySign() == nil)
			wait = min(wait, patrolAgain)
		}
		next.Reset(wait)
	}
}

// verifyLog verifies the whole log against the index and what others vouch for. What is wrong with the log ends signing; that it could not be read, for
// want of descriptors say, does not.
func (v *Server) verifyLog(ctx context.Context, perSecond int64) error {
	var known []chain.Tree
	for _, source := range []func() (chain.Cosigned, bool){v.cosigned, v.witnessed} {
		if c, ok := source(); ok {
			known = append(known, c.Tree)
		}
	}
	begun := time.Now()
	report, err := v.s.ledger.Verify(ctx, perSecond, known...)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d := &v.s.verified
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.good, d.lines = time.Now().UTC(), report.Size
		v.log.InfoContext(ctx, "the whole log was verified", "lines", report.Size, "bytes", report.Bytes, "seconds", int(time.Since(begun).Seconds()))
		return d.clear()
	}
	d.failures++
	if fault.KindOf(err) != fault.Corrupt {
		return err
	}
	d.damage = clean(fault.PublicOf(err), maxDamage)
	if werr := durable.WriteFile(durable.OS{}, d.path, []byte(d.damage+"\n"), 0o600); werr != nil {
		err = errors.Join(err, fmt.Errorf("keeping what was found of the log: %w", werr))
	}
	return err
}

// clear takes back what an earlier verification found. d.mu is held.
func (d *verified) clear() error {
	if d.damage == "" {
		return nil
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("taking back what was found of the log: %w", err) // signing stays off: the next start would have it off again
	}
	d.damage = ""
	return nil
}
