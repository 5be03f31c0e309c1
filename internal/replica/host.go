package replica

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/durable"
	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/fault"
)

// Host is a backup host's own state, beside the copies: its two keys, the primaries that it knows, and the codes that wait to be redeemed. It is a folder:
//
//	identity.pem   the key that it shows in TLS
//	cosigner.pem   the key of its cosignatures
//	peers/ID       a primary that was enrolled, ID as LogID
//	codes/NAME     a code that waits, or was redeemed and has not expired
//	logs/ID/       the copies: a Receiver's
//
// Commands of the operator's and the service work on it at once: each file appears whole, and is looked at when it is needed.
type Host struct {
	dir string
	now func() time.Time

	Identity Identity
	Key      crypto.Signer // of the cosignatures
	Name     string        // of the cosigner

	redeeming sync.Mutex // a code is looked at and used up in one step; before mu

	mu       sync.Mutex
	receiver *Receiver // that is told of new peers; nil in a command
	limits   Limits
}

// Limits are those of each primary, see Peer.
type Limits struct {
	Silence, Lag time.Duration
	Quota        int64
}

// hostPeer is a file in peers/.
type hostPeer struct {
	Origin string `json:"origin"`
	LogKey string `json:"log_key"` // verifier key
	Client string `json:"client"`  // Pin
	// Before is the pin that was in use when Client was made known, until Client has come: a primary that stops between the two goes on with its old key.
	Before  string    `json:"before,omitempty"`
	Address string    `json:"address"` // by which the primary dials this host
	Joined  time.Time `json:"joined"`
}

// hostCode is a file in codes/.
type hostCode struct {
	Kind   string `json:"kind"`
	Code   string `json:"code"`
	Client string `json:"client,omitempty"` // Pin of who redeemed it: nobody else can
}

// Kinds of codes.
const (
	KindJoin    = "join"
	KindRestore = "restore"
)

// Names within the folder.
const (
	identityName = "identity.pem"
	cosignerName = "cosigner.pem"
	peersDir     = "peers"
	codesDir     = "codes"
	logsDir      = "logs"
	maxHostFile  = 64 << 10
)

// OpenHost opens the state of a backup host in dir, making its keys the first time. Only the folder's owner does so: what root makes there could be led elsewhere by links.
func OpenHost(dir string, now func() time.Time) (*Host, error) {
	h := &Host{dir: dir, now: now}
	for _, d := range []string{"", peersDir, codesDir, logsDir} {
		if err := durable.Mkdir(durable.OS{}, filepath.Join(dir, d), 0o700); err != nil {
			return nil, storage(err)
		}
	}
	return h.open(h.key)
}

// LookAtHost opens the state of a backup host to look at it: nothing is made or removed, whoever looks. fs.ErrNotExist is in the error's tree when there is none.
func LookAtHost(dir string, now func() time.Time) (*Host, error) {
	h := &Host{dir: dir, now: now}
	return h.open(h.keptKey)
}

// open takes the keys from where they are.
func (h *Host) open(key func(name string) (ed25519.PrivateKey, error)) (*Host, error) {
	shown, err := key(identityName)
	if err != nil {
		return nil, err
	}
	if h.Identity, err = NewIdentity(shown); err != nil {
		return nil, err
	}
	if h.Key, err = key(cosignerName); err != nil {
		return nil, err
	}
	// A key serves one name only: the name is of the key.
	h.Name = fmt.Sprintf("aes-backup-%x", h.Key.Public().(ed25519.PublicKey)[:8])
	return h, nil
}

// Logs is the folder of the copies.
func (h *Host) Logs() string { return filepath.Join(h.dir, logsDir) }

