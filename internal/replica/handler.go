package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/objects"
)

// Content types of the protocol.
const (
	typeSize    = "text/x.tlog.size" // C2SP tlog-witness: the body of a 409
	typeText    = "text/plain; charset=utf-8"
	typeProblem = "application/problem+json"
	typeJSON    = "application/json"
	typeBytes   = "application/octet-stream"
)

// How long a request's body may take: this much, and a second for each 64 KiB.
const (
	bodyTime = 30 * time.Second
	bodyRate = 64 << 10
)

// handler is what a connection with an authenticated client can ask for.
func (r *Receiver) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/logs/{log}/append", r.writing(r.handleAppend))
	mux.HandleFunc("POST /v1/logs/{log}/compare", r.writing(r.handleCompare))
	mux.HandleFunc("POST /v1/logs/{log}/missing", r.writing(r.handleMissing))
	mux.HandleFunc("PUT /v1/logs/{log}/objects/{id}", r.writing(r.handlePut))
	mux.HandleFunc("GET /v1/logs/{log}/checkpoint", r.reading(r.handleCheckpoint))
	mux.HandleFunc("GET /v1/logs/{log}/lines", r.reading(r.handleLines))
	mux.HandleFunc("GET /v1/logs/{log}/objects/{id}", r.reading(r.handleGet))
	mux.HandleFunc("POST /v1/redeem", r.handleRedeem)
	return mux
}

// call is one request of a client that may make it.
type call struct {
	*http.Request
	mirror *mirror
	peer   Peer
	client Pin
	conn   uint64
}

type action func(w http.ResponseWriter, c call) error

// writing lets clients through that may append to the log in the path.
func (r *Receiver) writing(do action) http.HandlerFunc { return r.guard(do, true) }

// reading lets clients through that may read the log in the path.
func (r *Receiver) reading(do action) http.HandlerFunc { return r.guard(do, false) }

func (r *Receiver) guard(do action, write bool) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		pin, err := peerPin(*req.TLS)
		if err != nil {
			r.fail(w, req, err)
			return
		}
		s, writes, reads := r.log(req.PathValue("log"), pin)
		if s == nil || !reads {
			// Whether a log is kept here is not for others to know.
			r.fail(w, req, fault.New(fault.NotFound, "no such log, or this key may not use it"))
			return
		}
		if write && !writes {
			r.fail(w, req, fault.New(fault.Forbidden, "this key may only read"))
			return
		}
		conn, ok := req.Context().Value(connKey{}).(uint64)
		if !ok {
			panic("replica: a connection without a number")
		}
		m, err := s.usable()
		if err == nil {
			err = do(w, call{req, m, s.peer, pin, conn})
		}
		if err != nil {
			r.fail(w, req, err)
		}
	}
}

// body reads a request's body of at most limit bytes, in bounded time.
func body(w http.ResponseWriter, req *http.Request, limit int64) ([]byte, error) {
	if err := hurry(w, limit); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, req.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, fault.New(fault.TooLarge, fmt.Sprintf("the request has more than %d bytes", limit))
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "the request did not arrive whole").WithCause(err)
	}
	return b, nil
}

// hurry bounds the time in which size bytes must arrive.
func hurry(w http.ResponseWriter, size int64) error {
	end := time.Now().Add(bodyTime + time.Duration(size/bodyRate)*time.Second)
	if err := http.NewResponseController(w).SetReadDeadline(end); err != nil {
		return fmt.Errorf("replica: setting a deadline: %w", err)
	}
	return nil
}

// enter takes a place, which leave gives back.
func enter(ctx context.Context, room chan struct{}) (leave func(), err error) {
	select {
	case room <- struct{}{}:
		return func() { <-room }, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "too much at once").WithCause(ctx.Err())
	}
}

func (r *Receiver) handleAppend(w http.ResponseWriter, c call) error {
	leave, err := enter(c.Context(), c.mirror.bodies)
	if err != nil {
		return err
	}
	defer leave()
	b, err := body(w, c.Request, MaxAppend)
	if err != nil {
		return err
	}
	a, err := ParseAppend(b)
	if err != nil {
		return fault.New(fault.Invalid, "the body is not an append").WithCause(err)
	}
	line, err := c.mirror.append(c.Context(), c.conn, c.client, a)
	if err != nil {
		return err
	}
	if r.cfg.Arrived != nil && len(c.peer.Clients) > 1 && c.client == c.peer.Clients[0] {
		if err := r.cfg.Arrived(c.peer.Origin, c.client); err != nil {
			r.cfg.Log.Error("a primary's former key could not be forgotten", "origin", c.peer.Origin, "error", err.Error())
		}
	}
	return send(w, typeText, line)
}

