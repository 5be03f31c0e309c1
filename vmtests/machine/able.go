package machine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// abilities are what a container takes of the kernel and of who runs this one, and how each is found out. They are tried in a mount and network namespace
// of their own, in the folder $0 below Cache: nothing of it is left.
var abilities = []struct{ what, try string }{
	{"new mount, process, network, cgroup, name and IPC namespaces (as in a container without CAP_SYS_ADMIN)", `unshare --mount --pid --net --uts --ipc --cgroup --fork true`},
	{"to mount file systems", `mount -t tmpfs none "$0"`},
	{"to mount an overlay on " + Cache, `mkdir -p "$0"/l "$0"/u "$0"/w "$0"/m && mount -t overlay -o "lowerdir=$0/l,upperdir=$0/u,workdir=$0/w" overlay "$0/m"`},
	{"to make device nodes", `mknod "$0/null" c 1 3 && : >"$0/null"`},
	{"network bridges and cables", `ip link add br0 type bridge && ip link add p0 type veth peer name p1 && ip link set p0 master br0 up`},
	{"IPv6", `ip -6 addr add 2001:2:0:18::1/64 dev p1 nodad`},
	{"a packet filter (nf_tables) with bridges, numbers and connections",
		`nft 'table bridge lab { chain drops { type filter hook forward priority 0; numgen random mod 100 < 1 drop; }; }' && nft 'table inet a { chain b { type filter hook input priority 0; ct state established accept; }; }'`},
	{"named network namespaces", `mount -t tmpfs none /run && ip netns add aesvm-able`},
}

// Able says whether machines that are containers can be had here: nil, or an error that names in one line what the kernel, or whoever runs this machine, does not give.
// A tool that is missing is another error: see Prepare.
func Able() error {
	if os.Getuid() != 0 {
		return errors.New("machines take root")
	}
	if len(hierarchies()) == 0 {
		return errors.New("no control groups that systemd could use are mounted on /sys/fs/cgroup (cgroup2, or a hybrid of both versions)")
	}
	probe := fmt.Sprintf("aesvm-%d-able%x", os.Getpid(), rand.Uint64()) // tests ask beside each other
	for _, root := range hierarchies() {
		dir := filepath.Join(root, probe)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("no control group can be made: %w", err)
		}
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	dir := filepath.Join(Cache, "run", probe)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var script strings.Builder
	for n, a := range abilities {
		fmt.Fprintf(&script, "{ %s; } >&2 || exit %d\n", a.try, n+1)
	}
	cmd := exec.Command("unshare", "--mount", "--net", "--propagation=private", "sh", "-c", script.String(), dir)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		said := strings.Join(strings.Fields(string(tail(out, 300))), " ")
		what := "mount and network namespaces"
		if n := exit.ExitCode(); n >= 1 && n <= len(abilities) && !strings.HasPrefix(said, "unshare:") {
			what = abilities[n-1].what
		}
		return fmt.Errorf("this machine does not give %s: %s", what, said)
	}
	return err
}
