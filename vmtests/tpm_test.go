//go:build vm

package vmtests

import (
	"strings"
	"testing"
	"time"

	"github.com/veripath/aes-appliance/vmtests/machine"
)

// sealedBy is what encrypts the token's PIN: the first bytes of a credential of systemd's say so.
const sealedBy = `base64 -d /etc/credstore.encrypted/aes-signer.token-pin | head -c 16 | od -An -vtx1 | tr -d ' \n'`

// byBoth is the key of this machine and that of its TPM2 together (systemd's CRED_AES256_GCM_BY_HOST_AND_TPM2_HMAC).
const byBoth = "93a8940948744490" + "90caf2fc93cab553"

// tpm: setup has sealed the PIN to the machine's TPM2, with which it boots and signs. The same disk with another TPM2 does not: the signer has no PIN, everybody says so and what to
// do about it, and with the identity that opens the token's backup the PIN is sealed anew.
func (l *life) tpm(t *testing.T) {
	vm, ok := l.machines["primary"].(*machine.VM)
	if !ok {
		t.Fatal("a TPM2 is in a VM only")
	}
	t.Log(l.on(t, "primary", "ls -l /dev/tpmrm0; systemd-creds has-tpm2 || true"))
	if by := l.on(t, "primary", sealedBy); by != byBoth {
		t.Fatalf("the PIN is sealed by %s, not by %s", by, byBoth)
	}
	c := l.client(t)
	c.signs(t, "TPM-1")

	vm.OtherTPM()
	if err := vm.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.http.CloseIdleConnections()
	l.refused(t, "primary", "systemd-creds decrypt --name=token-pin /etc/credstore.encrypted/aes-signer.token-pin -")
	l.refused(t, "primary", "timeout 60 systemctl start aes-signer")
	said := l.on(t, "primary", "journalctl --sync; journalctl --no-pager -b -o cat -u 'aes-signer*' | sort | uniq -c | sort -rn | head -40")
	t.Log(said)
	if !strings.Contains(said, "appliance backup pin") {
		t.Errorf("the journal does not say what to do:\n%s", said)
	}
	finds(t, "with another TPM2", l.examined(t, "primary", "primary"), "bad", "token.pin")
	status, _ := l.try("primary", "appliance status") // its exit code says that something is wrong
	t.Log(status)

	l.put(t, "primary", "/root/identity.txt", 0o600, l.identity+"\n")
	t.Log(l.on(t, "primary", "appliance backup pin --identity /root/identity.txt; shred -u /root/identity.txt"))
	l.on(t, "primary", "systemctl reset-failed 'aes-*'; systemctl restart aes-signer && systemctl start aes-appliance.target")
	t.Logf("signing after %v", c.comesBack(t, 2*time.Minute, "TPM-2"))
	if by := l.on(t, "primary", sealedBy); by != byBoth {
		t.Errorf("the PIN is sealed anew by %s, not by %s", by, byBoth)
	}
	finds(t, "sealed anew", l.examined(t, "primary", "primary"), "ok", "token.pin", "services.units", "services.sandbox")
}
