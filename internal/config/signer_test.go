package config

import (
	"strings"
	"testing"
)

func TestSignerSection(t *testing.T) {
	base := "state_dir = \"/s\"\n[pki]\nbase_url = \"http://pki.example.org\"\nname = \"N\"\norganisation = \"O\"\ncountry = \"GB\"\npolicy_arc = \"1.3.6.1.4.1.32473.7\"\n[token]\npin_file = \"/p\"\n[signer]\n"
	for text, want := range map[string]string{
		`portal_socket = "/run/x/a.sock"` + "\n" + `admin_socket = "/run/x/b.sock"`: "signer.admin_socket is in the same folder",
		`portal_socket = "run/x.sock"`:                                              "signer.portal_socket is not the absolute path",
		`portal_group = "no such group"`:                                            "signer.portal_group is not the name of a group",
		`admin_clinic = "Upper"`:                                                    "signer.admin_clinic is not a clinic's slug",
		`operation_time = "1s"`:                                                     "signer.operation_time is not a time",
		`portal_sockets = "/x"`:                                                     "signer.portal_sockets is not known",
		`portal_group = "aes-portal"` + "\nadmin_clinic = \"ops\"":                  "",
	} {
		_, err := Parse([]byte(base + text + "\n"))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
