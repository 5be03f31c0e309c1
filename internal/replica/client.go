package replica

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/fault"
)

// ClientConfig says how to reach a receiver and as whom.
type ClientConfig struct {
	Origin   string   // of the log
	Identity Identity // by which the receiver knows this side
	Server   Pin      // of the receiver's identity
	// Dial returns a connection to the receiver, on which the client speaks TLS itself: who dials can refuse service, and nothing else.
	Dial func(context.Context) (net.Conn, error)
}

// Client talks to a receiver over one connection. When that breaks the client is of no more use.
type Client struct {
	base string
	conn *tls.Conn
	http *http.Client
}

// NewClient connects. fault.Unavailable: there is no connection. fault.Unauthorized: the other side has not the key that is expected, or does not
// know ours.
func NewClient(ctx context.Context, cfg ClientConfig) (*Client, error) {
	conn, err := connect(ctx, cfg.Dial, cfg.Identity, func(p Pin) bool { return p == cfg.Server })
	if err != nil {
		return nil, err
	}
	return newClient(conn, cfg.Origin), nil
}

// connect dials and finishes the handshake.
func connect(ctx context.Context, dial func(context.Context) (net.Conn, error), id Identity, known func(Pin) bool) (*tls.Conn, error) {
	raw, err := dial(ctx)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "the backup cannot be reached").WithHint("is it up, and does its firewall let this host in?").WithCause(err)
	}
	conn := tls.Client(raw, tlsConfig(id, known))
	if err := conn.HandshakeContext(ctx); err != nil {
		kind, hint := fault.Unavailable, "is it the receiver that answers there?"
		if errors.Is(err, errStranger) {
			kind, hint = fault.Unauthorized, "another host answers at the backup's address, or its key was changed: enrol it anew"
		}
		return nil, errors.Join(fault.New(kind, "no trusted connection to the backup").WithHint(hint).WithCause(err), raw.Close())
	}
	return conn, nil
}

// newClient returns a client over a connection with a finished handshake.
func newClient(conn *tls.Conn, origin string) *Client {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	var used atomic.Bool
	return &Client{base: "https://receiver/v1/logs/" + LogID(origin), conn: conn, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
				if used.Swap(true) {
					return nil, errors.New("replica: the connection is used up")
				}
				return conn, nil
			},
			ForceAttemptHTTP2: true, Protocols: &protocols, DisableCompression: true, MaxResponseHeaderBytes: 8 << 10,
			HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: 30 * time.Second},
		},
	}}
}

// Close breaks the connection.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	if err := c.conn.NetConn().Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// do sends a request and returns the answer when its status is one of 2xx; otherwise what it means.
func (c *Client) do(ctx context.Context, method, path string, size int64, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("replica: making a request: %w", err)
	}
	if body != nil {
		req.ContentLength = size
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broke(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.broke(err)
	}
	return nil, answered(resp.StatusCode, b)
}

// broke is the error of a connection that ended before an answer. In TLS 1.3 a client learns only then that the server does not want it.
func (c *Client) broke(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.New(fault.Unavailable, "the backup has not answered in time").WithCause(err)
	}
	// HTTP does not pass the reason on; TLS keeps it.
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // what is not there yet is not waited for
	_, last := c.conn.Read(make([]byte, 1))
	var alert *net.OpError
	if errors.As(last, &alert) && alert.Op == "remote error" {
		return fault.New(fault.Unauthorized, "the backup does not let this host in").
			WithHint("it does not know this host's key: enrol it, or see the receiver's log").WithCause(errors.Join(last, err))
	}
	return fault.New(fault.Unavailable, "the connection to the backup broke").WithCause(err)
}

// maxAnswer bounds what is read of an answer that is not lines or an object.
const maxAnswer = 128 << 10

// call is do for a body and an answer that fit into memory.
func (c *Client) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	resp, err := c.do(ctx, method, path, int64(len(body)), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.broke(err)
	}
	if len(b) > maxAnswer {
		return nil, fault.New(fault.Invalid, "the backup's answer is too long")
	}
	return b, nil
}

// answered returns the error that a status and its body mean.
func answered(status int, b []byte) error {
	switch status {
	case http.StatusConflict:
		n, err := strconv.ParseUint(strings.TrimSuffix(string(b), "\n"), 10, 63)
		if err != nil {
			return fault.New(fault.Invalid, "the backup's answer cannot be read").WithCause(err)
		}
		return &staleError{n}
	case http.StatusFailedDependency:
		ids, err := parseIDs(b)
		if err != nil {
			return fault.New(fault.Invalid, "the backup's answer cannot be read").WithCause(err)
		}
		return &missingError{ids}
	case http.StatusMisdirectedRequest:
		return errSuperseded
	}
	var p problem
	if err := json.Unmarshal(b, &p); err != nil {
		return fault.New(fault.Unavailable, fmt.Sprintf("the backup answers with status %d", status)).WithCause(err)
	}
	if p.Refusal != "" {
		return &Refusal{Kind: p.Refusal, Detail: p.Detail, Held: p.Held}
	}
	kind := fault.ParseKind(p.Kind)
	return fault.New(kind, "the backup says: "+p.Title).WithHint(p.Detail)
}

