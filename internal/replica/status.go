package replica

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/veripath/aes-appliance/internal/chain"
)

// LogStatus is how a copy stands.
type LogStatus struct {
	Origin     string
	Dir        string // where the copy is
	Size       uint64
	Bytes      int64
	Checkpoint []byte    // with its cosignature; nil while the log is empty
	Heard      time.Time // when the primary was last heard; when the receiver started if not since
	Silent     bool
	Refusals   uint64 // since the start
	AppendOnly bool   // the file system keeps the log's file append-only
	Failed     bool   // the disk failed, or the copy is damaged; it is tried again
}

// Status returns how each copy stands, by origin.
func (r *Receiver) Status() []LogStatus {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []LogStatus
	for _, s := range r.logs {
		if s.mirror == nil {
			out = append(out, LogStatus{Origin: s.peer.Origin, Dir: filepath.Join(r.cfg.Dir, LogID(s.peer.Origin)), Failed: true})
			continue
		}
		out = append(out, s.mirror.status())
	}
	slices.SortFunc(out, func(a, b LogStatus) int { return strings.Compare(a.Origin, b.Origin) })
	return out
}

func (m *mirror) status() LogStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := LogStatus{Origin: m.cfg.origin, Dir: m.dir, Size: m.held.Size, Bytes: m.held.offset, Checkpoint: m.held.note,
		Heard: m.seen, Silent: m.silent, Refusals: m.refuse.count, Failed: !m.open}
	s.AppendOnly, _ = AppendOnly(m.path(LogFile)) // no: it is not known to be
	return s
}

// checkSilence raises the alarm when nothing was heard for longer than limit, once.
func (m *mirror) checkSilence(limit time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.cfg.now()
	if m.silent || now.Sub(m.seen) <= limit {
		return
	}
	m.silent = true
	m.cfg.log.Error("the primary is silent", "origin", m.cfg.origin, "since", m.seen.UTC())
	m.cfg.alarm(Alarm{Kind: AlarmSilence, Time: now.UTC(), Origin: m.cfg.origin,
		Text: fmt.Sprintf("nothing of the primary was cosigned since %s, not even a heartbeat", m.seen.UTC().Format(time.RFC3339))})
}

// checkLag raises the alarm when the lines that come are older than limit, once, until they no longer are. A copy that is being made from the
// beginning is not late.
func (m *mirror) checkLag(limit time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.counted:
	case m.late <= limit:
		m.level, m.lagged = true, false
	case m.level && !m.lagged:
		m.lagged = true
		m.cfg.log.Error("the primary's lines come late", "origin", m.cfg.origin, "by", m.late)
		m.cfg.alarm(Alarm{Kind: AlarmLag, Time: m.cfg.now().UTC(), Origin: m.cfg.origin,
			Text: fmt.Sprintf("the primary's newest line came %s after it was written", m.late.Round(time.Second))})
	}
}

// setKeys replaces the log's verifier keys.
func (m *mirror) setKeys(keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.keys = keys
}

// shut closes the files for good.
func (m *mirror) shut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open {
		m.close()
	}
	m.gone = true
	_ = m.objects.Close() // a lock, which the end of the process would let go of as well
}

// checkLogKey returns what keeps a verifier key from being a log's.
func checkLogKey(origin, key string) error {
	v, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	if v.Name() != origin {
		return fmt.Errorf("replica: it is named %q", v.Name())
	}
	return chain.CheckOrigin(v.Name())
}
