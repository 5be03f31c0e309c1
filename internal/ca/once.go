package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/token"
)

// IssueOnce makes a key for one report of the appliance about itself, and the certificate of that key. The key is made in the token, wrapped out and kept nowhere: when
// what is returned here has been let go of, nobody has it any more, and nothing else can ever be signed by it. The chain has the certificate first, the root last. When
// it returns, the certificate's line is durable.
//
// Errors are those of Issue.
func (c *CA) IssueOnce(ctx context.Context, actor string) (crypto.Signer, []*x509.Certificate, error) {
	algorithm, err := token.ParseAlgorithm(string(c.cfg.Policy.Algorithm))
	if err != nil {
		return nil, nil, err
	}
	wrapped, pub, err := c.cfg.Keys.GenerateWrapped(algorithm)
	if err != nil {
		return nil, nil, fmt.Errorf("ca: making a report's key: %w", err)
	}
	made, err := c.issue(ctx, Request{Kind: cert.Report, Algorithm: c.cfg.Policy.Algorithm, Actor: actor, once: pub}, "")
	if err != nil {
		return nil, nil, err
	}
	chain, err := c.Chain(made.Serial)
	if err != nil {
		return nil, nil, err
	}
	return c.cfg.Keys.WrappedSigner(wrapped, pub), chain, nil
}
