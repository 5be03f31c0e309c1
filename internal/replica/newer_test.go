package replica

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/fault"
)

// TestNewerState: a copy that a later version has worked on is left alone: taken for a copy without a state, it would be begun anew.
func TestNewerState(t *testing.T) {
	path := filepath.Join(t.TempDir(), stateName)
	later := append([]byte("AESRCV2\n"), make([]byte, 2*slotSize-len(stateMagic))...)
	if err := os.WriteFile(path, later, 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, err := openState(durable.OS{}, path)
	if err == nil {
		t.Fatalf("it was opened: %+v", s)
	}
	if f := err.Error(); !strings.Contains(f, "later version") || fault.KindOf(err) != fault.Unsupported {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, later) {
		t.Errorf("the file was changed (%v)", err)
	}
}
