package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/tsp"
	"github.com/veripath/aes-appliance/internal/wire"
)

// The renewal of stored documents (EN 319 142-1 §5.4.3), before the proof of their newest time stamps runs out. An operator's process, which has no key
// and no state, parses each document and appends to it; here it is only seen to that what was there stays, byte for byte, and that what is appended ends
// in a time stamp of ours over all of it. What was signed is never replaced: it stays what is downloaded by default, and each renewal is kept as what it
// appended.

// archive is the one renewal that is being made: another takes its place, and what comes for the former is refused.
type archive struct {
	mu     sync.Mutex
	ref    wire.ArchiveRef
	before [sha256.Size]byte // of the document that it began with
	digest []byte            // that was stamped; nil: none yet
	token  []byte
	info   tsp.TSTInfo
	serial string // of the certificate that stamped it
}

// Bounds of one answer to archiveDue.
const (
	archivePage = 100
	archiveLook = 20_000 // records that are looked at
)

// archiveDue answers OpArchiveDue.
func (v *Server) archiveDue(ctx context.Context, in wire.ArchiveDue) (page wire.ArchiveList, err error) {
	if in.Within < 0 || in.Within > maxDays*24*time.Hour {
		return page, fault.New(fault.Invalid, "the time within which a certificate ends is out of range")
	}
	from, err := hex.DecodeString(in.Cursor)
	if err != nil {
		return page, fault.New(fault.Invalid, "the cursor is not one that was given out")
	}
	ending, err := v.ending(v.s.clock.Estimate().Add(in.Within))
	if err != nil {
		return page, err
	}
	page.Documents = []wire.ArchiveRef{}
	if len(ending) == 0 && in.StampedBefore.IsZero() {
		return page, nil
	}
	looked := 0
	err = v.s.ledger.View(func(tx *index.Tx) error {
		for key, raw := range tx.Bucket(bucketRecord).Seek(from) {
			if looked++; looked > archiveLook || len(page.Documents) == archivePage {
				page.Next = hex.EncodeToString(key)
				return nil
			}
			var k kept
			if err := json.Unmarshal(raw, &k); err != nil {
				return err
			}
			if ending[k.StampedBy] || k.stampedBefore(in.StampedBefore) {
				clinic, id, _ := strings.Cut(string(key), "\x00")
				page.Documents = append(page.Documents, wire.ArchiveRef{Clinic: clinic, PrescriptionID: id})
			}
		}
		return ctx.Err()
	})
	return page, err
}

// ending returns the serial numbers of the certificates of the time-stamping authority that end before then, or whose issuers do. That of now is not among
// them: stamping again with it would gain nothing. Nor are those that were revoked: no further time stamp helps what they stamped, but the log's lines, which
// the backup host cosigned, still say when that was.
func (v *Server) ending(then time.Time) (map[string]bool, error) {
	now := fmt.Sprintf("%032x", v.s.time.Load().certificate.SerialNumber)
	found := map[string]bool{}
	f := ca.Filter{Kind: cert.TSA}
	for more := true; more; {
		var list []ca.Certificate
		var err error
		if list, more, err = v.s.ca.List(f); err != nil {
			return nil, err
		}
		for _, c := range list {
			f.After = c.Serial
			path, err := v.s.ca.Chain(c.Serial)
			if err != nil {
				return nil, err
			}
			ends := false
			for _, p := range path {
				ends = ends || p.NotAfter.Before(then)
			}
			if ends && c.Serial != now && c.Status != ca.StatusRevoked {
				found[c.Serial] = true
			}
		}
	}
	return found, nil
}

// stored returns the record of a document.
func (v *Server) stored(ref wire.ArchiveRef) (*record, error) {
	k, err := v.s.lookUp(recordKey(ref.Clinic, ref.PrescriptionID))
	if err == nil && k == nil {
		err = fault.New(fault.NotFound, "the clinic has no prescription of that ID")
	}
	if err != nil {
		return nil, err
	}
	return v.s.recall(k)
}

// archiveOpen answers OpArchiveOpen: the line precedes the unsealing, as with every reading.
func (v *Server) archiveOpen(ctx context.Context, in wire.ArchiveRef, _ *os.File) (wire.ArchiveOpened, *os.File, error) {
	var out wire.ArchiveOpened
	now, err := v.s.Now()
	if err != nil {
		return out, nil, clockFault(err)
	}
	rec, err := v.stored(in)
	if err != nil {
		return out, nil, err
	}
	newest := rec.newest()
	_, err = v.s.ledger.Append(ctx, ledger.Event{Type: eventRenewalOpened, Actor: operatorActor, Details: renewalOpened{
		PrescriptionID: rec.PrescriptionID, Clinic: rec.Clinic, PDF: newest.PDF,
	}})
	if err != nil {
		return out, nil, err
	}
	if err := v.room(ctx, newest.Size); err != nil {
		return out, nil, err
	}
	pdf, err := v.newestPDF(ctx, rec)
	if err != nil {
		return out, nil, err
	}
	fd, err := wire.Memfd("document", pdf)
	if err != nil {
		return out, nil, err
	}
	v.archive.mu.Lock()
	defer v.archive.mu.Unlock()
	v.archive.ref, v.archive.before, v.archive.digest = in, sum(pdf), nil
	out.RenewOpened, out.Root, out.Size = wire.RenewOpened{Time: now, StampSize: v.s.StampSize()}, v.s.Root().Raw, newest.Size
	return out, fd, nil
}

