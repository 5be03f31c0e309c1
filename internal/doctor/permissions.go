package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/veripath/aes-appliance/internal/signer"
)

// Users that the package makes.
const (
	signerUser   = "aes-signer"
	portalUser   = "aes-portal"
	receiverUser = "aes-receiver"
)

// rule is what a path may be. Who owns it is named; root may own anything, because root can change anything.
type rule struct {
	path     string
	owner    string      // "" = root
	most     fs.FileMode // permission bits that may be set
	optional bool
	socket   bool
}

// rules are the paths of a role. Users that do not exist here are not asked for: that a state belongs to the right one is for the packaged layout.
func (e *exam) rules() []rule {
	list := []rule{{path: "/usr/bin/appliance", most: 0o755, optional: true}, {path: "/etc/aes-appliance", most: 0o755, optional: true}}
	if e.ConfigPath != "" {
		list = append(list, rule{path: e.ConfigPath, most: 0o755, owner: e.stateOwner()})
	}
	if e.Role == Backup {
		return append(list, e.unitRules()...)
	}
	c := e.Appliance
	for _, name := range []string{filepath.Dir(c.Signer.AdminSocket), filepath.Dir(c.Signer.PortalSocket)} {
		list = append(list, rule{path: name, owner: e.stateOwner(), most: 0o755, optional: true})
	}
	list = append(list,
		rule{path: c.Signer.AdminSocket, owner: e.stateOwner(), most: 0o600, optional: true, socket: true},
		rule{path: c.Signer.PortalSocket, owner: e.stateOwner(), most: 0o660, optional: true, socket: true},
		rule{path: pinCredential, most: 0o600, optional: true},
	)
	for _, path := range []string{c.Token.BackupDir, c.Portal.KeyFile} {
		if path != "" && !strings.HasPrefix(path, "/run/credentials/") {
			list = append(list, rule{path: path, owner: "*", most: 0o700, optional: true})
		}
	}
	return append(list, e.unitRules()...)
}

// unitRules are those of systemd's files.
func (e *exam) unitRules() []rule {
	var list []rule
	for _, unit := range e.expectedServices() {
		list = append(list, rule{path: "/usr/lib/systemd/system/" + unit, most: 0o644, optional: true}, rule{path: "/etc/systemd/system/" + unit + ".d", most: 0o755, optional: true})
	}
	return list
}

// stateOwner is who the state belongs to: the service's user, whatever it is called here.
func (e *exam) stateOwner() string {
	info, err := os.Stat(e.m.path(e.stateDir()))
	if err != nil {
		return ""
	}
	return strconv.Itoa(int(ownerOf(info)))
}

func ownerOf(info fs.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}

// maxPaths bounds how many are named one by one.
const maxPaths = 8

func (e *exam) permissions(_ context.Context, s *sheet) {
	var found []Finding
	looked := 0
	note := func(verdict Verdict, cure, format string, args ...any) {
		found = append(found, Finding{Check: "permissions.paths", Verdict: verdict, Cure: cure, Text: fmt.Sprintf(format, args...)})
	}
	for _, r := range e.rules() {
		n, text, cure, verdict := e.judgePath(r)
		looked += n
		if text != "" {
			note(verdict, cure, "%s", text)
		}
	}
	for _, dir := range e.stateFolders() {
		looked += e.judgeState(dir, note)
	}
	if len(found) == 0 {
		s.ok("permissions.paths", "%d paths have the owners and modes that they must have", looked)
	}
	for _, f := range found[:min(len(found), maxPaths)] {
		s.add(f.Check, f.Verdict, f.Cure, f.Text)
	}
	if more := len(found) - maxPaths; more > 0 {
		s.bad("permissions.paths", "mend those that are named, then run it again", "%d more paths are wrong", more)
	}
	if e.Role == Primary {
		e.rootToken(s)
	}
}

