package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/token"
)

// The root's key in its own token folder. There is one such folder to a root.
const (
	rootLabel = "root"
	rootID    = "root"
)

// RootCRLValidity is how long a list of the root's may be used: it is signed ahead, since the root is offline.
const RootCRLValidity = 400 * 24 * time.Hour

// RootKeys is the root's token as the ceremony uses it.
type RootKeys interface {
	Generate(token.KeySpec) (crypto.Signer, error)
	Key(label string, id []byte, pub crypto.PublicKey) (crypto.Signer, error)
	Keys() ([]token.KeyInfo, error)
}

// CeremonyRequest is what the online side asks of the root. It crosses as JSON.
type CeremonyRequest struct {
	Settings cert.Settings        `json:"settings"`
	Root     []byte               `json:"root,omitempty"`     // the root's certificate; absent at the first ceremony, which makes it
	CRL      []byte               `json:"root_crl,omitempty"` // the root's newest CRL; absent at the first ceremony
	Requests map[cert.Kind][]byte `json:"requests,omitempty"` // PKCS#10 of the CAs to be certified; none to have only the CRL signed again
	Revoke   []CeremonyRevocation `json:"revoke,omitempty"`   // CA certificates to be revoked
}

// CeremonyRevocation asks for a CA's end.
type CeremonyRevocation struct {
	Serial string `json:"serial"`
	Reason string `json:"reason"`
}

// CeremonyAnswer is what the root made, in DER.
type CeremonyAnswer struct {
	Root         []byte               `json:"root"`
	Certificates map[cert.Kind][]byte `json:"certificates,omitempty"`
	CRL          []byte               `json:"root_crl"`
}

// RootConfig is what a ceremony works with.
type RootConfig struct {
	Keys RootKeys
	Now  time.Time
	Rand io.Reader
}

// RootCeremony does what only the root's key can do: certify CAs, and say which are revoked. It is stateless but for the key, and runs in a
// process of its own, for a process can have one token open. It makes the root's key and certificate when the request brings none and the
// token has none; a crash between key and answer is made good by running it again. Every answer brings the root's CRL, signed last, so
// that its thisUpdate is before no notBefore: validators hold a status that is older than the certificate against the document.
//
// Errors: Invalid (the request), Conflict (the token's root key is not the certificate's), Corrupt.
func RootCeremony(ctx context.Context, cfg RootConfig, r CeremonyRequest) (CeremonyAnswer, error) {
	invalid := func(text string, err error) error {
		return fault.New(fault.Invalid, text).WithCause(err).WithHint(err.Error())
	}
	profiles, err := cert.NewProfiles(r.Settings)
	if err != nil {
		return CeremonyAnswer{}, invalid("the PKI's settings are wrong", err)
	}
	linter, err := cert.NewLinter(cfg.Rand)
	if err != nil {
		return CeremonyAnswer{}, err
	}
	c := &ceremony{cfg: cfg, profiles: profiles, linter: linter, now: cfg.Now.UTC().Truncate(time.Second)}
	if err := c.openRoot(r.Root); err != nil {
		return CeremonyAnswer{}, err
	}
	a := CeremonyAnswer{Root: c.root.Raw, Certificates: map[cert.Kind][]byte{}}
	for _, kind := range cert.IssuingCAs() {
		csr, ok := r.Requests[kind]
		if !ok {
			continue
		}
		if a.Certificates[kind], err = c.certify(kind, csr); err != nil {
			return CeremonyAnswer{}, invalid("the "+string(kind)+" cannot be certified", err)
		}
	}
	if len(a.Certificates) != len(r.Requests) {
		return CeremonyAnswer{}, fault.New(fault.Invalid, "the request asks for certificates of kinds that the root does not issue")
	}
	if err := ctx.Err(); err != nil {
		return CeremonyAnswer{}, err
	}
	if a.CRL, err = c.list(r.CRL, r.Revoke); err != nil {
		return CeremonyAnswer{}, invalid("the root's CRL cannot be signed", err)
	}
	return a, nil
}

// ceremony is one in progress.
type ceremony struct {
	cfg      RootConfig
	profiles *cert.Profiles
	linter   *cert.Linter
	now      time.Time
	root     *x509.Certificate
	key      crypto.Signer
}