func errOtherRenewal() error {
	return fault.New(fault.Conflict, "that renewal is not the one that is being made").WithHint("stored documents are renewed one after another, by one process")
}

// archiveStamp answers OpArchiveStamp: one time stamp for each renewal.
func (v *Server) archiveStamp(ctx context.Context, in wire.ArchiveStamp) (wire.Stamped, error) {
	if len(in.Digest) != sha256.Size {
		return wire.Stamped{}, fault.New(fault.Invalid, "a digest has 32 bytes")
	}
	a := &v.archive
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ref != in.ArchiveRef || a.ref == (wire.ArchiveRef{}) || a.digest != nil {
		return wire.Stamped{}, errOtherRenewal()
	}
	authority := v.s.time.Load()
	token, info, err := authority.Stamp(ctx, tsp.Imprint{Hash: crypto.SHA256, Digest: in.Digest})
	if err != nil {
		return wire.Stamped{}, err
	}
	if err := v.s.cover(ctx, info.GenTime, 0); err != nil {
		return wire.Stamped{}, err
	}
	a.digest, a.token, a.info, a.serial = bytes.Clone(in.Digest), token, info, fmt.Sprintf("%032x", authority.certificate.SerialNumber)
	return wire.Stamped{Token: token}, nil
}

// archiveKeep answers OpArchiveKeep. A crash before the line leaves an object that nothing names, and the document due as before.
func (v *Server) archiveKeep(ctx context.Context, in wire.ArchiveKeep, fd *os.File) (wire.Archived, *os.File, error) {
	var out wire.Archived
	a := &v.archive
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ref != in.ArchiveRef || a.digest == nil {
		return out, nil, errOtherRenewal()
	}
	tail, err := wire.ReadDocument(fd, maxGrowth)
	if err != nil {
		return out, nil, err
	}
	rec, err := v.stored(in.ArchiveRef)
	if err != nil {
		return out, nil, err
	}
	newest := rec.newest()
	giveBack, err := v.memory.Take(ctx, documentTimes*(newest.Size+int64(len(tail))))
	if err != nil {
		return out, nil, err
	}
	defer giveBack()
	pdf, err := v.newestPDF(ctx, rec)
	if err != nil {
		return out, nil, err
	}
	if sum(pdf) != a.before {
		return out, nil, errOtherRenewal()
	}
	whole := append(pdf[:len(pdf):len(pdf)], tail...)
	if err := a.check(whole, int64(len(pdf)), in.StampRange); err != nil {
		return out, nil, err
	}
	object, err := v.s.objects.Put(ctx, kindRenewal, tail)
	if err != nil {
		return out, nil, fmt.Errorf("keeping the renewal of a document: %w", err)
	}
	d := prescriptionRenewed{
		PrescriptionID: rec.PrescriptionID, Clinic: rec.Clinic, From: newest.PDF, PDF: hexSum(whole), Size: int64(len(whole)), Tail: object,
		TSA: a.serial, GenTime: a.info.GenTime.UTC().Format(time.RFC3339Nano), TimeStamp: a.info.Serial.Text(16),
	}
	if _, err := v.s.ledger.Append(ctx, ledger.Event{Type: eventPrescriptionRenewed, Actor: operatorActor, Details: d}); err != nil {
		return out, nil, err
	}
	a.ref, a.digest = wire.ArchiveRef{}, nil
	return wire.Archived{SHA256: d.PDF, Size: d.Size}, nil, nil
}

// check says whether the time stamp that was made covers all of the document but itself, behind what was there before.
func (a *archive) check(whole []byte, before int64, br [4]int64) error {
	size := int64(len(whole))
	// ISO 32000-2 §12.8.1: two spans, the first from the start, with the gap of Contents between them, and here to the end.
	if br[0] != 0 || br[1] < before || br[2] <= br[1] || br[2] > size || br[3] != size-br[2] {
		return fault.New(fault.Invalid, fmt.Sprintf("ByteRange %v does not fit what was appended to a document of %d bytes", br, before))
	}
	h := sha256.New()
	h.Write(whole[:br[1]])
	h.Write(whole[br[2]:])
	if subtle.ConstantTimeCompare(h.Sum(nil), a.digest) != 1 || !embeds(whole[br[1]:br[2]], a.token) {
		return fault.New(fault.Conflict, "the renewed document is not the one that was stamped")
	}
	return nil
}
