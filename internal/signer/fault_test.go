package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// TestEveryDurableStepOfASignature makes each step on the disk that one signature takes fail, done and not done: writing and syncing a line, making,
// writing, syncing and naming an object, syncing the folders. The signer goes on as far as it may; then the power fails, and of what was not durable any
// part may be there. Nothing that was acknowledged is missing, and no signature is without its line.
func TestEveryDurableStepOfASignature(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	if _, _, err := h.portal.sign(t.Context(), wanted(h.token(t, nil), "RX-before")); err != nil {
		t.Fatal(err)
	}
	h.stop()
	if err := h.s.Close(); err != nil {
		t.Fatal(err)
	}
	for mode, name := range map[durable.Mode]string{durable.NotDone: "not done", durable.Done: "done"} {
		t.Run(name, func(t *testing.T) {
			// How many steps there are depends on whether objects share a folder: two rows without their step are the end.
			stopped, met := 0, 0
			for step, missed := 1, 0; missed < 2; step++ {
				f := &faulty{house: h, t: t, what: fmt.Sprintf("step %d, %s", step, name), acked: map[string]wire.SignResult{}, asked: map[string]wire.SignOpen{}}
				if !f.run(durable.Plan{Step: step, Mode: mode}) {
					missed++
					continue
				}
				missed = 0
				met++
				if f.ended {
					stopped++
				}
			}
			t.Logf("%d steps, %d of which stopped the signer", met, stopped)
			if met < 8 || stopped < 3 { // two lines, each written and synced, but for one that shifted
				t.Errorf("only %d durable steps were met, %d stopped the signer", met, stopped)
			}
		})
	}
}

// faulty is one row of the table.
type faulty struct {
	*house
	t     *testing.T
	what  string
	sim   *durable.Sim
	acked map[string]wire.SignResult
	asked map[string]wire.SignOpen
	left  []string // signatures that have left the signer
	ended bool     // the signer took no more
}

// run does the row; it returns false when no signature takes such a step.
func (f *faulty) run(plan durable.Plan) bool {
	f.t.Helper()
	f.load()
	s, portal, stop := f.open()
	f.sim.Fail(plan)
	f.sign(portal, "RX-1")
	hit := f.sim.Steps() >= plan.Step
	if !hit {
		f.sim.Fail(durable.Plan{})
	}
	f.sign(portal, "RX-2") // what the failure left of the signer
	f.ended = s.Ledger().Err() != nil
	portal.Close()
	stop()
	if err := s.Close(); err != nil && !f.ended {
		f.t.Errorf("%s: closing: %v", f.what, err)
	}
	// A line that fails ends it all; an object costs its own prescription only.
	_, first := f.acked["RX-1"]
	_, second := f.acked["RX-2"]
	if first == hit || second == f.ended {
		f.t.Errorf("%s: RX-1 acknowledged: %v, RX-2: %v, the signer ended: %v", f.what, first, second, f.ended)
	}
	f.sim = f.sim.CutPower(rand.New(rand.NewPCG(uint64(plan.Step), uint64(plan.Mode))))
	f.check()
	return hit
}

