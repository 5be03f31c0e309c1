// Package chain is the format of the log, without any I/O: a line, the hash that chains it to the line before, the RFC 6962 Merkle tree over the
// lines, and checkpoints of that tree. docs/audit-log.md describes the same for those who write a verifier of their own.
//
// Laws:
//
//	ParseLine(AppendLine(nil, prev, e)) gives prev and e back, for every e that AppendLine accepts.
//	AppendLine(nil, l.Prev, l.Entry) == b, for every b that ParseLine accepts with result l: a line has one form.
package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// MaxLine is the largest length of a line, in bytes without its newline: what the 16-bit length of an entry bundle in C2SP tlog-tiles can say.
const MaxLine = 65535

// Limits of an entry's members, in bytes.
const (
	MaxEventType = 64
	MaxActor     = 256
)

// HashSize is the length of a hash.
const HashSize = sha256.Size

// Hash is a SHA-256 hash: of a line's chain, of a leaf, of a tree.
type Hash = [HashSize]byte

// Entry is what a line says.
type Entry struct {
	Time      time.Time       // microseconds, UTC, from 1970 to 9999
	EventType string          // [a-z][a-z0-9_]*, at most MaxEventType bytes
	Actor     string          // 1 to MaxActor bytes of UTF-8
	Details   json.RawMessage // a JSON object in canonical form
}

// Line is a line of the log.
type Line struct {
	Prev Hash // of the line before, zeros for the first
	Hash Hash
	Entry
}

// What lies between the variable parts of a line, and of the canonical form of its entry.
const (
	linePrev    = `{"prev_hash":"`
	lineHash    = `","hash":"`
	lineTime    = `","entry":{"timestamp":"`
	lineType    = `","event_type":"`
	lineActor   = `","actor":`
	lineDetails = `,"details":`
	lineEnd     = `}}`

	canonActor   = `{"actor":`
	canonDetails = `,"details":`
	canonType    = `,"event_type":"`
	canonTime    = `","timestamp":"`
	canonEnd     = `"}`
)

const (
	hexHash    = 2 * HashSize
	timeFormat = "2006-01-02T15:04:05.000000Z"
	// timeStart is where the timestamp stands in every line.
	timeStart = len(linePrev) + hexHash + len(lineHash) + hexHash + len(lineTime)
	timeEnd   = timeStart + len(timeFormat)
)

// AppendLine appends the line, without a newline, that follows the line with hash prev and says e; it returns the line's own hash as well. e.Details
// must be an object as Canonical returns it. On error dst is returned as it came.
func AppendLine(dst []byte, prev Hash, e Entry) ([]byte, Hash, error) {
	if err := e.check(); err != nil {
		return dst, Hash{}, err
	}
	stamp := e.Time.UTC().Format(timeFormat)
	from := len(dst)
	dst = append(dst, linePrev...)
	dst = hex.AppendEncode(dst, prev[:])
	dst = append(dst, lineHash...)
	at := len(dst)
	dst = append(dst, make([]byte, hexHash)...)
	dst = append(dst, lineTime...)
	dst = append(dst, stamp...)
	dst = append(dst, lineType...)
	dst = append(dst, e.EventType...)
	dst = append(dst, lineActor...)
	actor := len(dst)
	dst = appendString(dst, e.Actor)
	actorEnd := len(dst)
	dst = append(dst, lineDetails...)
	dst = append(dst, e.Details...)
	dst = append(dst, lineEnd...)
	if n := len(dst) - from; n > MaxLine {
		return dst[:from], Hash{}, fmt.Errorf("chain: %w: %d bytes, more than %d", ErrTooLong, n, MaxLine)
	}
	h := entryHash(make([]byte, 0, 1024), prev, spans{[]byte(e.EventType), dst[actor:actorEnd], e.Details}, []byte(stamp))
	hex.Encode(dst[at:], h[:])
	return dst, h, nil
}

// ErrTooLong says that a line is longer than MaxLine.
var ErrTooLong = errors.New("the line is too long")

