package setup

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Transcript is the record of a key ceremony that people sign.
type Transcript struct {
	Host         string
	Organisation string
	At           time.Time
	Clock        string // how the time is known
	LedBy        string
	Witnesses    []string
	Version      string
	Program      [32]byte // SHA-256
	Root         *x509.Certificate
	Authorities  []Authority
	LogKey       string
	Lines        uint64
	Head         string // hash of the log's last line
	Sealed       []byte
	SealedName   string
	Recipients   []string
	Opened       bool // the sealed root was opened once as a check
	Swap         bool // memory could have gone to a disk meanwhile
	Demo         bool
}

// Authority is a CA that the root certified.
type Authority struct {
	Kind        string
	Certificate *x509.Certificate
}

// Text is the transcript, 78 columns wide.
func (t Transcript) Text() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("KEY CEREMONY: TRANSCRIPT\n")
	if t.Demo {
		line("THIS APPLIANCE IS A DEMO. Nothing of it can be taken for real.\n")
	}
	line("For            %s", t.Organisation)
	line("On the host    %s", t.Host)
	line("At             %s", t.At.UTC().Format("2006-01-02 15:04:05 UTC"))
	line("               %s", t.Clock)
	line("Led by         %s", t.LedBy)
	for i, w := range t.Witnesses {
		line("%-15s%s", map[bool]string{true: "Witnessed by"}[i == 0], w)
	}
	line("Software       aes-appliance %s, of which the program has the SHA-256", t.Version)
	t.speak(&b, t.Program[:])
	t.done(line)
	line("\nROOT CERTIFICATE")
	t.certificate(&b, t.Root)
	for _, a := range t.Authorities {
		line("\n%s", strings.ToUpper(strings.ReplaceAll(a.Kind, "-", " ")))
		t.certificate(&b, a.Certificate)
	}
	line("\nAUDIT LOG")
	line("  Key          %s", t.LogKey)
	line("  When this was written it had %d lines, the last with the hash", t.Lines)
	line("    %s", t.Head)
	line("\nSEALED ROOT")
	line("  File         %s, %d bytes", t.SealedName, len(t.Sealed))
	line("  SHA-256")
	sum := sha256.Sum256(t.Sealed)
	t.speak(&b, sum[:])
	for _, r := range t.Recipients {
		line("  Opened by the identity of\n    %s", r)
	}
	line("\nTO BE DONE BY THOSE PRESENT")
	line("  [ ] The SHA-256 of the program above is that of the release, as another")
	line("      source than this machine gives it.")
	line("  [ ] The SHA-256 of the root certificate was read aloud from the screen and is")
	line("      the one above.")
	line("  [ ] The file of the sealed root was copied to two media, its SHA-256 compared")
	line("      there, and the media locked away in two places, apart from identities.")
	line("  [ ] It was removed from the appliance after that.\n")
	for _, who := range append([]string{t.LedBy}, t.Witnesses...) {
		line("\n  %-34s ______________________  ____________", who)
	}
	line("  %-34s %-22s  %s", "Name", "Signature", "Date")
	return b.Bytes()
}

// done says what was done.
func (t Transcript) done(line func(string, ...any)) {
	line("\nWHAT WAS DONE")
	line("  1. A process of its own, as the signer's user, made a PKCS#11 token in memory")
	line("     with a random PIN of 128 bits, and in it the root's key (ECDSA P-384).")
	line("  2. It signed the root certificate, those of %d CAs whose keys are in the", len(t.Authorities))
	line("     appliance's own token, and the root's revocation list.")
	line("  3. It sealed the root's token, with its PIN, to %d age recipient(s), and", len(t.Recipients))
	line("     ended. The PIN was known to that process only, and is nowhere but in the")
	line("     sealed file.")
	if t.Opened {
		line("  4. The sealed file was opened once, as a check, with an identity that was on")
		line("     the appliance for that. A root that is meant to last is not tested so.")
	}
	line("  The root's token was in memory and in no file on a disk; there is nothing")
	line("  of it to be erased.")
	if t.Swap {
		line("  But this machine had swap space in use as memory, which is on a disk: what was")
		line("  in memory can have reached it, and deletion on an SSD is not erasure.")
	}
}

func (t Transcript) certificate(b *bytes.Buffer, c *x509.Certificate) {
	key := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	sum := sha256.Sum256(c.Raw)
	fmt.Fprintf(b, "  Subject      %s\n  Serial       %032x\n  Valid        %s to %s\n  SHA-256 of the certificate (DER)\n",
		c.Subject, c.SerialNumber, c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
	t.speak(b, sum[:])
	fmt.Fprintf(b, "  SHA-256 of its key (SubjectPublicKeyInfo)\n")
	t.speak(b, key[:])
}

func (t Transcript) speak(b *bytes.Buffer, sum []byte) {
	for line := range strings.Lines(Speak(sum)) {
		b.WriteString("    " + strings.TrimSpace(line) + "\n")
	}
}
