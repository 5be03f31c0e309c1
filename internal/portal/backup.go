package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// Periods of dialFor.
const (
	wantedPoll = time.Minute     // one question to the signer
	dialTime   = 5 * time.Second // one connection
	// After a question that failed: at first hardly any, for a signer that was restarted wants its backup before it signs; then twice as long each time.
	dialPause    = 20 * time.Millisecond
	dialPauseMax = time.Second
)

// dialers is how many connections are made for the signer at once: a witness of the log that does not answer must not keep it from the backup host.
const dialers = 8

// dialFor makes the connections that the signer asks for, to the backup host and to who else vouches for the log, until ctx ends: TCP, to the address
// that the signer names and no other. What is said over them is between the signer and them.
func (p *Portal) dialFor(ctx context.Context) {
	for pause := dialPause; ctx.Err() == nil; {
		err := p.dialNext(ctx)
		if err == nil || ctx.Err() != nil {
			pause = dialPause
			continue
		}
		p.log.DebugContext(ctx, "a connection for the signer", "cause", err)
		select {
		case <-time.After(pause):
			pause = min(2*pause, dialPauseMax)
		case <-ctx.Done():
		}
	}
}

// dialNext waits for one connection to be wanted, and makes it.
func (p *Portal) dialNext(ctx context.Context) error {
	polling, cancel := context.WithTimeout(ctx, wantedPoll)
	defer cancel()
	var w wire.Wanted
	// Not through call: how long the signer wants nothing is not a measure of it.
	if _, err := p.cfg.Signer.Call(polling, wire.OpWanted, wire.Nothing{}, &w, nil); err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return nil
		}
		return err
	}
	if w.ID == 0 {
		return nil
	}
	fd, err := p.connected(ctx, w.Address)
	if err != nil && ctx.Err() != nil {
		return nil // this portal is stopping: the next one makes it
	}
	answer := wire.Dialled{ID: w.ID}
	if err != nil {
		answer.Error = err.Error()
		p.log.WarnContext(ctx, "a connection for the signer cannot be made", "address", w.Address, "cause", err)
	} else {
		defer fd.Close()
	}
	_, err = p.cfg.Signer.Call(ctx, wire.OpDialled, answer, nil, fd)
	return err
}

// connected dials address and returns the connection's descriptor.
func (p *Portal) connected(ctx context.Context, address string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := p.connect(ctx, egressSigner, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("%T is not a TCP connection", conn)
	}
	return tcp.File()
}

// backupStates are what wire.Backup.State can be.
func backupStates() []string {
	return []string{"none", "disabled", "catching-up", "comparing", "mismatch", "sync", "async"}
}

// writeBackup shows how log and backup stand, in the text format of Prometheus: one state is 1 and the others 0, so that each can have an alert.
func writeBackup(w io.Writer, s wire.Status) {
	one := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	fmt.Fprintf(w, "# TYPE aes_signer_ready gauge\naes_signer_ready %d\n", one(s.Ready))
	fmt.Fprintf(w, "# TYPE aes_signer_open_operations gauge\naes_signer_open_operations %d\n", s.Open)
	fmt.Fprintf(w, "# TYPE aes_clock_proven gauge\naes_clock_proven %d\n", one(s.Clock.Proven))
	if s.Clock.Proven {
		fmt.Fprintf(w, "# TYPE aes_clock_max_error_seconds gauge\naes_clock_max_error_seconds %g\n", s.Clock.MaxError.Seconds())
	}
	fmt.Fprintf(w, "# TYPE aes_log_lines gauge\naes_log_lines %d\n", s.Lines)
	fmt.Fprintf(w, "# TYPE aes_backup_cosigned_lines gauge\naes_backup_cosigned_lines %d\n", s.Backup.Lines)
	if !s.Backup.At.IsZero() {
		fmt.Fprintf(w, "# TYPE aes_backup_cosigned_timestamp_seconds gauge\naes_backup_cosigned_timestamp_seconds %d\n", s.Backup.At.Unix())
	}
	if !s.Verified.At.IsZero() {
		fmt.Fprintf(w, "# TYPE aes_log_verified_timestamp_seconds gauge\naes_log_verified_timestamp_seconds %d\n", s.Verified.At.Unix())
	}
	fmt.Fprintf(w, "# TYPE aes_log_verification_failures_total counter\naes_log_verification_failures_total %d\n", s.Verified.Failures)
	fmt.Fprintf(w, "# TYPE aes_log_damaged gauge\naes_log_damaged %d\n", one(s.Verified.Damage != ""))
	if s.Witnessed.Asked > 0 {
		fmt.Fprintf(w, "# TYPE aes_log_witnesses_contradicting gauge\naes_log_witnesses_contradicting %d\n", s.Witnessed.Contradict)
	}
	if !s.Witnessed.At.IsZero() {
		fmt.Fprintf(w, "# TYPE aes_log_witnessed_timestamp_seconds gauge\naes_log_witnessed_timestamp_seconds %d\n", s.Witnessed.At.Unix())
	}
	fmt.Fprint(w, "# TYPE aes_backup_state gauge\n")
	for _, state := range backupStates() {
		fmt.Fprintf(w, "aes_backup_state{state=%q} %d\n", state, one(s.Backup.State == state))
	}
}
