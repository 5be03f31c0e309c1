package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Cache is where base trees, images and the state of running machines are kept.
const Cache = "/var/tmp/aes-vmtests"

// Debian is a release that machines are made of.
type Debian struct {
	Number   string // 12, 13
	Codename string
}

// Releases are those that the package supports.
func Releases() []Debian { return []Debian{{"12", "bookworm"}, {"13", "trixie"}} }

// Release returns the release of that number.
func Release(number string) (Debian, error) {
	for _, d := range Releases() {
		if d.Number == number {
			return d, nil
		}
	}
	return Debian{}, fmt.Errorf("machines are made of Debian 12 or 13, not %q", number)
}

// What a small VPS comes with. Nothing that aes-appliance depends on is among it: apt must bring that.
const baseTree = "systemd,systemd-sysv,systemd-timesyncd,libpam-systemd,dbus,udev,kmod,apparmor,iproute2,iputils-ping,procps,sudo,openssh-server,netcat-openbsd,curl,less,debconf,tzdata"

// What apt finds in the machines' own mirror, with all that it needs: a machine has no other network than the lab's.
const mirrored = "chrony ufw ca-certificates adduser apparmor debconf " + recommended

// recommended is what the package recommends and a small VPS does not come with.
const recommended = "unattended-upgrades libpam-passwdqc libtss2-esys-3.0.2-0 libtss2-rc0"

// build makes a tree ($1), its mirror ($2) and the kernel's package ($6) of release $3 from the archives $4 (Debian) and $5 (its security updates).
const build = `
set -eu
mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="` + baseTree + `" \
  --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='chroot "$1" apt-get clean' \
  --customize-hook='chroot "$1" apt-get install -y -q --download-only -o APT::Install-Recommends=true ` + mirrored + `' \
  --customize-hook="mkdir '$2' && cp \"\$1\"/var/cache/apt/archives/*.deb '$2'/" \
  --customize-hook='chroot "$1" sh -c "mkdir /kernel && cd /kernel && apt-get download -q \$(apt-cache depends linux-image-cloud-amd64 | sed -n s/.*Depends:.//p)"' \
  --customize-hook="mv \"\$1\"/kernel '$6'" \
  "$3" "$1" "deb $4 $3 main" "deb $4 $3-updates main" "deb $5 $3-security main"
rm -f "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/machine-id
: >"$1"/etc/machine-id
printf "127.0.0.1 localhost\n::1 localhost\n" >"$1"/etc/hosts
rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/mirror ./' >"$1"/etc/apt/sources.list
mkdir -p "$1"/srv/mirror
cd "$2" && apt-ftparchive packages . >Packages && apt-ftparchive -o APT::FTPArchive::Release::Codename="$3" release . >Release.new && mv Release.new Release
`

// Base is a cached Debian: a tree that machines are overlays of, and a mirror of what they may install.
type Base struct {
	Debian Debian
	Tree   string
	Mirror string
	Kernel string // folder of its package, for VMs
}

// Prepare returns the base of a release. The first call on a machine builds it from the machine's own Debian sources, in two minutes; who
// calls meanwhile waits. Its name holds a hash of the recipe: another recipe is another base. A build that was interrupted leaves nothing that counts.
func Prepare(d Debian) (Base, error) {
	if os.Getuid() != 0 {
		return Base{}, errors.New("machines take root")
	}
	for _, tool := range []string{"mmdebstrap", "apt-ftparchive", "systemd-nspawn", "nft", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Base{}, fmt.Errorf("%s is missing: run packaging/deps.sh machines", tool)
		}
	}
	if err := Able(); err != nil {
		return Base{}, err
	}
	sum := sha256.Sum256([]byte(build))
	dir := filepath.Join(Cache, "debian"+d.Number+"-"+hex.EncodeToString(sum[:6]))
	err := once(dir, func(made string) error {
		debian, security, err := archives()
		if err != nil {
			return err
		}
		return command("sh", "-c", build, "build", filepath.Join(made, "tree"), filepath.Join(made, "mirror"), d.Codename, debian, security, filepath.Join(made, "kernel"))
	})
	return Base{Debian: d, Tree: filepath.Join(dir, "tree"), Mirror: filepath.Join(dir, "mirror"), Kernel: filepath.Join(dir, "kernel")}, err
}

// once makes the folder dir by make unless it is there: under a lock, and by a rename, so that it is there whole or not at all.
func once(dir string, make func(made string) error) error {
	if err := os.MkdirAll(Cache, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(Cache, "lock-"+filepath.Base(dir)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made := dir + ".part"
	if err := os.RemoveAll(made); err != nil {
		return err
	}
	if err := os.Mkdir(made, 0o755); err != nil {
		return err
	}
	if err := make(made); err != nil {
		os.RemoveAll(made)
		return err
	}
	return os.Rename(made, dir)
}

// SecurityUpdates is where the machine that runs this has Debian's security updates from, as a line of apt's sources has it for a release.
func SecurityUpdates(d Debian) (string, error) {
	_, security, err := archives()
	return "deb " + security + " " + d.Codename + "-security main", err
}

// archives asks apt where this machine has Debian and its security updates from.
func archives() (debian, security string, err error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		label, uri, _ := strings.Cut(strings.TrimSpace(line), "|")
		switch label {
		case "Debian":
			debian = uri
		case "Debian-Security":
			security = uri
		}
	}
	if debian == "" || security == "" {
		return "", "", errors.New("this machine's apt knows no Debian archive, or not its security updates: run apt-get update")
	}
	return debian, security, nil
}

// command runs a program; its error has what the program said.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		said := strings.Join(args, " ")
		return fmt.Errorf("%s %s: %w\n%s", name, said[:min(len(said), 200)], err, tail(out, 4000))
	}
	return nil
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