// check returns what keeps e from being written. Whether Details is canonical is scanned here too: a line that no verifier would accept must never
// be written.
func (e Entry) check() error {
	if y := e.Time.UTC().Year(); y < 1970 || y > 9999 {
		return fmt.Errorf("chain: a timestamp in the year %d, not 1970 to 9999", y)
	}
	if e.Time.Nanosecond()%1000 != 0 {
		return fmt.Errorf("chain: a timestamp with nanoseconds: %s", e.Time)
	}
	if !validEventType([]byte(e.EventType)) {
		return fmt.Errorf("chain: event type %q is not 1 to %d of a-z 0-9 _ beginning with a letter", e.EventType, MaxEventType)
	}
	if len(e.Actor) == 0 || len(e.Actor) > MaxActor || !utf8.ValidString(e.Actor) {
		return fmt.Errorf("chain: actor %q is not 1 to %d bytes of UTF-8", e.Actor, MaxActor)
	}
	if !utf8.Valid(e.Details) {
		return errors.New("chain: details are not valid UTF-8")
	}
	if len(e.Details) == 0 || e.Details[0] != '{' {
		return errors.New("chain: details are not a JSON object")
	}
	n, err := scanValue(e.Details, 0, 0)
	if err != nil {
		return fmt.Errorf("chain: details are not canonical: %w", err)
	}
	if n != len(e.Details) {
		return errors.New("chain: data after the details object")
	}
	return nil
}

// ParseLine reads a line, without its newline, and refuses any that AppendLine would not have written: other key order, white space, other escapes,
// unknown or repeated keys, invalid UTF-8, numbers that are not integers within ±MaxInteger, more than MaxLine bytes, a hash that is not the hash of
// what the line says. Whether prev_hash is the hash of the line before only the caller can tell. Details refers to b.
func ParseLine(b []byte) (Line, error) {
	var p Parser
	return p.Parse(b)
}

// Parser parses lines and keeps its working memory between them. The zero Parser is ready.
type Parser struct{ scratch []byte }

// Link is what verification needs of a line.
type Link struct {
	Prev, Hash Hash
	Micros     int64 // the timestamp, microseconds since 1970
}

// spans is where the variable parts of a line lie.
type spans struct{ eventType, actor, details []byte }

// Parse is ParseLine.
func (p *Parser) Parse(b []byte) (Line, error) {
	link, s, err := p.parse(b)
	if err != nil {
		return Line{}, err
	}
	var actor string
	if err := json.Unmarshal(s.actor, &actor); err != nil {
		panic("chain: a scanned string does not decode: " + err.Error())
	}
	if len(actor) > MaxActor {
		return Line{}, fmt.Errorf("chain: an actor of %d bytes, more than %d", len(actor), MaxActor)
	}
	return Line{Prev: link.Prev, Hash: link.Hash, Entry: Entry{
		Time: time.UnixMicro(link.Micros).UTC(), EventType: string(s.eventType), Actor: actor, Details: s.details,
	}}, nil
}

// Link is Parse without the entry: the same lines are accepted.
func (p *Parser) Link(b []byte) (Link, error) {
	link, s, err := p.parse(b)
	if err != nil {
		return Link{}, err
	}
	if n := stringLength(s.actor); n > MaxActor {
		return Link{}, fmt.Errorf("chain: an actor of %d bytes, more than %d", n, MaxActor)
	}
	return link, nil
}

func (p *Parser) parse(b []byte) (Link, spans, error) {
	if len(b) > MaxLine {
		return Link{}, spans{}, fmt.Errorf("chain: %w: %d bytes, more than %d", ErrTooLong, len(b), MaxLine)
	}
	if !utf8.Valid(b) {
		return Link{}, spans{}, errors.New("chain: the line is not valid UTF-8")
	}
	var l Link
	i := 0
	if err := expectHash(b, &i, linePrev, &l.Prev); err != nil {
		return Link{}, spans{}, err
	}
	if err := expectHash(b, &i, lineHash, &l.Hash); err != nil {
		return Link{}, spans{}, err
	}
	if err := expect(b, &i, lineTime); err != nil {
		return Link{}, spans{}, err
	}
	var err error
	if l.Micros, err = parseTime(b[i:]); err != nil {
		return Link{}, spans{}, err
	}
	i = timeEnd
	s, err := scanEntry(b, i)
	if err != nil {
		return Link{}, spans{}, err
	}
	if cap(p.scratch) < len(b) {
		p.scratch = make([]byte, 0, max(4096, len(b)))
	}
	h := entryHash(p.scratch, l.Prev, s, b[timeStart:timeEnd])
	if h != l.Hash {
		return Link{}, spans{}, ErrHash
	}
	return l, s, nil
}

// ErrHash says that a line is not what its hash was made over.
var ErrHash = errors.New("chain: the hash does not match what the line says")

