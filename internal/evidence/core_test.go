package evidence

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// The Evidence Summary has the names that existing clients read, in their places, the seven pillars, and says of each fact how it is known.
func TestSummaryNames(t *testing.T) {
	f := newFixture(t)
	var s map[string]any
	if err := json.Unmarshal(f.pack.Summary, &s); err != nil {
		t.Fatal(err)
	}
	if s["evidence_type"] != "PAdES-B-LTA Evidence Summary" {
		t.Errorf("evidence_type is %v", s["evidence_type"])
	}
	for at, names := range map[string][]string{
		"":               {"evidence_type", "generated_at", "generated_by", "prescription", "signed_pdf", "actor_evidence", "consent"},
		"prescription":   {"prescription_id", "clinician_name", "patient_name", "medication_name", "status", "signed_at"},
		"signed_pdf":     {"path", "exists", "sha256"},
		"actor_evidence": {"keycloak_sub", "username", "authentication_context_ref", "auth_time", "ip_address", "user_agent"},
		"consent":        {"text", "timestamp"},
		"pillars":        {"cryptographic", "identity", "forensic", "intent", "temporal", "chain_of_custody", "tamper_evidence"},
	} {
		in := s
		if at != "" {
			in, _ = s[at].(map[string]any)
		}
		for _, name := range names {
			if in[name] == nil {
				t.Errorf("%s.%s is missing", at, name)
			}
		}
	}
	bases := map[string]int{}
	for name, pillar := range s["pillars"].(map[string]any) {
		for key, fact := range pillar.(map[string]any) {
			basis, _ := fact.(map[string]any)["basis"].(string)
			bases[basis]++
			if !slices.Contains([]string{"verified", "observed", "asserted"}, basis) {
				t.Errorf("%s.%s has basis %q", name, key, basis)
			}
		}
	}
	if len(bases) != 3 {
		t.Errorf("bases %v", bases)
	}
	if strings.Contains(string(f.pack.Summary), "eyJ") {
		t.Error("a token is in the summary")
	}
}

// A summary is its core with what it adds, and gives both back.
func TestSummaryRoundTrip(t *testing.T) {
	f := newFixture(t)
	for _, status := range []string{StatusSigned, StatusCancelled} {
		f.live.Status = status
		if status == StatusCancelled {
			f.live.Cancelled = &Cancellation{judged, "clinician:8d1f", NewReason([32]byte{2}, "wrong strength")}
		}
		summary := must[[]byte](t)(Summary(f.pack.Core, f.live))
		core, live, err := CoreOf(summary)
		if err != nil || !bytes.Equal(core, f.pack.Core) {
			t.Fatalf("%s: the core is not what it was: %v", status, err)
		}
		if again := must[[]byte](t)(Summary(core, live)); !bytes.Equal(again, summary) {
			t.Errorf("%s: another summary", status)
		}
	}
	f.live.Cancelled = nil
	if _, err := Summary(f.pack.Core, f.live); err == nil {
		t.Error("cancelled without a cancellation")
	}
	f.live.Status = "lost"
	if _, err := Summary(f.pack.Core, f.live); err == nil {
		t.Error("a status that is none")
	}
	if _, err := Summary([]byte("{}"), f.live); err == nil {
		t.Error("a summary without a core")
	}
}

// The same input makes the same core; another salt makes another hash of the same facts.
func TestCoreIsFixed(t *testing.T) {
	f := newFixture(t)
	if again := must[[]byte](t)(Core(f.in)); !bytes.Equal(again, f.pack.Core) {
		t.Error("the core is not the same")
	}
	f.in.Salt = [32]byte{2}
	if SHA256(must[[]byte](t)(Core(f.in))) == SHA256(f.pack.Core) {
		t.Error("the salt does not change the hash")
	}
	local := f.in
	local.Prescription.SignedAt = f.in.Prescription.SignedAt.In(time.FixedZone("BST", 3600))
	if !bytes.Equal(must[[]byte](t)(Core(local)), must[[]byte](t)(Core(f.in))) {
		t.Error("the time zone changes the core")
	}
}

// The peer's address stands in for the browser's where the caller did not tell it, and is tagged as what it is.
func TestActorAddress(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		browser, want string
		basis         Basis
	}{{"198.51.100.4", "198.51.100.4", Asserted}, {"", "192.0.2.7", Observed}} {
		f.in.Request.BrowserIP = c.browser
		parsed := must[*core](t)(parseCore(must[[]byte](t)(Core(f.in))))
		if parsed.Actor.IP != c.want || parsed.Actor.Basis["ip_address"] != c.basis {
			t.Errorf("%q: %s, %s", c.browser, parsed.Actor.IP, parsed.Actor.Basis["ip_address"])
		}
	}
}

// The line in which the realm's key first appeared is in the pack, and it is about the key that verified the token.
func TestRealmKeyLine(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*fixture)
		check  string
		text   string
	}{
		"as it is":      {func(*fixture) {}, "", ""},
		"another key":   {func(f *fixture) { f.realmKey["thumbprint"] = "another" }, "events", "thumbprint in realm_key_first_seen"},
		"another realm": {func(f *fixture) { f.realmKey["issuer"] = "https://id.example/realms/other" }, "events", "issuer in realm_key_first_seen"},
		"its line gone": {func(f *fixture) { f.seen = nil }, "lines", "(realm_key_first_seen) is missing"},
	} {
		f := newFixture(t)
		f.realmKey["thumbprint"] = f.in.Token.KeyThumbprint
		if c.text != "" && c.check == "events" {
			c.change(f)
		}
		f.write(t)
		if c.check == "lines" {
			c.change(f)
			f.finish(t)
		}
		r := verify(t, f.archive(t), f.trusting())
		if c.text == "" && r.Verdict != Valid || c.text != "" && !strings.Contains(failed(r, c.check), c.text) {
			t.Errorf("%s:\n%s", what, r.Text())
		}
	}
}

