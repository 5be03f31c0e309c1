package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Image is what VMs of a release start from.
type Image struct{ Disk, Kernel, Initrd string }

// imageRecipe makes disk, kernel and initrd in $1 from the tree $2, its mirror $3, the kernel's package in $4 and the agent $5. The disk is written by mke2fs from
// the tree with some files laid over it: nothing is mounted but in a namespace of the script's own.
const imageRecipe = `
set -eu
out=$1 tree=$2 mirror=$3 kernel=$4 agent=$5
mkdir "$out"/over "$out"/work "$out"/merged
mount -t overlay -o "lowerdir=$tree,upperdir=$out/over,workdir=$out/work" overlay "$out"/merged
m=$out/merged
dpkg-deb -x "$kernel"/*.deb "$out"/kernel # beside the tree, where /lib is a link
version=$(cd "$out"/kernel/boot && ls vmlinuz-*)
version=${version#vmlinuz-}
mkdir -p "$m"/usr/lib/modules
for modules in "$out"/kernel/lib/modules "$out"/kernel/usr/lib/modules; do [ ! -d "$modules" ] || cp -a "$modules/$version" "$m"/usr/lib/modules/; done
mv "$out"/kernel/boot/vmlinuz-* "$out"/vmlinuz
chroot "$m" depmod "$version"
cp "$mirror"/* "$m"/srv/mirror/
# What the package depends on is there already: without KVM dpkg is slow, and a clean Debian is what the containers are.
printf '#!/bin/sh\nexit 101\n' >"$m"/usr/sbin/policy-rc.d
chmod 755 "$m"/usr/sbin/policy-rc.d
chroot "$m" env TMPDIR=/tmp DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 sh -c 'apt-get -q update && apt-get install -y -q chrony ufw ca-certificates ` + recommended + ` && apt-get clean'
rm "$m"/usr/sbin/policy-rc.d
install -m 755 "$agent" "$m"/usr/local/sbin/vm-agent
cat >"$m"/etc/systemd/system/vm-agent.service <<'EOF'
[Unit]
Description=Runs what the test outside wants
DefaultDependencies=no
After=sysinit.target
[Service]
ExecStart=/usr/local/sbin/vm-agent /dev/virtio-ports/agent
Restart=always
RestartSec=200ms
Environment=DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EOF
cat >"$m"/etc/udev/rules.d/60-vm-agent.rules <<'EOF'
SUBSYSTEM=="virtio-ports", ATTR{name}=="agent", SYMLINK+="virtio-ports/agent", TAG+="systemd", ENV{SYSTEMD_WANTS}+="vm-agent.service"
EOF
cat >"$m"/usr/local/sbin/vm-net <<'EOF'
#!/bin/sh
until ip link show eth0 >/dev/null 2>&1; do sleep 0.1; done # its driver may come later
n=$(sed -n 's/.*vm\.number=\([0-9]*\).*/\1/p' /proc/cmdline)
ip link set eth0 name host0 && ip addr add 198.18.0.$n/24 dev host0 && ip addr add 2001:2:0:18::$n/64 dev host0 nodad && ip link set host0 up
EOF
chmod 755 "$m"/usr/local/sbin/vm-net
cat >"$m"/etc/systemd/system/vm-net.service <<'EOF'
[Unit]
Description=The address that the test gave
DefaultDependencies=no
After=systemd-udev-settle.service systemd-modules-load.service
Wants=systemd-udev-settle.service network-pre.target
Before=network.target
After=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=120
ExecStart=/usr/local/sbin/vm-net
[Install]
WantedBy=multi-user.target
EOF
ln -s ../vm-net.service "$m"/etc/systemd/system/multi-user.target.wants/
echo '/dev/vda / ext4 defaults,noatime 0 0' >"$m"/etc/fstab
truncate -s 3G "$out"/disk
mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 -d "$m" "$out"/disk
i=$out/initrd.d
mkdir -p "$i"/bin "$i"/m "$i"/dev "$i"/root
cp /bin/busybox "$i"/bin/ && ln -s busybox "$i"/bin/sh
n=100
for x in virtio_pci virtio_blk ext4; do chroot "$m" modprobe -S "$version" --show-depends $x 2>/dev/null | sed -n 's/^insmod //p'; done | awk '!s[$0]++' |
while read -r module; do n=$((n+1)); cp "$m$module" "$i/m/$n-${module##*/}"; done
for z in "$i"/m/*.xz; do [ ! -e "$z" ] || xz -d "$z"; done
cat >"$i"/init <<'EOF'
#!/bin/sh
/bin/busybox mount -t devtmpfs d /dev
for m in /m/*.ko; do /bin/busybox insmod $m; done
n=0; while [ ! -b /dev/vda ] && [ $n -lt 500 ]; do /bin/busybox usleep 20000; n=$((n+1)); done
/bin/busybox mount -t ext4 /dev/vda /root && exec /bin/busybox switch_root /root /lib/systemd/systemd
exec /bin/sh
EOF
chmod 755 "$i"/init
(cd "$i" && find . | cpio -o -H newc --quiet) >"$out"/initrd
umount "$m"
rm -rf "$out"/kernel "$out"/over "$out"/work "$m" "$i"
`

// PrepareImage returns what VMs of a base start from, and makes it the first time. source is the folder of the module, where the agent is built.
func PrepareImage(base Base, source string) (Image, error) {
	for _, tool := range []string{"qemu-system-x86_64", "qemu-img", "swtpm", "mke2fs", "cpio", "busybox", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Image{}, fmt.Errorf("%s is missing: run packaging/deps.sh vm", tool)
		}
	}
	source, err := filepath.Abs(source)
	if err != nil {
		return Image{}, err
	}
	agent := filepath.Join(source, "build", "vm-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", agent, "./vmtests/cmd/agent")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Image{}, fmt.Errorf("building the agent: %w\n%s", err, out)
	}
	binary, err := os.ReadFile(agent)
	if err != nil {
		return Image{}, err
	}
	sum := sha256.New()
	fmt.Fprint(sum, base.Tree, imageRecipe)
	sum.Write(binary)
	dir := filepath.Join(Cache, "image"+base.Debian.Number+"-"+hex.EncodeToString(sum.Sum(nil)[:6]))
	err = once(dir, func(made string) error {
		return command("unshare", "--mount", "--propagation=private", "sh", "-c", imageRecipe, "image", made, base.Tree, base.Mirror, base.Kernel, agent)
	})
	return Image{Disk: filepath.Join(dir, "disk"), Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd")}, err
}
