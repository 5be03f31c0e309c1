package activation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/jwt"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// actorSelf is the actor of what this package does of its own accord.
const actorSelf = "system"

// FetchKeys fetches a realm's keys over conn, which someone dialled after a *NeedKeys and which is closed in any case; a nil conn says that it could
// not be had. TLS is spoken here: whoever dialled can refuse, and can lead elsewhere, but that is then found out by the certificate. New keys are
// lines of the log before the first token is believed because of them.
//
// Errors: NotFound (no such realm), Conflict (nobody asked for it, or it is going on already), Unavailable (the realm did not give a set of keys; the cause
// says why). Keys that were there stay.
func (a *Activation) FetchKeys(ctx context.Context, issuer string, conn net.Conn, now time.Time) (err error) {
	if conn != nil {
		defer conn.Close()
	}
	r, err := a.realm(issuer)
	if err != nil {
		return err
	}
	if !r.keys.begin() {
		return fault.New(fault.Conflict, "the keys of the realm are not asked for now")
	}
	defer r.keys.end()
	if conn == nil {
		return unreachable(errors.New("no connection"))
	}
	body, err := a.get(ctx, r, conn, now)
	if err != nil {
		a.cfg.Log.WarnContext(ctx, "a realm's keys could not be fetched", "issuer", issuer, "error", err.Error())
		var other *tls.CertificateVerificationError
		if ended := (x509.CertificateInvalidError{}); errors.As(err, &ended) && ended.Reason == x509.Expired && a.cfg.Unproven != nil {
			if unproven := a.cfg.Unproven(); unproven != nil { // by which clock?
				return unproven
			}
		}
		if errors.As(err, &other) { // whoever dialled led elsewhere, somebody sits in between, or the realm's certificate is not in order
			a.refuseKeys(ctx, r, RealmCertificate, now)
			return unreachable(err).WithCode(RealmCertificate)
		}
		return unreachable(err)
	}
	keys, err := jwt.ParseKeys(body)
	if err != nil {
		a.cfg.Log.WarnContext(ctx, "a realm's keys cannot be used", "issuer", issuer, "error", err.Error())
		a.refuseKeys(ctx, r, string(jwt.BadKeys), now)
		return unreachable(err).WithCode(string(jwt.BadKeys))
	}
	return a.takeKeys(ctx, r, keys, now)
}

// refuseKeys records that what was offered as a realm's keys was not taken. It has an allowance of lines, as all refusals have.
func (a *Activation) refuseKeys(ctx context.Context, r *realm, code string, now time.Time) {
	a.noteRefusal(ctx, eventKeysRefused, actorSelf, refusedDetails{Clinic: r.Clinic, Issuer: r.Issuer, Code: code}, now)
}

func unreachable(err error) *fault.Error {
	return fault.New(fault.Unavailable, "the keys of the realm could not be fetched").WithCode(NoKeys).WithCause(err).WithHint("is the realm up, and its TLS certificate in order?")
}

// get makes one request for the JWK set over conn.
func (a *Activation) get(ctx context.Context, r *realm, conn net.Conn, now time.Time) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timing.Fetch)
	defer cancel()
	// A deadline on the connection too: the handshake of a peer that says nothing must end.
	if err := conn.SetDeadline(time.Now().Add(a.cfg.Timing.Fetch)); err != nil {
		return nil, err
	}
	// A deadline does not end a system call that blocks, and whoever kept a copy of the descriptor can make it block (O_NONBLOCK belongs to what both
	// share). Shutting the connection down does, but not once somebody waits in Close: TLS and HTTP do that when their context ends, so theirs is later.
	defer context.AfterFunc(ctx, func() { shutDown(conn) })()
	ctx, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Timing.Fetch+time.Second)
	defer cancelLast()
	over, err := r.secure(ctx, conn, a.cfg, now)
	if err != nil {
		return nil, err
	}
	given := func(context.Context, string, string) (net.Conn, error) {
		if over == nil {
			return nil, errors.New("there is one connection, and it was used")
		}
		c := over
		over = nil
		return c, nil
	}
	transport := &http.Transport{DialContext: given, DialTLSContext: given, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 16 << 10}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.where.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "aes-appliance")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", r.where.url, resp.Status)
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && kind != "application/jwk-set+json" {
		return nil, fmt.Errorf("%s answered with %.80q, not JSON", r.where.url, resp.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, jwt.MaxJWKS+1))
	if err != nil {
		return nil, err
	}
	return body, nil
}

