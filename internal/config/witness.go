package config

import "github.com/veripath/aes-appliance/internal/chain"

// Witness is how a backup host watches logs that it does not hold.
type Witness struct {
	Listen          string // "" = it does not
	Name            string // in its cosignatures
	Logs            string // file of verifier keys, absolute
	CertificateFile string // absolute
	KeyFile         string // absolute
}

func witnessKeys() []key {
	w := func(at func(*Witness) *string) func(*Config) *string {
		return func(c *Config) *string { return at(&c.Receiver.Witness) }
	}
	return []key{
		{"witness", "listen", "Address and port on which logs that are not kept here are watched: HTTPS, C2SP tlog-witness. Empty: none are.", ":7444", "",
			text(optional(address), w(func(x *Witness) *string { return &x.Listen }))},
		{"witness", "name", "Name in the cosignatures, for good: an address without its scheme is usual.", "backup.example.org/witness", "",
			text(optional(originName), w(func(x *Witness) *string { return &x.Name }))},
		{"witness", "logs_file", "File with the verifier keys of the logs that are watched, one a line: each appliance's log-key.txt.", "/etc/aes-appliance/watched-logs.txt", "",
			text(optional(absolute), w(func(x *Witness) *string { return &x.Logs }))},
		{"witness", "certificate_file", "PEM file of the certificate of that address, with its chain.", "/etc/aes-appliance/witness.pem", "",
			text(optional(absolute), w(func(x *Witness) *string { return &x.CertificateFile }))},
		{"witness", "key_file", "PEM file of its private key.", "/run/credentials/aes-receiver.service/witness-key", "",
			text(optional(absolute), w(func(x *Witness) *string { return &x.KeyFile }))},
	}
}

func originName(s string) (string, error) { return s, chain.CheckOrigin(s) }

func (w Witness) agree() Problems {
	for _, part := range []string{w.Name, w.Logs, w.CertificateFile, w.KeyFile} {
		if (part == "") != (w.Listen == "") {
			return Problems{{Key: "witness.listen", Text: "goes with name, logs_file, certificate_file and key_file", Cure: "set all five, or none"}}
		}
	}
	return nil
}
