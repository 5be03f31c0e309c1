package activation

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/index"
	"github.com/veripath/aes-appliance/internal/jwt"
	"github.com/veripath/aes-appliance/internal/ledger"
)

// Clinic is a registered clinic.
type Clinic struct {
	Slug    string    `json:"clinic"` // [a-z0-9-], at most 63; for good
	Name    string    `json:"name"`
	Policy  Policy    `json:"policy"`
	AddedAt time.Time `json:"added_at,omitzero"` // of the line, not in it
}

// Realm is a registered issuer of tokens. A clinic has one: sub means a person only together with who says so.
type Realm struct {
	Issuer  string    `json:"issuer"` // exactly as tokens have it
	Clinic  string    `json:"clinic"`
	CA      string    `json:"ca,omitempty"` // PEM of the only authorities that its TLS certificate may be by; "": the system's
	AddedAt time.Time `json:"added_at,omitzero"`
}

// registry is what the log says, in memory. A realm is replaced, never changed, but for its keys.
type registry struct {
	clinics map[string]Clinic
	realms  map[string]*realm // by issuer
}

// realm is a Realm made ready.
type realm struct {
	Realm
	where endpoint
	roots *x509.CertPool // nil: Config.Roots
	keys  keyring
}

func clinicSlug() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) }

// AddClinic registers a clinic. Errors: Invalid, Conflict (there is one of that slug).
func (a *Activation) AddClinic(ctx context.Context, c Clinic, actor string) (Clinic, error) {
	if !clinicSlug().MatchString(c.Slug) {
		return Clinic{}, fault.New(fault.Invalid, fmt.Sprintf("%.80q is no slug for a clinic: 1 to 63 of a-z, 0-9 and hyphens within", c.Slug))
	}
	if !sensible(c.Name) {
		return Clinic{}, fault.New(fault.Invalid, "the clinic's name is missing, too long or not text")
	}
	if err := c.Policy.Check(); err != nil {
		return Clinic{}, err
	}
	a.act.Lock()
	defer a.act.Unlock()
	if _, err := a.Clinic(c.Slug); err == nil {
		return Clinic{}, fault.New(fault.Conflict, "there is a clinic "+c.Slug+" already").WithHint(`change its policy with "appliance clinic policy"`)
	}
	c.AddedAt = time.Time{}
	if err := a.record(ctx, eventClinicAdded, actor, c); err != nil {
		return Clinic{}, err
	}
	return a.Clinic(c.Slug)
}

// SetPolicy replaces a clinic's policy. Errors: Invalid, NotFound.
func (a *Activation) SetPolicy(ctx context.Context, slug string, p Policy, actor string) (Clinic, error) {
	if err := p.Check(); err != nil {
		return Clinic{}, err
	}
	a.act.Lock()
	defer a.act.Unlock()
	if _, err := a.Clinic(slug); err != nil {
		return Clinic{}, err
	}
	if err := a.record(ctx, eventPolicyChanged, actor, policyDetails{Clinic: slug, Policy: p}); err != nil {
		return Clinic{}, err
	}
	return a.Clinic(slug)
}

// AddRealm registers the issuer whose tokens a clinic's people bring. Errors: Invalid (no exact issuer, or one that is not https or is this very
// machine while the appliance is no demo), NotFound (the clinic), Conflict (the issuer is registered, or the clinic has another).
func (a *Activation) AddRealm(ctx context.Context, r Realm, actor string) (Realm, error) {
	if _, err := makeRealm(r, a.cfg.Demo); err != nil {
		return Realm{}, err
	}
	a.act.Lock()
	defer a.act.Unlock()
	if _, err := a.Clinic(r.Clinic); err != nil {
		return Realm{}, err
	}
	for _, other := range a.Realms() {
		if other.Issuer == r.Issuer {
			return Realm{}, fault.New(fault.Conflict, "the realm is registered for clinic "+other.Clinic+" already")
		}
		if other.Clinic == r.Clinic {
			return Realm{}, fault.New(fault.Conflict, "clinic "+r.Clinic+" has the realm "+other.Issuer).
				WithHint("a clinic has one realm: remove that one first; credentials stay bound to their sub")
		}
	}
	r.AddedAt = time.Time{}
	if err := a.record(ctx, eventRealmAdded, actor, r); err != nil {
		return Realm{}, err
	}
	done, err := a.realm(r.Issuer)
	if err != nil {
		return Realm{}, err
	}
	return done.Realm, nil
}

