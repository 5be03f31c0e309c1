//go:build vm

package vmtests

import (
	"strings"
	"testing"
	"time"
)

// drill: the timer's unit has the running signer fetch and verify what the backup host holds. A copy that is spoilt is found, and stands among what failed.
func (l *life) drill(t *testing.T) {
	l.client(t).signs(t, "DRILL-1")
	l.on(t, "primary", "systemctl is-active aes-drill.timer && systemctl start aes-drill.service")
	if out := l.on(t, "primary", "journalctl --sync; journalctl --no-pager -o cat -u aes-drill"); !strings.Contains(out, "was fetched and verified, and is this log") || !strings.Contains(out, "appliance backup drill --from") {
		t.Errorf("the drill says\n%s", out)
	}
	l.on(t, "primary", `grep -c '"event_type":"backup_copy_verified"' /var/lib/aes-appliance/signer/audit_chain.jsonl`)
	l.on(t, "primary", "appliance doctor | grep 'what the backup holds was fetched and verified'")
	l.on(t, "backup", `file=$(find /var/lib/aes-appliance/receiver/logs -type f -regex '.*/[0-9a-f]*' | head -1) && test -n "$file" && cp -a "$file" /root/good && echo "$file" >/root/spoilt && printf x >>"$file"`)
	l.refused(t, "primary", "systemctl start aes-drill.service")
	l.on(t, "primary", "systemctl --failed --no-legend | grep aes-drill && appliance doctor | grep aes-drill; test ! -e /var/lib/aes-appliance/signer/copy.scratch")
	t.Log(l.on(t, "primary", "journalctl --sync; journalctl --no-pager -o cat -u aes-drill | tail -6"))
	l.on(t, "backup", `cp -a /root/good "$(cat /root/spoilt)"`)
	l.on(t, "primary", `systemctl start aes-drill.service && test -z "$(systemctl --failed --no-legend)"`)
}

// changePIN gives the token another PIN while the services run: the signer comes back by itself with it, the credential has no other, the token is backed up with it.
func (l *life) changePIN(t *testing.T) {
	const kept = "systemd-creds decrypt --name=token-pin /etc/credstore.encrypted/aes-signer.token-pin -"
	before := l.on(t, "primary", kept)
	object := l.on(t, "primary", "appliance backup status --json | grep -o '\"token_backup\": *\"[0-9a-f]*\"' || true")
	for range 3 { // connections to its sockets start the signer at any moment of the change
		l.on(t, "primary", "n=0; while [ $n -lt 100 ]; do curl -s -o /dev/null http://127.0.0.1:9464/readyz; n=$((n+1)); done & appliance token change-pin && systemctl is-active aes-signer aes-portal; wait")
	}
	if after := l.on(t, "primary", kept); after == before || len(strings.Fields(after)) != 1 {
		t.Errorf("the credential holds %d PINs, or the old one", len(strings.Fields(after)))
	}
	l.client(t).comesBack(t, time.Minute, "PIN-1")
	l.on(t, "primary", "appliance backup status --wait 1m && test $(grep -c token_pin_changed /var/lib/aes-appliance/signer/audit_chain.jsonl) = 3")
	// One that was started in the midst has tried two PINs, and SoftHSM2 said so of the wrong one; the one that runs now has no other.
	l.on(t, "primary", "journalctl --sync; ! journalctl --no-pager _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID aes-signer) | grep -i 'could not'")
	if now := l.on(t, "primary", "appliance backup status --json | grep -o '\"token_backup\": *\"[0-9a-f]*\"' || true"); now == object && object != "" {
		t.Error("the token was not backed up with its new PIN")
	}
	l.refused(t, "primary", "runuser -u aes-portal -- appliance token change-pin")
}
