package pdf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/veripath/aes-appliance/internal/fault"
)

// Limits bound what a file may cost. The zero value of a field means its default.
type Limits struct {
	MaxSize     int64 // bytes of the file; default 256 MiB
	MaxObjects  int   // cross-reference entries over all sections; default 8,388,607 (ISO 32000-1 Annex C)
	MaxDepth    int   // nesting of arrays and dictionaries, of form fields and of the page tree; default 100
	MaxSections int   // cross-reference sections, so also revisions; default 512
	MaxNodes    int   // values in one indirect object; default 1,048,576, ceiling 65,536 + the file's size in bytes
	MaxDecoded  int64 // bytes that one stream may decode to; default, and ceiling, 16 MiB + 64 × the file's size
}

// What all streams of a file together may decode to, what one may, how much of decoded object streams and how many parsed values are
// kept, and how many values may be parsed in all: each a base and a multiple of the file's size. A File and its past revisions draw on
// one budget.
const (
	totalBase, totalPer   = 48 << 20, 128
	singleBase, singlePer = 16 << 20, 64
	holdBase, holdPer     = 16 << 20, 1
	cacheBase, cachePer   = 1 << 14, 64 // values kept: base + one per so many bytes
	parseBase, parsePer   = 4 << 20, 64
)

// maxSize is the highest /Size, so that object numbers are below it: readers that hold no more (ISO 32000-1 annex C) repair a file that
// says so, and see another document.
const maxSize = 8388607

// resolve fills in the defaults for a file of n bytes.
func (l Limits) resolve(n int64) Limits {
	if l.MaxSize <= 0 {
		l.MaxSize = 256 << 20
	}
	if l.MaxObjects <= 0 {
		l.MaxObjects = maxSize
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = 100
	}
	if l.MaxSections <= 0 {
		l.MaxSections = 512
	}
	l.MaxSections = min(l.MaxSections, 1<<16-1) // entry.rev
	if l.MaxNodes <= 0 {
		l.MaxNodes = 1 << 20
	}
	l.MaxNodes = int(min(int64(l.MaxNodes), 1<<16+n))
	ceiling := int64(singleBase) + singlePer*n
	if l.MaxDecoded <= 0 || l.MaxDecoded > ceiling {
		l.MaxDecoded = ceiling
	}
	return l
}

// budget is what may still be decoded, in bytes, and parsed, in values.
type budget struct{ decode, parse int64 }

func newBudget(n int64) *budget {
	return &budget{decode: totalBase + totalPer*n, parse: parseBase + parsePer*n}
}

// decoded takes n bytes from the budget.
func (b *budget) decoded(n int) error {
	if b.decode -= int64(n); b.decode < 0 {
		b.decode = 0
		return tooLarge("the file's streams decode to more than %d bytes and %d times its size", totalBase, totalPer)
	}
	return nil
}

// parsed takes the cost of an object from the budget: its values, and one for every 16 bytes. An honest file's objects can all be parsed
// many times.
func (b *budget) parsed(nodes, bytes int) error {
	if b.parse -= int64(nodes) + int64(bytes)/16; b.parse < 0 {
		b.parse = 0
		return tooLarge("reading the file takes more than %d steps and %d for each of its bytes", parseBase, parsePer)
	}
	return nil
}

// Errors are made by kind; every text begins with what it is about.
func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "PDF: "+fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) *fault.Error {
	return fault.New(fault.Unsupported, "PDF: "+fmt.Sprintf(format, args...))
}

func tooLarge(format string, args ...any) *fault.Error {
	return fault.New(fault.TooLarge, "PDF: "+fmt.Sprintf(format, args...))
}

func notFound(format string, args ...any) *fault.Error {
	return fault.New(fault.NotFound, "PDF: "+fmt.Sprintf(format, args...))
}

func conflict(format string, args ...any) *fault.Error {
	return fault.New(fault.Conflict, "PDF: "+fmt.Sprintf(format, args...))
}

func forbidden(format string, args ...any) *fault.Error {
	return fault.New(fault.Forbidden, "PDF: "+fmt.Sprintf(format, args...))
}

// within says which object an error is about; nil stays nil.
func within(what string, err error) error {
	if err == nil {
		return nil
	}
	var inner *fault.Error
	if !errors.As(err, &inner) {
		return fmt.Errorf("PDF: %s: %w", what, err)
	}
	e := *inner
	e.Public = "PDF: " + what + ": " + strings.TrimPrefix(inner.Public, "PDF: ")
	return &e
}
