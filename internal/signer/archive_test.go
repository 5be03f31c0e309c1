package signer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"io"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/pades"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// keeper is the operator's process that renews one stored document.
type keeper struct {
	peer
	wire.ArchiveOpened
	ref  wire.ArchiveRef
	data []byte
}

// openStored has a document opened for its renewal.
func (p peer) openStored(ctx context.Context, ref wire.ArchiveRef) (k keeper, err error) {
	k = keeper{peer: p, ref: ref}
	f, err := p.Call(ctx, wire.OpArchiveOpen, ref, &k.ArchiveOpened, nil)
	if err != nil {
		return k, err
	}
	defer f.Close()
	k.data, err = io.ReadAll(f)
	return k, err
}

func (k keeper) Now() (time.Time, error) { return k.Time, nil }
func (k keeper) StampSize() int          { return k.RenewOpened.StampSize }

func (k keeper) Stamp(ctx context.Context, digest []byte) ([]byte, error) {
	var s wire.Stamped
	_, err := k.Call(ctx, wire.OpArchiveStamp, wire.ArchiveStamp{ArchiveRef: k.ref, Digest: digest}, &s, nil)
	return s.Token, err
}

func (k keeper) TokenMaterial(ctx context.Context, token []byte) (pades.Material, error) {
	var m wire.Material
	_, err := k.Call(ctx, wire.OpRenewMaterial, wire.DER{DER: token}, &m, nil)
	return pades.Material(m), err
}

func (k keeper) renew(ctx context.Context) (pades.Signed, error) {
	root, err := x509.ParseCertificate(k.Root)
	if err != nil {
		return pades.Signed{}, err
	}
	return pades.Renew(ctx, k.data, k, pades.ValidateOptions{Roots: []*x509.Certificate{root}})
}

func (k keeper) keep(ctx context.Context, tail []byte, stamp [4]int64) (done wire.Archived, err error) {
	f, err := wire.Memfd("renewal", tail)
	if err != nil {
		return done, err
	}
	defer f.Close()
	_, err = k.Call(ctx, wire.OpArchiveKeep, wire.ArchiveKeep{ArchiveRef: k.ref, StampRange: stamp}, &done, f)
	return done, err
}

func (h *house) due(t *testing.T, in wire.ArchiveDue) (list []wire.ArchiveRef) {
	t.Helper()
	for {
		var page wire.ArchiveList
		h.must(t, wire.OpArchiveDue, in, &page)
		list = append(list, page.Documents...)
		if in.Cursor = page.Next; page.Next == "" {
			return list
		}
	}
}

