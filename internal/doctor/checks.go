package doctor

import "strings"

// Check is one thing that is judged, and when it is not ok; docs/doctor.md is held against this table by a test.
type Check struct {
	Name  string
	Roles string // who is examined for it: "both", "primary", "backup"
	Doc   string // what it looks at, and what makes it less than ok
}

// Checks returns every check, in the order of reports.
func Checks() []Check {
	return []Check{
		{"configuration.valid", "both", "The configuration file can be read and is valid; bad: what needs it is not examined."},
		{"clock.kernel", "both", "The kernel says that its clock is in step, within clock.max_error (a backup host: within a second); bad otherwise."},
		{"clock.sources", "both", "chrony's reachable sources: none is bad, fewer than three a warning (of two that disagree nobody knows the right one)."},
		{"machine.entropy", "both", "The kernel's random generator is seeded."},
		{"machine.swap", "primary", "The signer's memory cannot be written to a disk: no swap, or MemorySwapMax=0 for its unit, or memory locked; else a warning."},
		{"machine.cores", "both", "The services may leave no core dump (limit 0 in the running processes)."},
		{"disk.space", "both", "Free space of the state's file system: below 15 % or 4 GiB a warning, below 5 % or 1 GiB bad."},
		{"disk.files", "both", "Free inodes of the same: below 15 % a warning, below 5 % bad."},
		{"disk.growth", "both", "Days until the disk is full at the log's rate of the last 30 days, objects in proportion: below 90 a warning, below 14 bad."},
		{"permissions.paths", "both", "Owner and mode of every path of the package and the state; what others could change, or secrets that others could read, are bad."},
		{"permissions.root_token", "primary", "The root's token folder is not on this machine; a warning while it is."},
		{"signer.answers", "primary", "The signer answers on its administrator's socket; bad otherwise."},
		{"signer.signs", "primary", "The signer would sign now; bad with its reasons otherwise."},
		{"signer.version", "primary", "The running signer is of this program's version; a warning otherwise (an upgrade that was not followed by a restart)."},
		{"signer.portal", "primary", "The portal answers on loopback and is ready; bad otherwise."},
		{"signer.stamps", "primary", "A time stamp, asked for over TLS on this machine's listener as anybody may, is made and verified to the appliance's root; bad otherwise."},
		{"token.files", "primary", "The token's folder and token.object are there and not empty; judged without the signer."},
		{"token.pin", "primary", "The PIN is where the configuration says, or sealed for the unit, by what this machine can decrypt; and not readable by others."},
		{"token.keys", "primary", "Every key that the log says is in use is in the token once and signs (each makes a test signature that leaves nothing); bad otherwise."},
		{"certificates.authorities", "primary", "The root and the CAs: a warning when a successor is due, bad within 60 days of the end, or revoked."},
		{"certificates.own", "primary", "The certificates that the appliance renews itself (time stamps, OCSP): bad when that is overdue."},
		{"certificates.clinicians", "primary", "Certificates that somebody must renew: a warning within 60 days of the end, bad within 7."},
		{"certificates.pins", "primary", "Certificates that registered realms are pinned to: a warning within 60 days of the end, bad after it."},
		{"tls.name", "primary", "A TLS handshake with each host name of the configuration, as a client makes it: reached, trusted, the right name, at least TLS 1.2; days left below 14 a warning, below 3 bad."},
		{"tls.listener", "primary", "The same with the listener on this machine, by the same name: tells a broken certificate from a broken way to it."},
		{"revocation.root_crl", "primary", "The root's list, fetched over http as a relying party does: signed by the root, in time; a warning within 60 days of its end, bad within 2, when signing stops."},
		{"revocation.crl", "primary", "Each CA's list, likewise: a warning in the last third of its life, bad when it has run out."},
		{"revocation.ocsp", "primary", "The status of the time-stamping certificate and of each CA's newest, asked over http with a nonce: good, signed by an authorised responder, fresh."},
		{"realms.reachable", "primary", "Each registered realm's keys, fetched as the signer does (TLS by its pin or the system's roots): bad when not, a warning when it takes longer than 3 seconds."},
		{"log.recent", "both", "The last megabyte of the log: every line, its hash, its chain; and that the running signer's head is in it."},
		{"log.whole", "both", "The whole log: with --full read here; without, when the running signer last did, which is daily."},
		{"log.witnesses", "primary", "The witnesses of the configuration have cosigned within an hour; a warning otherwise."},
		{"backup.enrolled", "primary", "A backup host is enrolled and connected: none is a warning, a disconnected or disagreeing one bad."},
		{"backup.head", "primary", "The log's head against what the backup has cosigned: a lag above a minute is bad."},
		{"backup.token", "primary", "The token is backed up, and not changed since; a warning when the backup is older than a year."},
		{"backup.copy", "primary", "What the backup host holds was fetched as a whole and verified (aes-drill, monthly); a warning when that is older than 40 days."},
		{"backup.drill", "primary", "The last restore drill: a warning when it is older than 100 days or was never held."},
		{"copies.held", "backup", "The copies that this host keeps can be read."},
		{"copies.fresh", "backup", "Each copy was cosigned within three times alarm.silence, at least; bad otherwise."},
		{"copies.refusals", "backup", "Nothing was refused of a primary: what was is a warning until it has been looked at."},
		{"copies.listener", "backup", "The receiver answers a TLS handshake with its own key."},
		{"alarm.ways", "both", "At least one way of calling for help is configured, a warning otherwise; and the secrets that it takes are there, and can be decrypted on this machine."},
		{"services.units", "both", "The role's units are running, and their restarts; a unit that failed is bad."},
		{"services.sandbox", "both", "The properties of the running units that their protection rests on, as systemd has them in force; bad where one is missing."},
		{"services.overrides", "both", "The units are those of the package and as it brought them (dpkg --verify); what drop-ins change is a warning, and bad where it takes protection away."},
		{"services.apparmor", "both", "The services are confined by AppArmor in enforce mode; a warning otherwise."},
		{"services.sockets", "both", "What listens on addresses that others reach is exactly what the role needs and ssh; anything else is a warning, a missing one bad."},
		{"services.timers", "both", "The role's timers are on, and their last runs went well."},
		{"firewall.active", "both", "The packet filter is on, denies by default, and has the rules that the configuration gives it."},
		{"updates.package", "both", "The package is installed as a whole, and its last upgrade was not undone (docs/operations.md, \"Upgrade and rollback\"); bad otherwise."},
		{"updates.packages", "both", "Package updates by apt's own lists, without network: of security a warning."},
		{"updates.lists", "both", "The lists' age: a warning above 3 days, or when one has ended by its own word."},
		{"updates.restart", "both", "Nothing waits for a restart of the machine or runs a program that was replaced."},
	}
}

func known(name string) bool {
	for _, c := range Checks() {
		if c.Name == name {
			return true
		}
	}
	return false
}

// Title is what reports for people call a group.
func Title(group string) string {
	titles := map[string]string{
		"tls": "TLS, from outside", "permissions": "Permissions and owners", "revocation": "Revocation, as relying parties see it",
		"copies": "Copies of logs", "log": "The audit log",
	}
	if t, ok := titles[group]; ok {
		return t
	}
	return strings.ToUpper(group[:1]) + group[1:]
}
