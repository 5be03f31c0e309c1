package portal

import (
	"encoding/pem"
	"net/http"

	"github.com/veripath/aes-appliance/internal/wire"
)

// What a verifier trusts. It is not served over plain http, where anybody between could put his own in its place.
const (
	rootPath   = "/ca/root.pem"
	logKeyPath = "/ca/log-key.txt"
)

func rootOf(s wire.Status) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root})
}

func logKeyOf(s wire.Status) []byte { return []byte(s.LogKey + "\n") }

func (p *Portal) anchor(of func(wire.Status) []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, _, err := p.lately(r.Context())
		if err != nil {
			writeProblem(w, p.problem(r.Context(), err))
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(of(status)) // the client is gone
	}
}
