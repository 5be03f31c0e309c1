package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVersionSorts: what later commits are called sorts after what earlier ones were, across tags.
func TestVersionSorts(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "packaging"), 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("version.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "packaging", "version.sh"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_COMMITTER_DATE=2026-11-22T01:02:03Z", "GIT_AUTHOR_DATE=2026-11-22T01:02:03Z"}
	try := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, env
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	in := func(name string, args ...string) string {
		t.Helper()
		out, err := try(name, args...)
		if err != nil {
			t.Fatal(name, args, err, out)
		}
		return out
	}
	if out, err := try("packaging/version.sh"); err == nil || !strings.Contains(out, "hint: make deb VERSION=") {
		t.Errorf("without git: %v %q", err, out)
	}
	in("git", "init", "-q")
	in("git", "add", ".")
	in("git", "commit", "-qm", "one")
	var versions []string
	note := func(want string) {
		t.Helper()
		v := in("packaging/version.sh")
		if !strings.HasPrefix(v, want) {
			t.Errorf("%s, want %s…", v, want)
		}
		versions = append(versions, v)
	}
	commit := func() { in("git", "commit", "-q", "--allow-empty", "-m", "more") }
	note("0.0.0+1.g")
	for range 9 {
		commit()
	}
	note("0.0.0+10.g")
	in("git", "tag", "v0.9.0")
	note("0.9.0")
	commit()
	note("0.9.0+1.g")
	if err := os.WriteFile(filepath.Join(dir, "packaging", "version.sh"), append(script, '\n'), 0o755); err != nil {
		t.Fatal(err)
	}
	note("0.9.0+1.g")
	in("git", "commit", "-qam", "changed")
	in("git", "tag", "v0.10.0")
	note("0.10.0")
	if !strings.HasSuffix(versions[4], ".dirty") {
		t.Errorf("%s does not say that it is of no commit", versions[4])
	}
	for i := 1; i < len(versions); i++ {
		in("dpkg", "--compare-versions", versions[i-1], "lt", versions[i])
	}
	if got := in("packaging/version.sh", "epoch"); got != "1795309323" {
		t.Errorf("the time of the commit is %s", got)
	}
	for _, bad := range []string{"v1", "1.0-1", "1 0", "1:2", ""} {
		env = append(env, "VERSION="+bad)
		if out, err := try("packaging/version.sh"); bad != "" && err == nil {
			t.Errorf("%q is taken: %s", bad, out)
		}
	}
}
