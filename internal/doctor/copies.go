package doctor

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"path/filepath"
	"strings"

	"github.com/veripath/aes-appliance/internal/alarm"
	"github.com/veripath/aes-appliance/internal/replica"
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

func (e *exam) alarm(_ context.Context, s *sheet) {
	cfg, try := e.Appliance.Alarm, "then: appliance doctor test-alarm"
	if e.Role == Backup {
		cfg, try = e.Receiver.Alarm, "then: appliance receiver test-alarm"
	}
	ways := alarm.New(cfg, "", slog.New(slog.DiscardHandler)).Channels()
	if len(ways) == 0 {
		s.warn("alarm.ways", "set alarm.command, alarm.webhook_file or alarm.mail_server; "+try, "this host cannot call for help by itself")
		return
	}
	s.ok("alarm.ways", "this host calls for help by %s", strings.Join(ways, ", "))
}
