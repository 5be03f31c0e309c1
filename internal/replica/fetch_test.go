package replica

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
)

// fetchable is a folder of a backup that holds lines and objects, and by whose keys.
func fetchable(t *testing.T) (dir string, trust Trust, log []byte) {
	t.Helper()
	p := openPrimary(t, t.TempDir(), "a.example/log")
	held := t.TempDir()
	b := startBackup(t, backupOptions{dir: held, peers: []Peer{peerOf(t, "a.example/log")}})
	s := p.shipper(b, &memoryStore{})
	stop := run(t, s)
	p.tick(300)
	for _, content := range []string{"one", "two"} {
		p.sign(content)
	}
	size, _ := p.log.Head()
	waitFor(t, s, size)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.stop()
	log = exported(t, p.log)
	dir = filepath.Join(held, LogID("a.example/log"))
	return dir, Trust{Origin: "a.example/log", LogKey: logKeyOf(t, "a.example/log"), Cosigner: b.rcv.Key().String()}, log
}

func TestFetchBringsWhatIsCosigned(t *testing.T) {
	dir, trust, log := fetchable(t)
	src, origin, err := OpenFolder(dir)
	if err != nil || origin != trust.Origin {
		t.Fatal(origin, err)
	}
	to := t.TempDir()
	got, err := Fetch(t.Context(), src, trust, to)
	if err != nil || got.Objects != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	lines, err := os.ReadFile(filepath.Join(to, LogFile))
	if err != nil || !bytes.Equal(lines, log) {
		t.Errorf("%d bytes of %d, %v", len(lines), len(log), err)
	}
}

// TestFetchRefuses spoils a copy in each way that there is.
func TestFetchRefuses(t *testing.T) {
	dir, trust, log := fetchable(t)
	other := trust
	other.Cosigner = strings.Replace(trust.Cosigner, "+", "x+", 1)
	write := func(name string, data []byte) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), data, 0o600) }
	}
	object := func(f func(path string) error) func(string) error {
		return func(dir string) error {
			found, err := filepath.Glob(filepath.Join(dir, objectsDir, "??", "*"))
			if err != nil || len(found) == 0 {
				t.Fatal(found, err)
			}
			return f(found[0])
		}
	}
	edited := bytes.Replace(log, []byte(`"actor":"`), []byte(`"actor":"x`), 1)
	for what, c := range map[string]struct {
		spoil func(dir string) error
		trust Trust
		kind  fault.Kind
	}{
		"a line edited":         {write(LogFile, edited), trust, fault.Corrupt},
		"the end cut off":       {write(LogFile, log[:bytes.LastIndexByte(log[:len(log)-1], '\n')+1]), trust, fault.Corrupt},
		"the beginning cut off": {write(LogFile, log[bytes.IndexByte(log, '\n')+1:]), trust, fault.Corrupt},
		"no state":              {write(stateName, make([]byte, 2*slotSize)), trust, fault.NotFound},
		"an object gone":        {object(os.Remove), trust, fault.NotFound},
		"an object changed":     {object(func(p string) error { return os.WriteFile(p, []byte("evil"), 0o600) }), trust, fault.Invalid},
		"another log's key":     {func(string) error { return nil }, Trust{trust.Origin, logKeyOf(t, "b.example/log"), trust.Cosigner}, fault.Corrupt},
		"a key that is no key":  {func(string) error { return nil }, other, fault.Internal},
		"another log's origin":  {func(string) error { return nil }, Trust{"b.example/log", logKeyOf(t, "b.example/log"), trust.Cosigner}, fault.Corrupt},
	} {
		spoilt := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(spoilt, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(spoilt); err != nil {
			t.Fatal(err)
		}
		src, _, err := OpenFolder(spoilt)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Fetch(t.Context(), src, c.trust, t.TempDir()); err == nil || fault.KindOf(err) != c.kind {
			t.Errorf("%s: %d lines, %v of kind %v", what, got.Size, err, fault.KindOf(err))
		}
	}
	if _, _, err := OpenFolder(t.TempDir()); fault.KindOf(err) != fault.NotFound {
		t.Errorf("an empty folder: %v", err)
	}
}
