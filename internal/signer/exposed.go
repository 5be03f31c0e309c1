package signer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Exposure is something of the state that somebody else than the appliance's user could change.
type Exposure struct {
	Path string
	Text string // what is wrong with it
	Cure string // a command
}

// Exposed looks at the state folder dir, the log, the index, the objects' folder and all of the token's, for a process of the user uid: what group or others may
// write, and what belongs to another user. Root's files are taken (it can write anything), and to root the folder's owner is the appliance's user. What is not
// there is left out. The error is one of looking.
func Exposed(dir string, uid int) ([]Exposure, error) {
	var found []Exposure
	look := func(path string, info fs.FileInfo) {
		if uid == 0 && path == dir {
			uid = owner(info, uid)
		}
		if perm := info.Mode().Perm(); perm&0o022 != 0 {
			found = append(found, Exposure{path, fmt.Sprintf("may be written by others (mode %04o)", perm), "chmod go-w " + path})
		}
		if by := owner(info, uid); by != uid && by != 0 {
			found = append(found, Exposure{path, fmt.Sprintf("belongs to another user (%d, not %d)", by, uid), fmt.Sprintf("chown %d %s", uid, path)})
		}
	}
	for _, name := range []string{"", ledger.FileName, indexName, objectsDir} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return found, fmt.Errorf("looking at the state: %w", err)
		}
		look(path, info)
	}
	err := filepath.WalkDir(filepath.Join(dir, tokenDir), func(path string, _ fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = os.Stat(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // another process of this user has it open, and changes it
			return nil
		}
		if err == nil {
			look(path, info)
		}
		return err
	})
	if err != nil {
		return found, fmt.Errorf("looking at the token's folder: %w", err)
	}
	return found, nil
}

func owner(info fs.FileInfo, unknown int) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return unknown
}

// maxExposures bounds how many an error names.
const maxExposures = 4

// ownAlone refuses a state that others could change. Errors: Forbidden, with the commands that mend it.
func ownAlone(dir string) error {
	found, err := Exposed(dir, os.Geteuid())
	if err != nil {
		return fault.New(fault.Unavailable, "cannot look at "+dir).WithCause(err).WithHint("the user that runs the appliance must own all of it")
	}
	if len(found) == 0 {
		return nil
	}
	var what, cures []string
	for _, e := range found[:min(len(found), maxExposures)] {
		what, cures = append(what, e.Path+" "+e.Text), append(cures, e.Cure)
	}
	if more := len(found) - maxExposures; more > 0 {
		what = append(what, fmt.Sprintf("and %d more", more))
	}
	return fault.New(fault.Forbidden, "somebody else could change the appliance's state: "+strings.Join(what, ", ")).
		WithHint(strings.Join(cures, "; ") + ` (as root), then see whether anybody did: "appliance audit verify"`)
}
