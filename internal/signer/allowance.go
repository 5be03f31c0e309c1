package signer

import (
	"sync"
	"time"
)

// allowances keep somebody who can only be refused from making the log grow without bound: so many lines a minute, and the next one counts what went
// without.
type allowances struct {
	mu      sync.Mutex
	since   time.Time
	persons map[string]*allowance
}

type allowance struct{ used, without int }

const (
	refusalLines   = 30   // a minute, of one person
	refusalPersons = 4096 // with a count of their own; the rest share one
)

func newAllowances() *allowances { return &allowances{persons: map[string]*allowance{}} }

// take says whether there may be a line now, and how many refusals went without since the person's last.
func (a *allowances) take(person string, now time.Time) (ok bool, without int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.since) >= time.Minute || now.Before(a.since) {
		a.since = now
		for who, one := range a.persons {
			if one.used = 0; one.without == 0 {
				delete(a.persons, who)
			}
		}
	}
	one := a.persons[person]
	if one == nil {
		if len(a.persons) >= refusalPersons {
			person = ""
		}
		if one = a.persons[person]; one == nil {
			one = &allowance{}
			a.persons[person] = one
		}
	}
	if one.used >= refusalLines {
		one.without++
		return false, 0
	}
	one.used++
	without, one.without = one.without, 0
	return true, without
}
