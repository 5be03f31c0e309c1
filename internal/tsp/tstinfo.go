package tsp

import (
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/veripath/aes-appliance/internal/der"
)

// TSTInfo is what a time-stamp token signs (RFC 3161 §2.4.2).
type TSTInfo struct {
	Policy asn1.ObjectIdentifier
	Imprint
	Serial   *big.Int      // not negative, at most 160 bits
	GenTime  time.Time     // UTC, to the nanosecond at most
	Accuracy time.Duration // 0 = not stated; to the microsecond
	Ordering bool
	Nonce    *big.Int // nil = none
	TSA      []byte   // GeneralName, DER; nil = absent
}

// Marshal returns the DER of t. It fails when t could not be parsed again.
func (t TSTInfo) Marshal() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	var room [192]byte
	b, err := der.AppendOID(append(room[:0], version1...), t.Policy)
	if err != nil {
		return nil, fmt.Errorf("tsp: policy: %w", err)
	}
	b = t.Imprint.append(b)
	b = der.AppendInt(b, t.Serial)
	var when [32]byte
	b = der.Append(b, casn1.GeneralizedTime, appendTime(when[:0], t.GenTime))
	if t.Accuracy != 0 {
		var parts [16]byte
		b = der.Append(b, casn1.SEQUENCE, appendAccuracy(parts[:0], t.Accuracy))
	}
	if t.Ordering {
		b = append(b, isTrue...)
	}
	if t.Nonce != nil {
		b = der.AppendInt(b, t.Nonce)
	}
	if t.TSA != nil {
		b = der.Append(b, explicit(0), t.TSA)
	}
	return der.Append(nil, casn1.SEQUENCE, b), nil
}

func (t TSTInfo) check() error {
	if err := t.Imprint.Check(); err != nil {
		return err
	}
	if err := checkNonce(t.Nonce); err != nil {
		return err
	}
	switch {
	case len(t.Policy) == 0:
		return errors.New("tsp: TSTInfo without policy")
	case t.Serial == nil || t.Serial.Sign() < 0 || t.Serial.BitLen() > 8*MaxSerial:
		return errors.New("tsp: serial number is negative or longer than 160 bits")
	case t.GenTime.UTC().Year() < 1 || t.GenTime.UTC().Year() > 9999:
		return fmt.Errorf("tsp: genTime %v cannot be written", t.GenTime)
	case t.Accuracy < 0 || t.Accuracy%time.Microsecond != 0:
		return fmt.Errorf("tsp: accuracy %v is negative or finer than a microsecond", t.Accuracy)
	}
	return nil
}

// ParseTSTInfo reads a TSTInfo, a token's eContent. Tokens of other authorities may have extensions; a critical one is refused, others
// are passed over.
//
// ParseTSTInfo(t.Marshal()) == t for every t that can be marshalled, with GenTime in UTC.
func ParseTSTInfo(der []byte) (TSTInfo, error) {
	t, err := parseTSTInfo(der)
	if err != nil {
		return TSTInfo{}, fmt.Errorf("tsp: TSTInfo: %w", err)
	}
	return t, nil
}

func parseTSTInfo(der []byte) (TSTInfo, error) {
	var t TSTInfo
	if len(der) > MaxTSTInfo {
		return t, fmt.Errorf("%d bytes, at most %d are read", len(der), MaxTSTInfo)
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, casn1.SEQUENCE) || !in.Empty() {
		return t, errors.New("not one DER SEQUENCE")
	}
	var version int64
	if !seq.ReadASN1Integer(&version) || version != 1 {
		return t, errors.New("version is not 1")
	}
	if !seq.ReadASN1ObjectIdentifier(&t.Policy) {
		return t, errors.New("policy is missing")
	}
	var err error
	if t.Imprint, err = readImprint(&seq); err != nil {
		return t, err
	}
	if t.Serial, err = readSerial(&seq); err != nil {
		return t, err
	}
	var genTime cryptobyte.String
	if !seq.ReadASN1(&genTime, casn1.GeneralizedTime) {
		return t, errors.New("genTime is missing")
	}
	if t.GenTime, err = parseTime(string(genTime)); err != nil {
		return t, err
	}
	if err := t.readOptional(&seq); err != nil {
		return t, err
	}
	if !seq.Empty() {
		return t, errors.New("bytes after the last element")
	}
	return t, nil
}

func readSerial(seq *cryptobyte.String) (*big.Int, error) {
	serial := new(big.Int)
	if !seq.ReadASN1Integer(serial) || serial.Sign() < 0 || serial.BitLen() > 8*MaxSerial {
		return nil, errors.New("serialNumber is not an integer of at most 160 bits")
	}
	return serial, nil
}

