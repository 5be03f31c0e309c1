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
