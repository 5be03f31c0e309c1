package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"time"

	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// Signing is one signing operation of one credential on one document, from Begin to Complete. It implements pades.Authority: each of its
// two digests is taken once. It is for one goroutine.
type Signing struct {
	s          *Signer
	actor      string
	on         onToken
	credential *credential
	time       *timeAuthority // the same one for both time stamps
	digest     []byte         // of the ByteRange that was signed
	signature  string         // identifies the operation in the log; set once signed
	cms, token []byte         // what went out to be embedded: the signature, the document time stamp
	line       ledger.Record  // signature_created
	info       tsp.TSTInfo    // of the signature's time stamp
	stamped    []byte         // digest of the ByteRange that the document time stamp is over
	docInfo    tsp.TSTInfo
	ended      bool           // its end is in the log
	material   pades.Material // that validates the signature; set once signed
}

// Begin starts a signing operation for the certificate with this serial number.
//
// Errors: NotFound, Forbidden (revoked, expired, not a clinician's), Unavailable (the clock, the root's CRL, the backup or damage to the log does not allow it now).
func (s *Signer) Begin(ctx context.Context, actor, serial string) (*Signing, error) {
	if err := s.maySign(); err != nil {
		return nil, err
	}
	c, err := s.credential(ctx, serial)
	if err != nil {
		return nil, err
	}
	return &Signing{s: s, actor: actor, credential: c, time: s.time.Load()}, nil
}

// Time returns the proven time to claim as the time of signing.
func (g *Signing) Time() (time.Time, error) {
	r, err := g.s.clock.Now()
	return r.Time, err
}

// SignatureSize implements pades.Authority.
func (g *Signing) SignatureSize() int {
	return g.credential.producer.MaxSize(-1) + cms.TimeStampOverhead + g.time.TokenSize() + sizeSlack
}

// StampSize implements pades.Stamper.
func (g *Signing) StampSize() int { return g.time.TokenSize() + sizeSlack }

// sizeSlack is what validators' experience asks for beyond the measured size.
const sizeSlack = 64

// Sign implements pades.Authority. The order is what the proof rests on: signature, time stamp over it, then the status of every certificate and the
// line in the log; only after both anything leaves.
func (g *Signing) Sign(ctx context.Context, digest []byte) (pades.Signature, error) {
	if g.digest != nil {
		return pades.Signature{}, fault.New(fault.Conflict, "this operation has signed its document already")
	}
	if len(digest) != sha256.Size {
		return pades.Signature{}, fault.New(fault.Invalid, fmt.Sprintf("a document digest has %d bytes, not %d", sha256.Size, len(digest)))
	}
	g.digest = append([]byte(nil), digest...)
	// Checked again here: Begin may have been before a revocation, or before damage was found.
	if err := g.s.verified.maySign(); err != nil {
		return pades.Signature{}, err
	}
	if err := g.s.ca.Usable(g.credential.serial); err != nil {
		return pades.Signature{}, err
	}
	unstamped, err := g.credential.producer.SignedData(g.s.rand, nil, digest)
	if err != nil {
		return pades.Signature{}, fmt.Errorf("signing for certificate %s: %w", g.credential.serial, err)
	}
	value := sha256.Sum256(unstamped.Signers[0].Signature) // EN 319 122-1 §5.3: the imprint is over the signature value
	token, info, err := g.time.Stamp(ctx, tsp.Imprint{Hash: crypto.SHA256, Digest: value[:]})
	if err != nil {
		return pades.Signature{}, err
	}
	stamped, err := unstamped.WithTimeStamp(token)
	if err != nil {
		return pades.Signature{}, err
	}
	// The line and the status of the certificates do not depend on each other: the disk works while the token signs.
	id := hex.EncodeToString(value[:])
	recorded := make(chan error, 1)
	go func() {
		var err error
		g.line, err = g.s.ledger.Append(ctx, ledger.Event{Type: eventCreated, Actor: g.actor, Details: created{
			Signature: id, Certificate: g.credential.serial, Digest: hex.EncodeToString(digest),
			GenTime: info.GenTime, TimeStamp: info.Serial.Text(16), ClockProven: g.s.cfg.Clock.Mode == clock.System, onToken: g.on,
		}})
		recorded <- err
	}()
	material, err := g.s.material(ctx, g.credential, g.time.certificate, info)
	if err := <-recorded; err != nil {
		return pades.Signature{}, err
	}
	// A crash from here on leaves a signature_created without its end, which the next start closes: never an unlogged signature.
	g.s.covers(info.GenTime)
	g.signature, g.info = id, info
	if err != nil {
		return pades.Signature{}, err
	}
	g.material, g.cms = material, stamped.Bytes()
	return pades.Signature{CMS: g.cms, Material: material}, nil
}

// Stamp implements pades.Stamper: the document time stamp, once, after Sign.
func (g *Signing) Stamp(ctx context.Context, digest []byte) ([]byte, error) {
	if g.signature == "" || g.stamped != nil {
		return nil, fault.New(fault.Conflict, "the document time stamp comes once, after the signature")
	}
	token, info, err := g.time.Stamp(ctx, tsp.Imprint{Hash: crypto.SHA256, Digest: digest})
	if err != nil {
		return nil, err
	}
	if err := g.s.cover(ctx, info.GenTime, 0); err != nil {
		return nil, err
	}
	g.stamped, g.docInfo, g.token = append([]byte(nil), digest...), info, token
	return token, nil
}

