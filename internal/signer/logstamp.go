package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/cms"
	"github.com/veripath/aes-appliance/internal/evidence"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/ledger"
	"github.com/veripath/aes-appliance/internal/tsa"
	"github.com/veripath/aes-appliance/internal/tsp"
)

// checkpointStamped is the details of eventStamped: another authority's time stamp over a checkpoint of this log. Neither is secret, and both are small,
// so the line holds them.
type checkpointStamped struct {
	Size      uint64    `json:"size"`
	Root      string    `json:"root"` // hexadecimal
	Note      string    `json:"checkpoint"`
	Token     []byte    `json:"token"` // RFC 3161, DER, over SHA-256 of Note
	Time      time.Time `json:"time"`
	Serial    string    `json:"serial"` // hexadecimal
	Policy    string    `json:"policy"`
	Authority string    `json:"authority"`
}

const (
	logStampFoldName = "logstamp/1"
	bucketLogStamp   = logStampFoldName + "/size" // size of the stamped tree (8 bytes) -> line (8 bytes)

	maxLogToken   = 24 << 10 // bytes: a line holds its base64
	stampPatience = 30 * time.Second
	stampRetry    = time.Minute
)

// logStampFold finds the first time stamp over the log after any line.
type logStampFold struct{}

// Name implements ledger.Fold.
func (logStampFold) Name() string { return logStampFoldName }

// Apply implements ledger.Fold.
func (logStampFold) Apply(tx *index.Tx, r ledger.Record) error {
	if r.Type != eventStamped {
		return nil
	}
	var d checkpointStamped
	if err := json.Unmarshal(r.Details, &d); err != nil {
		return fmt.Errorf("line %d, %s: %w", r.Seq, r.Type, err)
	}
	key := binary.BigEndian.AppendUint64(nil, d.Size)
	if tx.Bucket(bucketLogStamp).Get(key) != nil {
		return nil // the first is the earliest
	}
	return tx.Bucket(bucketLogStamp).Put(key, binary.BigEndian.AppendUint64(nil, r.Seq))
}

// stampAfter returns the first time stamp over a tree that has the line and at most size lines, nil when there is none yet.
func (s *Signer) stampAfter(line, size uint64) (*checkpointStamped, error) {
	var seq []byte
	err := s.ledger.View(func(tx *index.Tx) error {
		for key, value := range tx.Bucket(bucketLogStamp).Seek(binary.BigEndian.AppendUint64(nil, line+1)) {
			if len(key) == 8 && binary.BigEndian.Uint64(key) <= size {
				seq = bytes.Clone(value)
			}
			return nil
		}
		return nil
	})
	if err != nil || len(seq) != 8 {
		return nil, err
	}
	r, err := s.line(binary.BigEndian.Uint64(seq))
	if err != nil {
		return nil, err
	}
	d := new(checkpointStamped)
	return d, json.Unmarshal(r.Details, d)
}

// lastLogStamp returns the size of the tree that was stamped last, and when its line was written; zeros when none was.
func (s *Signer) lastLogStamp() (size uint64, at time.Time, err error) {
	var seq []byte
	err = s.ledger.View(func(tx *index.Tx) error {
		for key, value := range tx.Bucket(bucketLogStamp).Descend(nil) {
			size, seq = binary.BigEndian.Uint64(key), bytes.Clone(value)
			return nil
		}
		return nil
	})
	if err != nil || seq == nil {
		return 0, time.Time{}, err
	}
	r, err := s.line(binary.BigEndian.Uint64(seq))
	return size, r.Time, err
}

// stampOnSchedule asks the authority for a time stamp over the log whenever one is due, until ctx ends.
func (v *Server) stampOnSchedule(ctx context.Context) {
	for {
		wait := v.cfg.Outside.StampEvery
		size, at, err := v.s.lastLogStamp()
		lines, _ := v.s.ledger.Head()
		switch due := time.Until(at.Add(wait)); {
		case err == nil && due > 0:
			wait = due
		// The line of the last time stamp is not growth.
		case err == nil && (lines > size+1 || size == 0):
			if err = v.stampLog(ctx); err == nil {
				break
			}
			fallthrough
		default:
			wait = min(wait, stampRetry)
		}
		if err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "the log was not time-stamped", "authority", v.cfg.Outside.Stamp, "error", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// stampLog has the newest checkpoint time-stamped, and records that.
func (v *Server) stampLog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stampPatience)
	defer cancel()
	c, err := v.newestHead()
	if err != nil {
		return err
	}
	token, err := v.askStamp(ctx, c.Note)
	if err != nil {
		return err
	}
	got, err := tsa.Check(token, c.Note, v.cfg.Outside.StampRoots)
	if err != nil {
		return err
	}
	_, err = v.s.ledger.Append(ctx, ledger.Event{Type: eventStamped, Actor: "system", Details: checkpointStamped{
		Size: c.Size, Root: hex.EncodeToString(c.Root[:]), Note: string(c.Note), Token: token, Time: got.Info.GenTime.UTC(),
		Serial: got.Info.Serial.Text(16), Policy: got.Info.Policy.String(), Authority: got.Certificate.Subject.CommonName,
	}})
	return err
}

// askStamp asks for a token over note: RFC 3161 §3.4, with a nonce that must come back.
func (v *Server) askStamp(ctx context.Context, note []byte) ([]byte, error) {
	sum := sha256.Sum256(note)
	random := make([]byte, 8)
	if _, err := io.ReadFull(v.s.rand, random); err != nil {
		return nil, err
	}
	ask := tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: sum[:]}, Nonce: new(big.Int).SetBytes(random), CertReq: true}
	der, err := ask.Marshal()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.cfg.Outside.Stamp, bytes.NewReader(der))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/timestamp-query")
	answer, err := v.outside.via.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxLogToken))
	if err != nil {
		return nil, err
	}
	if kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type")); err != nil || kind != "application/timestamp-reply" || answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("signer: the authority answered %s", answer.Status)
	}
	r, err := tsp.ParseResponse(body)
	if err != nil {
		return nil, err
	}
	if len(r.Token) == 0 {
		return nil, fmt.Errorf("signer: the authority refused: %v %s", r.FailInfo, r.Text)
	}
	return r.Token, checkNonce(r.Token, ask.Nonce)
}

// checkNonce is RFC 3161 §2.4.2: the nonce of the request must be that of the token.
func checkNonce(token []byte, nonce *big.Int) error {
	signed, err := cms.Parse(token)
	if err != nil {
		return err
	}
	info, err := tsp.ParseTSTInfo(signed.Content)
	if err != nil {
		return err
	}
	if info.Nonce == nil || info.Nonce.Cmp(nonce) != 0 {
		return errors.New("signer: the token is not the answer to what was asked: its nonce is another")
	}
	return nil
}

// putStamp puts the first time stamp after a prescription's signing into its evidence, when there is one.
func (v *Server) putStamp(ctx context.Context, line uint64, head chain.Cosigned, live *evidence.Live, p *evidence.Pack) error {
	d, err := v.s.stampAfter(line, head.Size)
	if err != nil || d == nil {
		return err
	}
	live.Stamped = &evidence.CheckpointTime{Size: d.Size, Root: d.Root, Time: d.Time, Serial: d.Serial, Policy: d.Policy, Authority: d.Authority}
	if p == nil {
		return nil
	}
	p.Stamped = &evidence.Stamped{Note: []byte(d.Note), Token: d.Token}
	p.Stamped.Growth, err = v.s.ledger.ProveConsistency(ctx, d.Size, head.Size)
	return err
}
