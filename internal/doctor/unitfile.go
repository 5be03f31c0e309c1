package doctor

import (
	"errors"
	"fmt"
	"strings"
)

// setting is one assignment of a unit file (systemd.syntax(7)).
type setting struct{ section, name, value string }

func (s setting) String() string { return s.name + "=" + s.value }

// Bounds of a unit file that is looked at. systemd takes lines of a megabyte; nobody writes such.
const (
	maxUnitFile     = 64 << 10
	maxUnitSettings = 1000
)

// parseUnit reads a unit file or a drop-in: what each section sets, in order, with lines that go on joined by a blank. What systemd would only warn about is an error.
func parseUnit(text string) ([]setting, error) {
	if len(text) > maxUnitFile {
		return nil, errors.New("it is too long")
	}
	var list []setting
	section, joined := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if bare := strings.TrimSpace(line); bare == "" && joined == "" || strings.HasPrefix(bare, "#") || strings.HasPrefix(bare, ";") {
			continue // also in the midst of a line that goes on
		}
		if more, goesOn := strings.CutSuffix(line, `\`); goesOn {
			joined += more + " "
			continue
		}
		line, joined = strings.TrimSpace(joined+line), ""
		if inner, ok := strings.CutPrefix(line, "["); ok {
			if section, ok = strings.CutSuffix(inner, "]"); !ok || section == "" {
				return nil, fmt.Errorf("%.40q begins no section", line)
			}
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || section == "" {
			return nil, fmt.Errorf("%.40q sets nothing", line)
		}
		if list = append(list, setting{section, name, strings.TrimSpace(value)}); len(list) > maxUnitSettings {
			return nil, errors.New("it sets too much")
		}
	}
	if joined != "" {
		return nil, errors.New("its last line goes on")
	}
	return list, nil
}