// Complete records the finished document: both ByteRanges must hold what was signed and stamped, the second must reach to the end, and what they leave
// out must be the signature and the time stamp themselves.
// It returns the document's SHA-256.
func (g *Signing) Complete(ctx context.Context, doc pades.Signed) ([sha256.Size]byte, error) {
	whole, err := g.check(doc)
	if err != nil {
		return whole, err
	}
	_, err = g.s.ledger.Append(ctx, ledger.Event{Type: eventSigned, Actor: g.actor, Details: signed{
		Signature: g.signature, PDF: hex.EncodeToString(whole[:]), Size: int64(len(doc.PDF)),
		GenTime: g.docInfo.GenTime.Format(time.RFC3339Nano), TimeStamp: g.docInfo.Serial.Text(16),
	}})
	g.ended = err == nil
	return whole, err
}

// completable says whether there is a signature whose document is still to come.
func (g *Signing) completable() error {
	if g.stamped == nil || g.ended {
		return fault.New(fault.Conflict, "there is no signature to complete")
	}
	return nil
}

// check says whether doc is the document whose two digests were signed and stamped, and returns its SHA-256.
func (g *Signing) check(doc pades.Signed) ([sha256.Size]byte, error) {
	var none [sha256.Size]byte
	if err := g.completable(); err != nil {
		return none, err
	}
	whole, ofSigned, ofStamped, err := digests(doc)
	if err != nil {
		return none, err
	}
	if subtle.ConstantTimeCompare(ofSigned, g.digest) != 1 || subtle.ConstantTimeCompare(ofStamped, g.stamped) != 1 {
		return none, fault.New(fault.Conflict, "the finished document is not the one that was signed")
	}
	// No digest covers these two gaps: the first is not under the signature, and the second is under nothing.
	if !embeds(doc.PDF[doc.Signature[1]:doc.Signature[2]], g.cms) || !embeds(doc.PDF[doc.TimeStamp[1]:doc.TimeStamp[2]], g.token) {
		return none, fault.New(fault.Conflict, "the finished document does not hold the signature and the time stamp that were made for it")
	}
	return whole, nil
}

// embeds says whether a gap is Contents that hold der and padding, and nothing else. ISO 32000-2 §12.8.1: a hexadecimal string with its delimiters.
func embeds(gap, der []byte) bool {
	if len(gap) < 2+2*len(der) || gap[0] != '<' || gap[len(gap)-1] != '>' {
		return false
	}
	digits, padding := gap[1:1+2*len(der)], gap[1+2*len(der):len(gap)-1]
	held := make([]byte, len(der))
	if _, err := hex.Decode(held, digits); err != nil || !bytes.Equal(held, der) {
		return false
	}
	return len(bytes.Trim(padding, "0")) == 0
}

// Abandon closes a signature that no document will be completed for; without a signature there is nothing to close.
func (g *Signing) Abandon(ctx context.Context, reason string) error {
	if g.signature == "" || g.ended {
		return nil
	}
	_, err := g.s.ledger.Append(ctx, ledger.Event{Type: eventIncomplete, Actor: g.actor, Details: incomplete{Signature: g.signature, Reason: reason}})
	g.ended = err == nil
	return err
}

// digests hashes a document once for its own SHA-256 and those of its two ByteRanges, which share their beginning.
func digests(doc pades.Signed) (whole [sha256.Size]byte, ofSigned, ofStamped []byte, err error) {
	size := int64(len(doc.PDF))
	for _, br := range [][4]int64{doc.Signature, doc.TimeStamp} {
		// ISO 32000-2 §12.8.1: two spans, the first from the start, with the gap of Contents between them.
		if br[0] != 0 || br[1] <= 0 || br[2] <= br[1] || br[3] < 0 || br[2] > size || br[3] > size-br[2] {
			return whole, nil, nil, fault.New(fault.Invalid, fmt.Sprintf("ByteRange %v does not fit a document of %d bytes", br, size))
		}
	}
	s, t := doc.Signature, doc.TimeStamp
	if t[2]+t[3] != size || t[1] < s[2]+s[3] {
		return whole, nil, nil, fault.New(fault.Invalid, "the document time stamp does not cover the document to its end")
	}
	shared, ok := sha256.New().(hash.Cloner)
	if !ok {
		panic("signer: SHA-256 cannot be cloned")
	}
	shared.Write(doc.PDF[:s[1]])
	h, err := shared.Clone()
	if err != nil {
		return whole, nil, nil, err
	}
	h.Write(doc.PDF[s[2] : s[2]+s[3]])
	ofSigned = h.Sum(nil)
	shared.Write(doc.PDF[s[1]:t[1]])
	if h, err = shared.Clone(); err != nil {
		return whole, nil, nil, err
	}
	h.Write(doc.PDF[t[2]:])
	ofStamped = h.Sum(nil)
	shared.Write(doc.PDF[t[1]:])
	shared.Sum(whole[:0])
	return whole, ofSigned, ofStamped, nil
}
