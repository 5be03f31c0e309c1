package portal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/veripath/aes-appliance/internal/wire"
)

// request is what is known of one HTTP request.
type request struct {
	id        string
	client    netip.Addr // whoever connected, as far as the portal knows itself
	browser   netip.Addr // by the client's word, zero when it says nothing
	userAgent string     // by the client's word
	received  time.Time
	token     string // set once the signer accepted it
	caller    wire.Caller
	http      *http.Request
	answer    http.ResponseWriter
}

type requestKey struct{}

// requestOf returns the request that ctx belongs to, nil outside one.
func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// maxUserAgent bounds what is kept of a User-Agent, in bytes.
const maxUserAgent = 512

// taken reads the whole body of at most limit bytes once there is room for it; done is to be called when it is not needed any more.
func (q *request) taken(in *intake, who string, limit int64) (data []byte, done func(), err error) {
	size := limit
	if n := q.http.ContentLength; n >= 0 && n < limit {
		size = n
	}
	if done, err = in.take(who, size); err != nil {
		return nil, nil, err
	}
	if data, err = q.body(limit); err != nil {
		done()
		return nil, nil, err
	}
	return data, done, nil
}

// body reads the whole body of at most limit bytes.
func (q *request) body(limit int64) ([]byte, error) {
	tooLarge := problem("too-large", fmt.Sprintf("The body is larger than the %d bytes that are taken here.", limit))
	if q.http.ContentLength > limit {
		return nil, tooLarge
	}
	body := http.MaxBytesReader(q.answer, q.http.Body, limit)
	var data []byte
	var err error
	if n := q.http.ContentLength; n >= 0 { // its size is known: no copies on the way
		data = make([]byte, n)
		_, err = io.ReadFull(body, data)
	} else {
		data, err = io.ReadAll(body)
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, tooLarge
	}
	if err != nil {
		return nil, problem("too-slow", "The body did not arrive whole.")
	}
	return data, nil
}

func (p *Portal) newRequest(r *http.Request) *request {
	var id [16]byte
	rand.Read(id[:]) // never fails: crypto/rand
	q := &request{id: hex.EncodeToString(id[:]), received: p.cfg.Now(), userAgent: plainText(r.UserAgent(), maxUserAgent)}
	q.client, q.browser = clientAddress(r, p.cfg.TrustedProxies)
	return q
}

func (q *request) observed() wire.Observed {
	return wire.Observed{PeerIP: q.client.String(), ReceivedAt: q.received.UTC(), RequestID: q.id}
}

func (q *request) credentials() wire.Credentials {
	c := wire.Credentials{Token: q.token, Observed: q.observed(), Asserted: wire.Asserted{UserAgent: q.userAgent}}
	if q.browser.IsValid() {
		c.Asserted.BrowserIP = q.browser.String()
	}
	return c
}

// plainText is s as valid UTF-8 without control characters, of at most n bytes.
func plainText(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

// maxToken bounds a token, in bytes; Keycloak's have one or two thousand.
const maxToken = 16 << 10

// bearer returns the token of RFC 6750 §2.1, the only way that is taken.
func bearer(h http.Header) (string, *Problem) {
	values := h.Values("Authorization")
	if len(values) == 0 || values[0] == "" {
		return "", problem("token-missing", "The request has no Authorization header.")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	switch {
	case len(values) > 1:
		return "", problem("token-malformed", "The request has more than one Authorization header.")
	case !strings.EqualFold(scheme, "Bearer"):
		return "", problem("token-missing", "The Authorization header is not of the scheme Bearer.")
	case len(token) > maxToken:
		return "", problem("token-too-large", fmt.Sprintf("The access token has more than %d bytes.", maxToken))
	case token == "" || strings.ContainsFunc(token, notToken68):
		return "", problem("token-malformed", "What stands after Bearer is not a token.")
	}
	return token, nil
}

// notToken68 is RFC 9110 §11.2.
func notToken68(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._~+/=", r))
}