// shutDown ends both directions of a connection, also under a read or write that is going on.
func shutDown(conn net.Conn) {
	if c, ok := conn.(interface {
		CloseRead() error
		CloseWrite() error
	}); ok {
		_ = c.CloseRead() // it may be closed already
		_ = c.CloseWrite()
	}
}

// secure speaks TLS over conn with the realm's host, judged by the time now. A demo's realm on loopback may do without.
func (r *realm) secure(ctx context.Context, conn net.Conn, cfg Config, now time.Time) (net.Conn, error) {
	if !r.where.tls {
		return conn, nil
	}
	roots := r.roots
	if roots == nil {
		roots = cfg.Roots
	}
	c := tls.Client(conn, &tls.Config{
		ServerName: r.where.host, RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		Time: func() time.Time { return now },
	})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with %s: %w", r.where.host, err)
	}
	return c, nil
}

// takeKeys records what is new about a realm's keys and then uses them. NotFound: the registration under which they were fetched has ended. Nothing changes
// it meanwhile: the line is an issuer's, and would be believed for the registration that took its place.
func (a *Activation) takeKeys(ctx context.Context, r *realm, keys jwt.Keys, now time.Time) error {
	a.act.Lock()
	defer a.act.Unlock()
	switch present, err := a.realm(r.Issuer); {
	case err != nil:
		return err
	case present != r:
		return fault.New(fault.NotFound, "the registration of the realm has changed while its keys were fetched")
	}
	k := &r.keys
	k.mu.Lock()
	old, confirmed := k.keys, k.confirmed
	k.mu.Unlock()
	id := realmDetails{Issuer: r.Issuer, Clinic: r.Clinic}
	switch {
	case !old.Equal(keys):
		// Each change is a line for the set and one for each new key, for good: a realm that has others without end must not fill the log.
		if ok, _ := a.changes.take("", r.Issuer, now); !ok {
			a.refuseKeys(ctx, r, RealmChurn, now)
			return unreachable(errors.New("its keys change too often")).WithCode(RealmChurn)
		}
		if err := a.recordKeys(ctx, id, old, keys); err != nil {
			return err
		}
		confirmed = now
	case now.Sub(confirmed) >= a.cfg.Timing.Confirm:
		d := confirmedDetails{realmDetails: id, Keys: keys.Len()}
		if _, err := a.cfg.Ledger.Append(ctx, ledger.Event{Type: eventKeysConfirmed, Actor: actorSelf, Details: d}); err != nil {
			return err
		}
		confirmed = now
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.seen, k.confirmed = keys, now, confirmed
	return nil
}

// recordKeys writes a line for each key never seen of this realm, and one with the whole set. A crash between them leaves keys that were seen and
// are not used: the next fetch writes the set.
func (a *Activation) recordKeys(ctx context.Context, id realmDetails, old, keys jwt.Keys) error {
	d := keysDetails{realmDetails: id, JWKS: keys.Marshal(), Added: without(keys, old), Removed: without(old, keys)}
	var fresh []jwt.Key
	err := a.cfg.Ledger.View(func(tx *index.Tx) error {
		for _, key := range keys.List() {
			if tx.Bucket(bucketSeen).Get(seenKey(id.Issuer, key.Thumbprint)) == nil {
				fresh = append(fresh, key)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range fresh {
		one := keyDetails{realmDetails: id, Kid: key.ID, Thumbprint: key.Thumbprint, Algorithm: key.Algorithm}
		if _, err := a.cfg.Ledger.Append(ctx, ledger.Event{Type: eventKeyFirstSeen, Actor: actorSelf, Details: one}); err != nil {
			return err
		}
	}
	_, err = a.cfg.Ledger.Append(ctx, ledger.Event{Type: eventKeysChanged, Actor: actorSelf, Details: d})
	if err == nil {
		a.cfg.Log.InfoContext(ctx, "a realm's keys changed", "issuer", id.Issuer, "added", strings.Join(d.Added, " "), "removed", strings.Join(d.Removed, " "))
	}
	return err
}

// without returns the thumbprints of keys in a that are not in b.
func without(a, b jwt.Keys) []string {
	list := []string{}
	have := map[string]bool{}
	for _, key := range b.List() {
		have[key.Thumbprint] = true
	}
	for _, key := range a.List() {
		if !have[key.Thumbprint] {
			list = append(list, key.Thumbprint)
		}
	}
	return list
}
