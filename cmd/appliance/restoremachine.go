package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/veripath/aes-appliance/internal/config"
	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/setup"
)

// furnish gives a machine on which an appliance was restored what else setup gives one: what hardens it, and to the units the secrets that only the lost machine could decrypt, once they are
// there again. The appliance is in its place by then: what fails here is said, and keeps nobody from starting it.
func (a *app) furnish(ctx context.Context, cfg config.Config, harden bool) {
	if harden {
		said, err := a.site.host.Harden(ctx)
		if err != nil {
			said = "not done (" + fault.PublicOf(err) + "): put the files there yourself, docs/hardening.md has them"
		}
		fmt.Fprintf(a.stdout, "hardening  %s\n\n", strings.ReplaceAll(said, "\n", "\n           "))
	}
	given := map[string][]setup.Credential{}
	var missing []string
	for _, one := range sealedSecrets(cfg) {
		given[one.unit] = append(given[one.unit], one.c)
		if !a.site.host.Has(one.c.Path()) {
			missing = append(missing, setup.Sealing(one.c.Name, one.from, one.c.Path()))
		}
	}
	for unit, creds := range given {
		if err := a.site.host.Give(unit, creds...); err != nil {
			missing = append(missing, "systemctl edit "+unit+" # [Service] LoadCredentialEncrypted= as docs/hardening.md has it: "+fault.PublicOf(err))
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(a.stdout, "Secrets that only the lost machine could decrypt: give each anew, before the services start (- is the keyboard; enter and ctrl-D end it). Then try an alarm: appliance doctor test-alarm\n  %s\n\n",
			strings.Join(missing, "\n  "))
	}
}

// sealedSecret is a secret that systemd decrypts for a unit, and where who runs the appliance has it from.
type sealedSecret struct {
	unit string
	c    setup.Credential
	from string
}

// sealedSecrets are those that a configuration names, but for the PIN, which comes back with the token.
func sealedSecrets(cfg config.Config) (list []sealedSecret) {
	for _, one := range []struct{ path, from string }{{cfg.Portal.KeyFile, "tls.key"}, {cfg.Alarm.Webhook, "-"}, {cfg.Alarm.MailFile, "-"}} {
		if unit, c := setup.CredentialAt(one.path); unit != "" {
			list = append(list, sealedSecret{unit, c, one.from})
		}
	}
	return list
}
