package replica

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/chain"
	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/fault"
)

// JoinPayload is what a primary says when it redeems a join code.
type JoinPayload struct {
	Origin string `json:"origin"`
	LogKey string `json:"log_key"` // verifier key
}

// JoinAnswer is what the backup host says then.
type JoinAnswer struct {
	Cosigner string `json:"cosigner_key"` // verifier key
}

// RestorePayload is what a bare machine says when it redeems a restore code.
type RestorePayload struct {
	Origin string `json:"origin"`
}

// RestoreAnswer is what the backup host says then: by which keys the log is to be verified.
type RestoreAnswer struct {
	Cosigner string `json:"cosigner_key"`
	LogKey   string `json:"log_key"`
}

// Expect keeps a join code: the primary that gave it out may come, until it expires.
//
// Errors: Invalid (it is no code), Forbidden (it has expired), Conflict (another log of that origin is kept here).
func (h *Host) Expect(code string) (enrol.Join, error) {
	j, err := enrol.ParseJoin(code)
	if err != nil {
		return j, fault.New(fault.Invalid, "this is not a whole join code").WithCause(err).WithHint(`copy all of what "appliance backup enrol" printed`)
	}
	if err := enrol.Valid(j.Expires, h.now()); err != nil {
		return j, expired(j.Expires, err)
	}
	if _, err := h.joinable(j); err != nil {
		return j, err
	}
	return j, h.keep(hostCode{Kind: KindJoin, Code: code})
}

func expired(at time.Time, err error) error {
	return fault.New(fault.Forbidden, "the code expired at "+at.Format(time.RFC3339)).WithCause(err).WithHint("have a new one made; are both clocks right?")
}

// joinable returns what is kept already of a code's log; the zero hostPeer when it is new. Conflict: it has another key.
func (h *Host) joinable(j enrol.Join) (hostPeer, error) {
	var have hostPeer
	key, err := j.VerifierKey()
	if err != nil {
		return have, err
	}
	err = h.read(peersDir, LogID(j.Origin), &have)
	if errors.Is(err, fs.ErrNotExist) {
		return hostPeer{}, nil
	}
	if err == nil && have.LogKey != key {
		err = fault.New(fault.Conflict, "a log of the origin "+j.Origin+" with another key is kept here").
			WithHint("two appliances must not share an origin (pki.base_url); if the old one is gone for good, give the new one another backup folder")
	}
	return have, err
}

// keep writes a code's file.
func (h *Host) keep(c hostCode) error {
	sum := sha256.Sum256([]byte(c.Code))
	return h.writeJSON(codesDir, hex.EncodeToString(sum[:8]), c)
}

// Allow makes a restore code for the log of an origin; "" is the only one.
//
// Errors: NotFound (no such log is kept), Invalid (there are several).
func (h *Host) Allow(origin string, life time.Duration) (code string, r enrol.Restore, err error) {
	peers, err := h.Peers()
	if err != nil {
		return "", r, err
	}
	if origin == "" && len(peers) > 1 {
		return "", r, fault.New(fault.Invalid, "several logs are kept here").WithHint(`"appliance receiver status" shows their origins: name one`)
	}
	for _, p := range peers {
		if origin != "" && p.Origin != origin {
			continue
		}
		r = enrol.Restore{Expires: h.now().UTC().Truncate(time.Second).Add(life), Backup: enrol.Key(h.Identity.Pin()), Origin: p.Origin}
		rand.Read(r.Secret[:]) // never fails (crypto/rand since Go 1.24)
		if code, err = r.Code(); err != nil {
			return "", r, err
		}
		return code, r, h.keep(hostCode{Kind: KindRestore, Code: code})
	}
	return "", r, fault.New(fault.NotFound, "no log of that origin is kept here").WithHint(`"appliance receiver status" shows the origins`)
}

// codes returns the codes that have not expired, and removes the others.
func (h *Host) codes() ([]hostCode, error) {
	names, err := h.list(codesDir)
	if err != nil {
		return nil, err
	}
	var list []hostCode
	for _, name := range names {
		var c hostCode
		if err := h.read(codesDir, name, &c); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, err
		}
		if enrol.Valid(c.expires(), h.now()) == nil {
			list = append(list, c)
			continue
		}
		if err := os.Remove(filepath.Join(h.dir, codesDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, storage(err)
		}
	}
	return list, nil
}

// expires returns until when a code is good; the zero time for one that cannot be read.
func (c hostCode) expires() time.Time {
	if j, err := enrol.ParseJoin(c.Code); err == nil && c.Kind == KindJoin {
		return j.Expires
	}
	if r, err := enrol.ParseRestore(c.Code); err == nil && c.Kind == KindRestore {
		return r.Expires
	}
	return time.Time{}
}

