package token

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// File is one file of a SoftHSM2 token's folder.
type File struct {
	Name string // relative to the folder, with slashes
	Data []byte
}

// fileName is what a copy holds: SoftHSM2's files of the token, and the pristine token.object.
var fileName = regexp.MustCompile(`^(tokens/[0-9a-f-]{36}/[0-9a-z-]{1,64}\.(object|lock)|pristine/[0-9a-f-]{36})$`)

// Files returns a copy of the token as it is between two changes of its objects, sorted by name: with the PIN, Restore makes the same token of
// it elsewhere. Unsupported: a vendor's token keeps its keys itself.
func (t *Token) Files() ([]File, error) {
	if t.cfg.Dir == "" {
		return nil, fault.New(fault.Unsupported, "a vendor's token keeps its keys itself").WithHint("back it up with the vendor's own tools")
	}
	t.mending.Lock()
	defer t.mending.Unlock()
	f := folder(t.cfg.Dir)
	unlock, err := f.lock(context.Background())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Stat(f.path("intent")); !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Unavailable, "an earlier change of the token did not end").WithHint("open the token anew: that mends it").WithCause(err)
	}
	return f.files()
}

// files reads what fileName names. token.object is what Init left: a login rewrites it, and can be caught in the act.
func (f folder) files() ([]File, error) {
	var list []File
	for _, pattern := range []string{"pristine/*", "tokens/*/*"} {
		found, err := filepath.Glob(f.path(filepath.FromSlash(pattern)))
		if err != nil {
			return nil, fmt.Errorf("copying the token: %w", err)
		}
		for _, path := range found {
			rel, err := filepath.Rel(string(f), path)
			if err != nil {
				return nil, fmt.Errorf("copying the token: %w", err)
			}
			name, from := filepath.ToSlash(rel), path
			if !fileName.MatchString(name) {
				continue // SoftHSM2's bookkeeping, or an interrupted write
			}
			if filepath.Base(path) == "token.object" {
				from = f.path("pristine", filepath.Base(filepath.Dir(path)))
			}
			data, err := os.ReadFile(from)
			if err != nil {
				return nil, fmt.Errorf("copying the token: %w", err)
			}
			list = append(list, File{name, data})
		}
	}
	slices.SortFunc(list, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Restore makes the token's folder of what Files returned. It appears whole or not at all.
//
// Errors: Conflict (dir holds a token already), Invalid (files are not those of a token).
func Restore(dir string, files []File) error {
	f := folder(dir)
	unlock, err := f.lock(context.Background())
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(f.path("tokens")); err == nil {
		return fault.New(fault.Conflict, "the folder "+dir+" already holds a token").WithHint("restore into an empty folder")
	}
	if err := checkFiles(files); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(f.path("new")), os.RemoveAll(f.path("pristine"))); err != nil {
		return fmt.Errorf("clearing away an unfinished token: %w", err)
	}
	for _, one := range files {
		path := f.path(filepath.FromSlash(one.Name))
		if rest, ok := strings.CutPrefix(one.Name, "tokens/"); ok {
			path = f.path("new", "tokens", filepath.FromSlash(rest))
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("restoring the token: %w", err)
		}
		if err := os.WriteFile(path, one.Data, 0o600); err != nil {
			return fmt.Errorf("restoring the token: %w", err)
		}
	}
	if err := syncfs(dir); err != nil {
		return err
	}
	// A crash before this rename leaves no token; Restore starts again.
	if err := (durable.OS{}).Rename(f.path("new", "tokens"), f.path("tokens")); err != nil {
		return fmt.Errorf("moving the token to its place: %w", err)
	}
	return errors.Join(os.RemoveAll(f.path("new")), syncfs(dir))
}

// checkFiles refuses names that lead elsewhere, and a set that is no token.
func checkFiles(files []File) error {
	seen, object, pristine := map[string]bool{}, 0, 0
	for _, one := range files {
		if !fileName.MatchString(one.Name) || seen[one.Name] {
			return fault.New(fault.Invalid, fmt.Sprintf("%.120q is no file of a token, or is there twice", one.Name))
		}
		seen[one.Name] = true
		if strings.HasSuffix(one.Name, "/token.object") {
			object++
		}
		if strings.HasPrefix(one.Name, "pristine/") {
			pristine++
		}
	}
	if object != 1 || pristine != 1 {
		return fault.New(fault.Invalid, "what is to be restored is not one token")
	}
	return nil
}
