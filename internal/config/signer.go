package config

import (
	"errors"
	"path/filepath"
	"regexp"
	"time"
)

// Signer is the part of the appliance that holds the keys.
type Signer struct {
	PortalSocket  string // absolute
	PortalGroup   string // "" = the service's own
	AdminSocket   string // absolute
	AdminClinic   string // "" = none
	OperationTime time.Duration
}

func signerKeys() []key {
	return []key{
		{"signer", "portal_socket", "Socket on which the portal asks. Its folder is entered by the signer and the portal's group only.",
			"/run/aes-appliance/portal/signer.sock", "/run/aes-appliance/portal/signer.sock", text(absolute, func(c *Config) *string { return &c.Signer.PortalSocket })},
		{"signer", "portal_group", "Group that may connect to portal_socket, besides the signer's user and root. Empty: nobody else.",
			"aes-portal", "", text(optional(unixName), func(c *Config) *string { return &c.Signer.PortalGroup })},
		{"signer", "admin_socket", "Socket on which the operator's commands ask: for root and the signer's user only.",
			"/run/aes-appliance/admin/signer.sock", "/run/aes-appliance/admin/signer.sock", text(absolute, func(c *Config) *string { return &c.Signer.AdminSocket })},
		{"signer", "admin_clinic", "Slug of the clinic whose administrators, by their tokens, issue and revoke certificates of every clinic and kind. " +
			"Empty: each clinic's administrators do so for its own clinicians, and the operator for the rest.",
			"operations", "", text(optional(slug), func(c *Config) *string { return &c.Signer.AdminClinic })},
		{"signer", "operation_time", "How long one signature may take, from asking for it to the finished document: 5s to 10m. What is not finished by then is closed as incomplete.",
			"1m", "1m", duration(5*time.Second, 10*time.Minute, func(c *Config) *time.Duration { return &c.Signer.OperationTime })},
	}
}

// agree checks what no key can be judged for alone: a socket for each of two kinds of peer, in folders apart, so that the folders can be closed.
func (s Signer) agree() Problems {
	if filepath.Dir(s.PortalSocket) != filepath.Dir(s.AdminSocket) {
		return nil
	}
	return Problems{{Key: "signer.admin_socket", Text: "is in the same folder as signer.portal_socket", Cure: "give each a folder of its own: who enters one must not reach the other"}}
}

func unixName(s string) (string, error) {
	if !regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`).MatchString(s) {
		return "", errors.New("is not the name of a group")
	}
	return s, nil
}

func slug(s string) (string, error) {
	if !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(s) {
		return "", errors.New("is not a clinic's slug: 1 to 63 of a-z, 0-9 and hyphens within")
	}
	return s, nil
}
