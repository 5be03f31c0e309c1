//go:build vm

package vmtests

import (
	"strings"
	"testing"
)

// drill: the timer's unit has the running signer fetch and verify what the backup host holds. A copy that is spoilt is found, and stands among what failed.
func (l *life) drill(t *testing.T) {
	l.client(t).signs(t, "DRILL-1")
	l.on(t, "primary", "systemctl is-active aes-drill.timer && systemctl start aes-drill.service")
	if out := l.on(t, "primary", "journalctl --no-pager -o cat -u aes-drill"); !strings.Contains(out, "was fetched and verified, and is this log") || !strings.Contains(out, "appliance backup drill --from") {
		t.Errorf("the drill says\n%s", out)
	}
	l.on(t, "primary", `grep -c '"event_type":"backup_copy_verified"' /var/lib/aes-appliance/signer/audit_chain.jsonl`)
	l.on(t, "primary", "appliance doctor | grep 'what the backup holds was fetched and verified'")
	l.on(t, "backup", `file=$(find /var/lib/aes-appliance/receiver/logs -type f -regex '.*/[0-9a-f]*' | head -1) && test -n "$file" && cp -a "$file" /root/good && echo "$file" >/root/spoilt && printf x >>"$file"`)
	l.refused(t, "primary", "systemctl start aes-drill.service")
	l.on(t, "primary", "systemctl --failed --no-legend | grep aes-drill && appliance doctor | grep aes-drill; test ! -e /var/lib/aes-appliance/signer/copy.scratch")
	t.Log(l.on(t, "primary", "journalctl --no-pager -o cat -u aes-drill | tail -6"))
	l.on(t, "backup", `cp -a /root/good "$(cat /root/spoilt)"`)
	l.on(t, "primary", `systemctl start aes-drill.service && test -z "$(systemctl --failed --no-legend)"`)
}