func (r *Receiver) handleCompare(w http.ResponseWriter, c call) error {
	signed, err := body(w, c.Request, MaxCheckpoint)
	if err != nil {
		return err
	}
	answer, err := c.mirror.compare(c.conn, c.client, signed)
	if err != nil {
		return err
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("replica: encoding a comparison: %w", err)
	}
	return send(w, typeJSON, b)
}

// maxAsked is how many objects one question names.
const maxAsked = 1000

func (r *Receiver) handleMissing(w http.ResponseWriter, c call) error {
	b, err := body(w, c.Request, maxAsked*(idLength+1))
	if err != nil {
		return err
	}
	ids, err := parseIDs(b)
	if err != nil {
		return err
	}
	missing, err := c.mirror.objects.Missing(c.Context(), ids)
	if err != nil {
		return err
	}
	return send(w, typeText, formatIDs(missing))
}

// formatIDs writes IDs, one a line. parseIDs(formatIDs(ids)) == ids.
func formatIDs(ids []string) []byte {
	var b []byte
	for _, id := range ids {
		b = append(append(b, id...), '\n')
	}
	return b
}

func parseIDs(b []byte) ([]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	rest, ok := strings.CutSuffix(string(b), "\n")
	ids := strings.Split(rest, "\n")
	for _, id := range ids {
		ok = ok && isID(id)
	}
	if !ok || len(ids) > maxAsked {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("not a list of at most %d IDs of 64 lower-case hex digits, each with a newline", maxAsked))
	}
	return ids, nil
}

func (r *Receiver) handlePut(w http.ResponseWriter, c call) error {
	leave, err := enter(c.Context(), c.mirror.uploads)
	if err != nil {
		return err
	}
	defer leave()
	size := c.ContentLength
	if size < 0 || size > objects.MaxFile {
		return fault.New(fault.TooLarge, fmt.Sprintf("an object comes with its length, of at most %d bytes", objects.MaxFile))
	}
	if err := hurry(w, size); err != nil {
		return err
	}
	if err := c.mirror.importObject(c, c.PathValue("id"), size); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (r *Receiver) handleRedeem(w http.ResponseWriter, req *http.Request) {
	if err := r.redeem(w, req); err != nil {
		r.fail(w, req, err)
	}
}

func send(w http.ResponseWriter, contentType string, b []byte) error {
	w.Header().Set("Content-Type", contentType)
	_, err := w.Write(b)
	if err != nil {
		return fmt.Errorf("replica: answering: %w", err)
	}
	return nil
}

// problem is the body of what failed (RFC 9457), with what was refused.
type problem struct {
	Title   string      `json:"title"`
	Status  int         `json:"status"`
	Detail  string      `json:"detail,omitempty"`
	Kind    string      `json:"kind,omitempty"`    // a fault.Kind
	Refusal RefusalKind `json:"refusal,omitempty"` // what was refused is kept
	Held    string      `json:"held,omitempty"`    // of a refusal: the cosigned checkpoint
}

var statuses = map[fault.Kind]int{
	fault.Invalid: http.StatusBadRequest, fault.NotFound: http.StatusNotFound, fault.Conflict: http.StatusConflict,
	fault.Unauthorized: http.StatusForbidden, fault.Forbidden: http.StatusForbidden, fault.TooLarge: http.StatusRequestEntityTooLarge,
	fault.Unavailable: http.StatusServiceUnavailable,
}

// fail answers with what went wrong. Once an answer has begun it can only be cut off.
func (r *Receiver) fail(w http.ResponseWriter, req *http.Request, err error) {
	var stale *staleError
	var missing *missingError
	var refused *Refusal
	switch {
	case errors.As(err, &stale):
		w.Header().Set("Content-Type", typeSize)
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", stale.size)
		return
	case errors.As(err, &missing):
		w.Header().Set("Content-Type", typeText)
		w.WriteHeader(http.StatusFailedDependency)
		w.Write(formatIDs(missing.ids))
		return
	}
	p := problem{Status: http.StatusInternalServerError, Title: "internal error", Kind: fault.KindOf(err).String()}
	if s, ok := statuses[fault.KindOf(err)]; ok {
		p.Status = s
	}
	if fault.KindOf(err) != fault.Internal {
		p.Title, p.Detail = fault.PublicOf(err), fault.HintOf(err)
	}
	switch {
	case errors.Is(err, errSuperseded):
		p.Status, p.Title = http.StatusMisdirectedRequest, "a newer connection has taken over"
	case errors.As(err, &refused):
		p.Status, p.Title, p.Detail, p.Refusal, p.Held = http.StatusUnprocessableEntity, "refused", refused.Detail, refused.Kind, refused.Held
	}
	r.cfg.Log.Info("request failed", "path", req.URL.Path, "status", p.Status, "error", err.Error())
	b, err := json.Marshal(p)
	if err != nil {
		panic("replica: a problem that cannot be encoded: " + err.Error())
	}
	w.Header().Set("Content-Type", typeProblem)
	w.WriteHeader(p.Status)
	w.Write(b)
}
