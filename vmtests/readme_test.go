//go:build vm

package vmtests

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/vmtests/machine"
)

// TestReadme follows README.md's section for operators, command by command as it is written there, on two fresh machines and a booking app's. It does between them
// what the text has people do: fills in the answers, carries the join code, copies the root certificate. It runs before all others and beside none, one release after the other, for its time counts.
func TestReadme(t *testing.T) {
	inContainers(t)
	oneByOne(t, followReadme)
}

func followReadme(t *testing.T, d machine.Debian) {
	e := newEstate(t, d)
	r := &reader{life: &life{estate: e, deb: built(t, debs), at: atPrimary}, app: t.TempDir()}
	r.archive = e.newArchive(t, "apt", r.deb)
	e.boot(map[string]int{"primary": atPrimary, "backup": atBackup})
	for _, c := range operatorCommands(t) {
		line := placeholders.Replace(c.line)
		switch c.host {
		case "app":
			r.onApp(t, line)
		case "both":
			together([]string{"primary", "backup"}, func(host string) { r.follow(t, host, line) })
		default:
			r.follow(t, c.host, line)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if !r.signed {
		t.Fatal("README.md's commands end without a prescription")
	}
	t.Logf("from the installation to the first signed prescription, the commands that it takes: %v\n%s", r.took.Round(100*time.Millisecond), strings.Join(r.taken, "\n"))
	if len(r.taken) > 3 {
		t.Error("that is more than 3 commands")
	}
	if load := busy(t); r.took > firstLimit && load < 2 {
		t.Errorf("that is more than %v", firstLimit)
	} else if r.took > firstLimit {
		t.Logf("that is more than %v, on a machine of load %.1f: it is not judged", firstLimit, load)
	}
}

// firstLimit is how long a fresh machine may take from the installation to the first signed prescription.
const firstLimit = time.Minute

// placeholders are the names that README.md says stand for one's own, and what they are here.
var placeholders = strings.NewReplacer("https://apt.example.org", "http://packages.veripath.test/apt", "sign.example.org", "sign.clinic.test", "backup.example.org", "backup.veripath.test")

// command is a line of README.md.
type command struct{ host, line string }

var prompt = regexp.MustCompile(`^    (both|primary|backup|app)[#$] (.+)$`)

// operatorCommands are the commands of README.md's section for operators, in their order. A code line that is none fails: nothing there goes untried.
func operatorCommands(t *testing.T) (all []command) {
	t.Helper()
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## Operating it\n")
	section, _, ended := strings.Cut(section, "\n## ")
	if !found || !ended {
		t.Fatal(`README.md has no section "Operating it"`)
	}
	for line := range strings.Lines(section) {
		line = strings.TrimRight(line, "\n")
		if m := prompt.FindStringSubmatch(line); m != nil {
			all = append(all, command{m[1], m[2]})
		} else if strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "```") {
			t.Fatalf("README.md: nobody knows where this is to be run: %q", line)
		}
	}
	return all
}

// reader is somebody who follows README.md.
type reader struct {
	*life
	app    string        // the booking app's folder
	taken  []string      // the commands without which there is no prescription: on the primary from the installation on, and the booking app's
	took   time.Duration // all of them
	signed bool          // the first prescription is there
}

// look is what an operator sees by, or fills in: it changes nothing on the machine.
var look = regexp.MustCompile(`^appliance (doctor|status|backup status)\b|--example`)

// follow runs a command, and does by hand what the text says is to be done after it.
func (r *reader) follow(t *testing.T, host, line string) {
	t.Helper()
	if line == "appliance doctor" {
		r.examine(t, host, line)
		return
	}
	began := time.Now()
	out := r.on(t, host, line)
	if begun := len(r.taken) > 0 || strings.Contains(line, "apt-get install"); host == "primary" && begun && !r.signed && !look.MatchString(line) {
		r.takes("primary# "+line, began)
	}
	switch {
	case strings.HasSuffix(line, ">answers.toml"):
		r.fillIn(t, host)
	case host == "primary" && strings.Contains(line, "--answers"):
		r.put(t, "backup", "/root/join-code", 0o600, r.code(t, out)+"\n")
		r.root = r.on(t, host, "cat /var/lib/aes-appliance/carry-off/root.pem")
	case line == "appliance status" && !strings.Contains(out, "aes-signer active"):
		t.Errorf("status says\n%s", out)
	}
}

// takes counts a command that the first prescription takes.
func (r *reader) takes(line string, began time.Time) {
	took := time.Since(began)
	r.took += took
	r.taken = append(r.taken, fmt.Sprintf("%6.1f s  %s", took.Seconds(), line))
}

// examine runs the doctor: a container has no clock of its own; nothing else may be bad.
func (r *reader) examine(t *testing.T, host, line string) {
	t.Helper()
	out, err := r.try(host, line)
	if exit := new(machine.ExitError); err != nil && !(errors.As(err, &exit) && exit.Code == 1) {
		t.Fatalf("%s: %v", host, err)
	}
	t.Logf("%s# %s\n%s", host, line, out)
	for _, f := range r.examined(t, host, host) {
		part, _, _ := strings.Cut(f.Check, ".")
		if f.Verdict == "bad" && part != "clock" {
			t.Errorf("%s: the doctor calls %s bad: %s (%s)", host, f.Check, f.Text, f.Cure)
		}
	}
}

// fillIn edits the answers as an operator does: a key that is in the file as printed, commented out.
func (r *reader) fillIn(t *testing.T, host string) {
	t.Helper()
	answers := r.backupAnswers()
	if host == "primary" {
		r.put(t, "primary", "/root/realm-ca.pem", 0o644, r.provider.CA)
		answers = r.answers(t)
	}
	filled, section := r.on(t, host, "cat /root/answers.toml")+"\n", ""
	for line := range strings.Lines(answers) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, _ := strings.Cut(line, " = ")
		if strings.HasSuffix(key, "_rate") { // what only a test wants
			continue
		}
		head, rest, found := strings.Cut(filled, section+"\n")
		rest, tail, _ := strings.Cut(rest, "\n[")
		edited := regexp.MustCompile(`(?m)^#`+regexp.QuoteMeta(key)+` = .*$`).ReplaceAllLiteralString(rest, key+" = "+value)
		if !found || edited == rest {
			t.Fatalf("%s: the example has no %s in %s", host, key, section)
		}
		if tail != "" {
			tail = "\n[" + tail
		}
		filled = head + section + "\n" + edited + tail
	}
	r.put(t, host, "/root/answers.toml", 0o600, filled)
}