// newest downloads a document with its renewals.
func (p peer) newest(ctx context.Context, token, id string) (wire.DocumentInfo, []byte, error) {
	var info wire.DocumentInfo
	f, err := p.call(ctx, wire.OpDocument, wire.DocumentRef{Credentials: creds(token), PrescriptionID: id, Newest: true}, &info, nil)
	if err != nil {
		return info, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return info, data, err
}

// TestStoredDocumentIsRenewed: a document whose time stamp's certificate is no longer to be relied on gets a further one, twice; what was signed stays what is
// downloaded by default, and evidence, pack and a start anew know all states.
func TestStoredDocumentIsRenewed(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	_, signed, err := h.portal.sign(ctx, wanted(token, "RX-1"))
	if err != nil {
		t.Fatal(err)
	}
	within := wire.ArchiveDue{Within: 10 * 365 * 24 * time.Hour} // a time-stamping certificate has five years
	if list := h.due(t, within); len(list) != 0 {
		t.Fatalf("due, and to be stamped by the same certificate again: %v", list)
	}
	h.must(t, wire.OpCertIssue, wire.CertIssue{CertType: "tsa", CommonName: "Test TSA 2", Org: "Test Ltd", Country: "GB"}, nil)
	h.again(t)
	ref := wire.ArchiveRef{Clinic: "a", PrescriptionID: "RX-1"}
	if list := h.due(t, within); len(list) != 1 || list[0] != ref {
		t.Fatalf("due when there is a newer certificate: %v", list)
	}
	if list := h.due(t, wire.ArchiveDue{Within: 365 * 24 * time.Hour}); len(list) != 0 {
		t.Fatalf("due while nothing ends: %v", list)
	}
	renew := func(from []byte) []byte {
		t.Helper()
		k, err := h.admin.openStored(ctx, ref)
		if err != nil || !bytes.Equal(k.data, from) {
			t.Fatalf("%d bytes, not %d: %v", len(k.data), len(from), err)
		}
		made, err := k.renew(ctx)
		if err != nil {
			t.Fatal(err)
		}
		done, err := k.keep(ctx, made.PDF[len(from):], made.TimeStamp)
		if whole := sha256.Sum256(made.PDF); err != nil || done.SHA256 != hex.EncodeToString(whole[:]) || done.Size != int64(len(made.PDF)) {
			t.Fatalf("%+v, %v", done, err)
		}
		if _, err := k.keep(ctx, made.PDF[len(from):], made.TimeStamp); fault.KindOf(err) != fault.Conflict {
			t.Errorf("kept twice: %v", err)
		}
		return made.PDF
	}
	line := h.lines(t)
	first := renew(signed.PDF)
	if got := h.since(t, line); count(got, "prescription_opened_for_renewal") != 1 || count(got, "prescription_renewed") != 1 {
		t.Errorf("lines %v", got)
	}
	if list := h.due(t, within); len(list) != 0 {
		t.Errorf("due after its renewal: %v", list)
	}
	if list := h.due(t, wire.ArchiveDue{StampedBefore: time.Now().Add(time.Minute)}); len(list) != 1 {
		t.Errorf("an algorithm ends, and due is %v", list)
	}
	second := renew(first)

	check := func(when string) {
		t.Helper()
		info, data, err := h.portal.download(ctx, wire.OpDocument, token, "RX-1")
		if err != nil || !bytes.Equal(data, signed.PDF) || info.Size != int64(len(data)) {
			t.Errorf("%s: what was signed is not what is downloaded: %v", when, err)
		}
		info, data, err = h.portal.newest(ctx, token, "RX-1")
		if whole := sha256.Sum256(second); err != nil || !bytes.Equal(data, second) || info.SHA256 != hex.EncodeToString(whole[:]) {
			t.Errorf("%s: the newest state is not what is downloaded: %v", when, err)
		}
		var ev wire.Evidence
		if _, err := h.portal.call(ctx, wire.OpEvidence, wire.PrescriptionRef{Credentials: creds(token), PrescriptionID: "RX-1"}, &ev, nil); err != nil {
			t.Fatal(err)
		}
		_, live, err := evidence.CoreOf(ev.Evidence)
		if err != nil || len(live.Revisions) != 2 || live.Revisions[1].Size != int64(len(second)) {
			t.Errorf("%s: revisions %+v, %v", when, live.Revisions, err)
		}
		_, zip, err := h.portal.download(ctx, wire.OpPack, token, "RX-1")
		if err != nil {
			t.Fatal(err)
		}
		r, err := evidence.VerifyPack(ctx, bytes.NewReader(zip), int64(len(zip)), h.trusting(t))
		if err != nil || r.Verdict != evidence.Valid {
			t.Errorf("%s: %v\n%s", when, err, r.Text())
		}
	}
	check("renewed")
	h.again(t)
	check("after a start anew")
}

// again stops the signer and starts it anew.
func (h *house) again(t *testing.T) {
	t.Helper()
	h.portal.Close()
	h.admin.Close()
	h.stop()
	err := h.s.Close()
	if err == nil {
		h.s, err = signer.Open(t.Context(), h.cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.s.Close() })
	h.portal, h.admin, h.stop = onSockets(t, h.s, signer.ServerConfig{})
}

// TestRenewalKeepsWhatWasThere: whatever the renewing process sends, what was signed stays, and nothing is kept but what our time stamp covers.
func TestRenewalKeepsWhatWasThere(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token := t.Context(), h.token(t, nil)
	for _, id := range []string{"RX-1", "RX-2"} {
		if _, _, err := h.portal.sign(ctx, wanted(token, id)); err != nil {
			t.Fatal(err)
		}
	}
	k, err := h.admin.openStored(ctx, wire.ArchiveRef{Clinic: "a", PrescriptionID: "RX-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.keep(ctx, []byte("tail"), [4]int64{}); fault.KindOf(err) != fault.Conflict {
		t.Errorf("kept without a time stamp: %v", err)
	}
	other := k
	other.ref.PrescriptionID = "RX-2"
	if _, err := other.Stamp(ctx, make([]byte, 32)); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a time stamp for what was not opened: %v", err)
	}
	if _, err := k.Stamp(ctx, make([]byte, 31)); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a short digest: %v", err)
	}
	made, err := k.renew(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Stamp(ctx, make([]byte, 32)); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a second time stamp: %v", err)
	}
	tail, at := made.PDF[len(k.data):], made.TimeStamp
	flip := func(i int64) []byte {
		b := bytes.Clone(tail)
		b[i] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		tail []byte
		at   [4]int64
		kind fault.Kind
	}{
		"a changed byte":               {flip(0), at, fault.Conflict},
		"a changed time stamp":         {flip(at[1] - int64(len(k.data)) + 9), at, fault.Conflict},
		"something behind":             {append(bytes.Clone(tail), ' '), at, fault.Invalid},
		"something that is covered":    {append(bytes.Clone(tail), ' '), [4]int64{0, at[1], at[2], at[3] + 1}, fault.Conflict},
		"a gap in what was there":      {tail, [4]int64{0, at[1] - int64(len(tail)), at[2], at[3]}, fault.Invalid},
		"a range that starts later":    {tail, [4]int64{1, at[1], at[2], at[3]}, fault.Invalid},
		"a range of huge numbers":      {tail, [4]int64{0, 1 << 62, 1<<62 + 1, 1 << 62}, fault.Invalid},
		"nothing":                      {nil, at, fault.Invalid},
		"all of it instead of its end": {made.PDF, at, fault.Invalid},
	} {
		if _, err := k.keep(ctx, c.tail, c.at); fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := other.keep(ctx, tail, at); fault.KindOf(err) != fault.Conflict {
		t.Errorf("for another document: %v", err)
	}
	if _, err := k.keep(ctx, tail, at); err != nil {
		t.Errorf("the right one, after all that: %v", err)
	}
	if _, err := h.admin.openStored(ctx, wire.ArchiveRef{Clinic: "b", PrescriptionID: "RX-1"}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("another clinic's: %v", err)
	}
	for _, op := range []wire.Op{wire.OpArchiveDue, wire.OpArchiveOpen, wire.OpArchiveStamp, wire.OpArchiveKeep} {
		if _, err := h.portal.Call(ctx, op, wire.Nothing{}, nil, nil); fault.KindOf(err) != fault.Forbidden {
			t.Errorf("the portal asks %s: %v", op, err)
		}
	}
}
