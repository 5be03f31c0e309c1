package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/veripath/aes-appliance/internal/oidctest"
)

// checkRenewed has the stored documents renewed as the timer does, and downloads one before and after.
func (e *estate) checkRenewed(doctor oidctest.Person, id string) {
	e.t.Helper()
	if out := run(e.t, "--config", e.config, "renew", "--stored"); out != "renewed  0\n" {
		e.t.Errorf("nothing is due, and: %s", out)
	}
	token := e.provider.A.Login(e.t, doctor).Access
	_, signed, _ := e.ask("GET", "/api/pdf/"+id, token, nil)
	if out := run(e.t, "--config", e.config, "renew", "--stored", "--stamped-before", "2100-01-01"); !strings.HasPrefix(out, "renewed  ") || out == "renewed  0\n" {
		e.t.Errorf("an algorithm ends, and: %s", out)
	}
	if _, after, _ := e.ask("GET", "/api/pdf/"+id, token, nil); !bytes.Equal(signed, after) {
		e.t.Error("what is downloaded by default is not what was signed any more")
	}
	status, newest, header := e.ask("GET", "/api/pdf/"+id+"?revision=newest", token, nil)
	if status != http.StatusOK || len(newest) <= len(signed) || !bytes.HasPrefix(newest, signed) || header.Get("X-Content-SHA256") != fmt.Sprintf("%x", sha256.Sum256(newest)) {
		e.t.Errorf("the newest state: %d, %d bytes after %d", status, len(newest), len(signed))
	}
	path := filepath.Join(e.dir, "renewed.pdf")
	if err := os.WriteFile(path, newest, 0o600); err != nil {
		e.t.Fatal(err)
	}
	if out := run(e.t, "verify", path, "--trust", e.root); strings.Count(out, "time stamp") < 2 {
		e.t.Errorf("the renewed document:\n%s", out)
	}
	if status, body, _ := e.ask("GET", "/api/pdf/"+id+"?revision=first", token, nil); status != http.StatusUnprocessableEntity {
		e.t.Errorf("a revision that there is not: %d %s", status, body)
	}
}
