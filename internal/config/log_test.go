package config

import (
	"strings"
	"testing"
	"time"
)

func TestLogValuesRejected(t *testing.T) {
	in := func(text string) string { return "[log]\n" + text + "\n[pki]" }
	reject(t, []wrong{
		{`[pki]`, in(`witness_policy_file = "witnesses.txt"`), "log.witness_policy_file", "absolute"},
		{`[pki]`, in(`witness_roots_file = "x"`), "log.witness_roots_file", "absolute"},
		{`[pki]`, in(`witness_every = "10ms"`), "log.witness_every", "1s"},
		{`[pki]`, in("timestamp_url = \"ftp://tsa.example\"\ntimestamp_roots_file = \"/r\""), "log.timestamp_url", "plain http"},
		{`[pki]`, in("timestamp_url = \"https://u:p@tsa.example\"\ntimestamp_roots_file = \"/r\""), "log.timestamp_url", "plain http"},
		{`[pki]`, in(`timestamp_url = "https://tsa.example/tsr"`), "log.timestamp_url", "timestamp_roots_file"},
		{`[pki]`, in(`timestamp_roots_file = "/r"`), "log.timestamp_url", "timestamp_roots_file"},
		{`[pki]`, in(`timestamp_every = "1s"`), "log.timestamp_every", "1m"},
	})
	cfg, err := Parse([]byte(strings.Replace(minimal, "[pki]", in("timestamp_url = \"http://tsa.example/tsr?x=1\"\ntimestamp_roots_file = \"/r.pem\""), 1)))
	if err != nil || cfg.Log.StampURL != "http://tsa.example/tsr?x=1" || cfg.Log.StampEvery != 24*time.Hour || cfg.Log.WitnessEvery != time.Minute {
		t.Errorf("%+v, %v", cfg.Log, err)
	}
}

func TestWitnessValuesRejected(t *testing.T) {
	const all = "[witness]\nlisten = \":7444\"\nname = \"b.example/w\"\nlogs_file = \"/l\"\ncertificate_file = \"/c\"\nkey_file = \"/k\"\n"
	if got, err := ParseReceiver([]byte(all)); err != nil || got.Witness != (Witness{":7444", "b.example/w", "/l", "/c", "/k"}) {
		t.Errorf("%+v, %v", got.Witness, err)
	}
	for name, bad := range map[string]string{
		"without a name": strings.Replace(all, "name = \"b.example/w\"\n", "", 1), "a name with a space": strings.Replace(all, "b.example", "b example", 1),
		"no port": strings.Replace(all, ":7444", "host", 1), "a name alone": "[witness]\nname = \"b.example/w\"\n",
	} {
		if got, err := ParseReceiver([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", name, got.Witness)
		}
	}
}
