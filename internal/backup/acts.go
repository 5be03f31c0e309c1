package backup

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/veripath/aes-appliance/internal/enrol"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Offer is a join code that was given out: the backup host of this address will know its secret.
type Offer struct {
	Address string
	Secret  [enrol.SecretSize]byte
	Expires time.Time
	Trouble string // why it has not been taken up yet
	actor   string
}

// OfferTime is how long a join code is good. It is kept in memory only: a restart ends it.
const OfferTime = 30 * time.Minute

// DefaultPort is the port of a backup host.
const DefaultPort = "7443"

// actorSelf is the actor of what this package does of its own accord.
const actorSelf = "system"

// OfferTo begins the enrolment of the backup host at address, and returns the join code for it. With replace it will take the place of the one that is enrolled, which stays
// until then.
//
// Errors: Invalid (no address), Conflict (one is enrolled, and is not to be replaced; or none is, and one was to be).
func (k *Keeper) OfferTo(ctx context.Context, actor, address string, replace bool) (code string, o Offer, err error) {
	k.act.Lock()
	defer k.act.Unlock()
	address = WithPort(address)
	if err := enrol.CheckAddress(address); err != nil {
		return "", o, fault.New(fault.Invalid, "the backup's address is a host name in lower case, or an IP address, and a port").WithCause(err).WithHint("for instance backup.example.org:7443")
	}
	enrolled := k.enrolled() != nil
	if enrolled && !replace {
		return "", o, fault.New(fault.Conflict, "a backup is enrolled already").WithHint(`"appliance backup replace" puts another in its place`)
	}
	if !enrolled && replace {
		return "", o, fault.New(fault.Conflict, "no backup is enrolled that could be replaced").WithHint(`enrol one with "appliance backup enrol"`)
	}
	key, err := k.cfg.Key(ctx, actor)
	if err != nil {
		return "", o, err
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return "", o, errors.New("backup: the replication key is not Ed25519")
	}
	logKey, err := k.cfg.LogKey()
	if err != nil {
		return "", o, err
	}
	o = Offer{Address: address, Expires: k.cfg.Now().UTC().Truncate(time.Second).Add(OfferTime), actor: actor}
	rand.Read(o.Secret[:]) // never fails (crypto/rand since Go 1.24)
	j := enrol.Join{Expires: o.Expires, Secret: o.Secret, Primary: enrol.Key(pub), LogKey: logKey, Origin: k.cfg.Origin, Backup: address}
	if code, err = j.Code(); err != nil {
		return "", o, err
	}
	if err := k.append(ctx, eventOffered, actor, offered{Address: address, Expires: o.Expires}); err != nil {
		return "", o, err
	}
	k.update(func() { k.offer = &o })
	return code, o, nil
}

// RotateKey makes another key to show to the enrolled backup host, and returns the join code by which that host gets to know it. Until then the old one is used.
func (k *Keeper) RotateKey(ctx context.Context, actor string) (code string, o Offer, err error) {
	p := k.enrolled()
	if p == nil {
		return "", o, fault.New(fault.Conflict, "no backup is enrolled")
	}
	if _, err := k.cfg.NewKey(ctx, actor); err != nil {
		return "", o, err
	}
	return k.OfferTo(ctx, actor, p.Address, true)
}

// InUse returns the key by which the enrolled backup host knows this appliance; nil when none is enrolled, or one is about to be.
func (k *Keeper) InUse() (ed25519.PublicKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.peer == nil || !k.peer.Disabled.IsZero() || k.offer != nil {
		return nil, nil
	}
	return publicKey(k.peer.Primary)
}

// WithPort adds the port of a backup host where there is none.
func WithPort(address string) string {
	if host := strings.Trim(address, "[]"); strings.Count(host, ":") != 1 && !strings.Contains(address, "]:") {
		if strings.Contains(host, ":") {
			return "[" + host + "]:" + DefaultPort
		}
		return host + ":" + DefaultPort
	}
	return address
}

// enrolled returns the backup host that is enrolled and was not given up.
func (k *Keeper) enrolled() *Peer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.peer == nil || !k.peer.Disabled.IsZero() {
		return nil
	}
	return k.peer
}

// take makes the backup host that took an offer up the one that is enrolled.
func (k *Keeper) take(ctx context.Context, o Offer, id Identity, primary string) error {
	k.act.Lock()
	defer k.act.Unlock()
	if !k.current(o) {
		return fault.New(fault.Conflict, "another join code was given out meanwhile")
	}
	d := enrolled{Address: o.Address, Receiver: id.Receiver, Cosigner: id.Cosigner, Primary: primary}
	if was := k.enrolled(); was != nil {
		d.Replaces = was.Address
	}
	if err := k.append(ctx, eventEnrolled, o.actor, d); err != nil {
		return err
	}
	return k.reload(func() { k.offer = nil })
}

// Disable gives the enrolled backup host up: from this line on, answers say that nothing cosigns them.
func (k *Keeper) Disable(ctx context.Context, actor, reason string) error {
	k.act.Lock()
	defer k.act.Unlock()
	p := k.enrolled()
	if p == nil {
		return fault.New(fault.Conflict, "no backup is enrolled")
	}
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > 500 {
		return fault.New(fault.Invalid, "giving a backup up needs a reason, of at most 500 bytes").WithHint("it stands in the log for good")
	}
	last, _ := k.Cosigned()
	if err := k.append(ctx, eventDisabled, actor, disabled{Address: p.Address, Reason: reason, Lines: last.Size}); err != nil {
		return err
	}
	return k.reload(func() { k.offer = nil })
}

// synchronise records that the backup held everything that there was.
func (k *Keeper) synchronise(ctx context.Context, p *Peer, lines uint64) error {
	k.act.Lock()
	defer k.act.Unlock()
	if k.enrolled() != p || p.Synchronised {
		return nil
	}
	if err := k.append(ctx, eventSynchronised, actorSelf, synchronised{Address: p.Address, Lines: lines}); err != nil {
		return err
	}
	// The link stays: only what is concluded from it changes.
	next, err := load[Peer](k.cfg.Ledger, keyPeer)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.peer = &next
	return nil
}

// mismatched records what was found, once.
func (k *Keeper) mismatched(ctx context.Context, p *Peer, found string) error {
	k.mu.Lock()
	told := k.told == found
	k.told = found
	k.mu.Unlock()
	if told {
		return nil
	}
	k.cfg.Log.ErrorContext(ctx, "signing is off: the log is not what the backup cosigned", "backup", p.Address, "found", found)
	return k.append(ctx, eventMismatch, actorSelf, mismatch{Address: p.Address, Found: found})
}

func (k *Keeper) append(ctx context.Context, event, actor string, details any) error {
	_, err := k.cfg.Ledger.Append(ctx, ledger.Event{Type: event, Actor: actor, Details: details})
	return err
}

// reload takes up what the log says now, and has Run begin anew with it.
func (k *Keeper) reload(also func()) error {
	next, err := load[Peer](k.cfg.Ledger, keyPeer)
	if err != nil {
		return err
	}
	k.update(func() {
		if !same(k.peer, &next) {
			k.link, k.compared = nil, false
		}
		k.peer = &next
		also()
	})
	return nil
}

// update changes the state and tells Run.
func (k *Keeper) update(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	k.tell()
}

// tell wakes up who waits for a change; mu is held.
func (k *Keeper) tell() {
	close(k.changed)
	k.changed = make(chan struct{})
}
