#!/usr/bin/env bash
# Installs from Debian what the build, or the build and the tests, need. Does nothing when everything is there.
#
#   packaging/deps.sh build     what `make build` and `make demo` need
#   packaging/deps.sh check     what `make check` needs besides
#   packaging/deps.sh package   what `make build` needs, and what `make deb` needs besides
#   packaging/deps.sh test      all of these, and the independent judges that the tests ask
#   packaging/deps.sh machines  what `make deb` needs, and what boots Debian machines in containers and looks at them from outside (vmtests/)
#   packaging/deps.sh vm        that, and what boots them with a kernel of their own
set -euo pipefail

# package | a file that shows it is there (or ! and a command) | what for
build='
gcc|!gcc|the C compiler that cgo calls
g++|!g++|compiles SoftHSM2, which is linked into the binary
libc6-dev|/usr/include/dlfcn.h|C headers and static libraries
make|!make|builds SoftHSM2
patch|!patch|applies the changes to SoftHSM2
libssl-dev|/usr/include/openssl/evp.h|the cryptography of SoftHSM2, as a static library
ca-certificates|/etc/ssl/certs/ca-certificates.crt|so that Go can fetch modules
file|!file|shows that the binary is static
'
check='
systemd|!systemd-analyze|checks the units
apparmor|!apparmor_parser|checks the AppArmor profiles
'
package='
xz-utils|!xz|compresses the package
gzip|!gzip|compresses manual pages and changelog
apt-utils|!apt-ftparchive|makes package repositories
gnupg|!gpg|signs them
'
test='
libsofthsm2|/usr/lib/softhsm/libsofthsm2.so|the PKCS#11 module of the dynamic build
softhsm2|!softhsm2-util|makes the token that stands for a vendor HSM
ufw|!ufw|the packet filter, tried in network namespaces
iproute2|!ip|makes two machines with a cable between them, of network namespaces
openssl|!openssl|judges CMS, time stamps, OCSP answers, CRLs and chains
poppler-utils|!pdfsig|judges signatures
libnss3-tools|!certutil|tells pdfsig which root to trust
qpdf|!qpdf|judges PDF syntax, writes PDF files of every kind
ghostscript|!gs|an independent PDF writer
librsvg2-bin|!rsvg-convert|an independent PDF writer (cairo)
mupdf-tools|!mutool|an independent PDF reader
libreoffice-writer-nogui|/usr/lib/libreoffice/program/libswlo.so|an independent PDF writer
groff|!groff|an independent PDF writer
libpodofo-utils|!podofomerge|an independent PDF writer
libpdf-api2-perl|/usr/share/perl5/PDF/API2.pm|an independent PDF writer
python3-reportlab|/usr/lib/python3/dist-packages/reportlab|an independent PDF writer
python3-pypdf2|/usr/lib/python3/dist-packages/PyPDF2|an independent PDF writer
fonts-dejavu-core|/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf|text for those writers
python3|!python3|runs independent checks
npm|!npm|installs a real OpenID provider and the Node.js that it runs on
pebble|!pebble|an ACME server to get a certificate from
curl|!curl|calls the API as the demo tells people to
lintian|!lintian|judges the package
prometheus|!promtool|judges the alert rules
python3-requests|/usr/lib/python3/dist-packages/requests/__init__.py|what booking apps call the API with
'
machines='
systemd-container|!systemd-nspawn|boots Debian in a container
mmdebstrap|!mmdebstrap|makes the Debian that is booted, from your own apt sources
apt-utils|!apt-ftparchive|makes package repositories
gnupg|!gpg|signs them
iproute2|!ip|makes the network between the machines
nftables|!nft|makes it lossy
nmap|!nmap|sees which ports are open
npm|!npm|installs a real OpenID provider and the Node.js that it runs on
python3-requests|/usr/lib/python3/dist-packages/requests/__init__.py|the booking app
openssl|!openssl|judges what the appliance publishes
testssl.sh|!testssl|grades its TLS
lynis|!lynis|grades the hardening of the machine
'
vm='
qemu-system-x86|!qemu-system-x86_64|boots Debian with its own kernel
qemu-utils|!qemu-img|makes disks for it
swtpm|!swtpm|is its TPM2
e2fsprogs|!mke2fs|makes their file system
busybox-static|/bin/busybox|finds the disk at boot
cpio|!cpio|packs what busybox needs
'

die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }

case "${1:-}" in
build) wanted=$build ;;
check) wanted=$build$check ;;
package) wanted=$build$package ;;
test) wanted=$build$check$package$test ;;
machines) wanted=$build$package$machines ;;
vm) wanted=$build$package$machines$vm ;;
*) die "deps.sh wants build, check, package, test, machines or vm" ;;
esac

present() { # a file, or ! and a command
  case $1 in
  '!'*) command -v "${1#!}" >/dev/null ;;
  *) [ -e "$1" ] ;;
  esac
}

missing=()
reasons=""
while IFS='|' read -r package sign why; do
  [ -n "$package" ] || continue
  if ! present "$sign"; then
    missing+=("$package")
    reasons+=$(printf '  %-26s %s' "$package" "$why")$'\n'
  fi
done <<<"$wanted"
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || die "this machine has no apt-get, and these Debian packages are missing: ${missing[*]}" "install what is like them by hand"
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "these Debian packages are missing: ${missing[*]}" "run as root: apt-get install --no-install-recommends ${missing[*]}"
  sudo=(sudo)
fi

printf 'Installing from Debian%s, because they are not here yet:\n%s' "${sudo[0]:+ (with sudo)}" "$reasons"
export DEBIAN_FRONTEND=noninteractive
install() {
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}
# The lists may be absent, as in fresh containers, or too old to find the packages by: then fetch them and try once more.
if ! "${sudo[@]}" apt-get install -s -q --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || ! install; then
  "${sudo[@]}" apt-get update -q
  install || die "apt-get could not install: ${missing[*]}"
fi

while IFS='|' read -r package sign _; do
  [ -z "$package" ] || present "$sign" || die "$package is installed, but $sign is not there"
done <<<"$wanted"
