package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/veripath/aes-appliance/internal/porttest"
	"github.com/veripath/aes-appliance/internal/signer"
)

// TestSetup sets a primary up by answers, signs, and does it again: then nothing changes.
func TestSetup(t *testing.T) {
	p := newPlot(t)
	out, problems, code := p.finish(t, "--answers", p.answers)
	if code != exitGood {
		t.Fatalf("exit code %d\n%s%s", code, out, problems)
	}
	t.Log(out)
	p.check(t)
	p.sign(t)
	before := p.facts(t)
	again, problems, code := p.finish(t)
	if code != exitGood {
		t.Fatalf("again: exit code %d\n%s%s", code, again, problems)
	}
	if after := p.facts(t); after != before {
		t.Errorf("a second run changed something:\n%s\n%s", before, after)
	}
	if _, problems, code := p.finish(t, "--role", "backup"); code != exitBad || !strings.Contains(problems, "begun with another role") {
		t.Errorf("as a backup host: exit code %d, %s", code, problems)
	}
	if strings.Count(again, "there already") < 5 {
		t.Errorf("the second run says\n%s", again)
	}
	p.check(t)
}

// facts are the files that setup must not write twice, with their sums; what the services write is left out.
func (p *plot) facts(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, pattern := range []string{"etc/*/*", "var/lib/aes-appliance/*", "var/lib/aes-appliance/carry-off/*", "var/lib/aes-appliance/signer/root.pem"} {
		found, err := filepath.Glob(p.path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			info, err := os.Stat(f)
			if err != nil || info.IsDir() {
				continue
			}
			sum, err := sumFile(f)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %v %v %x\n", f, info.Mode(), info.ModTime(), sum[:4])
		}
	}
	return b.String()
}

// TestSetupKilled kills setup at every step, early and late in it, and goes on: what comes out is the same as without.
func TestSetupKilled(t *testing.T) {
	p := newPlot(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 1))
	killed, begun := 0, 0
	for ; ; begun++ {
		if begun > 60 {
			t.Fatal("it does not come to an end")
		}
		cmd, r, problems := p.setup(t, "--answers", p.answers)
		// Of the lines that it writes, one more is waited for each other time, and now and then a moment longer.
		var said strings.Builder
		for seen := 0; seen < 3+begun/2; {
			c, err := r.ReadByte()
			if err != nil {
				break
			}
			if said.WriteByte(c); strings.HasSuffix(said.String(), "  ") && !strings.HasSuffix(said.String(), "   ") || c == '\n' {
				seen++
			}
		}
		time.Sleep(time.Duration(random.IntN(250)) * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_, _ = io.Copy(&said, r)
		_ = cmd.Wait()
		if cmd.ProcessState.Exited() {
			if code := cmd.ProcessState.ExitCode(); code != exitGood {
				t.Fatalf("run %d: exit code %d\n%s%s", begun, code, &said, problems)
			}
			break
		}
		killed++
	}
	t.Logf("%d of %d runs were killed", killed, begun+1)
	if killed < 8 {
		t.Errorf("only %d runs were killed", killed)
	}
	p.check(t)
	p.sign(t)
}

