package evidence

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A good pack is valid for who trusts root and log key, and short of that nothing in it is wrong.
func TestPack(t *testing.T) {
	f := newFixture(t)
	var b bytes.Buffer
	if err := WritePack(context.Background(), &b, f.pack); err != nil {
		t.Fatal(err)
	}
	r := verify(t, b.Bytes(), f.trusting())
	if r.Verdict != Valid || r.ExitCode != 0 {
		t.Fatal(r.Text())
	}
	for name, o := range map[string]VerifyOptions{
		"no log key": {JudgePDF: f.trusting().JudgePDF},
		"no root":    {LogKeys: f.trusting().LogKeys},
		"nothing":    {},
	} {
		if r := verify(t, b.Bytes(), o); r.Verdict != CouldNotJudge || r.ExitCode != 2 {
			t.Errorf("%s: %s", name, r.Text())
		}
	}
	if r := verify(t, b.Bytes(), VerifyOptions{LogKeys: []string{"other+12345678+AAAA"}}); failed(r, "checkpoint") == "" {
		t.Errorf("another log key is trusted, and the pack passed: %s", r.Text())
	}
	var again bytes.Buffer
	if err := WritePack(context.Background(), &again, f.pack); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("the same pack was written otherwise", err)
	}
}

// Other programs read the archive as we do.
func TestArchiveIsAZipFile(t *testing.T) {
	f := newFixture(t)
	data := f.archive(t)
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	ours := must[[]entry](t)(decodeArchive(data))
	if len(z.File) != len(ours) {
		t.Fatalf("%d files, not %d", len(z.File), len(ours))
	}
	for i, file := range z.File {
		r := must[io.ReadCloser](t)(file.Open())
		got := must[[]byte](t)(io.ReadAll(r))
		if file.Name != ours[i].name || !bytes.Equal(got, ours[i].data) {
			t.Errorf("file %d is %s for archive/zip, %s here", i, file.Name, ours[i].name)
		}
	}
	path := filepath.Join(t.TempDir(), "pack.zip")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("python3", "-c", "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print(len(z.namelist()))", path).CombinedOutput(); err != nil {
		t.Errorf("python3 (Debian package python3) does not read the pack: %v\n%s", err, out)
	}
}
