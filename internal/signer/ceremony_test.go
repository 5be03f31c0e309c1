package signer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/escrow"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/signer"
)

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// holdSealed holds one ceremony in a scratch folder of its own, with request and answer as they cross between processes.
func holdSealed(t *testing.T, at time.Time, r signer.RootRequest) (signer.RootAnswer, error) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var crossed signer.RootRequest
	if err := json.Unmarshal(text, &crossed); err != nil {
		t.Fatal(err)
	}
	return signer.SealedCeremony(context.Background(), "", t.TempDir(), ca.RootConfig{Now: at, Rand: rand.Reader}, crossed)
}

func rootSettings() cert.Settings {
	return cert.Settings{Name: "Test", Organization: "Test Ltd", Country: "GB", BaseURL: "http://pki.example.org", PolicyArc: "1.3.6.1.4.1.32473.7"}
}

// TestSealedRoot makes a root whose token exists sealed only, and brings it back for a new list.
func TestSealedRoot(t *testing.T) {
	now, keeper, second := time.Now(), newIdentity(t), newIdentity(t)
	first, err := holdSealed(t, now, signer.RootRequest{
		Ceremony: ca.CeremonyRequest{Settings: rootSettings()}, Identity: []byte(keeper.String()),
		Recipients: []string{second.Recipient().String(), keeper.Recipient().String()},
	})
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(first.Ceremony.Root)
	if err != nil {
		t.Fatal(err)
	}
	later := ca.CeremonyRequest{Settings: rootSettings(), Root: first.Ceremony.Root, CRL: first.Ceremony.CRL}
	for _, id := range []*age.X25519Identity{keeper, second} {
		again, err := holdSealed(t, now.Add(time.Hour), signer.RootRequest{Ceremony: later, Sealed: first.Sealed, Identity: []byte(id.String())})
		if err != nil {
			t.Fatal(err)
		}
		list, err := cert.ParseCRL(again.Ceremony.CRL)
		if err != nil || list.Number.Int64() != 2 || list.CheckSignatureFrom(root) != nil || again.Sealed != nil {
			t.Errorf("the list that the root signed when it was back: %v, number %v, sealed again %t", err, list.Number, again.Sealed != nil)
		}
	}
	third := newIdentity(t)
	moved, err := holdSealed(t, now, signer.RootRequest{Ceremony: later, Sealed: first.Sealed, Identity: []byte(keeper.String()), Recipients: []string{third.Recipient().String()}})
	if err == nil {
		t.Error("a new holder's identity was not the one offered, and nobody said so")
	}
	if moved, err = holdSealed(t, now, signer.RootRequest{
		Ceremony: later, Sealed: first.Sealed, Identity: []byte(keeper.String() + "\n" + third.String()), Recipients: []string{third.Recipient().String()},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.OpenRoot(moved.Sealed, []byte(third.String()), root); err != nil {
		t.Errorf("sealed for another holder: %v", err)
	}
}

func TestSealedRootRefused(t *testing.T) {
	now, keeper := time.Now(), newIdentity(t)
	made := func() signer.RootAnswer {
		a, err := holdSealed(t, now, signer.RootRequest{Ceremony: ca.CeremonyRequest{Settings: rootSettings()}, Recipients: []string{keeper.Recipient().String()}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	mine, other := made(), made()
	var ordinary bytes.Buffer
	if err := escrow.Seal(&ordinary, []string{keeper.Recipient().String()}, escrow.Backup{
		Origin: "pki.example.org/log", Made: now, Label: "aes-appliance", PIN: []byte("x"), Files: []escrow.File{{Name: "a", Data: []byte("b")}},
	}); err != nil {
		t.Fatal(err)
	}
	later := ca.CeremonyRequest{Settings: rootSettings(), Root: mine.Ceremony.Root, CRL: mine.Ceremony.CRL}
	flipped := bytes.Clone(mine.Sealed)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		request signer.RootRequest
		kind    fault.Kind
		text    string
	}{
		"no token":             {signer.RootRequest{Ceremony: later}, fault.Invalid, "lacks the sealed root token"},
		"a second first one":   {signer.RootRequest{Ceremony: later, Recipients: []string{keeper.Recipient().String()}}, fault.Invalid, "lacks the sealed root token"},
		"for nobody":           {signer.RootRequest{Ceremony: ca.CeremonyRequest{Settings: rootSettings()}}, fault.Invalid, "lacks the sealed root token"},
		"another's identity":   {signer.RootRequest{Ceremony: later, Sealed: mine.Sealed, Identity: []byte(newIdentity(t).String())}, fault.Forbidden, "cannot be opened with this identity"},
		"no identity":          {signer.RootRequest{Ceremony: later, Sealed: mine.Sealed}, fault.Invalid, "identity cannot be read"},
		"no age identity":      {signer.RootRequest{Ceremony: later, Sealed: mine.Sealed, Identity: []byte("hunter2")}, fault.Invalid, "identity cannot be read"},
		"another root's":       {signer.RootRequest{Ceremony: later, Sealed: other.Sealed, Identity: []byte(keeper.String())}, fault.Conflict, "of another root"},
		"the ordinary token's": {signer.RootRequest{Ceremony: later, Sealed: ordinary.Bytes(), Identity: []byte(keeper.String())}, fault.Invalid, "another token than the root's"},
		"damaged":              {signer.RootRequest{Ceremony: later, Sealed: flipped, Identity: []byte(keeper.String())}, fault.Invalid, "damaged"},
		"no certificate":       {signer.RootRequest{Ceremony: ca.CeremonyRequest{Settings: rootSettings()}, Sealed: mine.Sealed, Identity: []byte(keeper.String())}, fault.Invalid, "no root certificate"},
	} {
		a, err := holdSealed(t, now, c.request)
		if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(fault.PublicOf(err), c.text) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells what the identity file holds: %v", name, err)
		}
		if a.Sealed != nil {
			t.Errorf("%s: a sealed token came with the error", name)
		}
	}
}
