package doctor

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/signer"
	"github.com/veripath/aes-appliance/internal/tsa"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// serving are the checks that tell whether the services of a role do their work, through what they show to others: what an upgrade is judged by.
func serving() []string {
	return []string{
		"configuration.valid", "signer.answers", "signer.signs", "signer.portal", "signer.stamps", "token.keys", "tls.listener", "copies.held", "copies.listener", "log.recent", "log.whole",
		"services.units",
	}
}

// servingGroups are the groups that make them. The log is read only when all is read.
func (e *exam) servingGroups() []group {
	units := group{"services", true, func(ctx context.Context, s *sheet) { e.units(ctx, s) }}
	if e.Role == Backup {
		return []group{{"copies", true, e.copies}, units}
	}
	groups := []group{{"signer", true, e.signerWhole}, {"token", true, e.token}, {"tls", true, e.tls}, units}
	if e.Full {
		groups = append(groups, group{"log", true, e.log})
	}
	return groups
}

// onlyServing leaves out what does not say whether the services do their work.
func onlyServing(all []Finding) []Finding {
	return slices.DeleteFunc(all, func(f Finding) bool { return !slices.Contains(serving(), f.Check) })
}

// Worse returns the findings of r that are bad, or could not be judged, by checks that were neither in before: what was wrong already, an upgrade has not done.
func (r Report) Worse(before Report) (found []Finding) {
	wrong := func(f Finding) bool { return f.Verdict.rank() >= Unknown.rank() }
	for _, f := range r.Findings {
		was := slices.ContainsFunc(before.Findings, func(b Finding) bool { return b.Check == f.Check && wrong(b) })
		if wrong(f) && !was {
			found = append(found, f)
		}
	}
	return found
}

// maxStamp bounds an answer of the time-stamping authority, in bytes.
const maxStamp = 64 << 10

// stamps asks for a time stamp on the listener of this machine, as anybody may, and verifies it by the appliance's root.
func (e *exam) stamps(ctx context.Context, s *sheet) {
	const check = "signer.stamps"
	if len(e.Appliance.Portal.Hosts) == 0 {
		s.unknown(check, "set portal.hosts", "the configuration has no host name for the portal")
		return
	}
	roots, err := e.ownRoots()
	if err != nil {
		s.unknown(check, "as root: appliance doctor", "the root certificate cannot be read: %v", err)
		return
	}
	got, err := e.stamp(ctx, roots)
	if err != nil {
		s.bad(check, "see clock.kernel and signer.signs; "+cureSigner, "no time stamp: %v", err)
		return
	}
	s.ok(check, "a time stamp was made and verified: %s", got.Info.GenTime.Format("15:04:05Z"))
}

func (e *exam) stamp(ctx context.Context, roots []*x509.Certificate) (tsa.Checked, error) {
	data := make([]byte, 32)
	if _, err := e.Rand.Read(data); err != nil {
		return tsa.Checked{}, err
	}
	digest := sha256.Sum256(data)
	der, err := tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: digest[:]}, Nonce: new(big.Int).SetBytes(data[:8]), CertReq: true}.Marshal()
	if err != nil {
		return tsa.Checked{}, err
	}
	p := e.Appliance.Portal
	_, port, err := net.SplitHostPort(p.Listen)
	if err != nil || port == "0" {
		port = "443"
	}
	here := net.JoinHostPort(e.local(p.Listen), port)
	client := plainClient(e.m, func(ctx context.Context, network, _ string) (net.Conn, error) { return e.m.Dial(ctx, network, here) })
	// Who answers is judged by tls.listener, and what it answers by its signature.
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{ServerName: p.Hosts[0], InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+p.Hosts[0]+"/tsa", bytes.NewReader(der))
	if err != nil {
		return tsa.Checked{}, err
	}
	r.Header.Set("Content-Type", "application/timestamp-query")
	status, body, err := do(client, r, maxStamp)
	if err != nil {
		return tsa.Checked{}, err
	}
	if status != http.StatusOK {
		return tsa.Checked{}, fmt.Errorf("%s answers %d", here, status)
	}
	answer, err := tsp.ParseResponse(body)
	if err != nil {
		return tsa.Checked{}, err
	}
	if answer.Token == nil {
		return tsa.Checked{}, fmt.Errorf("it is refused: %s", answer.Text)
	}
	return tsa.Check(answer.Token, data, roots)
}

// maxRoot bounds the file of the root certificate, in bytes.
const maxRoot = 64 << 10

// rootPEM reads the root certificate's file. It lies in the signer's user's folder, who may have put anything there.
func (e *exam) rootPEM() ([]byte, error) {
	return durable.ReadFile(durable.OS{}, e.m.path(filepath.Join(e.Appliance.StateDir, signer.RootPEMName)), maxRoot)
}

// ownRoots is the appliance's own root certificate.
func (e *exam) ownRoots() ([]*x509.Certificate, error) {
	data, err := e.rootPEM()
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New(signer.RootPEMName + " holds no certificate")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	return []*x509.Certificate{root}, err
}