// Open implements Codes: a code waits that nobody has redeemed. Who has redeemed one is known, and needs no open door to do so again.
func (h *Host) Open() bool {
	list, err := h.codes()
	return err == nil && slices.ContainsFunc(list, func(c hostCode) bool { return c.Client == "" })
}

// Redeem implements Codes. A code is good for one client: the same one may redeem it again, because an answer can get lost.
func (h *Host) Redeem(_ context.Context, kind string, client Pin, payload []byte, proves func(secret []byte) bool) (secret, answer []byte, err error) {
	h.redeeming.Lock()
	defer h.redeeming.Unlock()
	list, err := h.codes()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range list {
		if c.Kind != kind || c.Client != "" && c.Client != client.String() {
			continue
		}
		switch kind {
		case KindJoin:
			j, err := enrol.ParseJoin(c.Code)
			if err != nil || Pin(j.Primary) != client || !proves(j.Secret[:]) {
				continue
			}
			answer, err = h.join(c, j, client, payload)
			return j.Secret[:], answer, err
		case KindRestore:
			r, err := enrol.ParseRestore(c.Code)
			if err != nil || !proves(r.Secret[:]) {
				continue
			}
			answer, err = h.restore(c, r, client, payload)
			return r.Secret[:], answer, err
		}
	}
	return nil, nil, fault.New(fault.Forbidden, "no such code waits here: it was used, has expired, or was never given to this host").
		WithHint(`on the backup host: "appliance receiver --join -", or "appliance receiver allow-restore"`)
}

// join makes the primary one that may append. Its key takes the place of a former one of the same log's as soon as it has come.
func (h *Host) join(c hostCode, j enrol.Join, client Pin, payload []byte) ([]byte, error) {
	var said JoinPayload
	key, err := j.VerifierKey()
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(payload, &said) != nil || said.Origin != j.Origin || said.LogKey != key {
		return nil, fault.New(fault.Invalid, "what the primary says of its log is not what its code says")
	}
	have, err := h.joinable(j)
	if err != nil {
		return nil, err
	}
	next := hostPeer{Origin: j.Origin, LogKey: key, Client: client.String(), Address: j.Backup, Joined: h.now().UTC()}
	switch {
	case have.Client == next.Client || have.Before != "": // the key that the primary certainly has
		next.Before = have.Before
	default:
		next.Before = have.Client
	}
	if next.Before == next.Client {
		next.Before = ""
	}
	if have.Client == next.Client && have.Address == next.Address {
		next.Joined = have.Joined
	}
	if err := h.writeJSON(peersDir, LogID(j.Origin), next); err != nil {
		return nil, err
	}
	c.Client = client.String()
	if err := errors.Join(h.keep(c), h.tell()); err != nil {
		return nil, err
	}
	cosigner, err := chain.NewCosigner(h.Name, h.Key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(JoinAnswer{Cosigner: cosigner.Key().String()})
}

// restore lets a bare machine read a log until its code expires.
func (h *Host) restore(c hostCode, r enrol.Restore, client Pin, payload []byte) ([]byte, error) {
	var said RestorePayload
	if json.Unmarshal(payload, &said) != nil || said.Origin != r.Origin {
		return nil, fault.New(fault.Invalid, "the code is for another log")
	}
	var have hostPeer
	if err := h.read(peersDir, LogID(r.Origin), &have); err != nil {
		return nil, err
	}
	fresh := c.Client == ""
	c.Client = client.String()
	if err := errors.Join(h.keep(c), h.tell()); err != nil {
		return nil, err
	}
	if fresh {
		h.alarm(Alarm{Kind: AlarmRestore, Time: h.now().UTC(), Origin: r.Origin,
			Text: fmt.Sprintf("a restore code was redeemed: the machine with the key %s may read the log and its objects until %s", client, r.Expires.Format(time.RFC3339))})
	}
	cosigner, err := chain.NewCosigner(h.Name, h.Key)
	if err != nil {
		return nil, fmt.Errorf("replica: %w", err)
	}
	return json.Marshal(RestoreAnswer{Cosigner: cosigner.Key().String(), LogKey: have.LogKey})
}

// alarm calls for help by the receiver's ways, when one is attached.
func (h *Host) alarm(a Alarm) {
	h.mu.Lock()
	r := h.receiver
	h.mu.Unlock()
	if r != nil {
		r.cfg.Log.Warn("alarm", "kind", string(a.Kind), "origin", a.Origin, "text", a.Text)
		r.cfg.Alarm(a)
	}
}
