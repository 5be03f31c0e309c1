package doctor

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/veripath/aes-appliance/internal/alarm"
	"github.com/veripath/aes-appliance/internal/replica"
	"github.com/veripath/aes-appliance/internal/setup"
	"github.com/veripath/aes-appliance/internal/wire"
)

const cureReceiver = "systemctl status aes-receiver; journalctl -u aes-receiver -n 50"

// host is the backup host's state, looked at and not changed.
func (e *exam) host() (*replica.Host, error) { return replica.LookAtHost(e.Receiver.StateDir, e.Now) }

// held are the copies of a backup host, none when they cannot be read.
func (e *exam) held() []replica.Held {
	h, err := e.host()
	if err != nil {
		return nil
	}
	list, err := h.Held()
	if err != nil {
		return nil
	}
	return list
}

func (e *exam) copies(ctx context.Context, s *sheet) {
	h, err := e.host()
	if err != nil {
		s.bad("copies.held", "systemctl start aes-receiver makes it; then: appliance receiver --join -", "this host has no state in %s: %s", e.Receiver.StateDir, textOf(err))
		return
	}
	list, err := h.Held()
	if err != nil {
		s.bad("copies.held", cureReceiver, "the copies cannot be read: %s", textOf(err))
		return
	}
	if len(list) == 0 {
		s.warn("copies.held", "on the primary: appliance backup enrol --to HOST; here: appliance receiver --join -", "this host keeps no log yet")
	}
	log := &sheet{group: "log"}
	for _, one := range list {
		if one.Damage != "" {
			s.bad("copies.held", "keep "+one.Dir+" as it is; on the primary: appliance backup replace, to this host with another state folder or to another host", "%s: the copy is damaged: %s", one.Origin, one.Damage)
			continue
		}
		s.ok("copies.held", "%s: %d lines", one.Origin, one.Lines).with("origin", one.Origin).with("lines", one.Lines)
		most := 3 * e.Receiver.Alarm.Silence
		switch age := e.Now().Sub(one.Cosigned); {
		case one.Cosigned.IsZero():
			s.bad("copies.fresh", cureReceiver+"; on the primary: appliance backup status", "%s was never cosigned", one.Origin)
		case age > most:
			s.bad("copies.fresh", "on the primary: appliance doctor, appliance backup status; it dials this host", "%s was last cosigned %s ago", one.Origin, days(age)).with("cosigned_at", one.Cosigned)
		default:
			s.ok("copies.fresh", "%s was cosigned %s ago", one.Origin, age.Round(1e9)).with("cosigned_at", one.Cosigned)
		}
		if one.Refusals > 0 {
			s.warn("copies.refusals", "read "+filepath.Join(one.Dir, replica.RefusalsFile)+" and /usr/share/doc/aes-appliance/operations.md, \"The backup refuses what comes\"", "%s: %d times something was refused", one.Origin, one.Refusals)
		} else {
			s.ok("copies.refusals", "%s: nothing was ever refused", one.Origin)
		}
		of := " of " + one.Origin
		e.recent(log, one.Dir, of, true, "")
		e.whole(ctx, log, one.Dir, of, false, wire.Status{})
	}
	e.receiverAnswers(ctx, s, h)
	s.findings = append(s.findings, log.findings...)
}

// receiverAnswers makes a handshake with this host's own listener: it must show the key that primaries were told.
func (e *exam) receiverAnswers(ctx context.Context, s *sheet, h *replica.Host) {
	_, port, err := net.SplitHostPort(e.Receiver.Listen)
	if err != nil {
		port = "7443"
	}
	at := net.JoinHostPort(e.local(e.Receiver.Listen), port)
	conn, err := e.m.Dial(ctx, "tcp", at)
	if err != nil {
		s.bad("copies.listener", cureReceiver, "nobody answers on %s: %v", at, err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var shown *x509.Certificate
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, VerifyConnection: func(st tls.ConnectionState) error { // by its key, below
		shown = st.PeerCertificates[0]
		return nil
	}})
	err = c.HandshakeContext(ctx)
	if shown == nil {
		s.bad("copies.listener", cureReceiver, "%s answers, but not as a receiver: %v", at, err)
		return
	}
	switch key, ok := shown.PublicKey.(ed25519.PublicKey); {
	case !ok || replica.Pin(key) != h.Identity.Pin():
		s.bad("copies.listener", "restart it after \"receiver rotate-key\": systemctl restart aes-receiver; else find out who listens there: ss -ltnp", "%s answers with another key than this host's", at)
	default:
		s.ok("copies.listener", "the receiver answers on %s with this host's key", at)
	}
}

