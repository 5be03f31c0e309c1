package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// An intent is written, durably, before objects of the token change, and removed, durably, when they have. So what a crash left behind is
// known exactly, and nothing else is ever swept: half a key that has no intent is damage, to be reported, never deleted.
type intent struct {
	Op      string   `json:"op"`                // "generate" or "destroy"
	Objects []string `json:"objects,omitempty"` // generate: the files there were before
	Label   string   `json:"label,omitempty"`   // destroy
	ID      []byte   `json:"id,omitempty"`
}

// A change is an intent that is being carried out under the folder's lock. It ends with finish or with abandon.
type change struct {
	folder folder
	unlock func()
}

// finish makes the token durable, removes the intent and frees the lock.
func (c change) finish() error {
	defer c.unlock()
	if c.folder == "" {
		return nil
	}
	return c.folder.settled()
}

// abandon frees the lock and leaves the intent: the next Open mends what could not be mended now.
func (c change) abandon() { c.unlock() }

// beginGenerate records what object files there are before a key is made.
func (f folder) beginGenerate() (change, error) {
	return f.begin(func() (intent, error) {
		objects, err := f.objects()
		return intent{Op: "generate", Objects: objects}, err
	})
}

// beginDestroy records which key is about to go.
func (f folder) beginDestroy(label string, id []byte) (change, error) {
	return f.begin(func() (intent, error) { return intent{Op: "destroy", Label: label, ID: id}, nil })
}

// begin takes the lock and writes the intent that what describes.
func (f folder) begin(what func() (intent, error)) (c change, err error) {
	if c.unlock, err = f.lock(context.Background()); err != nil || f == "" {
		return c, err
	}
	c.folder = f
	defer func() {
		if err != nil {
			c.unlock()
		}
	}()
	if _, err := os.Stat(f.path("intent")); err == nil {
		return c, fault.New(fault.Unavailable, "an earlier change of the token did not end").WithHint("open the token anew: that mends it")
	}
	i, err := what()
	if err != nil {
		return c, err
	}
	data, err := json.Marshal(i)
	if err != nil {
		return c, fmt.Errorf("writing an intent: %w", err)
	}
	return c, durable.WriteFile(durable.OS{}, f.path("intent"), data, 0o600)
}

// settled makes the token durable and then forgets the intent.
func (f folder) settled() error {
	if err := syncfs(string(f)); err != nil {
		return err
	}
	if err := os.Remove(f.path("intent")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an intent: %w", err)
	}
	return syncfs(string(f))
}

// objects lists the object files of the token, without the token's own.
func (f folder) objects() ([]string, error) {
	found, err := filepath.Glob(f.path("tokens", "*", "*.object"))
	if err != nil {
		return nil, fmt.Errorf("listing objects: %w", err)
	}
	var names []string
	for _, path := range found {
		if filepath.Base(path) == "token.object" {
			continue
		}
		rel, err := filepath.Rel(f.path("tokens"), path)
		if err != nil {
			return nil, fmt.Errorf("listing objects: %w", err)
		}
		names = append(names, rel)
	}
	slices.Sort(names)
	return names, nil
}

// read returns the intent that a crash left, or the zero intent.
func (f folder) read() (i intent, err error) {
	data, err := os.ReadFile(f.path("intent"))
	if errors.Is(err, fs.ErrNotExist) {
		return intent{}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &i)
	}
	if err == nil && i.Op != "generate" && i.Op != "destroy" {
		err = fmt.Errorf("unknown operation %q", i.Op)
	}
	if err != nil {
		return intent{}, fault.New(fault.Corrupt, "the token's intent cannot be read").
			WithHint("restore the token's folder from the backup").WithCause(err)
	}
	return i, nil
}

// sweep removes what a Generate that never returned left behind, and sets empty object files aside. It runs before the module starts.
func (f folder) sweep() ([]Finding, error) {
	i, err := f.read()
	if err != nil {
		return nil, err
	}
	objects, err := f.objects()
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, name := range objects {
		path := f.path("tokens", name)
		if i.Op == "generate" && !slices.Contains(i.Objects, name) {
			if err := removeObject(path); err != nil {
				return nil, err
			}
			found = append(found, Finding{"an object of a key that was never finished has been removed", name})
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("looking at an object: %w", err)
		}
		if info.Size() == 0 {
			if err := f.setAside(name); err != nil {
				return nil, err
			}
			found = append(found, Finding{"an empty object file has been set aside", name})
		}
	}
	if i.Op == "generate" {
		err = f.settled()
	}
	return found, err
}

// removeObject removes an object file and its lock file.
func removeObject(path string) error {
	lock := path[:len(path)-len("object")] + "lock"
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing an object: %w", err)
	}
	if err := os.Remove(lock); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an object: %w", err)
	}
	return nil
}

// setAside moves an object file that no intent explains out of the module's sight.
func (f folder) setAside(name string) error {
	if err := os.MkdirAll(f.path("set-aside"), 0o700); err != nil {
		return fmt.Errorf("setting an object aside: %w", err)
	}
	if err := os.Rename(f.path("tokens", name), f.path("set-aside", filepath.Base(name))); err != nil {
		return fmt.Errorf("setting an object aside: %w", err)
	}
	return nil
}

// finishDestroying completes a Destroy that a crash interrupted. The caller holds the lock and is logged in.
func (t *Token) finishDestroying(f folder) ([]Finding, error) {
	if f == "" {
		return nil, nil
	}
	i, err := f.read()
	if err != nil || i.Op != "destroy" {
		return nil, err
	}
	n, err := t.destroyAll(i.Label, i.ID)
	if err != nil {
		return nil, err
	}
	if err := f.settled(); err != nil {
		return nil, err
	}
	return []Finding{{fmt.Sprintf("a key that was being destroyed is gone now (%d objects were left)", n), i.Label}}, nil
}