// TestTranscriptTellsOfTheCeremonyThatWasHeld: setup is killed once the appliance is founded, and goes on with other answers. The record that people sign names those who can open the
// sealed root, not those whom the last run was told.
func TestTranscriptTellsOfTheCeremonyThatWasHeld(t *testing.T) {
	p := newPlot(t)
	first, second := p.keeper, p.keeper
	for _, one := range []**age.X25519Identity{&first, &second} {
		var err error
		if *one, err = age.GenerateX25519Identity(); err != nil {
			t.Fatal(err)
		}
	}
	told, err := os.ReadFile(p.answers)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(keeper *age.X25519Identity) {
		p.write(t, "answers.toml", strings.Replace(string(told), "[ceremony]\n", fmt.Sprintf("[ceremony]\nroot_recipients = %q\n", keeper.Recipient()), 1))
	}
	tell(first)
	cmd, r, _ := p.setup(t, "--answers", p.answers)
	go io.Copy(io.Discard, r)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(p.path("var/lib/aes-appliance/founding/signer/audit_chain.jsonl")); err == nil {
			break
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	tell(second)
	if out, problems, code := p.finish(t, "--answers", p.answers); code != exitGood {
		t.Fatalf("exit code %d\n%s%s", code, out, problems)
	}
	sealed, err := os.ReadFile(p.glob(t, "var/lib/aes-appliance/carry-off/root-*.age"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := readCertificates(p.path("var/lib/aes-appliance/signer/root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	transcript, err := os.ReadFile(p.glob(t, "var/lib/aes-appliance/carry-off/ceremony-*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []*age.X25519Identity{first, second} {
		_, err := signer.OpenRoot(sealed, []byte(one.String()), roots[0])
		if opens, named := err == nil, strings.Contains(string(transcript), one.Recipient().String()); opens != named {
			t.Errorf("it opens: %t, and is named: %t\n%s", opens, named, transcript)
		}
	}
}

// TestSetupIsInterrupted: ctrl-C ends the questions at once, and nothing was changed.
func TestSetupIsInterrupted(t *testing.T) {
	p := newPlot(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, underFolder, string(p.units), "setup")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for _, question := range []string{"legal name", "Short name"} { // asked, and one answered
		for said := ""; !strings.HasSuffix(said, ": ") || !strings.Contains(said, question); {
			c, err := r.ReadByte()
			if err != nil {
				t.Fatalf("%v %s", err, &problems)
			}
			if said += string(c); c == '\n' {
				said = ""
			}
		}
		if question == "legal name" {
			io.WriteString(in, "Plot Ltd\n")
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	ended := make(chan error, 1)
	go func() { _, _ = io.Copy(io.Discard, r); ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatal("it goes on asking")
	}
	if code := cmd.ProcessState.ExitCode(); code != exitBad || !strings.Contains(problems.String(), "interrupted") {
		t.Errorf("exit code %d, %s", code, &problems)
	}
	if left, err := os.ReadDir(p.path("var/lib/aes-appliance")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestSetupRefuses: wrong answers and a machine that is not fit change nothing.
func TestSetupRefuses(t *testing.T) {
	p := newPlot(t)
	good, err := os.ReadFile(p.answers)
	if err != nil {
		t.Fatal(err)
	}
	tree := func() string {
		var names []string
		_ = filepath.WalkDir(string(p.units), func(path string, _ os.DirEntry, err error) error {
			names = append(names, strings.TrimPrefix(path, string(p.units)))
			return err
		})
		return strings.Join(names, "\n")
	}
	for _, c := range []struct {
		old, new string
		made     string // a file that is there
		want     []string
	}{
		{`name = "Plot"`, `nam = "Plot"`, "", []string{"pki.nam is not known", "pki.name is missing"}},
		{`country = "GB"`, `country = "UK"`, "", []string{"pki.country", "GB"}},
		{`mode = "unproven"`, `mode = "unproven"` + "\n[log]\ntimestamp_url = \"http://x.example\"", "", []string{"log.timestamp_url"}},
		{`[clinician]`, "issuer_ca_file = \"/nowhere.pem\"\n[clinician]", "", []string{"cannot read /nowhere.pem"}},
		{`[clinic]`, "root_identity_file = \"fixed.json\"\n[clinic]", "", []string{"holds no age identity"}},
		{`tls = "own-ca"`, "tls = \"files\"\ncertificate_file = \"fixed.json\"\n[medicines]\n[setup]\ntls_key_file = \"fixed.json\"", "", []string{"is not TOML"}},
		{"", "", "etc/aes-appliance/receiver.toml", []string{"the other role"}},
		{"", "", "var/lib/aes-appliance/signer/precious", []string{"it is no appliance"}},
		{"", "", "var/lib/aes-appliance/signer/audit_chain.jsonl", []string{"PIN is not in"}},
		{"", "", "etc/aes-appliance/appliance.toml", []string{"cannot be read", "otherwise than the answers"}},
	} {
		p.write(t, "answers.toml", strings.Replace(string(good), c.old, c.new, 1))
		if c.made != "" {
			if err := os.MkdirAll(filepath.Dir(p.path(c.made)), 0o700); err != nil {
				t.Fatal(err)
			}
			text := "x"
			if strings.HasSuffix(c.made, "appliance.toml") {
				text = "[pki]\nname = \"Other\"\n"
			}
			p.write(t, c.made, text)
		}
		before := tree()
		out, problems, code := p.finish(t, "--answers", p.answers)
		if code != exitBad || !strings.Contains(problems, "nothing was changed") {
			t.Errorf("%q: exit code %d\n%s%s", c.new+c.made, code, out, problems)
		}
		found := false
		for _, want := range c.want {
			found = found || strings.Contains(problems, want)
		}
		if !found {
			t.Errorf("%q: %s", c.new+c.made, problems)
		}
		if after := tree(); after != before {
			t.Errorf("%q changed something:\n%s\n\n%s", c.new+c.made, before, after)
		}
		if c.made != "" {
			if err := os.Remove(p.path(c.made)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestSetupBackup sets both hosts up: the primary prints a code, the backup host takes it, and the primary finds it enrolled.
func TestSetupBackup(t *testing.T) {
	p, b := newPlot(t), newPlot(t)
	listen := fmt.Sprintf("127.0.0.1:%d", porttest.Reserve(t))
	good, err := os.ReadFile(p.answers)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "answers.toml", string(good)+"[backup]\naddress = \""+listen+"\"\n")
	out, problems, code := p.finish(t, "--answers", p.answers)
	if code != exitGood || !strings.Contains(out, "later: it joins with that code") {
		t.Fatalf("exit code %d\n%s%s", code, out, problems)
	}
	join := regexp.MustCompile(`(?m)^aes-join\.\S+$`).FindString(out)
	alarmed := b.path("alarmed")
	b.write(t, "alarm.sh", "#!/bin/sh\ncat >"+alarmed+"\n")
	if err := os.Chmod(b.path("alarm.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	fixed, err := json.Marshal(map[string]any{"state_dir": b.path("var/lib/aes-appliance/receiver"), "listen": listen})
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, "fixed.json", string(fixed))
	b.write(t, "code", join+"\n")
	b.write(t, "answers.toml", fmt.Sprintf("[setup]\ndemo = true\njoin_file = \"code\"\n[firewall]\nadmin_networks = \"192.0.2.7\"\nprimaries = \"127.0.0.1\"\n[alarm]\ncommand = %q\n", b.path("alarm.sh")))
	for range 2 { // the code is good once: a second run knows that it was taken
		out, problems, code = b.finish(t, "--role", "backup", "--answers", b.answers)
		if code != exitGood || !strings.Contains(out, "a test was sent by command") {
			t.Fatalf("exit code %d\n%s%s", code, out, problems)
		}
		until(t, "the log arrives", func() bool {
			found, err := filepath.Glob(b.path("var/lib/aes-appliance/receiver/logs/*/audit_chain.jsonl"))
			return err == nil && len(found) == 1
		})
	}
	if text, err := os.ReadFile(alarmed); err != nil || !strings.Contains(string(text), `"test"`) {
		t.Errorf("the alarm's test: %s %v", text, err)
	}
	until(t, "the primary finds it enrolled", func() bool {
		out, problems, code = p.finish(t)
		if code != exitGood {
			t.Fatalf("exit code %d\n%s%s", code, out, problems)
		}
		return strings.Contains(out, listen+", enrolled already: sync")
	})
	if strings.Contains(out, "aes-join.") {
		t.Errorf("another code was given out:\n%s", out)
	}
	p.sign(t)
}

// TestPrivateBackup: a backup host on a private network is let through by its address alone.
func TestPrivateBackup(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "192.0.2.1:7443": "", "10.1.2.3:7443 192.0.2.1:7443 [fd00::1]:7443": "10.1.2.3/32 fd00::1/128",
	} {
		if got := privateOf(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

// until asks again and again, for a minute.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a minute went by and not: " + what)
		}
	}
}
