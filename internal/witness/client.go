// Package witness has others than the backup's own operator watch the log: it shows checkpoints to C2SP witnesses (tlog-witness), each with the proof
// that the log has only grown since the one before, and keeps the newest that enough of them cosigned.
//
// A backup under the same owner catches accidents and a broken primary. Only a witness that somebody else runs catches an owner who would rewrite both.
package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/veripath/aes-appliance/internal/chain"
)

// Why a witness did not cosign.
var (
	// ErrForked: it cosigned another tree of the same size, or one that does not begin as ours (409 at the same size, 422). One of the two histories
	// is false.
	ErrForked = errors.New("witness: it has cosigned another history of this log")
	// ErrAhead: it cosigned more lines than the log has now: the log was cut, or is an old copy.
	ErrAhead = errors.New("witness: it has cosigned more lines than the log has")
	// ErrUnknown: it does not watch this log, or not under this key (404, 403).
	ErrUnknown = errors.New("witness: it does not watch this log, or not under this key")
	// ErrAnswer: what came back is no answer of a witness.
	ErrAnswer = errors.New("witness: what came back is no answer of a witness")
)

// stale says which size the witness cosigned last.
type stale struct{ size uint64 }

func (e *stale) Error() string { return fmt.Sprintf("witness: it has cosigned %d lines", e.size) }

// typeSize is the content type of a 409 that tells the size.
const typeSize = "text/x.tlog.size"

// ask posts one request and returns the signature lines of the answer, which are not verified yet. A *stale says that it must be repeated from that
// size.
func ask(ctx context.Context, via http.RoundTripper, prefix string, r chain.AddCheckpoint) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, prefix+"/add-checkpoint", bytes.NewReader(r.Marshal()))
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	// A transport, not a client: a witness that leads elsewhere is none.
	answer, err := via.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, chain.MaxNote+1))
	if err != nil {
		return nil, fmt.Errorf("witness: reading the answer: %w", err)
	}
	if len(body) > chain.MaxNote {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrAnswer, chain.MaxNote)
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return body, nil
	case http.StatusConflict:
		return nil, conflict(answer.Header.Get("Content-Type"), body, r)
	case http.StatusNotFound, http.StatusForbidden:
		return nil, fmt.Errorf("%w: %s", ErrUnknown, answer.Status)
	case http.StatusUnprocessableEntity:
		return nil, ErrForked
	}
	return nil, fmt.Errorf("%w: %s", ErrAnswer, answer.Status)
}

// conflict reads a 409: another size than was thought, or another tree of the same size.
func conflict(contentType string, body []byte, r chain.AddCheckpoint) error {
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != typeSize {
		return ErrForked
	}
	size, err := chain.ParseWitnessSize(body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if size == r.Old {
		return ErrForked // tlog-witness: the sizes match and the roots do not
	}
	return &stale{size}
}
