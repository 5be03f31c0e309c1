package signer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/wire"
	"github.com/veripath/aes-appliance/internal/witness"
)

// Outside is who else vouches for the log, besides the appliance and its backup.
type Outside struct {
	Policy *chain.Policy  // witnesses and how many must cosign; nil: there are none
	Every  time.Duration  // between two rounds
	Roots  *x509.CertPool // of the TLS of witnesses and of Stamp; nil: the system's

	Stamp      string              // address of a time-stamping authority; "" = none
	StampRoots []*x509.Certificate // who vouches for its time stamps
	StampEvery time.Duration
}

// outside is what runs for Outside.
type outside struct {
	witnesses *witness.Keeper // nil: there are none
	via       http.RoundTripper
}

// openOutside prepares what Outside asks for.
func (v *Server) openOutside() (err error) {
	o := v.cfg.Outside
	if o.Policy == nil && o.Stamp == "" {
		return nil
	}
	v.outside.via = &http.Transport{
		// The portal connects; what is said is said from here.
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return v.s.backup.Dials().Dial(ctx, address)
		},
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second,
		ResponseHeaderTimeout: 20 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
	if o.Policy == nil {
		return nil
	}
	_, key, err := v.s.logKey()
	if err != nil {
		return err
	}
	v.outside.witnesses, err = witness.New(witness.Config{
		Log: watched{v}, LogKey: key, Policy: o.Policy, Every: o.Every, Via: v.outside.via, Slog: v.log,
	})
	return err
}

// watch asks witnesses and the time-stamping authority until ctx ends; stop waits for that.
func (v *Server) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	if v.outside.witnesses != nil {
		running.Go(func() { v.outside.witnesses.Run(ctx) })
	}
	if v.cfg.Outside.Stamp != "" {
		running.Go(func() { v.stampOnSchedule(ctx) })
	}
	return func() { cancel(); running.Wait() }
}

// watched is the log as witnesses are shown it.
type watched struct{ v *Server }

// mirrorAge is how long the backup's checkpoint is shown rather than the log's own newer one.
const mirrorAge = time.Minute

// Checkpoint implements witness.Log: the backup's cosigned checkpoint while the backup keeps up, so that one note has all signatures.
func (w watched) Checkpoint(context.Context) (chain.Cosigned, error) {
	tree := w.v.s.ledger.Tree()
	if c, ok := w.v.cosigned(); ok && (c.Tree == tree || len(c.By) > 0 && time.Since(c.By[0].Time) < mirrorAge) {
		return c, nil
	}
	return w.v.s.signHead(tree)
}

// Head implements witness.Log.
func (w watched) Head() (uint64, chain.Hash) { return w.v.s.ledger.Head() }

// ProveConsistency implements witness.Log.
func (w watched) ProveConsistency(ctx context.Context, old, size uint64) ([]chain.Hash, error) {
	return w.v.s.ledger.ProveConsistency(ctx, old, size)
}

// witnessed returns the newest checkpoint that satisfied the policy.
func (v *Server) witnessed() (chain.Cosigned, bool) {
	if v.outside.witnesses == nil {
		return chain.Cosigned{}, false
	}
	return v.outside.witnesses.Cosigned()
}

// publishedAge is how old the newest checkpoint of the witnesses may be to be given out rather than the backup's.
const publishedAge = 10 * time.Minute

// newestHead returns what is given to anybody: the newest of the witnesses, of the backup, or the log's own.
func (v *Server) newestHead() (chain.Cosigned, error) {
	if c, ok := v.witnessed(); ok && slices.ContainsFunc(c.By, func(s chain.Cosignature) bool { return time.Since(s.Time) < publishedAge }) {
		return c, nil
	}
	if c, ok := v.cosigned(); ok {
		return c, nil
	}
	return v.ownHead()
}

// sayWitnessed says how the witnesses stand.
func (v *Server) sayWitnessed() (out wire.Witnessed) {
	if v.outside.witnesses == nil {
		return out
	}
	for _, s := range v.outside.witnesses.States() {
		out.Asked++
		if s.Contradicts {
			out.Contradict++
		}
	}
	if c, ok := v.witnessed(); ok {
		for _, by := range c.By {
			if by.Time.After(out.At) {
				out.At = by.Time
			}
		}
	}
	return out
}
