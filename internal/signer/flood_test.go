package signer_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/oidctest"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/wire"
)

// many performs an operation n times, some at once, and counts how often it was refused with that code.
func (h *house) many(t *testing.T, n int, code string, act func(i int) error) (refused int) {
	t.Helper()
	var count atomic.Int32
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				err := act(i)
				switch {
				case err == nil:
				case fault.CodeOf(err) == code:
					count.Add(1)
				default:
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return int(count.Load())
}

// TestPortalWithoutATokenCannotFillTheLog: who has the portal's socket and nobody's token leaves a bounded number of lines, whatever is asked for.
func TestPortalWithoutATokenCannotFillTheLog(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Settings: signer.Settings{ListenerNames: []string{"sign.example.org"}}})
	ctx := t.Context()
	header, claims := oidctest.Decode(t, h.token(t, nil))
	forged := [...]string{"", "nonsense", h.provider.B.Sign(t, header, claims), h.provider.A.Sign(t, header, oidctest.With(claims, map[string]any{"exp": 1000})),
		h.provider.A.Sign(t, header, oidctest.With(claims, map[string]any{"iss": "https://sso.example.org/realms/x"}))}
	ops := []wire.Op{wire.OpAuthenticate, wire.OpSignOpen, wire.OpSign, wire.OpStamp, wire.OpComplete, wire.OpAbort, wire.OpDocument, wire.OpEvidence, wire.OpPack,
		wire.OpPrescriptions, wire.OpCancel, wire.OpCertIssue, wire.OpCertList, wire.OpCertRevoke, wire.OpCertBind, wire.OpTSA, wire.OpOCSP, wire.OpPublished, wire.OpStatus,
		wire.OpRealmKeys, wire.OpListener, wire.OpReload, "none"}
	if _, err := h.portal.call(ctx, wire.OpAuthenticate, wire.AuthRequest{Credentials: creds(h.token(t, nil))}, nil, nil); err != nil { // the realm's keys are known from here on
		t.Fatal(err)
	}
	before := h.lines(t)
	for _, op := range ops {
		for i := range 60 {
			var in any = wire.Credentials{Token: forged[i%len(forged)]}
			switch op {
			case wire.OpSignOpen:
				in = wanted(forged[i%len(forged)], fmt.Sprint("RX-", i))
			case wire.OpDocument, wire.OpEvidence, wire.OpPack:
				in = wire.PrescriptionRef{Credentials: creds(forged[i%len(forged)]), PrescriptionID: "RX-1"}
			case wire.OpTSA, wire.OpOCSP:
				in = wire.DER{DER: []byte("nonsense")}
			case wire.OpRealmKeys:
				in = wire.RealmKeys{Issuer: h.provider.A.Issuer}
			}
			_, _ = h.portal.Call(ctx, op, in, nil, nil) // refused, all of it
		}
	}
	// Five kinds of refusals with 30 lines each at most, and what time brings back of that.
	if got := h.since(t, before); len(got) > 160 {
		t.Errorf("%d lines", len(got))
	}
	made := csr(t, "sign.example.org")
	before = h.lines(t)
	if n := h.many(t, 40, "rate-limited", func(int) error {
		_, err := h.portal.call(ctx, wire.OpListener, wire.ListenerRequest{CSR: made}, nil, nil)
		return err
	}); n != 10 {
		t.Errorf("of 40 certificates %d were refused", n)
	}
	_, err := h.portal.call(ctx, wire.OpListener, wire.ListenerRequest{CSR: make([]byte, 100<<10)}, nil, nil)
	wantKind(t, err, fault.Invalid, "a request of 100 kB")
	if got := h.since(t, before); len(got) > 31 {
		t.Errorf("%d lines about certificates", len(got))
	}
}

// TestOneTokenCannotFillTheLog: what one person reads and administers within a minute is bounded, and so is what is written about more.
func TestOneTokenCannotFillTheLog(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{})
	ctx, token, other := t.Context(), h.token(t, nil), h.token(t, func(p *oidctest.Person) { p.Sub = "somebody-else" })
	if _, _, err := h.portal.sign(ctx, wanted(token, "RX-1")); err != nil {
		t.Fatal(err)
	}
	before := h.lines(t)
	refused := h.many(t, 1400, "rate-limited", func(i int) error {
		if i%100 == 0 {
			_, _, err := h.portal.download(ctx, wire.OpDocument, token, "RX-1")
			return err
		}
		_, err := h.portal.call(ctx, wire.OpPrescriptions, wire.PrescriptionsRequest{Credentials: creds(token), Limit: 1}, nil, nil)
		return err
	})
	got := h.since(t, before)
	if refused < 100 || len(got) > 1400-refused+30 || count(got, "access_refused") != min(refused, 30) {
		t.Errorf("%d refused, %d lines, %d about refusals", refused, len(got), count(got, "access_refused"))
	}
	if _, _, err := h.portal.download(ctx, wire.OpDocument, other, "RX-1"); err != nil {
		t.Errorf("another person: %v", err)
	}
	if _, _, err := h.portal.sign(ctx, wanted(token, "RX-2")); err != nil {
		t.Errorf("signing has caps of its own: %v", err)
	}
	if !strings.Contains(h.logText(t), `"code":"rate-limited"`) {
		t.Error("the line does not say why")
	}
}

// TestDocumentsAreNotReadForNothing: what no signature waits for is not read into memory, however large; and reading many at once ends well.
func TestDocumentsAreNotReadForNothing(t *testing.T) {
	h := newHouse(t, signer.ServerConfig{Settings: signer.Settings{MaxDocument: 1 << 20}})
	ctx, token := t.Context(), h.token(t, nil)
	huge, err := wire.Memfd("huge", make([]byte, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	r, err := h.portal.open(ctx, wanted(token, "RX-1"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.portal.call(ctx, wire.OpComplete, wire.Complete{Operation: r.Operation}, nil, huge)
	wantKind(t, err, fault.Conflict, "64 MB before there is a signature")
	doc, err := r.document(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.portal.call(ctx, wire.OpComplete, wire.Complete{Operation: r.Operation}, nil, huge)
	wantKind(t, err, fault.TooLarge, "64 MB after it")
	if _, err := r.complete(ctx, doc); err != nil {
		t.Fatal(err)
	}
	h.many(t, 200, "", func(i int) error {
		op := wire.OpDocument
		if i%4 == 0 {
			op = wire.OpPack
		}
		_, _, err := h.portal.download(ctx, op, token, "RX-1")
		return err
	})
}
