package config

import (
	"errors"
	"net/url"
	"time"
)

// AuditLog is how others than the appliance and its backup vouch for the log.
type AuditLog struct {
	WitnessPolicy string        // file, absolute; "" = there are no witnesses
	WitnessRoots  string        // PEM of who vouches for their TLS, absolute; "" = the system's
	WitnessEvery  time.Duration // between two rounds
	StampURL      string        // of a time-stamping authority; "" = none
	StampRoots    string        // PEM of who vouches for its time stamps, absolute
	StampEvery    time.Duration
}

func logKeys() []key {
	return []key{
		{"log", "witness_policy_file", "File that names the witnesses of the log, their keys and addresses, and how many of them must cosign (C2SP tlog-policy). A backup under the " +
			"same owner catches accidents and a broken machine; only a witness that somebody else runs catches an owner who rewrites both. Empty: none.",
			"/etc/aes-appliance/witnesses.txt", "", text(optional(absolute), func(c *Config) *string { return &c.Log.WitnessPolicy })},
		{"log", "witness_roots_file", "PEM file of the only authorities that may vouch for the TLS certificates of witnesses, and of the time-stamping authority's address. Empty: the system's.",
			"/etc/aes-appliance/witness-ca.pem", "", text(optional(absolute), func(c *Config) *string { return &c.Log.WitnessRoots })},
		{"log", "witness_every", "How often the newest checkpoint is shown to the witnesses: 1s to 24h.", "1m", "1m",
			duration(time.Second, 24*time.Hour, func(c *Config) *time.Duration { return &c.Log.WitnessEvery })},
		{"log", "timestamp_url", "Address of another time-stamping authority (RFC 3161; a qualified one, where there is one), which stamps a checkpoint of the log on schedule. Empty: none.",
			"https://tsa.example.com/tsr", "", text(optional(webURL), func(c *Config) *string { return &c.Log.StampURL })},
		{"log", "timestamp_roots_file", "PEM file of the root certificates that vouch for that authority's time stamps.",
			"/etc/aes-appliance/tsa-roots.pem", "", text(optional(absolute), func(c *Config) *string { return &c.Log.StampRoots })},
		{"log", "timestamp_every", "How often it is asked, when the log has grown: 1m to 8760h.", "24h", "24h",
			duration(time.Minute, 8760*time.Hour, func(c *Config) *time.Duration { return &c.Log.StampEvery })},
	}
}

// agreeLog checks that time stamps can be judged.
func (c Config) agreeLog() Problems {
	if (c.Log.StampURL == "") == (c.Log.StampRoots == "") {
		return nil
	}
	return Problems{{Key: "log.timestamp_url", Text: "goes with timestamp_roots_file", Cure: "set both, or neither"}}
}

// webURL is an http or https address; plain http is usual for what is signed itself.
func webURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || !printableURL(s) {
		return "", errors.New("is not a plain http:// or https:// address")
	}
	return s, nil
}