// load puts the log and the objects of the house onto a new simulated disk, and forgets the index, as a power cut does.
func (f *faulty) load() {
	f.t.Helper()
	f.sim = durable.NewSim(f.cfg.StateDir)
	for _, name := range []string{ledger.FileName, "audit_chain.reserve", "objects"} {
		err := filepath.WalkDir(filepath.Join(f.cfg.StateDir, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return durable.Mkdir(f.sim, path, 0o700)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return durable.WriteFile(f.sim, path, data, 0o600)
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *faulty) open() (s *signer.Signer, portal peer, stop func()) {
	f.t.Helper()
	if err := os.Remove(filepath.Join(f.cfg.StateDir, "index.db")); err != nil {
		f.t.Fatal(err)
	}
	cfg := f.cfg
	cfg.FS = f.sim
	s, err := signer.Open(f.t.Context(), cfg)
	if err != nil {
		f.t.Fatalf("%s: opening: %v", f.what, err)
	}
	portal, _, stop = onSockets(f.t, s, signer.ServerConfig{})
	if _, err := portal.Call(f.t.Context(), wire.OpStatus, wire.Nothing{}, nil, nil); err != nil { // the start's own lines are written
		f.t.Fatal(err)
	}
	return s, portal, stop
}

func (f *faulty) sign(portal peer, id string) {
	f.t.Helper()
	f.asked[id] = wanted(f.token(f.t, nil), id)
	var done wire.SignResult
	r, err := portal.open(f.t.Context(), f.asked[id])
	if err == nil {
		var d pades.Signed
		d, err = pades.Sign(f.t.Context(), onePage(), onlooker{r, f}, pades.SignOptions{Name: r.Name, Time: r.Time})
		if err == nil {
			done, err = r.complete(f.t.Context(), d)
		}
	}
	if err == nil {
		f.acked[id] = done
	} else if fault.KindOf(err) != fault.Unavailable {
		f.t.Errorf("%s: signing %s: %v", f.what, id, err)
	}
}

// onlooker notes the signatures that leave the signer.
type onlooker struct {
	remote
	f *faulty
}

// Sign implements pades.Authority.
func (w onlooker) Sign(ctx context.Context, digest []byte) (pades.Signature, error) {
	s, err := w.remote.Sign(ctx, digest)
	if err != nil {
		return s, err
	}
	signed, err := cms.Parse(s.CMS)
	if err != nil {
		return s, err
	}
	w.f.left = append(w.f.left, hexSum(signed.Signers[0].Signature)) // as the log names it
	return s, nil
}

// check opens what is left of the appliance, asks for everything again, and reads the log.
func (f *faulty) check() {
	f.t.Helper()
	s, portal, stop := f.open()
	for _, id := range []string{"RX-1", "RX-2"} {
		again, _, err := portal.sign(f.t.Context(), f.asked[id])
		first, acked := f.acked[id]
		again.Repeated = false
		if err != nil || acked && again != first {
			f.t.Errorf("%s: %s was acknowledged (%v) as %+v, and is now %+v, %v", f.what, id, acked, first, again, err)
			continue
		}
		_, document, err := portal.download(f.t.Context(), wire.OpDocument, f.token(f.t, nil), id)
		if err != nil || hexSum(document) != again.SHA256 {
			f.t.Errorf("%s: the document of %s: %v", f.what, id, err)
		}
	}
	portal.Close()
	stop()
	if err := s.Close(); err != nil {
		f.t.Errorf("%s: closing after all: %v", f.what, err)
	}
	data, err := durable.ReadFile(f.sim, filepath.Join(f.cfg.StateDir, ledger.FileName), 1<<30)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := ledger.Verify(bytes.NewReader(data)); err != nil {
		f.t.Errorf("%s: the chain: %v", f.what, err)
	}
	f.ends(string(data))
	if left, err := f.sim.List(filepath.Join(f.cfg.StateDir, "objects", "tmp")); err != nil || len(left) != 0 {
		f.t.Errorf("%s: unfinished objects: %q, %v", f.what, left, err)
	}
}

// ends holds that every signature has its line, and every such line one end.
func (f *faulty) ends(log string) {
	f.t.Helper()
	created, ends := []string{}, map[string]int{}
	for line := range strings.Lines(log) {
		var l struct {
			Entry struct {
				Type    string                     `json:"event_type"`
				Details struct{ Signature string } `json:"details"`
			} `json:"entry"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			f.t.Fatal(err)
		}
		switch l.Entry.Type {
		case "signature_created":
			created = append(created, l.Entry.Details.Signature)
		case "prescription_signed", "signing_incomplete":
			ends[l.Entry.Details.Signature]++
		}
	}
	for _, signature := range created {
		if ends[signature] != 1 {
			f.t.Errorf("%s: signature %s has %d ends", f.what, signature, ends[signature])
		}
	}
	for _, signature := range f.left {
		if !slices.Contains(created, signature) {
			f.t.Errorf("%s: signature %s left, and has no line", f.what, signature)
		}
	}
}
