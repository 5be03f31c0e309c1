package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

// signerSide is what the running signer says, asked once by whichever group comes first.
type signerSide struct {
	e      *exam
	client *wire.Client

	status   func(context.Context) (wire.Status, error)
	examined func(context.Context) (wire.Examined, error)
	backup   func(context.Context) (wire.BackupStatus, error)
}

func newSignerSide(e *exam) *signerSide {
	g := &signerSide{e: e, client: wire.New(e.Appliance.Signer.AdminSocket)}
	g.status = asked[wire.Status](g, wire.OpStatus)
	g.examined = asked[wire.Examined](g, wire.OpExamine)
	g.backup = asked[wire.BackupStatus](g, wire.OpBackupStatus)
	return g
}

func (g *signerSide) close() { g.client.Close() }

// asked calls an operation that takes nothing, at most once.
func asked[Out any](g *signerSide, op wire.Op) func(context.Context) (Out, error) {
	var once sync.Once
	var out Out
	var err error
	return func(ctx context.Context) (Out, error) {
		once.Do(func() { _, err = g.client.Call(ctx, op, wire.Nothing{}, &out, nil) })
		return out, err
	}
}

const (
	cureSigner = "systemctl status aes-signer; journalctl -u aes-signer -n 50"
	curePortal = "systemctl status aes-portal; journalctl -u aes-portal -n 50"
	cureAsk    = "start the signer (systemctl start aes-appliance.target), then run it again as root"
)

// unasked is what a check says that the signer would have had to answer.
func (s *sheet) unasked(check string, err error) {
	s.unknown(check, cureAsk, "%s is not judged without the signer: %s", check, textOf(err))
}

func (e *exam) signerChecks(ctx context.Context, s *sheet) {
	st, err := e.signer.status(ctx)
	if err != nil {
		s.bad("signer.answers", cureSigner, "the signer does not answer on %s: %s", e.Appliance.Signer.AdminSocket, textOf(err))
	} else {
		s.ok("signer.answers", "the signer answers, with %d lines in its log", st.Lines).with("lines", st.Lines).with("head", st.Head).with("open_operations", st.Open)
		if st.Ready {
			s.ok("signer.signs", "the signer would sign now")
		}
		for _, reason := range st.Reasons {
			s.bad("signer.signs", "see the groups below and /usr/share/doc/aes-appliance/operations.md; "+cureSigner, "nothing is signed: %s", reason)
		}
		if st.Version != e.Version {
			s.warn("signer.version", "systemctl restart aes-signer aes-portal", "the running signer is version %s, this program is %s", st.Version, e.Version)
		} else {
			s.ok("signer.version", "the running signer is version %s, as this program", st.Version)
		}
		if st.Demo {
			s.warn("signer.signs", "found a real appliance with: appliance setup", "this is a demo appliance: nothing that it signs may be taken for real")
		}
	}
	e.portalReady(ctx, s)
}

// signerWhole is what only an examination does, and a look at the screen does not: a time stamp costs a line.
func (e *exam) signerWhole(ctx context.Context, s *sheet) {
	e.signerChecks(ctx, s)
	e.stamps(ctx, s)
}

// maxReady bounds what is read of the portal's answer.
const maxReady = 64 << 10

// portalReady asks the portal on its loopback listener.
func (e *exam) portalReady(ctx context.Context, s *sheet) {
	said, err := readiness(ctx, e.m, e.Appliance.Portal.ListenMetrics)
	switch {
	case err != nil:
		s.bad("signer.portal", curePortal, "the portal does not answer on %s: %v", e.Appliance.Portal.ListenMetrics, err)
	case !said.Ready:
		s.bad("signer.portal", "see the groups below; "+curePortal, "the portal is not ready: %v", said.Reasons)
	default:
		s.ok("signer.portal", "the portal answers and is ready")
	}
}

// ready is what /readyz says.
type ready struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	Version string   `json:"version"`
	Signer  string   `json:"signer_version"`
	Lines   uint64   `json:"log_lines"`
}

func readiness(ctx context.Context, m *Machine, address string) (said ready, err error) {
	status, body, err := get(ctx, plainClient(m, nil), "http://"+address+"/readyz", maxReady)
	if err != nil {
		return said, err
	}
	if status != http.StatusOK && status != http.StatusServiceUnavailable {
		return said, fmt.Errorf("it answers %d", status)
	}
	return said, json.Unmarshal(body, &said)
}

// plainClient fetches like a stranger: no proxy, no cache, no redirects; dial nil is the machine's.
func plainClient(m *Machine, dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	if dial == nil {
		dial = m.Dial
	}
	return &http.Client{
		Timeout:       2 * dialTime,
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true, TLSHandshakeTimeout: dialTime, ResponseHeaderTimeout: dialTime},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get fetches at most so many bytes.
func get(ctx context.Context, c *http.Client, url string, most int64) (status int, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	return do(c, r, most)
}

func do(c *http.Client, r *http.Request, most int64) (status int, body []byte, err error) {
	answer, err := c.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, most+1))
	if err == nil && int64(len(body)) > most {
		err = fmt.Errorf("the answer has more than %d bytes", most)
	}
	return answer.StatusCode, body, err
}

// left is how long it is until a time, from the examination on.
func (e *exam) left(t time.Time) time.Duration { return t.Sub(e.Now()) }
