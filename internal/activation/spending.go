package activation

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// spentKept is how long after its end a token's count is kept.
const spentKept = time.Hour

// spending counts signatures per token and per person. What is counted here is an authorisation; what was signed is a line, and a restart brings the
// count of those back (restore). Authorisations that were not used die with the process, so that what is forgotten is none that could still sign.
type spending struct {
	mu      sync.Mutex
	tokens  map[[32]byte]*spentToken // by jwt.Claims.InputHash: whoever holds a token signed with ECDSA can make it into another text that is as good
	persons map[string][]time.Time   // when, oldest first, within the last minute
	swept   time.Time
}

type spentToken struct {
	count   int
	expires time.Time
}

func newSpending() *spending {
	return &spending{tokens: map[[32]byte]*spentToken{}, persons: map[string][]time.Time{}}
}

// take counts one signature, or says which cap forbids it.
func (s *spending) take(c Caller, now time.Time) *fault.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	t := s.tokens[c.InputHash]
	if t == nil {
		t = &spentToken{expires: c.Expires}
	}
	if t.count >= c.Policy.SignaturesPerToken {
		return refuse(TokenSpent, fault.Unavailable, fmt.Sprintf("the token has been used for %d signatures, as many as the clinic allows", t.count),
			"refresh the token, and send the new one")
	}
	who := spender(c.Clinic, c.Sub)
	times := recent(s.persons[who], now)
	if len(times) >= c.Policy.SignaturesPerMinute {
		s.persons[who] = times
		return refuse(TooFast, fault.Unavailable, fmt.Sprintf("%d signatures within a minute, as many as the clinic allows", len(times)), "try again in a minute")
	}
	t.count++
	s.tokens[c.InputHash] = t
	s.persons[who] = append(times, now)
	return nil
}

// recent cuts off what is more than a minute ago.
func recent(times []time.Time, now time.Time) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) >= time.Minute {
		times = times[1:]
	}
	return times
}

// sweep forgets tokens that have ended and persons who have not signed lately, once a minute. mu is held.
func (s *spending) sweep(now time.Time) {
	if since := now.Sub(s.swept); since >= 0 && since < time.Minute {
		return
	}
	s.swept = now
	for hash, t := range s.tokens {
		if now.Sub(t.expires) > spentKept {
			delete(s.tokens, hash)
		}
	}
	for who, times := range s.persons {
		if times = recent(times, now); len(times) == 0 {
			delete(s.persons, who)
		}
	}
}

// spender names who signs, for the cap per minute.
func spender(clinic, sub string) string { return clinic + " " + sub }

// spentDetails is what a signature_created line says of what it was signed on. The line is the signer's; one without a token is nobody's to count.
type spentDetails struct {
	Token   string    `json:"token_input_sha256"`
	Expires time.Time `json:"token_expires"`
	Clinic  string    `json:"clinic"`
	Sub     string    `json:"actor_sub"`
	GenTime time.Time `json:"gen_time"`
}

// spentSecond is how many signatures somebody made in one second.
type spentSecond struct {
	Unix  int64 `json:"unix"`
	Count int   `json:"count"`
}

// spent counts a signature of the log. The index holds tokens in the order in which they end, until an hour after that, and of each person one minute.
func (fold) spent(tx *index.Tx, r ledger.Record) error {
	var d spentDetails
	if err := json.Unmarshal(r.Details, &d); err != nil || d.Token == "" {
		return err
	}
	hash, err := hex.DecodeString(d.Token)
	if err != nil || len(hash) != sha256.Size {
		return fmt.Errorf("token_input_sha256 %.80q", d.Token)
	}
	if d.GenTime.IsZero() {
		d.GenTime = r.Time
	}
	b := tx.Bucket(bucketSpent)
	var ended [][]byte
	for key := range b.Seek(nil) {
		if len(key) >= 8 && d.GenTime.Unix()-int64(binary.BigEndian.Uint64(key)) <= int64(spentKept/time.Second) {
			break
		}
		ended = append(ended, bytes.Clone(key))
	}
	for _, key := range ended {
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	key := spentKey(d.Expires, hash)
	var n uint64
	if raw := b.Get(key); len(raw) == 8 {
		n = binary.BigEndian.Uint64(raw)
	}
	if err := b.Put(key, binary.BigEndian.AppendUint64(nil, n+1)); err != nil {
		return err
	}
	// When it was signed is what the clock said then: the line's own time can be one that the line before had.
	return spentNow(tx.Bucket(bucketRecent), spender(d.Clinic, d.Sub), d.GenTime.Unix())
}

// spentNow adds one signature at that second to what somebody signed in the minute before.
func spentNow(b *index.Bucket, who string, now int64) error {
	var list []spentSecond
	if raw := b.Get([]byte(who)); raw != nil {
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
	}
	list = slices.DeleteFunc(list, func(s spentSecond) bool { return now-s.Unix > 60 })
	if n := len(list); n > 0 && list[n-1].Unix >= now {
		list[n-1].Count++
	} else {
		list = append(list, spentSecond{now, 1})
	}
	return putJSON(b, who, list)
}

// spentKey sorts by when a token ends, in whole seconds.
func spentKey(expires time.Time, hash []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(max(0, expires.Unix()))), hash...)
}

// restore takes up what the log counted.
func (s *spending) restore(tx *index.Tx) error {
	for key, raw := range tx.Bucket(bucketSpent).Seek(nil) {
		if len(key) != 8+sha256.Size || len(raw) != 8 {
			return errors.New("activation: a token's count in the index is malformed")
		}
		t := &spentToken{count: int(binary.BigEndian.Uint64(raw)), expires: time.Unix(int64(binary.BigEndian.Uint64(key)), 0)}
		s.tokens[[32]byte(key[8:])] = t
	}
	return each(tx, bucketRecent, func(who string, list []spentSecond) {
		for _, one := range list {
			for range one.Count { // at the second's end: never too early
				s.persons[who] = append(s.persons[who], time.Unix(one.Unix+1, 0))
			}
		}
	})
}
