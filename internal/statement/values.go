// Package statement fills the templates of the certification practice statement and the time-stamp policy (docs/cps.md, docs/tsa-policy.md) with what
// this build and a configuration really are. A statement that an auditor reads cannot say another validity, key or identifier than the one that the code
// issues by: none of them stands in the prose.
package statement

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/ca"
	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/clock"
	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/tsa"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// Values are what a template can name.
type Values struct {
	Demo    bool   // of a demo: nothing of it is to be taken for real, and its certificates say so
	Version string // of the program
	Date    string // of the statement

	Name, Organisation, OrganisationID, Country string // the operator
	BaseURL, Arc                                string // in every certificate
	Token                                       string // where the keys are

	Certificates []Certificate
	CAKey        string // of issuing CAs, the TSA and OCSP responders
	ClinicianKey string // when a request does not say
	Year         string // how long one is here
	Backdating   string // how far before its making a certificate begins
	Reasons      string // for a revocation

	CRLInterval, CRLValidity, RootCRLValidity, RootCRLWarn, RootCRLRefuse string
	OCSPValidity, OCSPCache, OCSPRenewal                                  string

	StampPolicy, Accuracy, ClockError, ClockMode, StampHashes, TSARenewal string
	SerialBits, NonceBits                                                 int

	Replication string // whether answers wait for the backup host, and how long
	Recipients  int    // to whom the token is backed up
	Witnesses   bool   // somebody else cosigns the log
	OtherTSA    string // that stamps the log, "" for none
}

// Certificate is one kind of certificate.
type Certificate struct {
	Kind, Name, Issuer          string // Name: of a CA
	Policies                    string
	Validity, Shortest, Longest string
	KeyLife                     string // "" for as long as the certificate
	Keys, Usage                 string
	CRL, OCSP                   bool
}

// Of returns the values of a configuration. Errors: Invalid, when certificates could not be issued by it.
func Of(cfg config.Config, version string, at time.Time) (Values, error) {
	p := cfg.PKI
	profiles, err := cert.NewProfiles(cert.Settings{Name: p.Name, Organization: p.Organisation, OrganizationID: p.OrganisationID, Country: p.Country,
		BaseURL: p.BaseURL, PolicyArc: p.PolicyArc.String(), Demo: cfg.Clock.Mode == clock.Unproven}) // which the signer of no other appliance takes
	if err != nil {
		return Values{}, fault.New(fault.Invalid, "no certificate can be issued by this configuration").WithHint(err.Error()).WithCause(err)
	}
	policy := ca.DefaultPolicy()
	v := Values{
		Demo:    profiles.Settings().Demo,
		Version: version, Date: at.UTC().Format(time.DateOnly),
		Name: p.Name, Organisation: p.Organisation, OrganisationID: p.OrganisationID, Country: p.Country, BaseURL: p.BaseURL, Arc: p.PolicyArc.String(),
		Token: "SoftHSM2, which is software", CAKey: keyName(policy.Algorithm), ClinicianKey: keyName(cert.Algorithm(p.ClinicianKey)),
		Year: fmt.Sprintf("%d days", year/(24*time.Hour)), Backdating: Period(cert.Backdating), Reasons: strings.Join(cert.Reasons(), ", "),
		CRLInterval: Period(policy.CRLInterval), CRLValidity: Period(policy.CRLValidity), RootCRLValidity: Period(ca.RootCRLValidity),
		RootCRLWarn: Period(policy.RootCRLWarn), RootCRLRefuse: Period(policy.RootCRLRefuse),
		OCSPValidity: Period(policy.OCSPValidity), OCSPCache: Period(policy.OCSPCache), OCSPRenewal: Period(policy.OCSPRenewal), TSARenewal: Period(policy.TSARenewal),
		StampPolicy: cfg.TSA.Policy.String(), Accuracy: Period(tsa.MaxAccuracy), ClockError: cfg.Clock.MaxError.String(), ClockMode: cfg.Clock.Mode,
		StampHashes: strings.Join(tsp.Hashes(), ", "), SerialBits: 8 * tsp.MaxSerial, NonceBits: 8 * tsp.MaxNonce,
		Replication: replication(cfg.Replication), Recipients: len(cfg.Token.BackupRecipients), Witnesses: cfg.Log.WitnessPolicy != "", OtherTSA: cfg.Log.StampURL,
	}
	if cfg.Token.Module != "" {
		v.Token = "the PKCS#11 module " + cfg.Token.Module
	}
	if cfg.TSA.Policy == nil {
		v.StampPolicy = profiles.TimeStampPolicy().String()
	}
	for _, k := range cert.Kinds() {
		v.Certificates = append(v.Certificates, describe(profiles, k))
	}
	return v, nil
}

