package tsa_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/tsa"
)

func TestCertificatesRefused(t *testing.T) {
	p := pkis["P-256"]()
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		text   string
	}{
		"no extended key usage":  {func(c *x509.Certificate) { c.ExtraExtensions = nil }, "only extended key usage"},
		"not critical":           {func(c *x509.Certificate) { c.ExtraExtensions[0] = eku(false, 8) }, "must be critical"},
		"another besides":        {func(c *x509.Certificate) { c.ExtraExtensions[0] = eku(true, 8, 9) }, "only extended key usage"},
		"an unknown one besides": {func(c *x509.Certificate) { c.ExtraExtensions[0] = eku(true, 8, 99) }, "only extended key usage"},
		"another":                {func(c *x509.Certificate) { c.ExtraExtensions[0] = eku(true, 1) }, "only extended key usage"},
		"no key usage":           {func(c *x509.Certificate) { c.KeyUsage = 0 }, "must have digitalSignature"},
		"signs certificates":     {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "nothing but digitalSignature"},
		"a CA":                   {func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, "is a CA's"},
		"unknown and critical": {func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}, "1.2.3"},
		"key usable never": {func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, keyPeriod(now.Add(48*time.Hour), now.Add(72*time.Hour)))
		}, "at no time"},
		"key period empty":   {func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, period(0x30, 0)) }, "privateKeyUsagePeriod"},
		"key period not DER": {func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, period(4, 0)) }, "privateKeyUsagePeriod"},
		"key period of text": {func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, period(0x30, 3, 0x80, 1, 'x'))
		}, "privateKeyUsagePeriod"},
		"key period of others": {func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, period(0x30, 2, 0x82, 0)) }, "privateKeyUsagePeriod"},
		"key period cut short": {func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, period(0x30, 2, 0x80, 5)) }, "privateKeyUsagePeriod"},
	} {
		cfg := config(p)
		cfg.Certificate = p.issue(c.change)
		if _, err := tsa.New(cfg); fault.KindOf(err) != fault.Invalid || !strings.Contains(fault.PublicOf(err), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func period(der ...byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 16}, Value: der}
}

func TestConfigRefused(t *testing.T) {
	p, other := pkis["P-256"](), pkis["P-384"]()
	for name, change := range map[string]func(*tsa.Config){
		"no certificate":       func(c *tsa.Config) { c.Certificate = nil },
		"no key":               func(c *tsa.Config) { c.Key = nil },
		"key of another":       func(c *tsa.Config) { c.Key = other.key },
		"no clock":             func(c *tsa.Config) { c.Clock = nil },
		"no randomness":        func(c *tsa.Config) { c.Rand = nil },
		"dry randomness":       func(c *tsa.Config) { c.Rand = &dryRand{7} },
		"no policy":            func(c *tsa.Config) { c.Policy = nil },
		"impossible policy":    func(c *tsa.Config) { c.Policy = asn1.ObjectIdentifier{5, 5} },
		"no accuracy":          func(c *tsa.Config) { c.Accuracy = 0 },
		"accuracy over 1 s":    func(c *tsa.Config) { c.Accuracy = time.Second + time.Microsecond },
		"accuracy too fine":    func(c *tsa.Config) { c.Accuracy = 1500 },
		"chain of another":     func(c *tsa.Config) { c.Chain = []*x509.Certificate{other.ca} },
		"chain out of order":   func(c *tsa.Config) { c.Chain = []*x509.Certificate{p.root, p.ca} },
		"chain with a stray":   func(c *tsa.Config) { c.Chain = []*x509.Certificate{p.ca, other.root} },
		"itself as its issuer": func(c *tsa.Config) { c.Chain = []*x509.Certificate{p.cert} },
	} {
		cfg := config(p)
		change(&cfg)
		if _, err := tsa.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := config(p)
	cfg.Chain = []*x509.Certificate{p.ca, p.root}
	newTSA(t, cfg)
}
