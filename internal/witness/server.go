package witness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/durable"
)

// Store keeps what a witness must never forget: the last checkpoint of each log that it cosigned.
type Store interface {
	// Load returns the checkpoint of a log, nil when none was ever saved.
	Load(origin string) ([]byte, error)
	// Save keeps a checkpoint in place of the one before; it is durable when Save returns nil.
	Save(origin string, note []byte) error
	// Accuse keeps the first checkpoint that contradicts what was cosigned: with the one that was, it proves that the log lied.
	Accuse(origin string, note []byte) error
}

// Dir is a Store in a folder.
type Dir struct {
	FS   durable.FS
	Path string
}

func (d Dir) file(origin, what string) string {
	sum := sha256.Sum256([]byte(origin))
	return filepath.Join(d.Path, hex.EncodeToString(sum[:])+what)
}

// Load implements Store.
func (d Dir) Load(origin string) ([]byte, error) {
	return d.read(d.file(origin, ".checkpoint"))
}

// read returns nil for a file that does not exist.
func (d Dir) read(name string) ([]byte, error) {
	f, err := d.FS.Open(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	note, err := io.ReadAll(io.LimitReader(f, chain.MaxNote+1))
	return note, errors.Join(err, f.Close())
}

// Save implements Store.
func (d Dir) Save(origin string, note []byte) error {
	return durable.WriteFile(d.FS, d.file(origin, ".checkpoint"), note, 0o600)
}

// Accuse implements Store.
func (d Dir) Accuse(origin string, note []byte) error {
	name := d.file(origin, ".contradicts")
	if before, err := d.read(name); err != nil || before != nil {
		return err
	}
	return durable.WriteFile(d.FS, name, note, 0o600)
}

// ServerConfig says what a Server watches.
type ServerConfig struct {
	Logs     []string // verifier keys; the names are the origins. A log may have several while its key changes
	Cosigner *chain.Cosigner
	Store    Store
	Now      func() time.Time
	Slog     *slog.Logger
	// Contradicted is told that a log signed two trees of one size, each time that this is shown: it must return at once. nil: nobody is told.
	Contradicted func(origin string, lines uint64)
}

// Server is a witness: an http.Handler for POST …/add-checkpoint (C2SP tlog-witness). It holds no lines. Its key must be none that makes other statements: what a
// backup signs as a mirror says more.
//
// It never cosigns two histories: what it answers was compared with what it cosigned before, and made durable in its place, in one step. A crash between the two
// leaves a checkpoint that nobody was told of, and that the log has.
type Server struct {
	cfg  ServerConfig
	logs map[string][]string // by origin

	mu sync.Mutex // one request at a time compares and persists
}

// NewServer returns a witness.
func NewServer(cfg ServerConfig) (*Server, error) {
	s := &Server{cfg: cfg, logs: map[string][]string{}}
	for _, key := range cfg.Logs {
		if err := chain.CheckLogKey(key); err != nil {
			return nil, err
		}
		s.logs[chain.LogName(key)] = append(s.logs[chain.LogName(key)], key)
	}
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/add-checkpoint") {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, chain.MaxAddCheckpoint))
	if err != nil {
		http.Error(w, "the request is too long, or did not arrive whole", http.StatusBadRequest)
		return
	}
	line, refused := s.add(body)
	if refused == nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(line) // the client is gone
		return
	}
	if refused.status == http.StatusInternalServerError {
		s.cfg.Slog.ErrorContext(r.Context(), "the witness could not decide", "error", refused.cause)
	}
	if refused.status == http.StatusConflict {
		w.Header().Set("Content-Type", typeSize)
		w.WriteHeader(refused.status)
		fmt.Fprintf(w, "%d\n", refused.size)
		return
	}
	http.Error(w, http.StatusText(refused.status), refused.status)
}

// refusal is an answer without a cosignature.
type refusal struct {
	status int
	size   uint64 // with 409
	cause  error  // with 500
}

// add judges a request, in the order of tlog-witness, and returns the signature line.
func (s *Server) add(body []byte) ([]byte, *refusal) {
	in, err := chain.ParseAddCheckpoint(body)
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest}
	}
	origin, _, _ := strings.Cut(string(in.Checkpoint), "\n")
	keys := s.logs[origin]
	if len(keys) == 0 {
		return nil, &refusal{status: http.StatusNotFound}
	}
	var c chain.Checkpoint
	for _, key := range keys {
		if c, err = chain.OpenCheckpoint(in.Checkpoint, origin, key); err == nil {
			break
		}
	}
	switch {
	case err != nil:
		return nil, &refusal{status: http.StatusForbidden}
	case in.Old > c.Size:
		return nil, &refusal{status: http.StatusBadRequest}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last, err := s.last(origin)
	switch {
	case err != nil:
		return nil, &refusal{status: http.StatusInternalServerError, cause: err}
	case c.Size == last.Size && c.Tree != last: // whatever it says that it grew from
		return nil, s.contradicted(origin, last, c, in.Checkpoint)
	case in.Old != last.Size:
		return nil, &refusal{status: http.StatusConflict, size: last.Size}
	}
	if err := chain.VerifyConsistency(last, c.Tree, in.Proof); err != nil {
		return nil, s.contradicted(origin, last, c, in.Checkpoint)
	}
	return s.cosign(c, in.Checkpoint)
}

// last returns the tree that was cosigned last, the empty one when none was.
func (s *Server) last(origin string) (chain.Tree, error) {
	note, err := s.cfg.Store.Load(origin)
	if err != nil {
		return chain.Tree{}, err
	}
	if note == nil {
		return (&chain.Frontier{}).Tree(), nil
	}
	for _, key := range s.logs[origin] {
		if c, err := chain.OpenCheckpoint(note, origin, key); err == nil {
			return c.Tree, nil
		}
	}
	// As if it had never cosigned would let the log begin anew.
	return chain.Tree{}, fmt.Errorf("witness: the checkpoint that is kept of %s cannot be read", origin)
}

// contradicted answers a checkpoint that does not begin with what was cosigned; a false proof alone accuses nobody.
func (s *Server) contradicted(origin string, last chain.Tree, c chain.Checkpoint, note []byte) *refusal {
	if c.Size != last.Size || c.Tree == last {
		return &refusal{status: http.StatusUnprocessableEntity}
	}
	s.cfg.Slog.Error("a log signed two trees of the same size", "log", origin, "lines", c.Size)
	if s.cfg.Contradicted != nil {
		s.cfg.Contradicted(origin, c.Size)
	}
	if err := s.cfg.Store.Accuse(origin, note); err != nil {
		return &refusal{status: http.StatusInternalServerError, cause: err}
	}
	return &refusal{status: http.StatusConflict, size: last.Size}
}

// cosign makes the checkpoint durable and then signs it. s.mu is held.
func (s *Server) cosign(c chain.Checkpoint, note []byte) ([]byte, *refusal) {
	line, err := s.cfg.Cosigner.Cosign(c, s.cfg.Now())
	if err == nil {
		err = s.cfg.Store.Save(c.Origin, note)
	}
	if err != nil {
		return nil, &refusal{status: http.StatusInternalServerError, cause: err}
	}
	return line, nil
}