// Certificate returns the kind with this name, for templates: {{with .Certificate "clinician"}}.
func (v Values) Certificate(kind string) (Certificate, error) {
	for _, c := range v.Certificates {
		if c.Kind == kind {
			return c, nil
		}
	}
	return Certificate{}, fmt.Errorf("there is no certificate of the kind %q", kind)
}

func describe(profiles *cert.Profiles, k cert.Kind) Certificate {
	p := profiles.For(k)
	b := p.Validity()
	c := Certificate{Kind: string(k), Issuer: string(k.Issuer()), Validity: Period(b.Default), Shortest: Period(b.Min), Longest: Period(b.Max), Usage: usage(p.KeyUsage())}
	if k.IsCA() {
		c.Name = profiles.CAName(k)
	}
	if k.Issuer() == "" {
		c.Issuer = "each issuing CA"
	}
	for i, oid := range p.Policies() {
		if i > 0 {
			c.Policies += ", "
		}
		c.Policies += oid.String()
	}
	if c.Policies == "" {
		c.Policies = "none"
	}
	var keys []string
	for _, a := range p.Algorithms() {
		keys = append(keys, keyName(a))
	}
	c.Keys = strings.Join(keys, ", ")
	if p.KeyLife() > 0 {
		c.KeyLife = Period(p.KeyLife())
	}
	c.CRL, c.OCSP = p.Published()
	return c
}

func keyName(a cert.Algorithm) string {
	return map[cert.Algorithm]string{cert.ECDSAP256: "ECDSA P-256", cert.ECDSAP384: "ECDSA P-384", cert.RSA3072: "RSA 3072", cert.RSA4096: "RSA 4096"}[a]
}

func usage(u x509.KeyUsage) string {
	var names []string
	for _, bit := range []struct {
		bit  x509.KeyUsage
		name string
	}{{x509.KeyUsageDigitalSignature, "digitalSignature"}, {x509.KeyUsageContentCommitment, "nonRepudiation"}, {x509.KeyUsageCertSign, "keyCertSign"}, {x509.KeyUsageCRLSign, "cRLSign"}} {
		if u&bit.bit != 0 {
			names, u = append(names, bit.name), u&^bit.bit
		}
	}
	if u != 0 {
		panic("statement: a key usage that has no name here")
	}
	return strings.Join(names, ", ")
}

func replication(r config.Replication) string {
	if r.Mode == config.ModeAsync {
		return begun(r) + "the host follows; answers do not wait for it, and are refused when it is " + Period(r.MaxLag) + " behind"
	}
	return begun(r) + "answers wait for it, at most " + Period(r.Wait) + ", and are refused after that"
}

// begun says what holds before a backup host has everything.
func begun(r config.Replication) string {
	if r.Required {
		return "without an enrolled backup host nothing is signed, and "
	}
	return "once a backup host is enrolled and has everything, "
}

const year = 365 * 24 * time.Hour // as in package cert

// Period writes a time as people do: years of 365 days, days, hours, minutes, seconds, whichever it is a whole number of.
func Period(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{year, "year"}, {24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d >= unit.of && d%unit.of == 0 {
			n := int64(d / unit.of)
			if n == 1 {
				return "1 " + unit.name
			}
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return d.String()
}