// onApp runs a command of the booking app's, with the program of docs/booking-app.md and the root certificate beside it.
func (r *reader) onApp(t *testing.T, line string) {
	t.Helper()
	r.furnishApp(t, r.app)
	token := r.provider.A.Login(t, oidctest.Doctor()).Access
	began := time.Now()
	out, err := r.appShell(t, r.app, line, "TOKEN="+token)
	if err != nil {
		t.Fatalf("app: %s: %v\n%s", line, err, out)
	}
	if !r.signed {
		r.signed = true
		r.takes("app$ "+line, began)
	}
	t.Logf("app$ %s\n%s", line, out)
	pdf := r.life.client(t).get(t, "/api/pdf/RX-1")
	file := r.app + "/rx.pdf"
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	r.verify(t, file, r.app+"/root.pem")
}

// furnishApp gives a folder of the booking app's the program that docs/booking-app.md shows, and the appliance's root certificate.
func (l *life) furnishApp(t *testing.T, dir string) {
	t.Helper()
	page, err := os.ReadFile("../docs/booking-app.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(page), "```python\n")
	program, _, found := strings.Cut(program, "\n```")
	if !found {
		t.Fatal("docs/booking-app.md shows no Python")
	}
	for name, text := range map[string]string{"booking_app.py": program, "root.pem": l.root} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// appShell runs a line of shell on the host "app", in dir. The names are looked up in /etc/hosts, which is this machine's: the app has one of its own, in a mount namespace.
func (l *life) appShell(t *testing.T, dir, line string, env ...string) (string, error) {
	t.Helper()
	cmd := l.lab.Command(t.Context(), "app", "unshare", "--mount", "--propagation=private", "sh", "-ec", fmt.Sprintf(
		`printf '198.18.0.%d sign.clinic.test pki.clinic.test\n' >$0/hosts; mount --bind $0/hosts /etc/hosts; cd "$0"; %s`, l.at, line), dir)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
