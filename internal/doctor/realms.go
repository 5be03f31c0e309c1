package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/veripath/aes-appliance/internal/wire"
)

const (
	maxKeys   = 1 << 20 // bytes of a realm's keys
	slowRealm = 3 * time.Second
	jwksPath  = "/protocol/openid-connect/certs"
	atOnce    = 8
)

// realms fetches every realm's keys: what a first signature after a change of keys waits for.
func (e *exam) realms(ctx context.Context, s *sheet) {
	var page wire.RealmPage
	if _, err := e.signer.client.Call(ctx, wire.OpRealmList, wire.Nothing{}, &page, nil); err != nil {
		s.unasked("realms.reachable", err)
		return
	}
	if len(page.Realms) == 0 {
		s.warn("realms.reachable", "appliance clinic add SLUG --name NAME; appliance realm add ISSUER --clinic SLUG", "no realm is registered: nobody can sign")
		return
	}
	type answer struct {
		keys int
		took time.Duration
		err  error
	}
	answers, slots := make([]answer, len(page.Realms)), make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	for i, r := range page.Realms {
		asking.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			begun := time.Now()
			n, err := e.realmKeys(ctx, r)
			answers[i] = answer{n, time.Since(begun), err}
		})
	}
	asking.Wait()
	fine := 0
	for i, a := range answers {
		clinic, issuer := page.Realms[i].Clinic, page.Realms[i].Issuer
		switch {
		case a.err != nil:
			s.bad("realms.reachable", "try it: curl -v "+issuer+jwksPath+"; if it is the clinic's, tell them; if it is this machine's egress: appliance firewall show",
				"the realm of clinic %s does not give its keys: %v", clinic, a.err)
		case a.took > slowRealm:
			s.warn("realms.reachable", "tell the clinic: each first signature after a change of its keys waits for that", "the realm of clinic %s took %s", clinic, a.took.Round(time.Millisecond))
		default:
			fine++
		}
	}
	if fine > 0 {
		s.ok("realms.reachable", "%d of %d realms give their keys", fine, len(page.Realms)).with("reachable", fine).with("realms", len(page.Realms))
	}
}

// realmKeys fetches one realm's keys with the trust that the signer has in it, and returns how many they are.
func (e *exam) realmKeys(ctx context.Context, r wire.Realm) (int, error) {
	var roots *x509.CertPool
	if r.CA != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(r.CA)) {
			return 0, fmt.Errorf("its pinned CA is no certificate")
		}
	}
	client := plainClient(e.m, nil)
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	status, body, err := get(ctx, client, r.Issuer+jwksPath, maxKeys)
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("it answers %d", status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return 0, fmt.Errorf("what it gives is no set of keys: %w", err)
	}
	if len(set.Keys) == 0 {
		return 0, fmt.Errorf("it gives no key")
	}
	return len(set.Keys), nil
}
