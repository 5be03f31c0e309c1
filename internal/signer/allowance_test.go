package signer

import (
	"fmt"
	"testing"
	"time"
)

func TestRefusalsAreCountedBeyondTheAllowance(t *testing.T) {
	a, now := newAllowances(refusalLines, time.Minute), time.Unix(1e9, 0)
	lines := 0
	for range 100 {
		if ok, _ := a.take("mallory", now); ok {
			lines++
		}
	}
	if lines != refusalLines {
		t.Errorf("%d lines in a minute", lines)
	}
	if ok, without := a.take("ann", now); !ok || without != 0 {
		t.Error("another person has no allowance")
	}
	if ok, without := a.take("mallory", now.Add(time.Minute)); !ok || without != 100-refusalLines {
		t.Errorf("the next line counts %d", without)
	}
	for i := range 3 * countedPersons {
		a.take(fmt.Sprint(i), now.Add(2*time.Minute))
	}
	if len(a.persons) > countedPersons+1 {
		t.Errorf("%d persons are remembered", len(a.persons))
	}
}
