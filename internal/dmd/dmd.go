// Package dmd knows in which schedule of the Misuse of Drugs Regulations 2001 the medicines of the NHS dictionary of medicines and devices
// (dm+d) are, by their SNOMED CT codes.
//
// Import reads an extract as TRUD distributes it, once, and makes a Dictionary of it; Parse and Marshal read and write the compact file in which the
// appliance keeps that. The package is pure: it opens no file and reads no clock.
package dmd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Dictionary says of each code of one extract which schedule it is in. It is safe for concurrent use; a nil one knows nothing.
type Dictionary struct {
	Release string // date of the extract, YYYY-MM-DD, by the names of its files
	Source  string // SHA-256 of the archive that it was made from, hexadecimal
	SHA256  string // of Marshal(), hexadecimal: which dictionary this is

	codes []byte // code<<3 | schedule, ascending, 8 bytes each, big-endian: 18 digits have 60 bits
}

const (
	scheduleBits = 3
	scheduleMask = 1<<scheduleBits - 1
	maxCode      = 999_999_999_999_999_999 // 18 digits
	maxSchedule  = 5
	maxCodes     = 4 << 20 // an extract has about half a million
	codeSize     = 8
)

// Schedule returns the schedule that a code is in: "1" to "5", "none" for what is not controlled. known is false for a code that the extract does
// not have, or says nothing of.
func (d *Dictionary) Schedule(code string) (schedule string, known bool) {
	n, ok := number(code)
	if d == nil || !ok {
		return "", false
	}
	i := sort.Search(d.Len(), func(i int) bool { return d.at(i)>>scheduleBits >= n })
	if i == d.Len() || d.at(i)>>scheduleBits != n {
		return "", false
	}
	if s := d.at(i) & scheduleMask; s > 0 {
		return strconv.FormatUint(s, 10), true
	}
	return "none", true
}

// Identity is SHA256, "" of no dictionary.
func (d *Dictionary) Identity() string {
	if d == nil {
		return ""
	}
	return d.SHA256
}

// Len is how many codes d knows.
func (d *Dictionary) Len() int { return len(d.codes) / codeSize }

func (d *Dictionary) at(i int) uint64 { return binary.BigEndian.Uint64(d.codes[i*codeSize:]) }

// Controlled is how many of them are in a schedule.
func (d *Dictionary) Controlled() (n int) {
	for i := range d.Len() {
		if d.at(i)&scheduleMask > 0 {
			n++
		}
	}
	return n
}

// number reads a SNOMED CT identifier: 6 to 18 digits without a leading zero.
func number(code string) (uint64, bool) {
	if len(code) < 6 || len(code) > 18 || code[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(code, 10, 64)
	return n, err == nil
}

// magic is the first line of the file.
const magic = "aes-dmd 1\n"

// MaxFile is the size of the largest file that Parse takes, in bytes.
const MaxFile = 256 + maxCodes*codeSize + sha256.Size

// Marshal returns d as a file:
//
//	aes-dmd 1
//	release YYYY-MM-DD
//	source HEX
//	codes N
//
// each with a newline, N ascending numbers of 8 bytes, big-endian (code<<3 | schedule), and the SHA-256 of all that.
//
//	Parse(d.Marshal()) == d
func (d *Dictionary) Marshal() []byte {
	out := fmt.Appendf(nil, "%srelease %s\nsource %s\ncodes %d\n", magic, d.Release, d.Source, d.Len())
	out = append(out, d.codes...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// Parse reads what Marshal wrote and nothing else. The Dictionary keeps data, which must not change any more: it is most of what either process holds of
// it. The error is a fault of kind Invalid.
func Parse(data []byte) (*Dictionary, error) {
	d, err := parse(data)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the dm+d dictionary cannot be read: "+err.Error()).
			WithHint(`make it anew from the extract, with "appliance config import-dmd"`)
	}
	return d, nil
}

func parse(data []byte) (*Dictionary, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("it has more than %d bytes", MaxFile)
	}
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		return nil, fmt.Errorf("it does not begin with %q", strings.TrimSpace(magic))
	}
	d := &Dictionary{}
	var count string
	for _, h := range []struct {
		key string
		to  *string
	}{{"release", &d.Release}, {"source", &d.Source}, {"codes", &count}} {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		value, named := bytes.CutPrefix(line, []byte(h.key+" "))
		if !found || !named || len(value) > 2*sha256.Size {
			return nil, fmt.Errorf("the line %q is missing", h.key)
		}
		*h.to, rest = string(value), after
	}
	if t, err := time.Parse(time.DateOnly, d.Release); err != nil || t.Format(time.DateOnly) != d.Release {
		return nil, fmt.Errorf("its release is no date")
	}
	if raw, err := hex.DecodeString(d.Source); err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != d.Source {
		return nil, fmt.Errorf("its source is no SHA-256")
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > maxCodes || strconv.Itoa(n) != count || len(rest) != n*codeSize+sha256.Size {
		return nil, fmt.Errorf("it does not hold as many codes as it says")
	}
	if sum := sha256.Sum256(data[:len(data)-sha256.Size]); !bytes.Equal(sum[:], data[len(data)-sha256.Size:]) {
		return nil, fmt.Errorf("it is damaged: its checksum is wrong")
	}
	return d, d.fill(rest[:n*codeSize], data)
}

// fill reads the codes; whole is the file.
func (d *Dictionary) fill(raw, whole []byte) error {
	d.codes = raw
	last := uint64(0)
	for i := range d.Len() {
		c := d.at(i)
		if c>>scheduleBits < 100_000 || c>>scheduleBits > maxCode || c&scheduleMask > maxSchedule || c>>scheduleBits <= last {
			return fmt.Errorf("code %d of it is none, or out of order", i+1)
		}
		last = c >> scheduleBits
	}
	sum := sha256.Sum256(whole)
	d.SHA256 = hex.EncodeToString(sum[:])
	return nil
}
