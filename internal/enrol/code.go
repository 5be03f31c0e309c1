// Package enrol is the one-time codes by which a primary and its backup host come to know each other, carried by an operator from one to the other:
// no certificate is copied by hand. How the code's secret is proven over a TLS connection is package replica's.
//
// It does no I/O, reads no clock and draws no randomness.
package enrol

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
)

// SecretSize is how long a code's secret is, in bytes.
const SecretSize = 16

// Key is the Ed25519 public key that one side shows in TLS: there is no CA between a primary and its backup host.
type Key [ed25519.PublicKeySize]byte

// Join is what a join code says to the backup host: which primary will dial it, and the secret by which the two know each other.
type Join struct {
	Expires time.Time // whole seconds
	Secret  [SecretSize]byte
	Primary Key               // shown by the primary
	LogKey  ed25519.PublicKey // signs the log's checkpoints
	Origin  string            // of the log
	Backup  string            // host:port that the primary dials
}

// VerifierKey returns the log's verifier key.
func (j Join) VerifierKey() (string, error) { return chain.VerifierKey(j.Origin, j.LogKey) }

// Restore is what a restore code says to a bare machine: which backup host allows it to fetch which log.
type Restore struct {
	Expires time.Time // whole seconds
	Secret  [SecretSize]byte
	Backup  Key    // shown by the backup host
	Origin  string // of the log
}

// A code is base64url of these bytes, behind the kind's prefix:
//
//	join     version 1, expiry (8), secret (16), primary (32), log key (32), origin (1+n), backup (1+n), check (4)
//	restore  version 1, expiry (8), secret (16), backup (32), origin (1+n), check (4)
//
// The check is the beginning of SHA-256(prefix ‖ all before it): it finds a slip of the copying hand, not a forger.
const (
	joinPrefix    = "aes-join."
	restorePrefix = "aes-restore."
	version       = 1
	checkSize     = 4
	maxCode       = 1024 // characters, white space included
)

// Errors of codes.
var (
	ErrCode    = errors.New("enrol: not a whole code")
	ErrExpired = errors.New("enrol: the code has expired")
)

// Code returns j as text. It fails when j cannot be said in a code.
//
//	ParseJoin(j.Code()) == j
func (j Join) Code() (string, error) {
	if err := j.check(); err != nil {
		return "", err
	}
	b := head(j.Expires, j.Secret)
	b = append(append(b, j.Primary[:]...), j.LogKey...)
	return seal(joinPrefix, addText(addText(b, j.Origin), j.Backup)), nil
}

func (j Join) check() error {
	if err := checkExpiry(j.Expires); err != nil {
		return err
	}
	if len(j.LogKey) != ed25519.PublicKeySize {
		return fmt.Errorf("enrol: a log key of %d bytes", len(j.LogKey))
	}
	if err := chain.CheckOrigin(j.Origin); err != nil {
		return err
	}
	return CheckAddress(j.Backup)
}

// ParseJoin reads a join code, white space within it ignored. ErrCode: it is none, or not all of it. Expiry is Valid's to judge.
func ParseJoin(code string) (j Join, err error) {
	r, err := open(joinPrefix, code)
	if err != nil {
		return j, err
	}
	j.Expires = r.head(&j.Secret)
	r.fixed(j.Primary[:])
	j.LogKey = make(ed25519.PublicKey, ed25519.PublicKeySize)
	r.fixed(j.LogKey)
	j.Origin, j.Backup = r.text(), r.text()
	if err := r.end(); err != nil {
		return Join{}, err
	}
	if err := j.check(); err != nil {
		return Join{}, fmt.Errorf("%w: %w", ErrCode, err)
	}
	return j, nil
}

// Code returns r as text.
//
//	ParseRestore(r.Code()) == r
func (r Restore) Code() (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	return seal(restorePrefix, addText(append(head(r.Expires, r.Secret), r.Backup[:]...), r.Origin)), nil
}

