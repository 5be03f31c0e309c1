//go:build builtin_softhsm

package token

import (
	"crypto"
	"os"
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
