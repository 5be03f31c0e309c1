package oidctest_test

import (
	"testing"
	"time"

	"github.com/veripath/aes-appliance/internal/jwt"
	"github.com/veripath/aes-appliance/internal/oidctest"
)

func TestProvider(t *testing.T) {
	for name, o := range map[string]oidctest.Options{"http on loopback": {}, "https": {Host: "sso.example.org"}} {
		t.Run(name, func(t *testing.T) {
			p := oidctest.Start(t, o)
			for _, r := range []*oidctest.Realm{p.A, p.B} {
				tokens := r.Login(t, oidctest.Doctor())
				keys, err := jwt.ParseKeys(r.JWKS(t))
				if err != nil {
					t.Fatal(err)
				}
				c, err := jwt.Verify(tokens.Access, keys, jwt.Expect{Issuer: r.Issuer, Now: time.Now(), Leeway: time.Minute, Audiences: []string{"aes-portal"}})
				if err != nil {
					t.Fatal(err)
				}
				if !c.HasRole("clinician") || c.ACR != "2" || c.AuthTime.IsZero() || c.ServiceAccount || c.AuthorizedParty != oidctest.ClientApp || c.Sub != oidctest.Doctor().Sub {
					t.Errorf("%+v", c)
				}
				if tokens.ID == "" || tokens.Refresh == "" {
					t.Error("no ID or refresh token")
				}
				service, err := jwt.Verify(r.Service(t), keys, jwt.Expect{Issuer: r.Issuer, Now: time.Now(), Leeway: time.Minute})
				if err != nil || !service.ServiceAccount {
					t.Errorf("%+v, %v", service, err)
				}
				r.Rotate(t)
				if _, err := jwt.Verify(r.Login(t, oidctest.Doctor()).Access, keys, jwt.Expect{Issuer: r.Issuer, Now: time.Now()}); jwt.ReasonOf(err) != jwt.UnknownKid {
					t.Error(err)
				}
			}
		})
	}
}
