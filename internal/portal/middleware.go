package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// secured sets the headers that every answer has.
func (p *Portal) secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if r.TLS != nil { // RFC 6797 §7.2: not over plain http
			h.Set("Strict-Transport-Security", "max-age=63072000") // two years
		}
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// RFC 9112 §6.1: a connection on which a length came beside the chunks must end, and net/http does not tell whether one did.
			h.Set("Connection", "close")
		}
		if p.ending.Load() {
			h.Set("Connection", "close")
		}
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY")
		// Nothing may run, load or frame; pages allow themselves their own style sheet.
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/certificates") {
			h.Set("Cache-Control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
}

// answer counts what is written, for logs and metrics.
type answer struct {
	http.ResponseWriter
	status int
	size   int64
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.size += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// observed gives the request its ID and its time, survives what panics, and logs and counts what came of it.
func (p *Portal) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		tooMuch := overlong(r)
		q := p.newRequest(r)
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), requestKey{}, q), p.cfg.RequestTime)
		defer cancel()
		r = r.WithContext(ctx)
		a := &answer{ResponseWriter: w}
		q.http, q.answer = r, a
		a.Header().Set("X-Request-ID", q.id)
		done := p.metrics.begin()
		defer func() {
			if broken := recover(); broken != nil {
				p.log.ErrorContext(ctx, "panic", "request", q.id, "what", fmt.Sprint(broken), "stack", string(debug.Stack()))
				if a.status == 0 {
					writeProblem(a, newProblem(fault.New(fault.Internal, "something went wrong inside the appliance"), q.id))
				}
			}
			took := time.Since(started)
			done(route(r), a.status, took)
			// r.Pattern, not the path: paths name prescriptions.
			p.log.LogAttrs(ctx, slog.LevelInfo, "request", slog.String("request", q.id), slog.String("route", route(r)), slog.Int("status", a.status),
				slog.Int64("bytes", a.size), slog.Duration("took", took), slog.String("client", q.client.String()), slog.String("clinic", q.caller.Clinic))
		}()
		if tooMuch != nil {
			a.Header().Set("Connection", "close")
			writeProblem(a, p.problem(ctx, tooMuch))
			return
		}
		next.ServeHTTP(a, r)
		drain(a.status, r)
	})
}

// maxDrain bounds what is read of the body of a refused request, in bytes.
const maxDrain = 128 << 20

// drain reads what is left of the body of a refused request, within the request's time. Many clients of HTTP/1.1 read no answer before they have sent
// everything: if the connection closed under them, that would be all they learn. Who asked whether to send (Expect) has not sent anything.
func drain(status int, r *http.Request) {
	if status < http.StatusBadRequest || r.ProtoMajor != 1 || r.Header.Get("Expect") != "" {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxDrain) // the client is gone, or out of time
}

// route is what metrics and logs call a request.
func route(r *http.Request) string {
	if r.Pattern == "" {
		return "none"
	}
	return r.Pattern
}

// guarded answers as problems what the mux would refuse as plain text.
func (p *Portal) guarded(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		probe := &refusal{header: http.Header{}}
		h.ServeHTTP(probe, r)
		found := problem("not-found", "There is nothing at this address.")
		switch {
		case probe.status == http.StatusMethodNotAllowed:
			w.Header().Set("Allow", probe.header.Get("Allow"))
			found = problem("method-not-allowed", "The address takes "+probe.header.Get("Allow")+".")
		case probe.status >= 300 && probe.status < 400: // a path that is not clean
			w.Header().Set("Location", probe.header.Get("Location"))
			w.WriteHeader(probe.status)
			return
		}
		found.RequestID = requestOf(r.Context()).id
		writeProblem(w, found)
	})
}

// refusal takes a mux's own answer.
type refusal struct {
	header http.Header
	status int
}

func (f *refusal) Header() http.Header         { return f.header }
func (f *refusal) Write(b []byte) (int, error) { return len(b), nil }
func (f *refusal) WriteHeader(status int)      { f.status = status }

// limitPublic is a middleware for what needs no token.
func (p *Portal) limitPublic(ctx huma.Context, next func(huma.Context)) {
	_, w := humago.Unwrap(ctx)
	q := requestOf(ctx.Context())
	if a := p.public.take(addressKey(q.client), p.cfg.Now()); !p.allowed(w, a, "public") {
		p.refuse(ctx, limited(a))
		return
	}
	next(ctx)
}

// authenticate is a middleware: it has the signer say whose token it is before anything else of the request is read.
func (p *Portal) authenticate(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	q := requestOf(ctx.Context())
	// An address whose tokens keep being refused does not get the signer's time.
	if a := p.failures.peek(addressKey(q.client), p.cfg.Now()); !a.ok {
		p.refuse(ctx, limited(a))
		return
	}
	if err := p.identify(ctx.Context(), r.Header); err != nil {
		if k := p.problem(ctx.Context(), err).Status; k == http.StatusUnauthorized || k == http.StatusForbidden {
			p.failures.take(addressKey(q.client), p.cfg.Now())
		}
		p.refuse(ctx, err)
		return
	}
	if a := p.callers.take(q.caller.Clinic+"\x00"+q.caller.Sub, p.cfg.Now()); !p.allowed(w, a, "caller") {
		p.refuse(ctx, limited(a))
		return
	}
	next(ctx)
}

// identify sets the token and the caller of the request.
func (p *Portal) identify(ctx context.Context, h http.Header) error {
	q := requestOf(ctx)
	token, bad := bearer(h)
	if bad != nil {
		return bad
	}
	c := q.credentials()
	c.Token = token
	if _, err := p.call(ctx, wire.OpAuthenticate, wire.AuthRequest{Credentials: c}, &q.caller, nil); err != nil {
		return err
	}
	q.token = token
	return nil
}

// allowed writes the RateLimit headers (draft-ietf-httpapi-ratelimit-headers-10) and says whether to go on.
func (p *Portal) allowed(w http.ResponseWriter, a allowance, policy string) bool {
	h := w.Header()
	h.Set("RateLimit-Policy", fmt.Sprintf(`"%s";q=%d;w=2`, policy, a.limit))
	h.Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%d`, policy, a.remaining, seconds(a.wait)))
	if !a.ok {
		h.Set("Retry-After", strconv.Itoa(max(1, seconds(a.wait))))
	}
	return a.ok
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

func limited(a allowance) *Problem {
	t := problem("rate-limited", "There were too many requests in a short time.")
	t.retryAfter = max(1, seconds(a.wait))
	return t
}

// refuse answers with the problem of err.
func (p *Portal) refuse(ctx huma.Context, err error) {
	_, w := humago.Unwrap(ctx)
	writeProblem(w, p.problem(ctx.Context(), err))
}

// problem is what may be shown of err; the cause of what is nobody's fault outside goes to the log, once.
func (p *Portal) problem(ctx context.Context, err error) *Problem {
	q := requestOf(ctx)
	if _, is := errors.AsType[*Problem](err); !is && errors.Is(err, context.DeadlineExceeded) {
		err = fault.New(fault.Unavailable, "it took too long").WithCause(err)
	}
	shown := newProblem(err, q.id)
	if shown.Status >= http.StatusInternalServerError {
		p.log.ErrorContext(ctx, "failed", "request", q.id, "type", shown.Type, "cause", err)
	}
	return shown
}
