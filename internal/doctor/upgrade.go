package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// upgradeDir is where the package's scripts keep what an upgrade needs to be taken back (docs/decisions/0009-upgrade.md).
const upgradeDir = "/var/lib/aes-appliance/upgrade"

// maxUndone bounds what is read of their note, in bytes.
const maxUndone = 4 << 10

// upgrade says whether the last upgrade of the package was taken back, or stopped half way.
func (e *exam) upgrade(ctx context.Context, s *sheet) {
	const check = "updates.package"
	text, err := os.ReadFile(e.m.path(upgradeDir + "/undone"))
	if err == nil {
		said, _ := parseShow(text[:min(len(text), maxUndone)])
		s.bad(check, "install a version that is mended, or try this one once more: rm "+upgradeDir+"/undone; journalctl -t aes-upgrade",
			"the upgrade to version %s was undone at %s: %s; the former version runs", said["version"], said["at"], said["why"]).with("version", said["version"])
	} else if !errors.Is(err, fs.ErrNotExist) {
		s.unknown(check, "run it as root", "whether an upgrade was undone cannot be read: %v", err)
	}
	out, err := e.m.Run(ctx, "dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}", "aes-appliance")
	state, version := strings.TrimSpace(string(out)[:min(len(out), 3)]), string(out[min(len(out), 3):])
	switch {
	case err != nil:
		s.ok(check, "this program was not installed as a package")
	case state != "ii":
		s.bad(check, "dpkg --configure -a; apt-get update; apt-get install --reinstall aes-appliance", "dpkg has version %s of the package half way in (%s): a machine stopped in the midst of an upgrade, or apt was killed", version, state)
	default:
		s.ok(check, "version %s of the package is installed", version)
	}
}
