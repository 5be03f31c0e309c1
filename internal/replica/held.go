package replica

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
)

// Held is how a copy stands, by its files alone: the service may be running or not.
type Held struct {
	Origin   string    `json:"origin"`
	Dir      string    `json:"dir"`
	Lines    uint64    `json:"lines"`
	Cosigned time.Time `json:"cosigned_at,omitzero"`
	Note     string    `json:"checkpoint,omitempty"`
	Refusals int       `json:"refusals"`         // kept since the beginning
	Damage   string    `json:"damage,omitempty"` // what shows at once; all of it is read by the service's start only in part, and on demand
	Client   string    `json:"primary_key"`
	Joined   time.Time `json:"joined"`
}

// Held returns how the copies stand, by origin.
func (h *Host) Held() ([]Held, error) {
	names, err := h.list(peersDir)
	if err != nil {
		return nil, err
	}
	list := []Held{}
	for _, name := range names {
		var f hostPeer
		if err := h.read(peersDir, name, &f); err != nil {
			return nil, err
		}
		one := Held{Origin: f.Origin, Dir: filepath.Join(h.Logs(), name), Client: f.Client, Joined: f.Joined}
		if err := h.look(&one, f.LogKey); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Held) int { return strings.Compare(a.Origin, b.Origin) })
	return list, nil
}

// look reads what a copy's files say.
func (h *Host) look(one *Held, logKey string) error {
	state, err := durable.ReadFile(durable.OS{}, filepath.Join(one.Dir, stateName), 2*slotSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storage(err)
	}
	held := newest(state)
	one.Lines, one.Note = held.Size, string(held.note)
	info, err := os.Stat(filepath.Join(one.Dir, LogFile))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return storage(err)
	case err == nil && info.Size() > 0 && !hasState(state):
		one.Damage = "its state file is missing or damaged"
	case err == nil && info.Size() < held.offset, err != nil && held.offset > 0:
		one.Damage = "its lines end before the last one that was cosigned"
	}
	if one.Note != "" {
		cosigner, err := chain.NewCosigner(h.Name, h.Key)
		if err != nil {
			return err
		}
		if _, by, err := chain.OpenCosigned([]byte(one.Note), one.Origin, logKey, cosigner.Key()); err == nil && len(by) == 1 {
			one.Cosigned = by[0].Time
		}
	}
	refusals, err := durable.ReadFile(durable.OS{}, filepath.Join(one.Dir, RefusalsFile), 2*maxRefusals)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storage(err)
	}
	for line := range strings.Lines(string(refusals)) {
		if strings.HasSuffix(line, "}\n") {
			one.Refusals++
		}
	}
	return nil
}

// hasState says whether any slot of a state file can be read.
func hasState(state []byte) bool {
	for ; len(state) >= slotSize; state = state[slotSize:] {
		if _, _, err := parseSlot(state[:slotSize]); err == nil {
			return true
		}
	}
	return false
}
