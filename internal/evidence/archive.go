package evidence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// An evidence pack is a zip file (PKWARE APPNOTE 6.3) in the simplest form that there is: whole entries one after the other, stored without
// compression, then the central directory, then its end record. No flags, no extra fields, no comments, no folders, no data descriptors, no
// zip64, every time 1980-01-01, nothing before, between or after. So a list of entries has one archive:
//
//	encodeArchive(decodeArchive(b)) == b, for every b that decodeArchive accepts
//
// and two programs cannot read different things in it.

// entry is one file of an archive.
type entry struct {
	name string
	data []byte
}

// Limits of an archive.
const (
	maxPack    = 160 << 20 // bytes
	maxEntries = 64
	maxName    = 64
)

// Of the records (APPNOTE §4.3.7, §4.3.12, §4.3.16).
const (
	sigLocal   = 0x04034b50
	sigCentral = 0x02014b50
	sigEnd     = 0x06054b50

	sizeLocal   = 30
	sizeCentral = 46
	sizeEnd     = 22

	version = 10          // §4.4.3: what a stored file needs
	dosDate = 1<<5 | 1<<0 // 1980-01-01
)

// header is what the local header and the central directory both say of an entry.
type header struct {
	need, flags, method, time, date uint16
	crc, packed, size               uint32
	name, extra                     uint16 // lengths
}

const sizeHeader = 26

func headerOf(e entry) header {
	n := uint32(len(e.data))
	return header{need: version, date: dosDate, crc: crc32.ChecksumIEEE(e.data), packed: n, size: n, name: uint16(len(e.name))}
}

func (h header) append(b []byte) []byte {
	for _, v := range []uint16{h.need, h.flags, h.method, h.time, h.date} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	for _, v := range []uint32{h.crc, h.packed, h.size} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, h.name), h.extra)
}

func parseHeader(b []byte) header {
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	return header{u16(b), u16(b[2:]), u16(b[4:]), u16(b[6:]), u16(b[8:]), u32(b[10:]), u32(b[14:]), u32(b[18:]), u16(b[22:]), u16(b[24:])}
}

// check returns in what h departs from the one form, but for the CRC.
func (h header) check() error {
	switch {
	case h.flags&1 != 0:
		return errors.New("it is encrypted")
	case h.flags&8 != 0:
		return errors.New("its sizes follow in a data descriptor")
	case h.flags != 0:
		return fmt.Errorf("it has flags %#04x", h.flags)
	case h.packed == math.MaxUint32 || h.size == math.MaxUint32:
		return errors.New("its sizes are in a zip64 field")
	case h.method != 0:
		return fmt.Errorf("it is compressed (method %d)", h.method)
	case h.packed != h.size:
		return fmt.Errorf("it has %d bytes stored as %d", h.size, h.packed)
	case h.extra != 0:
		return fmt.Errorf("it has an extra field of %d bytes", h.extra)
	case h.need != version:
		return fmt.Errorf("it needs version %d of the format, not %d", h.need, version)
	case h.time != 0 || h.date != dosDate:
		return errors.New("it has a time of its own")
	}
	return nil
}

// checkName returns what keeps a name from being that of an entry.
func checkName(name string) error {
	if len(name) == 0 || len(name) > maxName {
		return fmt.Errorf("a name of %d bytes", len(name))
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("the name %q is a path, or holds other characters than letters, digits, dots and hyphens", name)
		}
	}
	return nil
}

// encodeArchive returns the archive of entries.
func encodeArchive(entries []entry) ([]byte, error) {
	if len(entries) == 0 || len(entries) > maxEntries {
		return nil, fmt.Errorf("evidence: a pack of %d entries, not 1 to %d", len(entries), maxEntries)
	}
	total := sizeEnd
	for _, e := range entries {
		if err := checkName(e.name); err != nil {
			return nil, fmt.Errorf("evidence: %w", err)
		}
		if total += sizeLocal + sizeCentral + 2*len(e.name) + len(e.data); total > maxPack || len(e.data) > maxPack {
			return nil, fmt.Errorf("evidence: %w: more than %d bytes", errTooLarge, maxPack)
		}
	}
	b := make([]byte, 0, total)
	var central []byte
	for _, e := range entries {
		h := headerOf(e)
		central = binary.LittleEndian.AppendUint32(central, sigCentral)
		central = binary.LittleEndian.AppendUint16(central, version)
		central = h.append(central)
		central = append(central, make([]byte, 10)...) // comment length, disk, attributes
		central = binary.LittleEndian.AppendUint32(central, uint32(len(b)))
		central = append(central, e.name...)
		b = h.append(binary.LittleEndian.AppendUint32(b, sigLocal))
		b = append(append(b, e.name...), e.data...)
	}
	at := len(b)
	b = append(b, central...)
	b = binary.LittleEndian.AppendUint32(b, sigEnd)
	b = append(b, 0, 0, 0, 0) // disks
	b = binary.LittleEndian.AppendUint16(b, uint16(len(entries)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(entries)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(central)))
	b = binary.LittleEndian.AppendUint32(b, uint32(at))
	return append(b, 0, 0), nil // no comment
}

