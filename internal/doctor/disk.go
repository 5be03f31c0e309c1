package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/ledger"
)

// Bounds of what is free.
const (
	warnFree, badFree         = 0.15, 0.05
	warnFreeBytes             = 4 << 30
	badFreeBytes              = 1 << 30
	warnDays, badDays         = 90, 14
	growthWindow              = 30 * 24 * time.Hour
	leastWindow               = 24 * time.Hour // a rate over less says nothing
	objectsFolder             = "objects"
	mostSampled               = 4096 // files
	cureFull                  = "make the disk larger, or move what is not the appliance's off it; the log and the objects are never deleted to make room"
	secondsOfADay     float64 = 24 * 60 * 60
)

// stateDir is the folder whose disk fills.
func (e *exam) stateDir() string {
	if e.Role == Backup {
		return e.Receiver.StateDir
	}
	return e.Appliance.StateDir
}

func (e *exam) disk(_ context.Context, s *sheet) {
	sp, err := e.m.space(e.stateDir())
	if err != nil {
		s.unknown("disk.space", "mount it, or correct state_dir in the configuration", "the state's file system cannot be looked at: %v", err)
		return
	}
	judgeSpace(s, e.stateDir(), sp)
	judgeFiles(s, sp)
	e.growth(s, sp.free)
}

func judgeSpace(s *sheet, dir string, sp space) {
	share := float64(sp.free) / float64(max(sp.total, 1))
	text := "%s of %s are free below %s (%.0f %%)"
	args := []any{size(sp.free), size(sp.total), dir, 100 * share}
	var f *Finding
	switch {
	case share < badFree || sp.free < badFreeBytes:
		f = s.bad("disk.space", cureFull+`; when it is full signing stops by itself`, text, args...)
	case share < warnFree || sp.free < warnFreeBytes:
		f = s.warn("disk.space", cureFull, text, args...)
	default:
		f = s.ok("disk.space", text, args...)
	}
	f.with("free_bytes", sp.free).with("total_bytes", sp.total)
}

// judgeFiles judges the inodes; a file system that makes them as needed has none to count.
func judgeFiles(s *sheet, sp space) {
	if sp.files == 0 {
		return
	}
	share := float64(sp.freeFiles) / float64(sp.files)
	switch text := "%.0f %% of the file system's inodes are free"; {
	case share < badFree:
		s.bad("disk.files", cureFull, text, 100*share)
	case share < warnFree:
		s.warn("disk.files", cureFull, text, 100*share)
	default:
		s.ok("disk.files", text, 100*share)
	}
}

// growth says how long the disk lasts at the log's own rate: it knows when each of its bytes was written.
func (e *exam) growth(s *sheet, free uint64) {
	var perDay float64
	logs, young := e.logs(), 0
	for _, dir := range logs {
		rate, ok, err := dailyBytes(e.m.path(dir), e.Now())
		if err != nil {
			s.unknown("disk.growth", "as root: appliance doctor; appliance audit verify", "the log's rate cannot be found: %v", err)
			return
		}
		if !ok {
			young++
		}
		perDay += rate
	}
	if young == len(logs) {
		s.ok("disk.growth", "the log is younger than a day: it has no rate yet")
		return
	}
	left := time.Duration(1<<63 - 1)
	if perDay > 0 {
		if d := float64(free) / perDay * secondsOfADay * float64(time.Second); d < float64(left) {
			left = time.Duration(d)
		}
	}
	n := int(left.Hours() / 24)
	text := "at the log's rate of the last 30 days, %s a day with its objects, the disk lasts %d days"
	var f *Finding
	switch {
	case n < badDays:
		f = s.bad("disk.growth", cureFull, text, size(uint64(perDay)), n)
	case n < warnDays:
		f = s.warn("disk.growth", cureFull, text, size(uint64(perDay)), n)
	case n > 3650:
		f = s.ok("disk.growth", "at the log's rate of the last 30 days, %s a day with its objects, the disk lasts more than ten years", size(uint64(perDay)))
	default:
		f = s.ok("disk.growth", text, size(uint64(perDay)), n)
	}
	f.with("bytes_per_day", int64(perDay)).with("days_left", min(n, 36500))
}

// logs are the folders that hold a log and its objects.
func (e *exam) logs() []string {
	if e.Role == Primary {
		return []string{e.Appliance.StateDir}
	}
	var dirs []string
	for _, one := range e.held() {
		dirs = append(dirs, one.Dir)
	}
	return dirs
}

// dailyBytes returns how many bytes a day the log in dir and its objects have grown by lately; ok is false when the log is too young to tell.
func dailyBytes(dir string, now time.Time) (perDay float64, ok bool, err error) {
	t, err := openTail(filepath.Join(dir, ledger.FileName))
	if err != nil {
		return 0, false, err
	}
	defer t.Close()
	first, there, err := t.timeAt(0)
	if err != nil || !there {
		return 0, false, err
	}
	from := now.Add(-growthWindow)
	if first.After(from) {
		from = first
	}
	span := now.Sub(from)
	if span < leastWindow {
		return 0, false, nil
	}
	at, err := t.since(from)
	if err != nil {
		return 0, false, err
	}
	perDay = float64(t.size-at) / span.Seconds() * secondsOfADay
	objects, err := objectBytes(filepath.Join(dir, objectsFolder))
	if err != nil {
		return 0, false, err
	}
	return perDay * (1 + objects/float64(t.size)), true, nil
}

// objectBytes estimates what the objects take: their names are hashes, so that the folders that come first are a fair sample of all.
func objectBytes(dir string) (float64, error) {
	folders, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	folders = slices.DeleteFunc(folders, func(d os.DirEntry) bool { return !d.IsDir() })
	var bytes float64
	seen, files := 0, 0
	for _, folder := range folders {
		if files >= mostSampled {
			break
		}
		list, err := os.ReadDir(filepath.Join(dir, folder.Name()))
		if err != nil {
			return 0, err
		}
		seen++
		for _, f := range list {
			if info, err := f.Info(); err == nil && info.Mode().IsRegular() {
				bytes += float64((info.Size() + 4095) &^ 4095) // as blocks
				files++
			}
		}
	}
	if seen == 0 {
		return 0, nil
	}
	return bytes * float64(len(folders)) / float64(seen), nil
}