// Checkpoint returns the receiver's last cosigned checkpoint of the log, nil when it has no lines. What it says is for the caller to verify
// (chain.OpenCosigned).
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	b, err := c.call(ctx, http.MethodGet, "/checkpoint", nil)
	if len(b) == 0 {
		return nil, err
	}
	return b, err
}

// Lines returns the lines from ≤ n < to, with their newlines. They are to be verified like any log (chain, tree, checkpoint).
func (c *Client) Lines(ctx context.Context, from, to uint64) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, fmt.Sprintf("/lines?from=%d&to=%d", from, to), 0, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Object returns the file of an object and its length. objects.Import checks it. fault.NotFound: the receiver has none of that ID.
func (c *Client) Object(ctx context.Context, id string) (io.ReadCloser, int64, error) {
	if !isID(id) {
		return nil, 0, fault.New(fault.Invalid, "an object ID is 64 lower-case hex digits")
	}
	resp, err := c.do(ctx, http.MethodGet, "/objects/"+id, 0, nil)
	if err != nil {
		return nil, 0, err
	}
	return resp.Body, resp.ContentLength, nil
}

// put sends the file of an object.
func (c *Client) put(ctx context.Context, id string, size int64, r io.Reader) error {
	resp, err := c.do(ctx, http.MethodPut, "/objects/"+id, size, r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// missing asks which of at most maxAsked objects the receiver does not have.
func (c *Client) missing(ctx context.Context, ids []string) ([]string, error) {
	b, err := c.call(ctx, http.MethodPost, "/missing", formatIDs(ids))
	if err != nil {
		return nil, err
	}
	return parseIDs(b)
}

// append sends lines and returns the checkpoint with the cosignature, which it verified.
func (c *Client) append(ctx context.Context, a Append, keys []chain.WitnessKey) (signed []byte, at time.Time, err error) {
	line, err := c.call(ctx, http.MethodPost, "/append", a.Marshal())
	if err != nil {
		return nil, time.Time{}, err
	}
	signed, found, err := chain.AddCosignatures(a.Checkpoint, line, keys...)
	if err != nil {
		return nil, time.Time{}, fault.New(fault.Invalid, "the backup's cosignature is not valid").
			WithHint("was its key changed? Enrol it anew").WithCause(err)
	}
	return signed, found[0].Time, nil
}

// compare tells the receiver what the log is now.
func (c *Client) compare(ctx context.Context, signed []byte) (Comparison, error) {
	b, err := c.call(ctx, http.MethodPost, "/compare", signed)
	if err != nil {
		return Comparison{}, err
	}
	var out Comparison
	if err := json.Unmarshal(b, &out); err != nil {
		return Comparison{}, fault.New(fault.Invalid, "the backup's answer cannot be read").WithCause(err)
	}
	return out, nil
}

// Redemption is a one-time code to redeem.
type Redemption struct {
	Dial     func(context.Context) (net.Conn, error)
	Identity Identity // the key that the code is redeemed for
	Server   *Pin     // of the receiver, when it is known; nil when the code is what makes it known
	Kind     string   // what the code is for, as Codes.Redeem takes it
	Secret   []byte   // at least MinSecret bytes
	Payload  []byte   // at most 4 KiB
}

// Redeem redeems a one-time code and returns the receiver's pin, proven by its knowledge of the secret, and its answer. fault.Forbidden: the code was
// used, or has expired. fault.Unauthorized: whoever answers does not know the secret.
func Redeem(ctx context.Context, r Redemption) (Pin, []byte, error) {
	if len(r.Secret) < MinSecret || len(r.Payload) > maxPayload {
		return Pin{}, nil, fault.New(fault.Invalid, "the code is too short, or what goes with it too long")
	}
	conn, err := connect(ctx, r.Dial, r.Identity, func(p Pin) bool { return r.Server == nil || p == *r.Server })
	if err != nil {
		return Pin{}, nil, err
	}
	c := newClient(conn, "")
	defer c.Close()
	c.base = "https://receiver/v1"
	cs := conn.ConnectionState()
	pin, err := peerPin(cs)
	if err != nil {
		return Pin{}, nil, err
	}
	in := redemption{Kind: r.Kind, Payload: r.Payload}
	if in.Proof, err = proof(r.Secret, &cs, roleClient, r.Kind, r.Payload); err != nil {
		return Pin{}, nil, err
	}
	b, err := json.Marshal(in)
	if err != nil {
		return Pin{}, nil, fmt.Errorf("replica: encoding a redemption: %w", err)
	}
	answer, err := c.call(ctx, http.MethodPost, "/redeem", b)
	if err != nil {
		return Pin{}, nil, err
	}
	var out redeemed
	if err := json.Unmarshal(answer, &out); err != nil {
		return Pin{}, nil, fault.New(fault.Invalid, "the backup's answer cannot be read").WithCause(err)
	}
	want, err := proof(r.Secret, &cs, roleServer, r.Kind, out.Answer)
	if err != nil {
		return Pin{}, nil, err
	}
	if !hmac.Equal(want, out.Proof) {
		return Pin{}, nil, fault.New(fault.Unauthorized, "whoever answers at the backup's address does not know the code").
			WithHint("is the address right? If it is, somebody stands in between")
	}
	return pin, out.Answer, nil
}
