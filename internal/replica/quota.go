package replica

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// quota is what one log may fill of the backup's disk, lines and objects together. Without it a primary that was taken over, or went mad, could fill the disk of all.
type quota struct {
	most int64 // bytes; 0: no limit

	mu   sync.Mutex
	used int64
	told int // 0; 1: that it is nearly used up, 2: that it is
}

// CodeQuota is the code of requests that a log's share of the disk has no room for.
const CodeQuota = "quota"

// take sets n bytes aside. give gives back what was not used.
func (q *quota) take(n int64) error {
	if q.most == 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used+n > q.most {
		q.told = max(q.told, 1) // the rest is said by due
		return fault.New(fault.Unavailable, "this log has used up its share of the backup's disk").WithCode(CodeQuota).
			WithHint("the operator of the backup host finds out why it grows, and raises log_quota there")
	}
	q.used += n
	return nil
}

func (q *quota) give(n int64) {
	if q.most == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used -= n
}

// nearly is how full a share is, in hundredths, when the operator is told: in time to do something.
const nearly = 90

// due returns what is to be said now, "" for nothing: once that a share is nearly used up, and again after it was not.
func (q *quota) due() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch full := q.most > 0 && q.used >= q.most/100*nearly; {
	case !full:
		q.told = 0
		return ""
	case q.told == 2:
		return ""
	}
	q.told = 2
	return fmt.Sprintf("the copy has %d of the %d MiB that it may have (log_quota): what comes after that is refused", q.used>>20, q.most>>20)
}

// measure counts what is there. The log's own file is counted by its cosigned length.
func (m *mirror) measure() error {
	if m.quota.most == 0 {
		return nil
	}
	used, err := m.objects.Used()
	if err != nil {
		return err
	}
	m.quota.mu.Lock()
	defer m.quota.mu.Unlock()
	m.quota.used = used + m.held.offset
	return nil
}

// importObject takes an object in, if the log's share of the disk has room for it. One that was not there is a sign of life: before the first lines of a large group
// comes a while of nothing else.
func (m *mirror) importObject(c call, id string, size int64) error {
	if missing, err := m.objects.Missing(c.Context(), []string{id}); err != nil || len(missing) == 0 {
		return err
	}
	if err := m.quota.take(size); err != nil {
		return err
	}
	if err := m.objects.Import(c.Context(), id, c.Body); err != nil {
		m.quota.give(size)
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard(m.cfg.now())
	return nil
}

// checkQuota raises the alarm when the log's share of the disk is nearly used up.
func (m *mirror) checkQuota() {
	text := m.quota.due()
	if text == "" {
		return
	}
	m.cfg.log.Error("a log has nearly used up its share of the disk", "origin", m.cfg.origin)
	m.cfg.alarm(Alarm{Kind: AlarmDisk, Time: m.cfg.now().UTC(), Origin: m.cfg.origin, Text: text})
}

// spaceEvery is how often the free space is looked at.
const spaceEvery = time.Minute

// watchSpace raises the alarm when less than a tenth of the disk is free: the disk that is full has failed already.
func (r *Receiver) watchSpace(ctx context.Context) {
	if _, real := r.cfg.FS.(durable.OS); !real {
		return
	}
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	told := false
	for {
		var st unix.Statfs_t
		if err := unix.Statfs(r.cfg.Dir, &st); err == nil {
			told = r.lowSpace(st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize), told)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lowSpace raises the alarm, once until there is room again, and says whether that was done.
func (r *Receiver) lowSpace(free, all uint64, told bool) bool {
	low := free < all/10
	if low && !told {
		r.cfg.Log.Error("the disk is nearly full", "free", free, "of", all)
		r.cfg.Alarm(Alarm{Kind: AlarmDisk, Time: r.cfg.Now().UTC(), Text: fmt.Sprintf("the disk of the copies is nearly full: %d of %d MiB are free", free>>20, all>>20)})
	}
	return low
}
