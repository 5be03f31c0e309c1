package index

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// TestErrorsForPeople: a file that cannot be written, and a store that is open elsewhere, are said with their remedy.
func TestErrorsForPeople(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := os.Mkdir(markerPath(path)+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, newKeys(7))
	if p := fault.PublicOf(err); !strings.HasSuffix(p, "index.db.state.tmp: it is a folder, not a file") || fault.HintOf(err) == "" {
		t.Errorf("a folder: %q, hint %q", p, fault.HintOf(err))
	}
	path = filepath.Join(t.TempDir(), "index.db")
	d, err := Open(path, newKeys(7))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, newKeys(7))
	if fault.KindOf(err) != fault.Unavailable || fault.HintOf(err) == "" {
		t.Errorf("twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
