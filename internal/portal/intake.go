package portal

import (
	"sync"

	"github.com/veripath/aes-appliance/internal/fault"
)

// intake bounds the bodies that are in memory at one time, while they arrive and while they are dealt with: in bytes, of all and of each sender. Whoever
// sends slowly holds a part of it only.
type intake struct {
	all, each int64

	mu    sync.Mutex
	used  int64
	usage map[string]int64
}

func newIntake(all, each int64) *intake {
	return &intake{all: all, each: each, usage: map[string]int64{}}
}

// take reserves n bytes for who; release gives them back.
func (i *intake) take(who string, n int64) (release func(), err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.used+n > i.all || i.usage[who]+n > i.each {
		return nil, fault.New(fault.Unavailable, "too many files are being sent at once").WithHint("try again in a moment")
	}
	i.used += n
	i.usage[who] += n
	return sync.OnceFunc(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.used -= n
		if i.usage[who] -= n; i.usage[who] == 0 {
			delete(i.usage, who)
		}
	}), nil
}