// readOptional reads the elements from accuracy on.
func (t *TSTInfo) readOptional(seq *cryptobyte.String) error {
	var err error
	if seq.PeekASN1Tag(casn1.SEQUENCE) {
		if t.Accuracy, err = readAccuracy(seq); err != nil {
			return err
		}
	}
	if seq.PeekASN1Tag(casn1.BOOLEAN) && (!seq.ReadASN1Boolean(&t.Ordering) || !t.Ordering) {
		return errors.New("ordering is not DER: FALSE is the default and left out")
	}
	if seq.PeekASN1Tag(casn1.INTEGER) {
		if t.Nonce, err = readNonce(seq); err != nil {
			return err
		}
	}
	var tsa, name, extensions cryptobyte.String
	var tag casn1.Tag
	var hasTSA, hasExtensions bool
	if !seq.ReadOptionalASN1(&tsa, &hasTSA, explicit(0)) || hasTSA && (!tsa.ReadAnyASN1Element(&name, &tag) || !tsa.Empty()) {
		return errors.New("tsa is not a GeneralName")
	}
	t.TSA = name
	if !seq.ReadOptionalASN1(&extensions, &hasExtensions, explicit(1)) {
		return errors.New("extensions are not DER")
	}
	for !extensions.Empty() {
		var ext, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !extensions.ReadASN1(&ext, casn1.SEQUENCE) || !ext.ReadASN1ObjectIdentifier(&oid) ||
			ext.PeekASN1Tag(casn1.BOOLEAN) && !ext.ReadASN1Boolean(&critical) ||
			!ext.ReadASN1(&value, casn1.OCTET_STRING) || !ext.Empty() {
			return errors.New("extension is not DER")
		}
		if critical {
			return fmt.Errorf("critical extension %v is not understood", oid)
		}
	}
	return nil
}

// appendAccuracy writes the elements of Accuracy: seconds, millis [0] and micros [1], those that are not zero.
func appendAccuracy(b []byte, d time.Duration) []byte {
	for _, part := range []struct {
		tag casn1.Tag
		n   time.Duration
	}{
		{casn1.INTEGER, d / time.Second},
		{casn1.Tag(0).ContextSpecific(), d % time.Second / time.Millisecond},
		{casn1.Tag(1).ContextSpecific(), d % time.Millisecond / time.Microsecond},
	} {
		if part.n != 0 {
			var v [8]byte
			binary.BigEndian.PutUint64(v[:], uint64(part.n))
			b = der.AppendUnsigned(b, part.tag, v[:])
		}
	}
	return b
}

func readAccuracy(seq *cryptobyte.String) (time.Duration, error) {
	var acc cryptobyte.String
	var seconds, millis, micros int64
	bad := errors.New("accuracy is not DER or out of range")
	if !seq.ReadASN1(&acc, casn1.SEQUENCE) || acc.PeekASN1Tag(casn1.INTEGER) && !acc.ReadASN1Integer(&seconds) {
		return 0, bad
	}
	for i, out := range []*int64{&millis, &micros} {
		tag := casn1.Tag(i).ContextSpecific()
		// RFC 3161 §2.4.2: INTEGER (1..999)
		if acc.PeekASN1Tag(tag) && (!acc.ReadASN1Int64WithTag(out, tag) || *out < 1 || *out > 999) {
			return 0, bad
		}
	}
	if !acc.Empty() || seconds < 0 || seconds > int64(100*365*24*time.Hour/time.Second) {
		return 0, bad
	}
	return time.Duration(seconds)*time.Second + time.Duration(millis)*time.Millisecond + time.Duration(micros)*time.Microsecond, nil
}

const timeLayout = "20060102150405"

// appendTime writes t as DER GeneralizedTime in UTC: a fraction only when there is one, and without trailing zeros (RFC 3161 §2.4.2).
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	b = t.AppendFormat(b, timeLayout)
	if ns := t.Nanosecond(); ns != 0 {
		b = append(b, strings.TrimRight(fmt.Sprintf(".%09d", ns), "0")...)
	}
	return append(b, 'Z')
}

func parseTime(s string) (time.Time, error) {
	bad := fmt.Errorf("genTime %q is not YYYYMMDDhhmmss[.f…]Z", s)
	if len(s) > len(timeLayout)+1+9+1 {
		return time.Time{}, bad
	}
	// time.Parse takes a fraction after the seconds whether the layout has one or not; what it let in differs from DER when written again.
	t, err := time.Parse(timeLayout+"Z", s)
	if err != nil || string(appendTime(nil, t)) != s || t.Year() < 1 {
		return time.Time{}, bad
	}
	return t, nil
}