// openRoot finds or makes the root's key, and takes or makes its certificate.
func (c *ceremony) openRoot(der []byte) error {
	keys, err := c.cfg.Keys.Keys()
	if err != nil {
		return err
	}
	have := slices.ContainsFunc(keys, func(k token.KeyInfo) bool { return k.Label == rootLabel })
	if !have && der != nil {
		return fault.New(fault.Conflict, "this token does not hold the root's key").WithHint("bring the root's own token folder")
	}
	if !have {
		c.key, err = c.cfg.Keys.Generate(token.KeySpec{Label: rootLabel, ID: []byte(rootID), Algorithm: token.ECDSAP384})
	} else {
		c.key, err = c.cfg.Keys.Key(rootLabel, []byte(rootID), nil)
	}
	if err != nil {
		return fmt.Errorf("ca: the root's key: %w", err)
	}
	if der == nil {
		return c.selfSign()
	}
	if c.root, err = x509.ParseCertificate(der); err != nil {
		return fault.New(fault.Invalid, "the root's certificate cannot be read").WithCause(err)
	}
	if !sameKey(c.root.PublicKey, c.key.Public()) {
		return fault.New(fault.Conflict, "the token's root key is not the certificate's").WithHint("bring the root's own token folder")
	}
	return nil
}

func (c *ceremony) selfSign() error {
	profile := c.profiles.For(cert.Root)
	t, err := profile.Template(cert.Request{PublicKey: c.key.Public()}, nil, c.now, c.cfg.Rand)
	if err != nil {
		return err
	}
	c.root, err = c.linter.Sign(c.cfg.Rand, profile, t, nil, c.key.Public(), c.key)
	return err
}

// certify issues a CA's certificate on its proof of possession. What the request asks to be called is not looked at: the profile says.
func (c *ceremony) certify(kind cert.Kind, csr []byte) ([]byte, error) {
	r, err := cert.ParseRequest(csr)
	if err != nil {
		return nil, err
	}
	profile := c.profiles.For(kind)
	t, err := profile.Template(cert.Request{PublicKey: r.PublicKey}, c.root, c.now, c.cfg.Rand)
	if err != nil {
		return nil, err
	}
	crt, err := c.linter.Sign(c.cfg.Rand, profile, t, c.root, r.PublicKey, c.key)
	if err != nil {
		return nil, err
	}
	return crt.Raw, nil
}

// list signs the next CRL: what the one before listed, and what is to be revoked now.
func (c *ceremony) list(previous []byte, revoke []CeremonyRevocation) ([]byte, error) {
	t := cert.CRLTemplate{Number: big.NewInt(1), ThisUpdate: c.now, NextUpdate: c.now.Add(RootCRLValidity), ExpiredSince: c.root.NotBefore}
	if t.NextUpdate.After(c.root.NotAfter) {
		t.NextUpdate = c.root.NotAfter
	}
	if previous != nil {
		old, err := cert.ParseCRL(previous)
		if err != nil {
			return nil, err
		}
		if err := old.CheckSignatureFrom(c.root); err != nil {
			return nil, fmt.Errorf("the previous CRL is not the root's: %w", err)
		}
		if c.now.Before(old.ThisUpdate) {
			return nil, fmt.Errorf("the clock says %s, the previous CRL is of %s", c.now.Format(time.RFC3339), old.ThisUpdate.Format(time.RFC3339))
		}
		t.Number = new(big.Int).Add(old.Number, big.NewInt(1))
		for _, e := range old.RevokedCertificateEntries {
			r, _ := cert.FindRevocation(old, e.SerialNumber)
			t.Revoked = append(t.Revoked, r)
		}
	}
	for _, r := range revoke {
		reason, err := cert.ParseReason(r.Reason)
		serial, ok := new(big.Int).SetString(r.Serial, 16)
		if err != nil || !ok {
			return nil, fmt.Errorf("revocation of %q for %q: %w", r.Serial, r.Reason, err)
		}
		if slices.ContainsFunc(t.Revoked, func(e cert.Revocation) bool { return e.Serial.Cmp(serial) == 0 }) {
			return nil, fmt.Errorf("%s is revoked already", r.Serial)
		}
		t.Revoked = append(t.Revoked, cert.Revocation{Serial: serial, At: c.now, Reason: reason})
	}
	der, err := cert.CreateCRL(c.cfg.Rand, t, c.root, c.key)
	if err != nil {
		return nil, err
	}
	if findings, err := c.linter.FindingsCRL(der); err != nil || len(findings) > 0 {
		return nil, errors.Join(fmt.Errorf("lint: %v", findings), err)
	}
	return der, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