// key reads a key, or makes it.
func (h *Host) key(name string) (ed25519.PrivateKey, error) {
	key, err := h.keptKey(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := h.firstKey(filepath.Join(h.dir, name)); err != nil {
		return nil, err
	}
	return h.keptKey(name)
}

// keptKey reads a key.
func (h *Host) keptKey(name string) (ed25519.PrivateKey, error) {
	path := filepath.Join(h.dir, name)
	data, err := durable.ReadFile(durable.OS{}, path, maxHostFile)
	if err != nil {
		return nil, storage(err)
	}
	bad := fault.New(fault.Corrupt, "the key in "+path+" cannot be read").WithHint("restore it from the backup of this host, or remove it and enrol each primary anew")
	block, rest := pem.Decode(data)
	if block == nil || len(rest) > 0 || block.Type != "PRIVATE KEY" {
		return nil, bad
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, bad.WithCause(err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, bad
	}
	return key, nil
}

// firstKey makes a key where there is none: when the service and a command begin at the same moment one of them makes it, and both read it afterwards. What one of them
// held alone would sign until its end, and nobody would know it afterwards.
func (h *Host) firstKey(path string) error {
	own, err := os.MkdirTemp(h.dir, "key-")
	if err != nil {
		return storage(err)
	}
	defer os.RemoveAll(own)
	made := filepath.Join(own, filepath.Base(path))
	if _, err := h.newKey(made); err != nil {
		return err
	}
	if err := os.Link(made, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return storage(err)
	}
	if err := (durable.OS{}).SyncDir(h.dir); err != nil {
		return storage(err)
	}
	return nil
}

func (h *Host) newKey(path string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("replica: making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("replica: encoding a key: %w", err)
	}
	return key, h.write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// RotateIdentity makes another key to show in TLS. A service that runs shows the old one until it is started anew.
func (h *Host) RotateIdentity() error {
	key, err := h.newKey(filepath.Join(h.dir, identityName))
	if err != nil {
		return err
	}
	h.Identity, err = NewIdentity(key)
	return err
}

// write makes a file that appears whole.
func (h *Host) write(path string, data []byte) error {
	if err := durable.WriteFile(durable.OS{}, path, data, 0o600); err != nil {
		return storage(err)
	}
	return nil
}

// read decodes a JSON file of this package's own.
func (h *Host) read(dir, name string, into any) error {
	data, err := durable.ReadFile(durable.OS{}, filepath.Join(h.dir, dir, name), maxHostFile)
	if err != nil {
		return storage(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fault.New(fault.Corrupt, "the file "+filepath.Join(h.dir, dir, name)+" cannot be read").WithCause(err)
	}
	return nil
}

func (h *Host) writeJSON(dir, name string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("replica: encoding %s: %w", name, err)
	}
	return h.write(filepath.Join(h.dir, dir, name), append(data, '\n'))
}

// list returns the names in a folder.
func (h *Host) list(dir string) ([]string, error) {
	names, err := durable.OS{}.List(filepath.Join(h.dir, dir))
	if err != nil {
		return nil, storage(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, ".tmp") }), nil
}

// Peers returns the primaries that are known, and who may read their logs for a restore.
func (h *Host) Peers() ([]Peer, error) {
	names, err := h.list(peersDir)
	if err != nil {
		return nil, err
	}
	codes, err := h.codes()
	if err != nil {
		return nil, err
	}
	var peers []Peer
	for _, name := range names {
		var f hostPeer
		if err := h.read(peersDir, name, &f); err != nil {
			return nil, err
		}
		client, err := ParsePin(f.Client)
		if err != nil {
			return nil, fault.New(fault.Corrupt, "the file of the primary "+f.Origin+" cannot be read").WithCause(err)
		}
		clients := []Pin{client}
		if f.Before != "" {
			before, err := ParsePin(f.Before)
			if err != nil {
				return nil, fault.New(fault.Corrupt, "the file of the primary "+f.Origin+" cannot be read").WithCause(err)
			}
			clients = append(clients, before)
		}
		p := Peer{Origin: f.Origin, LogKeys: []string{f.LogKey}, Clients: clients, Silence: h.limits.Silence, Lag: h.limits.Lag, Quota: h.limits.Quota}
		for _, c := range codes {
			if r, err := enrol.ParseRestore(c.Code); c.Kind == KindRestore && c.Client != "" && err == nil && r.Origin == f.Origin {
				if pin, err := ParsePin(c.Client); err == nil {
					p.Readers = append(p.Readers, pin)
				}
			}
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// Attach tells r of the primaries, now and whenever that changes.
func (h *Host) Attach(r *Receiver, limits Limits) error {
	h.mu.Lock()
	h.receiver, h.limits = r, limits
	h.mu.Unlock()
	return h.tell()
}

// Arrived forgets a primary's former key once the new one is in use. It is ReceiverConfig.Arrived.
func (h *Host) Arrived(origin string, client Pin) error {
	h.redeeming.Lock()
	defer h.redeeming.Unlock()
	var have hostPeer
	if err := h.read(peersDir, LogID(origin), &have); err != nil {
		return err
	}
	if have.Client != client.String() || have.Before == "" {
		return nil
	}
	have.Before = ""
	if err := h.writeJSON(peersDir, LogID(origin), have); err != nil {
		return err
	}
	return h.tell()
}

// Refresh takes up what commands have changed, and that codes have expired.
func (h *Host) Refresh() error { return h.tell() }

// tell gives the receiver the primaries anew.
func (h *Host) tell() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.receiver == nil {
		return nil
	}
	peers, err := h.Peers()
	if err != nil {
		return err
	}
	return h.receiver.SetPeers(peers)
}
