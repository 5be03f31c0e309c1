package setup

import (
	"context"
	"strings"
)

// hardening is a file that makes a machine harder to break into. It is one of its own beside those of Debian's packages, so that removing it undoes it.
type hardening struct {
	path, content string
	needs         string     // a folder without which it is of no use; empty: none
	test          []string   // a command that refuses the file when it does harm: it is then removed again
	apply         [][]string // what puts it in force now, tried in turn; the next boot does in any case
}

const hardenHead = "# Written by \"appliance setup\" (setup.harden); remove the file to undo it. docs/hardening.md says what for.\n"

// hardenings are for a machine that does nothing but this. None of them can keep the operator out: nothing is said of who logs in, or how.
func hardenings() []hardening {
	return []hardening{
		{path: "/etc/sysctl.d/60-aes-appliance.conf", content: hardenSysctl, apply: [][]string{{"sysctl", "--quiet", "--ignore", "--load", "/etc/sysctl.d/60-aes-appliance.conf"}}},
		{path: "/etc/modprobe.d/aes-appliance.conf", content: hardenModules},
		{path: "/etc/security/limits.d/60-aes-appliance.conf", content: hardenHead + "* hard core 0\n* soft core 0\n"},
		{path: "/etc/systemd/coredump.conf.d/60-aes-appliance.conf", content: hardenHead + "[Coredump]\nStorage=none\nProcessSizeMax=0\n"},
		{path: "/etc/profile.d/60-aes-appliance.sh", content: hardenShell, needs: "/etc/profile.d"},
		{path: "/etc/ssh/sshd_config.d/60-aes-appliance.conf", content: hardenSSH, needs: "/etc/ssh/sshd_config.d", test: []string{"sshd", "-t"},
			apply: [][]string{{"systemctl", "try-reload-or-restart", "ssh.service"}}},
	}
}

const hardenSysctl = hardenHead + `# What tells of the kernel's memory is root's; no program is traced but by root; nothing that is loaded unasked.
kernel.dmesg_restrict = 1
kernel.kptr_restrict = 2
kernel.perf_event_paranoid = 3
kernel.unprivileged_bpf_disabled = 1
kernel.yama.ptrace_scope = 2
kernel.sysrq = 0
kernel.kexec_load_disabled = 1
net.core.bpf_jit_harden = 2
dev.tty.ldisc_autoload = 0
# No core dump of a program that changed its user; files of others' in folders that all may write to are not followed.
fs.suid_dumpable = 0
kernel.core_uses_pid = 1
fs.protected_fifos = 2
fs.protected_hardlinks = 1
fs.protected_regular = 2
fs.protected_symlinks = 1
# It is no router, and takes no route from a stranger.
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.default.accept_redirects = 0
net.ipv4.conf.all.send_redirects = 0
net.ipv4.conf.default.send_redirects = 0
net.ipv4.conf.all.accept_source_route = 0
net.ipv4.conf.default.accept_source_route = 0
net.ipv4.conf.all.log_martians = 1
net.ipv4.conf.default.log_martians = 1
net.ipv4.conf.all.rp_filter = 1
net.ipv4.conf.default.rp_filter = 1
net.ipv4.tcp_syncookies = 1
net.ipv6.conf.all.accept_redirects = 0
net.ipv6.conf.default.accept_redirects = 0
net.ipv6.conf.all.accept_source_route = 0
net.ipv6.conf.default.accept_source_route = 0
`

const hardenModules = hardenHead + `# Protocols and buses that an appliance does not use: a program that opens a socket of theirs does not load them.
install dccp /bin/true
install sctp /bin/true
install rds /bin/true
install tipc /bin/true
install firewire-core /bin/true
install cramfs /bin/true
install freevxfs /bin/true
install hfs /bin/true
install hfsplus /bin/true
install jffs2 /bin/true
install udf /bin/true
`

const hardenSSH = hardenHead + `X11Forwarding no
AllowAgentForwarding no
# To the metrics, and through this machine to another (ssh -L, -J); nobody opens a port on it (ssh -R).
AllowTcpForwarding local
# In one connection; a third is a connection of its own.
MaxSessions 2
DebianBanner no
Compression no
TCPKeepAlive no
ClientAliveCountMax 2
LogLevel VERBOSE
`

const hardenShell = hardenHead + `# A shell at whose prompt nobody has done anything for half an hour ends; a program that runs in it does not.
case $- in *i*) TMOUT=1800 ;; esac
`

// Harden puts those files there that are missing, and what they say in force, as far as the running machine takes it (a container does not take all). A file that is
// there is the operator's and stays as it is. On a folder instead of a machine nothing is put in force.
func (h Host) Harden(ctx context.Context) (string, error) {
	var made, said []string
	for _, one := range hardenings() {
		if one.needs != "" && !h.Has(one.needs) || h.Has(one.path) {
			continue
		}
		if err := h.Write(one.path, []byte(one.content), 0o644); err != nil {
			return "", err
		}
		if h.Root != "" && h.Exec == nil {
			made = append(made, h.Path(one.path))
			continue
		}
		if one.test != nil {
			if _, err := h.Run(ctx, nil, one.test[0], one.test[1:]...); err != nil {
				if err := h.Remove(one.path); err != nil {
					return "", err
				}
				if ctx.Err() != nil {
					return "", ctx.Err()
				}
				said = append(said, "left out "+one.path+": "+err.Error())
				continue
			}
		}
		made = append(made, one.path)
		for _, line := range one.apply {
			if _, err := h.Run(ctx, nil, line[0], line[1:]...); err != nil {
				said = append(said, one.path+" is in force from the next boot on")
			}
		}
	}
	if len(made) == 0 && len(said) == 0 {
		return "there already", nil
	}
	return strings.Join(append(made, said...), "\n"), nil
}
