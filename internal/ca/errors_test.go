package ca_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/cert"
	"github.com/veripath/aes-appliance/internal/fault"
)

// TestDamageHints: the hint leads to where the damage is: objects to the objects folder, keys to the token.
func TestDamageHints(t *testing.T) {
	m := newAppliance(t)
	m.close()
	err := filepath.WalkDir(filepath.Join(m.dir, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || len(d.Name()) != 64 {
			return err
		}
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		return os.WriteFile(path, []byte("damaged"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = m.tryOpen()
	if fault.KindOf(err) != fault.Corrupt || !strings.Contains(fault.HintOf(err), "objects folder") || strings.Contains(fault.HintOf(err), "token") {
		t.Errorf("objects: %v, hint %q", err, fault.HintOf(err))
	}
	m.close()

	m = newAppliance(t)
	m.close()
	m.keys = newSoftKeys()
	err = m.tryOpen()
	if fault.KindOf(err) != fault.Corrupt || !strings.Contains(fault.HintOf(err), "token's folder") {
		t.Errorf("keys: %v, hint %q", err, fault.HintOf(err))
	}
}

// TestExpiringLeavesOutWhatRenewsItself: responders live for 30 days and are renewed 10 days before their end; only an overdue one alarms.
func TestExpiringLeavesOutWhatRenewsItself(t *testing.T) {
	m := newAppliance(t)
	m.maintain()
	if list := m.ca.Expiring(60 * day); len(list) != 0 {
		t.Errorf("%d certificates alarm on a fresh appliance: %+v", len(list), list[0])
	}
	m.advance(21 * day) // and nobody ran Maintain
	list := m.ca.Expiring(60 * day)
	if len(list) == 0 {
		t.Error("overdue responders do not alarm")
	}
	for _, c := range list {
		if c.Kind != cert.OCSP {
			t.Errorf("%s alarms", c.Kind)
		}
	}
	m.maintain()
	if list := m.ca.Expiring(60 * day); len(list) != 0 {
		t.Errorf("%d certificates alarm after their renewal", len(list))
	}
}
