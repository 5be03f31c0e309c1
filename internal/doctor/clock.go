package doctor

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
)

// enoughSources is from how many on a wrong one is outvoted.
const enoughSources = 3

func (e *exam) clock(ctx context.Context, s *sheet) {
	most := clock.MaxAllowedError
	if e.Role == Primary {
		most = e.Appliance.Clock.MaxError
	}
	if e.Role == Primary && e.Appliance.Clock.Mode != clock.System {
		s.bad("clock.kernel", `set clock.mode = "system": what is signed meanwhile is no evidence of time`, "clock.mode is %s: time is not proven", e.Appliance.Clock.Mode)
	} else if c, err := clock.Open(clock.Config{Mode: clock.System, MaxError: most, Kernel: e.m.Kernel}); err != nil {
		s.unknown("clock.kernel", cureOf(err, "appliance config check"), "%s", textOf(err))
	} else if r, err := c.Now(); err != nil {
		s.bad("clock.kernel", "systemctl status chrony; chronyc tracking ("+cureOf(err, "it takes a minute after a start")+")", "%s", textOf(err))
	} else {
		s.ok("clock.kernel", "the kernel's clock is in step, within %s", r.MaxError.Round(time.Microsecond)).with("max_error_seconds", r.MaxError)
	}
	out, err := e.m.Run(ctx, "chronyc", "-c", "-n", "sources")
	if err != nil {
		cure := "systemctl restart chrony; journalctl -u chrony"
		if errors.Is(err, errNoProgram) {
			cure = "apt install chrony: systemd-timesyncd cannot prove one second"
		}
		s.bad("clock.sources", cure, "chrony does not say where it has the time from: %v", err)
		return
	}
	sources, err := parseSources(out)
	if err != nil {
		s.unknown("clock.sources", "chronyc sources", "chrony's sources cannot be read: %v", err)
		return
	}
	judgeSources(s, sources)
}

func judgeSources(s *sheet, sources []source) {
	reachable := 0
	for _, one := range sources {
		if one.reach != 0 {
			reachable++
		}
	}
	const check, cure = "clock.sources", "name more servers in /etc/chrony/sources.d/, let udp 123 out, then: chronyc reload sources; chronyc sources"
	switch {
	case reachable == 0:
		s.bad(check, cure, "none of chrony's %d sources answers", len(sources))
	case reachable < enoughSources:
		s.warn(check, cure, "%d of chrony's %d sources answer: of two that disagree nobody knows the right one", reachable, len(sources))
	default:
		s.ok(check, "%d of chrony's %d sources answer", reachable, len(sources))
	}
	s.findings[len(s.findings)-1].with("reachable", reachable).with("sources", len(sources))
}

// source is one of chrony's.
type source struct {
	name  string
	state string // * selected, + combined, - not combined, ? unreachable, x false, ~ too variable
	reach uint64 // which of the last eight polls were answered, a bit each
}

// maxSources bounds what is read.
const maxSources = 256

// parseSources reads what "chronyc -c sources" prints: a line of ten fields for each source, mode, state, name, stratum, poll, reach (octal), …
func parseSources(out []byte) ([]source, error) {
	r := csv.NewReader(strings.NewReader(string(out)))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) > maxSources {
		return nil, fmt.Errorf("more than %d sources", maxSources)
	}
	var list []source
	for i, row := range rows {
		if len(row) < 10 {
			return nil, fmt.Errorf("line %d has %d fields, not ten", i+1, len(row))
		}
		reach, err := strconv.ParseUint(row[5], 8, 8)
		if err != nil {
			return nil, fmt.Errorf("line %d: reach %.20q is not an octal number of 8 bits", i+1, row[5])
		}
		if row[0] == "#" && reach == 0 { // a reference clock of the machine that is not there
			continue
		}
		list = append(list, source{name: row[2], state: row[1], reach: reach})
	}
	return list, nil
}