// RemoveRealm ends the registration of an issuer: its tokens are refused from now on. Errors: NotFound.
func (a *Activation) RemoveRealm(ctx context.Context, issuer, actor string) error {
	a.act.Lock()
	defer a.act.Unlock()
	r, err := a.realm(issuer)
	if err != nil {
		return err
	}
	return a.record(ctx, eventRealmRemoved, actor, realmDetails{Issuer: issuer, Clinic: r.Clinic})
}

// Clinic returns one clinic. Errors: NotFound.
func (a *Activation) Clinic(slug string) (Clinic, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	c, ok := a.reg.clinics[slug]
	if !ok {
		return Clinic{}, fault.New(fault.NotFound, fmt.Sprintf("there is no clinic %.80q", slug)).WithHint(`register it with "appliance clinic add"`)
	}
	return c.clone(), nil
}

func (c Clinic) clone() Clinic {
	p := &c.Policy
	p.ACRValues, p.Audiences = slices.Clone(p.ACRValues), slices.Clone(p.Audiences)
	p.AuthorizedParties, p.ServiceClients = slices.Clone(p.AuthorizedParties), slices.Clone(p.ServiceClients)
	return c
}

// Clinics returns all clinics by slug.
func (a *Activation) Clinics() []Clinic {
	a.mu.RLock()
	defer a.mu.RUnlock()
	list := []Clinic{}
	for _, c := range a.reg.clinics {
		list = append(list, c.clone())
	}
	slices.SortFunc(list, func(x, y Clinic) int { return cmp.Compare(x.Slug, y.Slug) })
	return list
}

// Realms returns all realms by issuer.
func (a *Activation) Realms() []Realm {
	a.mu.RLock()
	defer a.mu.RUnlock()
	list := []Realm{}
	for _, r := range a.reg.realms {
		list = append(list, r.Realm)
	}
	slices.SortFunc(list, func(x, y Realm) int { return cmp.Compare(x.Issuer, y.Issuer) })
	return list
}

func (a *Activation) realm(issuer string) (*realm, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if r := a.reg.realms[issuer]; r != nil {
		return r, nil
	}
	return nil, fault.New(fault.NotFound, fmt.Sprintf("no realm is registered with the issuer %.200q", issuer)).
		WithHint(`register it with "appliance realm add", exactly as tokens have it in iss`)
}

// record writes an event of the registry and takes up what it says. act is held.
func (a *Activation) record(ctx context.Context, kind, actor string, details any) error {
	if _, err := a.cfg.Ledger.Append(ctx, ledger.Event{Type: kind, Actor: actor, Details: details}); err != nil {
		return fmt.Errorf("activation: recording %s: %w", kind, err)
	}
	return a.reload()
}

// reload makes the registry what the index says, keeping the keyrings of realms that stay.
func (a *Activation) reload() error {
	next := registry{clinics: map[string]Clinic{}, realms: map[string]*realm{}}
	var list []Realm
	sets := map[string]keySet{}
	err := a.cfg.Ledger.View(func(tx *index.Tx) error {
		if err := each(tx, bucketClinic, func(slug string, c Clinic) { next.clinics[slug] = c }); err != nil {
			return err
		}
		if err := each(tx, bucketRealm, func(_ string, r Realm) { list = append(list, r) }); err != nil {
			return err
		}
		return each(tx, bucketKeys, func(issuer string, s keySet) { sets[issuer] = s })
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range list {
		if old := a.reg.realms[r.Issuer]; old != nil && old.Realm == r {
			next.realms[r.Issuer] = old
			continue
		}
		made, err := makeRealm(r, a.cfg.Demo)
		if err != nil {
			return fault.New(fault.Corrupt, "a realm in the log cannot be used").WithCause(err)
		}
		if s, ok := sets[r.Issuer]; ok {
			if made.keys.keys, err = jwt.ParseKeys(s.JWKS); err != nil {
				return fault.New(fault.Corrupt, "a realm's keys in the log cannot be used").WithCause(err)
			}
			made.keys.seen, made.keys.confirmed = s.Seen, s.Seen
		}
		next.realms[r.Issuer] = made
	}
	a.reg = next
	return nil
}

// each decodes every value of a bucket.
func each[V any](tx *index.Tx, bucket string, f func(key string, v V)) error {
	for key, raw := range tx.Bucket(bucket).Seek(nil) {
		var v V
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("activation: index bucket %s, key %s: %w", bucket, key, err)
		}
		f(string(key), v)
	}
	return nil
}
