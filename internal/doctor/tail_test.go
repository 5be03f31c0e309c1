package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// writeLog writes a log of n lines, the first at a time and each so much later; what each says varies in length.
func writeLog(t testing.TB, path string, n int, first time.Time, step time.Duration) [][]byte {
	t.Helper()
	var all bytes.Buffer
	var lines [][]byte
	var prev chain.Hash
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		event := "prescription_signed"
		if i%3 == 1 {
			event = "signing_refused"
		}
		details, err := json.Marshal(map[string]string{"a": string(bytes.Repeat([]byte("x"), r.IntN(400)))})
		if err != nil {
			t.Fatal(err)
		}
		line, h, err := chain.AppendLine(nil, prev, chain.Entry{Time: first.Add(time.Duration(i) * step), EventType: event, Actor: "somebody", Details: details})
		if err != nil {
			t.Fatal(err)
		}
		prev, lines = h, append(lines, line)
		all.Write(line)
		all.WriteByte('\n')
	}
	if err := os.WriteFile(path, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestSince(t *testing.T) {
	path, first := filepath.Join(t.TempDir(), "log"), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	lines := writeLog(t, path, 500, first, time.Minute)
	log, err := openTail(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	offset := int64(0)
	for i, line := range lines {
		at, err := log.since(first.Add(time.Duration(i)*time.Minute - time.Second))
		if err != nil || at != offset {
			t.Fatalf("line %d is said to begin at %d (%v), and begins at %d", i, at, err, offset)
		}
		offset += int64(len(line)) + 1
	}
	if at, err := log.since(first.Add(1000 * time.Minute)); err != nil || at != log.size {
		t.Errorf("after the end: %d %v", at, err)
	}
}

// TestRecent: the end of a log is judged by its bytes, wherever the reading begins.
func TestRecent(t *testing.T) {
	dir, first := t.TempDir(), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	path := filepath.Join(dir, "log")
	lines := writeLog(t, path, 9000, first, time.Second)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) < 2*recentBytes {
		t.Fatalf("a log of %d bytes tries nothing", len(whole))
	}
	judge := func(data []byte) (int, map[chain.Hash]bool, bool, error) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		log, err := openTail(path)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		return log.recent()
	}
	n, heads, torn, err := judge(whole)
	last, errLine := chain.ParseLine(lines[len(lines)-1])
	if err != nil || errLine != nil || torn || n < 1000 || n >= 9000 || !heads[last.Hash] {
		t.Fatalf("a good log: %d lines, torn %v, %v %v", n, torn, err, errLine)
	}
	if _, _, torn, err := judge(whole[:len(whole)-7]); err != nil || !torn {
		t.Errorf("a torn one: torn %v, %v", torn, err)
	}
	changed := bytes.Clone(whole)
	changed[len(changed)-2000] ^= 1
	if _, _, _, err := judge(changed); err == nil {
		t.Error("a changed byte was not found")
	}
	cut := len(lines[len(lines)-10]) + 1
	at := bytes.Index(whole, lines[len(lines)-10])
	if _, _, _, err := judge(append(bytes.Clone(whole[:at]), whole[at+cut:]...)); err == nil {
		t.Error("a missing line was not found")
	}
	if _, _, _, err := judge(bytes.Repeat([]byte{0}, 3*recentBytes)); err == nil {
		t.Error("zeros were taken for a log")
	}
}

// TestGrowth: the rate is that of the last 30 days, not of the log's whole life.
func TestGrowth(t *testing.T) {
	dir := t.TempDir()
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lines := writeLog(t, filepath.Join(dir, "audit_chain.jsonl"), 2400, first, time.Hour) // 100 days
	recent := 0
	for _, l := range lines[2400-30*24:] {
		recent += len(l) + 1
	}
	now := first.Add(2400 * time.Hour)
	rate, ok, err := dailyBytes(dir, now)
	if want := float64(recent) / 30; err != nil || !ok || rate < want*0.99 || rate > want*1.01 {
		t.Errorf("%.0f bytes a day (%v, %v), want %.0f", rate, ok, err, want)
	}
	if err := os.MkdirAll(filepath.Join(dir, objectsFolder, "ab"), 0o700); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "audit_chain.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, objectsFolder, "ab", fmt.Sprint(i)), make([]byte, int(info.Size()/10)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if both, _, err := dailyBytes(dir, now); err != nil || both < 1.95*rate || both > 2.2*rate {
		t.Errorf("with objects of the log's size %.0f bytes a day, without %.0f (%v)", both, rate, err)
	}
	if _, ok, err := dailyBytes(dir, first.Add(time.Hour)); err != nil || ok {
		t.Errorf("an hour has a rate: %v %v", ok, err)
	}
}

// TestFollow: today's counts are those of the log, also when it grows between two looks and when the day ends.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	first := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	writeLog(t, path, 24*60, first, time.Minute) // until noon of the second
	w := &Watcher{}
	look := func(now time.Time) TodayView {
		o := Overview{At: now, Log: &LogView{}}
		if err := w.follow(&o, path); err != nil {
			t.Fatal(err)
		}
		return *o.Today
	}
	got := look(first.Add(24 * time.Hour))
	if got.Signed != 480 || got.Refused != 240 || !got.Last.Equal(first.Add((24*60-1)*time.Minute)) {
		t.Errorf("%+v", got)
	}
	if again := look(first.Add(24 * time.Hour)); again != got {
		t.Errorf("a second look counts %+v", again)
	}
	writeLog(t, path, 24*60+30, first, time.Minute)
	if grown := look(first.Add(25 * time.Hour)); grown.Signed != 500 || grown.Refused != 250 {
		t.Errorf("grown by 30 lines: %+v", grown)
	}
	if next := look(first.Add(40 * time.Hour)); next.Signed != 0 || next.Refused != 0 {
		t.Errorf("the next day begins with %+v", next)
	}
}