var errTooLarge = errors.New("the pack is too large")

// decodeArchive reads an archive of the one form; data of the entries refers to b. An error says where b departs from it.
func decodeArchive(b []byte) ([]entry, error) {
	if len(b) > maxPack {
		return nil, errTooLarge
	}
	var entries []entry
	var offsets []int
	rest := b
	for len(rest) >= 4 && binary.LittleEndian.Uint32(rest) == sigLocal {
		if len(entries) == maxEntries {
			return nil, fmt.Errorf("it has more than %d entries", maxEntries)
		}
		e, n, err := decodeLocal(rest)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(entries)+1, err)
		}
		for _, other := range entries {
			if other.name == e.name {
				return nil, fmt.Errorf("two entries are named %q", e.name)
			}
		}
		entries, offsets = append(entries, e), append(offsets, len(b)-len(rest))
		rest = rest[n:]
	}
	if len(entries) == 0 {
		return nil, errors.New("it does not begin with an entry of a zip file")
	}
	directory := len(b) - len(rest)
	for i, e := range entries {
		n, err := decodeCentral(rest, e, offsets[i])
		if err != nil {
			return nil, fmt.Errorf("the central directory, entry %d: %w", i+1, err)
		}
		rest = rest[n:]
	}
	if err := decodeEnd(rest, len(entries), directory, len(b)-len(rest)); err != nil {
		return nil, err
	}
	// What the checks above would miss cannot matter: there is one archive for these entries.
	again, err := encodeArchive(entries)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errors.New("it is not written as an evidence pack is")
	}
	return entries, nil
}

// decodeLocal reads the entry that b begins with, and its length with header and data.
func decodeLocal(b []byte) (entry, int, error) {
	if len(b) < sizeLocal {
		return entry{}, 0, errors.New("its header is cut off")
	}
	h := parseHeader(b[4:])
	if err := h.check(); err != nil {
		return entry{}, 0, err
	}
	end := sizeLocal + int(h.name) + int(h.size)
	if len(b) < end {
		return entry{}, 0, fmt.Errorf("it ends before its %d bytes", h.size)
	}
	e := entry{string(b[sizeLocal : sizeLocal+int(h.name)]), b[sizeLocal+int(h.name) : end]}
	if err := checkName(e.name); err != nil {
		return entry{}, 0, err
	}
	if crc32.ChecksumIEEE(e.data) != h.crc {
		return entry{}, 0, fmt.Errorf("%s: its CRC does not match", e.name)
	}
	return e, end, nil
}

// decodeCentral checks that b begins with the central directory's record of e, which lies at offset, and returns the record's length.
func decodeCentral(b []byte, e entry, offset int) (int, error) {
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != sigCentral {
		return 0, fmt.Errorf("%s is missing, or bytes that belong to nothing come before it", e.name)
	}
	end := sizeCentral + len(e.name)
	if len(b) < end {
		return 0, errors.New("it is cut off")
	}
	h := parseHeader(b[6:])
	switch name := string(b[sizeCentral:end]); {
	case h != headerOf(e) || name != e.name:
		return 0, fmt.Errorf("it says otherwise than the entry %s itself", e.name)
	case binary.LittleEndian.Uint16(b[32:]) != 0:
		return 0, errors.New("it has a comment")
	case int64(binary.LittleEndian.Uint32(b[42:])) != int64(offset):
		return 0, fmt.Errorf("it places %s elsewhere", e.name)
	case binary.LittleEndian.Uint16(b[4:]) != version || !bytes.Equal(b[34:42], make([]byte, 8)):
		return 0, errors.New("it has attributes, or was made by another system")
	}
	return end, nil
}

// decodeEnd checks the end record, which is all that b may hold.
func decodeEnd(b []byte, entries, directory, end int) error {
	if len(b) < sizeEnd || binary.LittleEndian.Uint32(b) != sigEnd {
		return errors.New("the central directory does not end after the last entry: it lists others, or it is cut off")
	}
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	switch {
	case u16(b[20:]) != 0:
		return errors.New("it has a comment")
	case len(b) != sizeEnd:
		return fmt.Errorf("%d bytes follow its end", len(b)-sizeEnd)
	case u16(b[8:]) == math.MaxUint16 || u32(b[16:]) == math.MaxUint32:
		return errors.New("its end is in a zip64 record")
	case int(u16(b[8:])) != entries || int(u16(b[10:])) != entries:
		return fmt.Errorf("its end counts %d entries, not %d", u16(b[10:]), entries)
	case int64(u32(b[12:])) != int64(end-directory) || int64(u32(b[16:])) != int64(directory):
		return errors.New("its end places the central directory elsewhere")
	}
	return nil
}