// entryHash returns SHA-256(prev ‖ canonical JSON of the entry): RFC 8785 sorts actor, details, event_type, timestamp. It works in scratch when that
// is large enough.
func entryHash(scratch []byte, prev Hash, s spans, stamp []byte) Hash {
	b := append(scratch[:0], prev[:]...)
	b = append(b, canonActor...)
	b = append(b, s.actor...)
	b = append(b, canonDetails...)
	b = append(b, s.details...)
	b = append(b, canonType...)
	b = append(b, s.eventType...)
	b = append(b, canonTime...)
	b = append(b, stamp...)
	b = append(b, canonEnd...)
	return sha256.Sum256(b)
}

// scanEntry scans a line from after the timestamp to its end.
func scanEntry(b []byte, i int) (spans, error) {
	var s spans
	if err := expect(b, &i, lineType); err != nil {
		return s, err
	}
	n := bytes.IndexByte(b[i:], '"')
	if n < 0 || !validEventType(b[i:i+n]) {
		return s, scanError(i, "no event type of 1 to %d of a-z 0-9 _ beginning with a letter", MaxEventType)
	}
	s.eventType = b[i : i+n]
	i += n
	if err := expect(b, &i, lineActor); err != nil {
		return s, err
	}
	if i >= len(b) || b[i] != '"' {
		return s, scanError(i, "the actor is no string")
	}
	end, err := scanString(b, i)
	if err != nil {
		return s, err
	}
	s.actor = b[i:end]
	if len(s.actor) == 2 {
		return s, scanError(i, "the actor is empty")
	}
	i = end
	if err := expect(b, &i, lineDetails); err != nil {
		return s, err
	}
	if i >= len(b) || b[i] != '{' {
		return s, scanError(i, "the details are no object")
	}
	if end, err = scanValue(b, i, 0); err != nil {
		return s, err
	}
	s.details = b[i:end]
	if string(b[end:]) != lineEnd {
		return s, scanError(end, "the line does not end after the details")
	}
	return s, nil
}

// expect moves i past want, which must stand there.
func expect(b []byte, i *int, want string) error {
	if len(b)-*i < len(want) || string(b[*i:*i+len(want)]) != want {
		return scanError(*i, "not %s where it is due", want)
	}
	*i += len(want)
	return nil
}

func expectHash(b []byte, i *int, before string, h *Hash) error {
	if err := expect(b, i, before); err != nil {
		return err
	}
	if len(b)-*i < hexHash {
		return scanError(*i, "the line ends within a hash")
	}
	for j := range h {
		hi, lo := unhex(b[*i+2*j]), unhex(b[*i+2*j+1])
		if hi|lo > 15 {
			return scanError(*i+2*j, "a hash that is not 64 lower-case hex digits")
		}
		h[j] = hi<<4 | lo
	}
	*i += hexHash
	return nil
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

func validEventType(b []byte) bool {
	if len(b) == 0 || len(b) > MaxEventType || b[0] < 'a' || b[0] > 'z' {
		return false
	}
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// parseTime reads a timestamp of the one form that lines have (RFC 3339, UTC, six digits of fraction) from the beginning of b.
func parseTime(b []byte) (int64, error) {
	if len(b) < len(timeFormat) {
		return 0, scanError(timeStart, "the line ends within the timestamp")
	}
	b = b[:len(timeFormat)]
	for i := range b {
		switch c := timeFormat[i]; c {
		case '-', 'T', ':', '.', 'Z':
			if b[i] != c {
				return 0, scanError(timeStart, "timestamp %q is not of the form %s", b, timeFormat)
			}
		default:
			if b[i] < '0' || b[i] > '9' {
				return 0, scanError(timeStart, "timestamp %q is not of the form %s", b, timeFormat)
			}
		}
	}
	year, month, day := digits(b[0:4]), digits(b[5:7]), digits(b[8:10])
	hour, minute, second, micro := digits(b[11:13]), digits(b[14:16]), digits(b[17:19]), digits(b[20:26])
	if year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59 {
		return 0, scanError(timeStart, "timestamp %q does not exist", b)
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, micro*1000, time.UTC)
	if t.Day() != day {
		return 0, scanError(timeStart, "timestamp %q does not exist", b)
	}
	return t.UnixMicro(), nil
}

func digits(b []byte) int {
	n := 0
	for _, c := range b {
		n = n*10 + int(c-'0')
	}
	return n
}

// stringLength returns how many bytes a scanned JSON string stands for.
func stringLength(s []byte) int {
	n := len(s) - 2
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' {
			e := escapeLength(s[i:])
			n -= e - 1
			i += e - 1
		}
	}
	return n
}
