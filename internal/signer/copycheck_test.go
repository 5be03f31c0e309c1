package signer

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// TestVerificationsOverlap: however those who ask come and go, one verification runs at a time, each of them is told of one that began before its end, and who asks a
// month later is not told of an old one.
func TestVerificationsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c copyCheck
		defer c.during(t.Context())()
		var running, begun atomic.Int32
		verify := func(context.Context) (wire.BackupCopy, error) {
			if running.Add(1) != 1 {
				t.Error("two run at once")
			}
			time.Sleep(10 * time.Second)
			running.Add(-1)
			return wire.BackupCopy{Lines: uint64(begun.Add(1))}, nil
		}
		begin := func() *copyRun {
			r, err := c.begin(verify)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		first, same := begin(), begin()
		if first != same {
			t.Error("two were begun")
		}
		<-first.done
		if said, err := c.tell(first); said.Lines != 1 || err != nil {
			t.Errorf("%+v, %v", said, err)
		}
		second := begin() // before the other who waited for the first was told
		if said, err := c.tell(same); said.Lines != 1 || err != nil {
			t.Errorf("who asked with another: %+v, %v", said, err)
		}
		if begin() != second {
			t.Error("one that runs was forgotten")
		}
		<-second.done // and nobody is told
		time.Sleep(copyWait)
		if begin() != second {
			t.Error("who asks again after a minute is not told")
		}
		time.Sleep(30 * 24 * time.Hour)
		third := begin()
		if third == second {
			t.Fatal("who asks a month later is told of an old one")
		}
		<-third.done
		if said, err := c.tell(third); said.Lines != 3 || err != nil {
			t.Errorf("%+v, %v", said, err)
		}
	})
}
