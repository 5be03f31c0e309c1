package objects

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// TestNewerObject: an object of a later version is told from a damaged one, and nothing is made of it.
func TestNewerObject(t *testing.T) {
	s := store(t)
	id, err := s.Put(context.Background(), "aa", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(s.path(id))
	if err != nil {
		t.Fatal(err)
	}
	next := rename(t, s, append([]byte("AESOBJ2\n"), raw[len(magic):]...))
	_, err = s.Get(context.Background(), next)
	if fault.KindOf(err) != fault.Unsupported || !strings.Contains(fault.PublicOf(err), "later version") || fault.HintOf(err) == "" {
		t.Errorf("%v: %v", fault.KindOf(err), err)
	}
	foreign := rename(t, s, append([]byte("AESXXX1\n"), raw[len(magic):]...))
	if _, err := s.Get(context.Background(), foreign); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("something else: %v", err)
	}
}