// How each fact is known is said as it is: what the signer did not see itself is not verified, and what is not known is not said.
func TestBases(t *testing.T) {
	f := newFixture(t)
	f.in.Token.Name, f.in.Request.BrowserIP, f.in.Clock = "", "", Clock{}
	c := must[*core](t)(parseCore(must[[]byte](t)(Core(f.in))))
	for name, want := range map[string]fact{
		"intent.document_source": {"rendered", Observed}, "cryptographic.signature_format_level": {"PAdES-B-LTA", Observed}, "identity.token_name": {nil, Verified},
		"forensic.browser_ip": {nil, Asserted}, "temporal.clock_max_error_ms": {nil, Verified}, "temporal.clock_proven": {false, Verified},
		"intent.consent_text": {f.in.Consent.Text, Asserted}, "forensic.peer_ip": {"192.0.2.7", Observed}, "identity.token_sub": {"8d1f", Verified},
	} {
		pillar, member, _ := strings.Cut(name, ".")
		if got := c.Pillars[pillar][member]; got != want {
			t.Errorf("%s: %+v, not %+v", name, got, want)
		}
	}
	if a := c.Pillars["intent"]["content"]; a.Basis != Asserted {
		t.Errorf("the content: %+v", a)
	}
}

// What a signature amounts to is said of it: a service account's is never called an advanced electronic signature.
func TestServiceIsLabelled(t *testing.T) {
	f := newFixture(t)
	f.in.Activation.Kind = KindService
	f.write(t)
	r := verify(t, f.archive(t), f.trusting())
	if r.Verdict != Valid || !strings.Contains(r.Activation, "not an advanced electronic signature") || !strings.Contains(r.Text(), "reduced evidence") {
		t.Error(r.Text())
	}
	text := readmeOf(t, f)
	if !strings.Contains(text, "does NOT show that the prescriber acted") || !strings.Contains(text, "- the prescriber took part:") ||
		!strings.Contains(text, "service account's access token, its own clock") || strings.Contains(text, "prescriber's access token") {
		t.Error("the README does not say so")
	}
}

// TestDemoIsLabelled: a demo's pack says at its head what it is, another one does not.
func TestDemoIsLabelled(t *testing.T) {
	f := newFixture(t)
	if strings.Contains(readmeOf(t, f), "DEMO ONLY") {
		t.Error("a README that says so of no demo")
	}
	f.in.Signature.Issuer = "DEMO ONLY " + f.in.Signature.Issuer
	f.write(t)
	if head, _, _ := strings.Cut(readmeOf(t, f), "1. WHAT THIS IS"); !strings.Contains(head, "DEMO ONLY    Made by a demonstration appliance") {
		t.Errorf("the README begins with %s", head)
	}
}

func readmeOf(t *testing.T, f *fixture) string {
	t.Helper()
	return string(must[[]entry](t)(f.pack.files())[0].data)
}

// All that is missing comes at once.
func TestCoreRefuses(t *testing.T) {
	_, err := Core(Input{})
	for _, want := range []string{"prescription ID", "patient's name", "token subject", "request ID", "consent text", "document SHA-256", "salt", "source", "level of activation", "kind of credential", "time stamps"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in %v", want, err)
		}
	}
}

// The README holds what a court needs, nothing of the patient, and lines that fit.
func TestReadme(t *testing.T) {
	f := newFixture(t)
	text := strings.Join(strings.Fields(readmeOf(t, f)), " ")
	for _, want := range []string{"Section 9 of the Civil Evidence Act 1995", "CERTIFICATE UNDER SECTION 9", "form part of the records of the business", SHA256(f.pack.PDF), SHA256(f.pack.Core),
		f.in.Signature.RootSHA256, "not legal advice", "appliance verify PACK.zip", "they are not;"} {
		if !strings.Contains(text, want) {
			t.Errorf("the README lacks %q", want)
		}
	}
	if strings.Contains(text, "Zoë") || strings.Contains(text, "<no value>") {
		t.Error("the README names the patient, or lacks a value")
	}
	for _, l := range strings.Split(readmeOf(t, f), "\n") {
		if len([]rune(l)) > 120 {
			t.Errorf("a line of %d characters: %s", len(l), l)
		}
	}
	f.in.Clock.Proven = false
	f.write(t)
	if !strings.Contains(readmeOf(t, f), "set up for trials") {
		t.Error("the README is silent about an unproven clock")
	}
}

// Nobody puts lines of his own into the README, or hides text in it, by a name.
func TestReadmeRefusesControls(t *testing.T) {
	for _, name := range []string{"Ada\n\n6. WHAT ELSE IT SHOWS", "Ada\u202eadA", "Ada\x1b[2J"} {
		f := newFixture(t)
		f.in.Prescription.ClinicianName = name
		f.pack.Core = must[[]byte](t)(Core(f.in))
		f.pack.Summary = must[[]byte](t)(Summary(f.pack.Core, f.live))
		if _, err := f.pack.files(); err == nil || !strings.Contains(err.Error(), "cannot be printed") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
