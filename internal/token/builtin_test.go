//go:build builtin_softhsm

package token

import (
	"crypto"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

func childOfModule(job string) { panic("no job " + job) }

// TestOnlyTheBuiltinModule: the static build has no dynamic loading, and says which build has it.
func TestOnlyTheBuiltinModule(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Module = "/usr/lib/softhsm/libsofthsm2.so"
	err := Init(cfg, []byte(testSO))
	wantKind(t, err, fault.NotFound)
	if fault.HintOf(err) != moduleHint {
		t.Errorf("hint %q", fault.HintOf(err))
	}
}

// TestLoginWritesNothing: token.object is not written by a login, also where nothing keeps it from being written (root); SoftHSM2 as it is counts its generation up each
// time, or says that it may not. A wrong PIN is written down as before.
func TestLoginWritesNothing(t *testing.T) {
	cfg := initNew(t)
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "tokens", "*", "token.object"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	now := func() string {
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := now()
	for range 2 {
		tok, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if now() != before {
			t.Error("a login wrote token.object")
		}
		if err := tok.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	wrong := cfg
	wrong.PIN = []byte("not this one")
	if _, err := Open(t.Context(), wrong); fault.KindOf(err) != fault.Unauthorized {
		t.Errorf("a wrong PIN: %v", err)
	}
	if now() == before {
		t.Error("that a PIN was wrong is not written down")
	}
}

// TestWrappedSignaturesKeepNoMemory: SoftHSM2 as Debian has it keeps 280 bytes of each; the built-in one is patched.
func TestWrappedSignaturesKeepNoMemory(t *testing.T) {
	tok := openNew(t)
	wrapped, pub, err := tok.GenerateWrapped(ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	s := tok.WrappedSigner(wrapped, pub)
	sign := func(n int) {
		for range n {
			if _, err := s.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
	}
	sign(10000) // until Go's and the C library's heaps have their size
	before := resident(t)
	sign(40000)
	if grown := resident(t) - before; grown > 6<<20 { // unpatched: 11 MB
		t.Errorf("40,000 signatures with a wrapped key keep %d KB", grown>>10)
	}
}

// resident returns the bytes of memory that this process holds (proc(5), statm).
func resident(t *testing.T) int {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