// judgePath holds one path against its rule; text is empty when it is as it must be.
func (e *exam) judgePath(r rule) (looked int, text, cure string, v Verdict) {
	info, err := os.Lstat(e.m.path(r.path))
	if errors.Is(err, fs.ErrNotExist) && r.optional {
		return 0, "", "", OK
	}
	if errors.Is(err, fs.ErrPermission) {
		return 0, r.path + " cannot be looked at", "run it as root", Unknown
	}
	if err != nil {
		return 0, fmt.Sprintf("%s cannot be looked at: %v", r.path, err), "apt install --reinstall aes-appliance; appliance setup", Bad
	}
	if info.Mode()&fs.ModeSymlink != 0 && r.path != "/usr/bin/appliance" {
		return 1, r.path + " is a symbolic link", "replace it by what it points to: who may write the link's target is not looked at", Warn
	}
	if wide := info.Mode().Perm() &^ r.most; wide != 0 {
		return 1, fmt.Sprintf("%s has mode %04o, %04o is the most", r.path, info.Mode().Perm(), r.most), fmt.Sprintf("chmod %04o %s", info.Mode().Perm()&r.most, r.path), Bad
	}
	if by := strconv.Itoa(int(ownerOf(info))); r.owner != "*" && by != "0" && by != r.owner {
		return 1, fmt.Sprintf("%s belongs to user %s", r.path, by), "chown root:root " + r.path, Bad
	}
	return 1, "", "", OK
}

// stateFolder is a folder that one service alone may enter.
type stateFolder struct{ path, user string }

func (e *exam) stateFolders() []stateFolder {
	if e.Role == Backup {
		return []stateFolder{{e.Receiver.StateDir, receiverUser}}
	}
	return []stateFolder{{e.Appliance.StateDir, signerUser}, {e.Appliance.Portal.StateDir, portalUser}}
}

// judgeState looks at a service's folder: nobody else enters it, it belongs to the service's user where there is such a user, and nothing of it, as far as it
// is looked at, could be changed by others.
func (e *exam) judgeState(dir stateFolder, note func(Verdict, string, string, ...any)) (looked int) {
	info, err := os.Stat(e.m.path(dir.path))
	if errors.Is(err, fs.ErrNotExist) {
		note(Bad, "appliance setup, which makes it; after a lost disk: appliance backup restore", "there is no folder %s", dir.path)
		return 0
	}
	if err != nil {
		note(Unknown, "run it as root", "%s cannot be looked at: %v", dir.path, err)
		return 0
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		note(Bad, "chmod 700 "+dir.path, "others can enter %s (mode %04o)", dir.path, perm)
	}
	uid := int(ownerOf(info))
	if u, err := user.Lookup(dir.user); err == nil && u.Uid != strconv.Itoa(uid) && strings.HasPrefix(dir.path, "/var/lib/aes-appliance/") {
		note(Bad, "systemctl stop aes-appliance.target; chown -R "+dir.user+": "+dir.path, "%s belongs to user %d, not to %s", dir.path, uid, dir.user)
	}
	exposed, err := signer.Exposed(e.m.path(dir.path), uid)
	if err != nil {
		note(Unknown, "run it as root", "what is in %s cannot be looked at: %v", dir.path, err)
	}
	for _, x := range exposed {
		note(Bad, x.Cure+`; then see whether anybody did change it: appliance audit verify`, "%s %s", x.Path, x.Text)
	}
	return 1 + e.judgeEntries(dir.path, uid, note)
}

// judgeEntries looks at what stands directly in a service's folder.
func (e *exam) judgeEntries(dir string, uid int, note func(Verdict, string, string, ...any)) (looked int) {
	entries, err := os.ReadDir(e.m.path(dir))
	if err != nil {
		note(Unknown, "run it as root", "%s cannot be read: %v", dir, err)
		return 0
	}
	for _, d := range entries {
		info, err := d.Info()
		if err != nil || slices.Contains([]string{"audit_chain.jsonl", "index.db", objectsFolder, "token"}, d.Name()) { // Exposed looked
			continue
		}
		looked++
		path := filepath.Join(dir, d.Name())
		if perm := info.Mode().Perm(); perm&0o022 != 0 && info.Mode()&fs.ModeSymlink == 0 {
			note(Bad, "chmod go-w "+path, "%s may be written by others (mode %04o)", path, perm)
		}
		if by := int(ownerOf(info)); by != uid && by != 0 {
			note(Bad, fmt.Sprintf("chown %d %s", uid, path), "%s belongs to another user (%d, not %d)", path, by, uid)
		}
	}
	return looked
}

// rootToken looks for the root's token, which belongs into a safe.
func (e *exam) rootToken(s *sheet) {
	for _, dir := range []string{filepath.Join(e.Appliance.StateDir, signer.RootDir), filepath.Join(filepath.Dir(e.Appliance.StateDir), signer.RootDir)} {
		if _, err := os.Lstat(e.m.path(dir)); err == nil {
			s.warn("permissions.root_token", "copy "+dir+" to two offline media, check them, then remove it here, as \"appliance setup\" does by itself", "the root's token is still on this machine, in %s", dir)
			return
		}
	}
	s.ok("permissions.root_token", "the root's token is not on this machine")
}
