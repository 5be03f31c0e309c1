package wire

import "encoding/json"

// CeremonyBegin asks what the root is to do: certify successors of these CAs, end these. Nothing named: sign its CRL again.
type CeremonyBegin struct {
	Succeed []string         `json:"succeed,omitempty"` // kinds: clinician-ca, time-ca, infrastructure-ca
	Revoke  []CeremonyEnding `json:"revoke,omitempty"`
}

// CeremonyEnding is a CA that is to be revoked.
type CeremonyEnding struct {
	Serial string `json:"serial"`
	Reason string `json:"reason"` // RFC 5280 §5.3.1
}

// CeremonyBegun is what is to be brought to the root's token: a ca.CeremonyRequest, which holds no secret.
type CeremonyBegun struct {
	Request json.RawMessage `json:"request"`
}

// CeremonyComplete brings what the root made: a ca.CeremonyAnswer.
type CeremonyComplete struct {
	Answer json.RawMessage `json:"answer"`
}

// CeremonyDone is what has changed: the CAs that are in use, the TSA and the responders among them, and those that are revoked.
type CeremonyDone struct {
	Certificates []Certificate `json:"certificates"`
	CRLExpires   string        `json:"root_crl_expires"` // RFC 3339
}
