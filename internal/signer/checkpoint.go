package signer

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// Cosigned holds the newest checkpoint of the log that others vouch for.
type Cosigned interface {
	// Cosigned returns the newest signed checkpoint that has all the cosignatures that are asked for, verified; false when there is none. Its tree is
	// one that this log had.
	Cosigned() (chain.Cosigned, bool)
}

// heads makes checkpoints: at most one signature a second, so that nobody who may ask for one can keep the token busy.
type heads struct {
	mu    sync.Mutex
	at    time.Time // of the last signature, by the machine's monotonic clock
	saved chain.Cosigned
}

// headAge is how old the checkpoint may be that is given out, while the log grows.
const headAge = time.Second

// checkpoint answers OpCheckpoint: the newest that others cosigned, or else the log's own.
func (v *Server) checkpoint(_ context.Context, _ wire.Nothing) (wire.Checkpoint, error) {
	c, err := v.newestHead()
	if err != nil {
		return wire.Checkpoint{}, err
	}
	out := wire.Checkpoint{Note: c.Note, Size: c.Size, Root: hex.EncodeToString(c.Root[:])}
	for _, by := range c.By {
		out.Cosignatures = append(out.Cosignatures, wire.Cosignature{Name: by.Key.Name(), Key: by.Key.String(), Time: by.Time})
	}
	if v.outside.witnesses == nil {
		return out, nil
	}
	for _, s := range v.outside.witnesses.States() {
		w := wire.Witness{Name: s.Name, Size: s.Size, Time: s.At}
		if s.Failed != nil {
			w.Failed = strings.TrimPrefix(s.Failed.Error(), "witness: ")
		}
		out.Witnesses = append(out.Witnesses, w)
	}
	return out, nil
}

// cosigned returns what others vouch for, if anybody does.
func (v *Server) cosigned() (chain.Cosigned, bool) {
	return v.cfg.Cosigned.Cosigned()
}

// ownHead returns a checkpoint of the log as it is now, or was a second ago.
func (v *Server) ownHead() (chain.Cosigned, error) {
	v.heads.mu.Lock()
	defer v.heads.mu.Unlock()
	tree := v.s.ledger.Tree()
	if v.heads.saved.Note != nil && (v.heads.saved.Tree == tree || time.Since(v.heads.at) < headAge) {
		return v.heads.saved, nil
	}
	c, err := v.s.signHead(tree)
	if err != nil {
		return c, err
	}
	v.heads.saved, v.heads.at = c, time.Now()
	return c, nil
}

// signHead signs a tree that the log has or had.
func (s *Signer) signHead(tree chain.Tree) (chain.Cosigned, error) {
	key, _, err := s.logKey()
	if err != nil {
		return chain.Cosigned{}, err
	}
	c := chain.Cosigned{Checkpoint: chain.Checkpoint{Origin: s.Origin(), Tree: tree}}
	c.Note, err = c.Sign(key)
	return c, err
}

// headOver returns a checkpoint of a tree that has all of lines: the newest that the policy's witnesses cosigned, or else the backup, or, when neither
// reaches so far, the log's own.
func (v *Server) headOver(ctx context.Context, lines []uint64) (chain.Cosigned, error) {
	for _, source := range []func() (chain.Cosigned, bool){v.witnessed, v.cosigned} {
		c, ok := source()
		if !ok || slices.Max(lines) >= c.Size {
			continue
		}
		tree, err := v.s.ledger.TreeAt(ctx, c.Size)
		if err == nil && tree != c.Tree {
			err = fault.New(fault.Corrupt, "the log is not the one that was cosigned").WithHint(`run "appliance audit verify", and compare with the backup's copy`)
		}
		return c, err
	}
	// Not ownHead: that may be from before the lines.
	return v.s.signHead(v.s.ledger.Tree())
}