func (e *exam) alarm(ctx context.Context, s *sheet) {
	cfg, try := e.Appliance.Alarm, "then: appliance doctor test-alarm"
	if e.Role == Backup {
		cfg, try = e.Receiver.Alarm, "then: appliance receiver test-alarm"
	}
	ways := alarm.New(cfg, "", slog.New(slog.DiscardHandler)).Channels()
	if len(ways) == 0 {
		s.warn("alarm.ways", "set alarm.command, alarm.webhook_file or alarm.mail_server; "+try, "this host cannot call for help by itself")
		return
	}
	seen := len(s.findings)
	if cfg.Webhook != "" {
		e.alarmSecret(ctx, s, "the webhook's address", cfg.Webhook, try)
	}
	if cfg.MailHost != "" && cfg.MailFile != "" {
		e.alarmSecret(ctx, s, "the mail server's password", cfg.MailFile, try)
	}
	if len(s.findings) == seen {
		s.ok("alarm.ways", "this host calls for help by %s", strings.Join(ways, ", "))
	}
}

// alarmSecret looks for a secret that a way of the alarm takes, and does not read it: the file itself, or, while no service has it, the credential that systemd would decrypt for one.
func (e *exam) alarmSecret(ctx context.Context, s *sheet, what, path, try string) {
	const check = "alarm.ways"
	info, err := os.Stat(e.m.path(path))
	unit, c := setup.CredentialAt(path)
	switch {
	case err == nil && info.Size() > 0:
		return
	case errors.Is(err, fs.ErrPermission):
		s.unknown(check, "run it as root", "whether the alarm has %s cannot be seen: %v", what, err)
		return
	case unit == "":
		s.bad(check, "write it there, for the service alone to read; "+try, "the alarm does not work: %s is to be in %s, and is not", what, path)
		return
	}
	sealed, given := e.sealedFor(ctx, unit, c)
	cure := setup.Sealing(c.Name, "-", sealed) + " takes it from the keyboard, to ctrl-D; " + try
	if !given {
		s.bad(check, "systemctl edit "+unit+", [Service] LoadCredentialEncrypted="+c.Name+":"+filepath.Base(sealed)+"; "+cure, "the alarm does not work: no credential gives %s to %s", what, unit)
		return
	}
	if info, err := os.Stat(e.m.path(sealed)); err != nil || info.Size() == 0 {
		s.bad(check, cure, "the alarm does not work: %s is to be in %s, and is not", what, sealed)
		return
	}
	if !e.opens(ctx, c.Name, sealed) {
		s.bad(check, "rm "+sealed+"; "+cure, "the alarm does not work: this machine cannot decrypt %s in %s (another TPM2, or another machine's disk)", what, sealed)
	}
}

// sealedFor returns in which file a unit's encrypted credential is: what its drop-ins say, the last of which counts, or, given = false, where setup would put it. Where systemd does not
// tell the drop-ins, one is taken to be there. The unit's own file gives none to a primary.
func (e *exam) sealedFor(ctx context.Context, unit string, c setup.Credential) (file string, given bool) {
	file = c.Path()
	p, err := e.show(ctx, unit, "DropInPaths")
	if err != nil {
		return file, true
	}
	for _, path := range strings.Fields(p["DropInPaths"]) {
		text, err := e.m.read(path)
		if err != nil {
			continue // services.overrides says so
		}
		settings, err := parseUnit(text)
		if err != nil {
			continue
		}
		for _, one := range settings {
			if id, from, _ := strings.Cut(one.value, ":"); one.name == "LoadCredentialEncrypted" && id == c.Name {
				if given, file = true, from; !filepath.IsAbs(from) {
					file = filepath.Join(setup.CredentialStore, from)
				}
			}
		}
	}
	return file, given
}
