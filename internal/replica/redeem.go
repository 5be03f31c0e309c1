package replica

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/veripath/aes-appliance/internal/fault"
)

// A one-time code is a secret that a person carries from one side to the other. Redeeming it binds it to the TLS connection, so that both sides
// know that the key that the other has just proven to have in TLS is that of who knows the secret; whoever sits in between learns nothing that helps.
const (
	exporterLabel = "EXPORTER-aes-appliance-redeem-v1" // RFC 8446 §7.5
	// MinSecret is the least length of a code's secret, in bytes.
	MinSecret  = 16
	maxPayload = 4 << 10
	maxRedeem  = 16 << 10 // of the whole body
)

// redemption is the body of POST /v1/redeem.
type redemption struct {
	Kind    string `json:"kind"`
	Payload []byte `json:"payload"` // base64, as in all JSON of Go
	Proof   []byte `json:"proof"`
}

// redeemed is its answer.
type redeemed struct {
	Answer []byte `json:"answer"`
	Proof  []byte `json:"proof"`
}

// proof returns HMAC-SHA256 under the secret over who proves, what, and the connection's exporter value.
func proof(secret []byte, cs *tls.ConnectionState, role, kind string, payload []byte) ([]byte, error) {
	bound, err := cs.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("replica: binding a code to the connection: %w", err)
	}
	return proofOver(secret, bound, role, kind, payload), nil
}

func proofOver(secret, bound []byte, role, kind string, payload []byte) []byte {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%s\n%q\n%x\n%x\n", role, kind, sha256.Sum256(payload), bound)
	return h.Sum(nil)
}

// Roles in proof.
const (
	roleClient = "aes-redeem/1 client"
	roleServer = "aes-redeem/1 server"
)

func (r *Receiver) redeem(w http.ResponseWriter, req *http.Request) error {
	if r.cfg.Codes == nil || !r.cfg.Codes.Open() {
		return fault.New(fault.Forbidden, "no code waits to be redeemed")
	}
	pin, err := peerPin(*req.TLS)
	if err != nil {
		return err
	}
	b, err := body(w, req, maxRedeem)
	if err != nil {
		return err
	}
	var in redemption
	if err := json.Unmarshal(b, &in); err != nil || len(in.Payload) > maxPayload {
		return fault.New(fault.Invalid, "the body is not a redemption").WithCause(err)
	}
	proves := func(secret []byte) bool {
		want, err := proof(secret, req.TLS, roleClient, in.Kind, in.Payload)
		return err == nil && len(secret) >= MinSecret && hmac.Equal(want, in.Proof)
	}
	secret, answer, err := r.cfg.Codes.Redeem(req.Context(), in.Kind, pin, in.Payload, proves)
	if err != nil {
		return err
	}
	if !proves(secret) {
		panic("replica: a code was redeemed that was not proven")
	}
	out := redeemed{Answer: answer}
	if out.Proof, err = proof(secret, req.TLS, roleServer, in.Kind, answer); err != nil {
		return err
	}
	if b, err = json.Marshal(out); err != nil {
		return fmt.Errorf("replica: encoding the answer to a redemption: %w", err)
	}
	return send(w, typeJSON, b)
}
