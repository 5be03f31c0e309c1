package tsa

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// Checked is what a token that was verified says.
type Checked struct {
	Info        tsp.TSTInfo
	Certificate *x509.Certificate // of the authority
}

// ErrUntrusted says that a token is right by itself, and that no trusted root vouches for its authority.
var ErrUntrusted = errors.New("tsa: no trusted root vouches for the authority")

// Check verifies a token of another authority over data: RFC 3161 §2.4.2, its signature by the one certificate that it names (RFC 5816), and that this
// is for time stamps only and leads to one of roots as of the token's own time. That the authority had not been revoked by then is not checked: who
// needs that keeps its CRL. Errors wrap ErrUntrusted when nothing but the root is missing.
func Check(token, data []byte, roots []*x509.Certificate) (Checked, error) {
	signed, err := cms.Parse(token)
	if err != nil {
		return Checked{}, fmt.Errorf("tsa: the token: %w", err)
	}
	if !signed.ContentType.Equal(tsp.ContentType()) || len(signed.Signers) != 1 {
		return Checked{}, errors.New("tsa: the token is no time stamp of one authority")
	}
	info, err := tsp.ParseTSTInfo(signed.Content)
	if err != nil {
		return Checked{}, fmt.Errorf("tsa: the token: %w", err)
	}
	h := info.Imprint.Hash.New()
	h.Write(data)
	if !info.Imprint.Equal(tsp.Imprint{Hash: info.Imprint.Hash, Digest: h.Sum(nil)}) {
		return Checked{}, errors.New("tsa: the token is over something else")
	}
	crt, err := signed.Verify(0, nil)
	if err != nil {
		return Checked{}, fmt.Errorf("tsa: the token's signature: %w", err)
	}
	if err := onlyForStamps(crt); err != nil {
		return Checked{}, err
	}
	anchors, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range roots {
		anchors.AddCert(c)
	}
	for _, c := range signed.Certificates {
		between.AddCert(c)
	}
	if _, err := crt.Verify(x509.VerifyOptions{
		Roots: anchors, Intermediates: between, CurrentTime: info.GenTime, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	}); err != nil {
		return Checked{}, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	return Checked{info, crt}, nil
}

// onlyForStamps is RFC 3161 §2.3: one extended key usage, timeStamping, critical.
func onlyForStamps(c *x509.Certificate) error {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtKeyUsage) && e.Critical && len(c.UnknownExtKeyUsage) == 0 &&
			len(c.ExtKeyUsage) == 1 && c.ExtKeyUsage[0] == x509.ExtKeyUsageTimeStamping {
			return nil
		}
	}
	return errors.New("tsa: the certificate of the token is not for time stamps alone")
}
