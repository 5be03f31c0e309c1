package signer

import (
	"sync"
	"time"
)

// allowances give each person so many of something in a period of time, and count what went without. They keep whoever can make the log grow from doing so
// without bound.
type allowances struct {
	limit  int
	period time.Duration

	mu      sync.Mutex
	since   time.Time
	persons map[string]*allowance
}

type allowance struct{ used, without int }

const (
	refusalLines   = 30   // about refusals, a minute, of one person
	actLines       = 1200 // about what somebody reads or administers, a minute; signing has the caps of the clinic's policy
	listenerIssues = 30   // certificates of the portal's own, an hour: it needs one in three months, and one for each start without its state
	countedPersons = 4096 // with a count of their own; the rest share one
)

func newAllowances(limit int, period time.Duration) *allowances {
	return &allowances{limit: limit, period: period, persons: map[string]*allowance{}}
}

// take says whether there may be one now, and how many went without since the person's last.
func (a *allowances) take(person string, now time.Time) (ok bool, without int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.since) >= a.period || now.Before(a.since) {
		a.since = now
		for who, one := range a.persons {
			if one.used = 0; one.without == 0 {
				delete(a.persons, who)
			}
		}
	}
	one := a.persons[person]
	if one == nil {
		if len(a.persons) >= countedPersons {
			person = ""
		}
		if one = a.persons[person]; one == nil {
			one = &allowance{}
			a.persons[person] = one
		}
	}
	if one.used >= a.limit {
		one.without++
		return false, 0
	}
	one.used++
	without, one.without = one.without, 0
	return true, without
}

// back returns one that was taken for what then did not come about.
func (a *allowances) back(person string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one := a.persons[person]; one != nil && one.used > 0 {
		one.used--
	}
}
