package portal

import (
	"os"
	"strings"
	"testing"

	"github.com/veripath/aes-appliance/internal/fault"
	"github.com/veripath/aes-appliance/internal/wire"
)

// TestDamageIsForTheOperator: which file is damaged, and what to do with it, is not for callers.
func TestDamageIsForTheOperator(t *testing.T) {
	p, d := newPortal(t, nil)
	d.do[wire.OpPrescriptions] = func(any, *os.File) (any, *os.File, error) {
		return nil, nil, fault.New(fault.Corrupt, "the object 0badcafe is damaged").WithHint("restore objects/0b/0badcafe from the backup")
	}
	w := ask(p, "GET", "/api/prescriptions", "", authorised()...)
	if got := problemOf(t, w); w.Code != 500 || got.Type != "/problems/internal" || got.Detail == "" || got.WhatToDo == "" || got.RequestID == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), "0badcafe") || strings.Contains(w.Body.String(), "restore") {
		t.Errorf("an operator's hint goes to a caller: %s", w.Body)
	}
}
