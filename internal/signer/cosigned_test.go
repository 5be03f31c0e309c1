package signer_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// witness cosigns what it is shown, and holds the last of it for the signer.
type witness struct {
	*chain.Cosigner
	mu   sync.Mutex
	held *chain.Cosigned
}

// Cosigned implements signer.Cosigned.
func (w *witness) Cosigned() (chain.Cosigned, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		return chain.Cosigned{}, false
	}
	return *w.held, true
}

func (w *witness) hold(c *chain.Cosigned) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = c
}

// see takes the log's own checkpoint, as anybody gets it, and cosigns it.
func (w *witness) see(t *testing.T, h *house) {
	t.Helper()
	w.hold(nil)
	time.Sleep(1100 * time.Millisecond) // a checkpoint that is given out may be a second old
	var own wire.Checkpoint
	if _, err := h.portal.Call(t.Context(), wire.OpCheckpoint, wire.Nothing{}, &own, nil); err != nil || len(own.Cosignatures) != 0 {
		t.Fatal(own, err)
	}
	key := h.trusting(t).LogKeys[0]
	c, err := chain.OpenCheckpoint(own.Note, chain.LogName(key), key)
	if err != nil {
		t.Fatal(err)
	}
	line, err := w.Cosign(c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	out := chain.Cosigned{Checkpoint: c}
	if out.Note, out.By, err = chain.AddCosignatures(own.Note, line, w.Key()); err != nil {
		t.Fatal(err)
	}
	w.hold(&out)
}

// TestEvidenceIsCosigned: evidence and packs stand under the newest checkpoint that others cosigned, when that has the signing, and say what it is.
func TestEvidenceIsCosigned(t *testing.T) {
	cosigner, err := chain.NewCosigner("backup.example/mirror", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{Cosigner: cosigner}
	h := newHouse(t, signer.ServerConfig{Cosigned: w})
	ctx, token := t.Context(), h.token(t, nil)
	policy, err := chain.ParsePolicy([]byte("witness w " + cosigner.Key().String() + "\nquorum w\n"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(when, id, statement string, verdict evidence.Verdict) {
		t.Helper()
		var got wire.Evidence
		if _, err := h.portal.call(ctx, wire.OpEvidence, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: id}, &got, nil); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		var summary struct {
			Live struct {
				Checkpoint evidence.Checkpoint `json:"checkpoint"`
			} `json:"live"`
		}
		if err := json.Unmarshal(got.Evidence, &summary); err != nil || !strings.Contains(summary.Live.Checkpoint.Statement, statement) {
			t.Errorf("%s: the summary says %+v, %v", when, summary.Live.Checkpoint, err)
		}
		_, zip, err := h.portal.download(ctx, wire.OpPack, token, id)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		o := h.trusting(t)
		o.Policy = policy
		r, err := evidence.VerifyPack(ctx, bytes.NewReader(zip), int64(len(zip)), o)
		if err != nil || r.Verdict != verdict || !strings.Contains(r.Text(), statement) && verdict == evidence.Valid {
			t.Errorf("%s: %v\n%s", when, err, r.Text())
		}
	}
	sign := func(id string) {
		t.Helper()
		if _, _, err := h.portal.sign(ctx, wanted(token, id)); err != nil {
			t.Fatal(err)
		}
	}
	sign("RX-1")
	check("before anybody saw it", "RX-1", "Not cosigned", evidence.CouldNotJudge)
	w.see(t, h)
	check("seen", "RX-1", "is cosigned by backup.example/mirror at ", evidence.Valid)
	var published wire.Checkpoint
	if _, err := h.admin.Call(ctx, wire.OpCheckpoint, wire.Nothing{}, &published, nil); err != nil || !bytes.Equal(published.Note, w.held.Note) || published.Cosignatures[0].Name != "backup.example/mirror" {
		t.Errorf("published: %+v, %v", published, err)
	}
	sign("RX-2")
	check("signed since", "RX-2", "Not cosigned", evidence.CouldNotJudge)
	check("the older one still", "RX-1", "is cosigned by", evidence.Valid)
	w.see(t, h)
	check("both seen", "RX-2", "is cosigned by", evidence.Valid)

	other := *w.held
	other.Root[0] ^= 1
	w.hold(&other)
	_, _, err = h.portal.download(ctx, wire.OpPack, token, "RX-1")
	wantKind(t, err, fault.Corrupt, "another history was cosigned")
}