func (r Restore) check() error {
	if err := checkExpiry(r.Expires); err != nil {
		return err
	}
	return chain.CheckOrigin(r.Origin)
}

// ParseRestore reads a restore code, as ParseJoin does.
func ParseRestore(code string) (out Restore, err error) {
	r, err := open(restorePrefix, code)
	if err != nil {
		return out, err
	}
	out.Expires = r.head(&out.Secret)
	r.fixed(out.Backup[:])
	out.Origin = r.text()
	if err := r.end(); err != nil {
		return Restore{}, err
	}
	if err := out.check(); err != nil {
		return Restore{}, fmt.Errorf("%w: %w", ErrCode, err)
	}
	return out, nil
}

// Valid returns ErrExpired when a code that expires then is not good any more.
func Valid(expires, now time.Time) error {
	if now.Before(expires) {
		return nil
	}
	return ErrExpired
}

// lastExpiry keeps an expiry within what RFC 3339 can say.
const lastExpiry = 253402300799

func checkExpiry(t time.Time) error {
	if s := t.Unix(); s <= 0 || s > lastExpiry || t.Nanosecond() != 0 {
		return fmt.Errorf("enrol: an expiry of %v, which is no whole second of this era", t)
	}
	return nil
}

// CheckAddress returns what keeps s from being a host:port that can be dialled: a DNS name or an IP address, a port from 1.
func CheckAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("enrol: the address %.80q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("enrol: %.20q is no port", port)
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" && addr.String() == host {
		return nil
	}
	if !isName(host) {
		return fmt.Errorf("enrol: %.80q is neither a host name nor an IP address", host)
	}
	return nil
}

// isName accepts a DNS name in lower-case ASCII (RFC 1123 §2.1) whose last label is no number.
func isName(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return len(s) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func head(expires time.Time, secret [SecretSize]byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{version}, uint64(expires.Unix()))
	return append(b, secret[:]...)
}

func addText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func checksum(prefix string, b []byte) []byte {
	sum := sha256.Sum256(append([]byte(prefix), b...))
	return sum[:checkSize]
}

func seal(prefix string, b []byte) string {
	return prefix + base64.RawURLEncoding.EncodeToString(append(b, checksum(prefix, b)...))
}

// reader takes a code's bytes apart; what is short is found by end.
type reader struct {
	b   []byte
	err error
}

// open checks the form and the check of a code.
func open(prefix, code string) (*reader, error) {
	if len(code) > maxCode {
		return nil, fmt.Errorf("%w: %d characters", ErrCode, len(code))
	}
	body, ok := strings.CutPrefix(strings.Join(strings.Fields(code), ""), prefix)
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrCode, prefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return nil, fmt.Errorf("%w: a character in it is wrong", ErrCode)
	}
	if len(b) < 1+checkSize || !bytes.Equal(checksum(prefix, b[:len(b)-checkSize]), b[len(b)-checkSize:]) {
		return nil, fmt.Errorf("%w: its check does not agree: some of it is missing or was mistyped", ErrCode)
	}
	if b[0] != version {
		return nil, fmt.Errorf("%w: it is of version %d, made by another version of this program", ErrCode, b[0])
	}
	return &reader{b: b[1 : len(b)-checkSize]}, nil
}

func (r *reader) fixed(to []byte) {
	if r.err != nil || len(r.b) < len(to) {
		r.err = ErrCode
		return
	}
	r.b = r.b[copy(to, r.b):]
}

func (r *reader) head(secret *[SecretSize]byte) time.Time {
	var at [8]byte
	r.fixed(at[:])
	r.fixed(secret[:])
	return time.Unix(int64(binary.BigEndian.Uint64(at[:])), 0).UTC()
}

func (r *reader) text() string {
	var n [1]byte
	r.fixed(n[:])
	s := make([]byte, n[0])
	r.fixed(s)
	return string(s)
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrCode, len(r.b))
	}
	return r.err
}
