package doctor

import (
	"context"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

const (
	maxLag     = time.Minute
	tokenAge   = 366 * 24 * time.Hour
	drillAge   = 100 * 24 * time.Hour
	cureBackup = "on the backup host: appliance doctor, systemctl status aes-receiver; here: appliance backup status (/usr/share/doc/aes-appliance/operations.md, \"The backup is behind\")"
	cureDrill  = "on the backup host: appliance receiver allow-restore; then: appliance backup drill --from HOST --code - --identity FILE"
)

func (e *exam) backup(ctx context.Context, s *sheet) {
	st, err := e.signer.backup(ctx)
	if err != nil {
		s.unasked("backup.enrolled", err)
		s.unasked("backup.head", err)
	} else {
		judgeBackup(s, st)
	}
	said, err := e.signer.examined(ctx)
	if err != nil {
		s.unasked("backup.token", err)
		s.unasked("backup.copy", err)
		s.unasked("backup.drill", err)
		return
	}
	e.tokenBackup(s, said)
	e.copyVerified(s, said, st)
	e.drill(s, said, st)
}

func judgeBackup(s *sheet, st wire.BackupStatus) {
	const enrolled, head = "backup.enrolled", "backup.head"
	lag := time.Duration(st.Lag) * time.Millisecond
	switch st.State {
	case "none":
		s.warn(enrolled, "appliance backup enrol --to HOST: until then one broken disk loses everything", "no backup host is enrolled")
		return
	case "disabled":
		s.warn(enrolled, "appliance backup enrol --to HOST", "the backup host was given up at %s: %s", st.DisabledAt.Format(time.RFC3339), st.Reason)
		return
	case "mismatch":
		s.bad(enrolled, "/usr/share/doc/aes-appliance/operations.md, \"The backup disagrees\": nothing is signed; change nothing before you know which of the two is right", "the log is not what the backup cosigned: %s", st.Mismatch)
		return
	}
	switch {
	case !st.Connected:
		s.bad(enrolled, cureBackup, "%s is enrolled and not connected: %s", st.Address, orElse(st.Trouble, "no reason is known"))
	case st.State == "comparing":
		s.warn(enrolled, "wait; signing begins when it is done", "the log is being compared with %s", st.Address)
	case st.State == "catching-up":
		s.warn(enrolled, "wait: appliance backup status --wait 10m; answers do not wait for the backup until then", "%s is connected and has not held everything yet", st.Address)
	default:
		s.ok(enrolled, "%s is enrolled and connected (%s)", st.Address, st.State)
	}
	if lag > maxLag {
		s.bad(head, cureBackup, "the backup has cosigned %d of %d lines; the oldest that it lacks is %s old", st.Lines, st.LogLines, lag.Round(time.Second))
	} else {
		s.ok(head, "the backup has cosigned %d of %d lines, at %s", st.Lines, st.LogLines, st.At.Format(time.RFC3339))
	}
	s.findings[len(s.findings)-1].with("lines", st.LogLines).with("cosigned", st.Lines).with("lag", lag)
}

func (e *exam) tokenBackup(s *sheet, said wire.Examined) {
	b := said.TokenBackup
	age := e.Now().Sub(b.At)
	const check = "backup.token"
	switch {
	case b.Recipients == 0:
		s.bad(check, "age-keygen on another machine; set token.backup_recipients; systemctl restart aes-signer; appliance backup token", "the token is not backed up: token.backup_recipients is empty, and a lost disk is a lost appliance")
	case b.At.IsZero():
		s.bad(check, "appliance backup token", "the token was never backed up")
	case b.Due:
		s.bad(check, "appliance backup token; if it fails: "+cureSigner, "the token has changed since its backup of %s", b.At.Format(time.DateOnly))
	case age > tokenAge:
		s.warn(check, "appliance backup token, and see that the recipients' identities can still be found and opened", "the token's backup is %s old", days(age))
	default:
		s.ok(check, "the token is backed up as it is, %s ago (recipients: %d)", days(age), b.Recipients)
	}
	if !b.At.IsZero() {
		s.findings[len(s.findings)-1].with("at", b.At)
	}
}

// copyAge is how old the last verification of the backup's copy may be: a timer makes one monthly.
const copyAge = 40 * 24 * time.Hour

func (e *exam) copyVerified(s *sheet, said wire.Examined, st wire.BackupStatus) {
	const check, cure = "backup.copy", "systemctl status aes-drill.timer; journalctl -u aes-drill; now: appliance backup drill --copy"
	c := said.Copy
	switch {
	case st.Address == "" || !st.DisabledAt.IsZero():
		s.ok(check, "there is no copy to verify: no backup host is enrolled")
	case c.At.IsZero() && e.Now().Sub(st.EnrolledAt) <= copyAge:
		s.ok(check, "what the backup holds was not fetched yet: a timer does so monthly")
	case c.At.IsZero():
		s.warn(check, cure, "what the backup holds was never fetched and verified")
	case e.Now().Sub(c.At) > copyAge:
		s.warn(check, cure, "what the backup holds was last fetched and verified %s ago", days(e.Now().Sub(c.At))).with("at", c.At)
	default:
		s.ok(check, "what the backup holds was fetched and verified %s ago, %d lines", days(e.Now().Sub(c.At)), c.Lines).with("at", c.At)
	}
}

func (e *exam) drill(s *sheet, said wire.Examined, st wire.BackupStatus) {
	const check = "backup.drill"
	d := said.Drill
	switch {
	case d.At.IsZero() && st.Address == "":
		s.warn(check, "enrol a backup host first", "no restore drill was ever held")
	case d.At.IsZero():
		s.warn(check, cureDrill, "no restore drill was ever held: nobody knows that the backup can be restored")
	case e.Now().Sub(d.At) > drillAge:
		s.warn(check, cureDrill, "the last restore drill was held %s ago", days(e.Now().Sub(d.At))).with("at", d.At)
	default:
		s.ok(check, "the last restore drill was held %s ago, over %d lines", days(e.Now().Sub(d.At)), d.Lines).with("at", d.At)
	}
}
