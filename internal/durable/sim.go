package durable

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Sim is a file system in memory, for tests, that keeps apart what was done from what is durable. Each step that changes something can be made to
// fail, done or not done, and the power can be cut: then any part of what was not synced may be there or not, page by page.
//
// Its model of a disk is the weakest that this program relies on: Sync makes one file's content durable, SyncDir makes the names in one folder
// durable (in the order in which they changed), Volume.Sync makes everything durable, and nothing else makes anything durable.
type Sim struct {
	root  string
	mu    sync.Mutex
	names map[string]*simNode // as the running program sees them
	disk  map[string]*simNode // as they are durable
	log   []simChange         // changes of names that are not durable, in order
	locks map[string]int      // holders of a shared lock, -1 an exclusive one

	plan  Plan
	steps int
	space int64 // bytes that may still be written, -1 for no limit
	dead  bool
}

// Plan is what is to go wrong: step number Step (counted from 1; 0 is never).
type Plan struct {
	Step int
	Mode Mode
	Die  bool // the program dies with that step: everything after it fails too
}

// Mode is how a step fails.
type Mode int

const (
	NotDone Mode = iota // nothing happened
	Done                // it happened, yet an error was reported
	Half                // a write wrote half; other steps as NotDone
)

// ErrSim is the error of a step that was made to fail, and of all steps of a program that died.
var ErrSim = fmt.Errorf("simulated: %w", unix.EIO)

// ErrNoSpace is the error of a full Sim.
var ErrNoSpace = fmt.Errorf("simulated: %w", unix.ENOSPC)

type simNode struct {
	dir    bool
	data   []byte
	synced []byte
}

// simChange is one change of names: node at name, nil for a removal; from is the name a rename took away.
type simChange struct {
	name, from string
	node       *simNode
}

// simPage is how much of a write a power cut keeps or loses at a time.
const simPage = 512

// NewSim returns a file system with one empty folder.
func NewSim(dir string) *Sim {
	root := &simNode{dir: true}
	return &Sim{root: dir, names: map[string]*simNode{dir: root}, disk: map[string]*simNode{dir: root}, locks: map[string]int{}, space: -1}
}

// Fail sets what is to go wrong and counts steps from 0 again.
func (s *Sim) Fail(p Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan, s.steps = p, 0
}

// SetSpace sets how many more bytes fit, -1 for any number.
func (s *Sim) SetSpace(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.space = n
}

// Steps returns how many steps were taken since the last Fail.
func (s *Sim) Steps() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps
}

// Kill returns the file system as the next program finds it when only the program died: everything done is there.
func (s *Sim) Kill() *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	return &Sim{root: s.root, names: s.names, disk: s.disk, log: s.log, locks: map[string]int{}, space: s.space}
}

// CutPower returns the file system as the next program finds it when the machine stopped: everything durable is there, and of the rest what rng picks.
func (s *Sim) CutPower(rng *rand.Rand) *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	after := &Sim{root: s.root, names: map[string]*simNode{}, disk: map[string]*simNode{}, locks: map[string]int{}, space: s.space}
	lost := map[string]bool{} // folders of which a change was lost: later ones are lost too
	names := map[string]*simNode{}
	for n, node := range s.disk {
		names[n] = node
	}
	for _, c := range s.log {
		folder := filepath.Dir(c.name)
		if lost[folder] || rng.IntN(2) == 0 {
			lost[folder] = true
			continue
		}
		c.apply(names)
	}
	made := map[*simNode]*simNode{}
	for n, node := range names {
		if !s.reachable(names, n) {
			continue
		}
		if made[node] == nil {
			made[node] = node.afterCut(rng)
		}
		after.names[n], after.disk[n] = made[node], made[node]
	}
	return after
}

// reachable says whether all folders above a name are there.
func (s *Sim) reachable(names map[string]*simNode, name string) bool {
	for name != s.root {
		if name = filepath.Dir(name); names[name] == nil {
			return false
		}
	}
	return true
}

func (n *simNode) afterCut(rng *rand.Rand) *simNode {
	if n.dir {
		return &simNode{dir: true}
	}
	b := slices.Clone(n.synced)
	if slices.Equal(n.data, n.synced) {
		return &simNode{data: b, synced: slices.Clone(b)}
	}
	// The size may have got there without the data, and any page without the others.
	size := len(n.synced)
	if rng.IntN(2) == 0 {
		size = len(n.data)
	} else if d := len(n.data) - size; d > 0 {
		size += rng.IntN(d)
	}
	b = append(b, make([]byte, max(0, size-len(b)))...)[:size]
	keep := rng.IntN(3) // no page, every page, some pages
	for at := 0; at < size; at += simPage {
		if keep == 1 || keep == 2 && rng.IntN(2) == 0 {
			copy(b[at:min(at+simPage, size)], n.data[min(at, len(n.data)):])
		}
	}
	return &simNode{data: b, synced: slices.Clone(b)}
}

func (c simChange) apply(names map[string]*simNode) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.node == nil {
		delete(names, c.name)
		return
	}
	names[c.name] = c.node
}

// step counts a step and says whether to do it and what to report.
func (s *Sim) step() (do, half bool, err error) {
	if s.dead {
		return false, false, ErrSim
	}
	s.steps++
	if s.steps != s.plan.Step {
		return true, false, nil
	}
	s.dead = s.plan.Die
	return s.plan.Mode == Done, s.plan.Mode == Half, fmt.Errorf("step %d: %w", s.steps, ErrSim)
}

// change does a change of names as one step.
func (s *Sim) change(c simChange) error {
	do, _, err := s.step()
	if do {
		c.apply(s.names)
		s.log = append(s.log, c)
	}
	return err
}
