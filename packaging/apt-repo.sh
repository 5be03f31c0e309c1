#!/usr/bin/env bash
# Puts packages into an apt repository in a folder, for any web server to serve, and signs it anew: packaging/apt-repo.sh FOLDER [DEB...]
#
# The key is the first that can sign in the GNUPGHOME that the caller gives, or KEY names one. Without GNUPGHOME a key is made for tests beside the
# repository (FOLDER.gnupg): it has no password, and whoever reads that folder can sign.
#
# What is there already stays: clients go back to an earlier version with it. But the folder may have lain where others write: what is signed anew is what a key
# of ours has signed before, and what is put in now. Index files of the generation before are kept under their hashes, for
# clients that are in the midst of an update.
#
# VALID_FOR (days; 30) says how long clients may believe this Release: without an end, whoever holds the server or the way to it goes on showing a state with known holes,
# and no machine notices. So it is signed anew in time, without a package when there is no new one. VALID_FOR=never does without.
set -euo pipefail

die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
[ $# -ge 1 ] || die 'apt-repo.sh wants a folder, and packages' 'packaging/apt-repo.sh build/apt build/aes-appliance_1.0.0_amd64.deb'
[ $# -ge 2 ] || [ -f "$1/dists/${SUITE:-stable}/InRelease" ] || die "there is no repository in $1 to sign anew" 'packaging/apt-repo.sh FOLDER DEB... makes one'
valid=${VALID_FOR:-30}
[ "$valid" = never ] || { [[ $valid =~ ^[1-9][0-9]{0,3}$ ]] && valid=$((valid * 86400)); } || die "VALID_FOR is a number of days, 1 to 9999, or never; not $valid"
origin=${ORIGIN:-VeriPath} label=${LABEL:-AES appliance} suite=${SUITE:-stable} codename=${CODENAME:-$suite}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift

if [ -z "${GNUPGHOME:-}" ]; then
  export GNUPGHOME=$folder.gnupg
  if [ ! -d "$GNUPGHOME" ]; then
    install -d -m 700 "$GNUPGHOME"
    gpg --quiet --batch --passphrase '' --quick-generate-key 'test key of an apt repository <nobody@example.invalid>' ed25519 sign 1y 2>/dev/null
    echo "a key for tests is in $GNUPGHOME: a repository for machines in earnest takes GNUPGHOME and KEY" >&2
  fi
  agent=ours
  trap 'gpgconf --kill gpg-agent' EXIT
fi
key=${KEY:-$(gpg --batch --with-colons --list-secret-keys 2>/dev/null | awk -F: '$1 == "fpr" { print $10; exit }')}
[ -n "$key" ] || die "there is no key to sign with in $GNUPGHOME" 'gpg --quick-generate-key "NAME <ADDRESS>" ed25519 sign 3y'

pool=pool/main/a/aes-appliance
dist=$folder/dists/$suite
index=main/binary-amd64
mkdir -p "$folder/$pool"

# trusted prints the SHA-256 of the packages that a key of ours has signed. The list that was signed is to be had under its hash, also when the last run was broken off.
trusted() {
  [ -f "$dist/InRelease" ] || return 0
  local signed by list
  signed=$(gpg --quiet --batch --status-file "$new/status" --output - --decrypt "$dist/InRelease" 2>/dev/null) || signed=
  by=$(awk '$2 == "VALIDSIG" { print $NF }' "$new/status" 2>/dev/null)
  [ -n "$by" ] && gpg --batch --with-colons --list-secret-keys 2>/dev/null | awk -F: '$1 == "fpr" { print $10 }' | grep -qxF "$by" ||
    die "$dist/InRelease is not signed by a key of ours" 'find out who wrote there; a new repository begins in an empty folder, with the packages that were built'
  list=$(awk -v name="$index/Packages" '/^[A-Z]/ { on = $1 == "SHA256:" } on && $3 == name { print $1 }' <<<"$signed")
  [ -n "$list" ] && [ "$(sha256sum <"$dist/$index/by-hash/SHA256/$list" | cut -d' ' -f1)" = "$list" ] ||
    die "the list of packages that was signed is not in $dist/$index/by-hash" 'find out who removed it'
  awk '$1 == "SHA256:" { print $2 }' "$dist/$index/by-hash/SHA256/$list"
}
new=$(mktemp -d) # of nobody else's: what is signed is made in it
trap 'rm -rf "$new"; [ -z "${agent:-}" ] || gpgconf --kill gpg-agent' EXIT
trusted >"$new/trusted"
[ $# = 0 ] || sha256sum "$@" | cut -d' ' -f1 >>"$new/trusted"
while IFS= read -r -d '' there; do
  grep -qxF "$(sha256sum <"$there" | cut -d' ' -f1)" "$new/trusted" ||
    die "$there is in the repository, and no key of ours has signed it" 'find out who put it there; if it was you, broken off in the midst: name the package once more'
done < <(find "$folder/pool" ! -type d -print0)

for deb in "$@"; do
  name=$(dpkg-deb -f "$deb" Package)_$(dpkg-deb -f "$deb" Version)_$(dpkg-deb -f "$deb" Architecture).deb
  if [ -f "$folder/$pool/$name" ] && ! cmp -s "$deb" "$folder/$pool/$name"; then
    die "$name is in the repository already, with other bytes" 'a version is published once: build another'
  fi
  install -m 644 "$deb" "$folder/$pool/$name"
done

# The indices take their place at the end, Release last: it is what clients begin with. What was read into them counts, whatever lay there when it was looked at.
mkdir -p "$new/$index"
(cd "$folder" && apt-ftparchive packages pool) >"$new/$index/Packages"
awk '$1 == "SHA256:" { print $2 }' "$new/$index/Packages" | grep -vxFf "$new/trusted" && die "a package in $folder/pool was exchanged while it was read" 'find out who writes there'
rm -f "$new/trusted" "$new/status"
xz -9 -k "$new/$index/Packages"
gzip -9nk "$new/$index/Packages"
printf 'Archive: %s\nOrigin: %s\nLabel: %s\nComponent: main\nArchitecture: amd64\n' "$suite" "$origin" "$label" >"$new/$index/Release"
until=()
[ "$valid" = never ] || until=(-o "APT::FTPArchive::Release::ValidTime=$valid")
release() {
  apt-ftparchive -o "APT::FTPArchive::Release::Origin=$origin" -o "APT::FTPArchive::Release::Label=$label" -o "APT::FTPArchive::Release::Suite=$suite" \
    -o "APT::FTPArchive::Release::Codename=$codename" -o APT::FTPArchive::Release::Architectures=amd64 -o APT::FTPArchive::Release::Components=main \
    -o APT::FTPArchive::Release::Acquire-By-Hash=yes -o APT::FTPArchive::MD5=false -o APT::FTPArchive::SHA1=false "${until[@]}" release "$new"
}
text=$(release)
printf '%s\n' "$text" >"$new/Release"
gpg --quiet --batch --yes --local-user "$key" --digest-algo SHA256 --clearsign --output "$new/InRelease" "$new/Release"
gpg --quiet --batch --yes --local-user "$key" --digest-algo SHA256 --armor --detach-sign --output "$new/Release.gpg" "$new/Release"

mkdir -p "$dist/$index/by-hash/SHA256"
# Of what is there under hashes, the generation that is being replaced stays.
kept=$(cd "$dist/$index" && sha256sum Packages Packages.xz Packages.gz Release 2>/dev/null | cut -d' ' -f1 || true)
for old in "$dist/$index/by-hash/SHA256/"*; do
  [ ! -f "$old" ] || grep -qxF "$(basename "$old")" <<<"$kept" || rm "$old"
done
for file in "$new/$index/"*; do
  install -m 644 "$file" "$dist/$index/by-hash/SHA256/$(sha256sum <"$file" | cut -d' ' -f1)"
done
for file in "$index/Packages" "$index/Packages.xz" "$index/Packages.gz" "$index/Release" Release.gpg Release InRelease; do
  install -m 644 "$new/$file" "$dist/$file.new"
  mv "$dist/$file.new" "$dist/$file"
done
gpg --quiet --batch --export "$key" >"$folder/aes-appliance.gpg.new"
chmod 644 "$folder/aes-appliance.gpg.new"
mv "$folder/aes-appliance.gpg.new" "$folder/aes-appliance.gpg"
ends=$(sed -n 's/^Valid-Until: /Machines believe it until /p' "$dist/InRelease")
ends=${ends:+$ends: sign it anew before, by the same command without a package.}
cat <<EOF2
$folder: $(grep -c ^Package: "$dist/$index/Packages") packages, signed by $key
${ends:-Machines believe it for ever, whoever goes on showing it to them (VALID_FOR=never).}
On the machines, as root, the key in /etc/apt/keyrings/aes-appliance.gpg and this in /etc/apt/sources.list.d/aes-appliance.sources:
  Types: deb
  URIs: https://WHERE-THE-FOLDER-IS-SERVED
  Suites: $suite
  Components: main
  Signed-By: /etc/apt/keyrings/aes-appliance.gpg
EOF2
