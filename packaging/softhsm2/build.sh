#!/usr/bin/env bash
# Builds SoftHSM2 as a static library, once, into build/softhsm2/lib, for the binary that has it inside.
#
# The source is the pristine upstream tar, fetched by name from this machine's own Debian sources and compared with a pinned checksum; it is
# kept in the cache folder for the next clone. What is changed in it: the patches beside this file, and two functions of OpenSSL that keys.c
# stands in for. Everything that the result depends on is in the stamp: another recipe, another compiler or another libssl builds anew.
set -euo pipefail

version=2.6.1
tar=softhsm2_$version.orig.tar.gz
sha256=ac9ac1e3f4402f88bf3e626a18f070f8031c031947ed469c6e17482495ec72b6

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$top/build/softhsm2
cache=${XDG_CACHE_HOME:-${HOME:-$top/build}/.cache}/aes-appliance

die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
matches() { [ -f "$1" ] && printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status; }

for needed in g++ /usr/include/openssl/opensslv.h; do
  command -v "$needed" >/dev/null || [ -f "$needed" ] || die "$needed is not there" "run packaging/deps.sh build"
done
stamp=$({
  cat "$here/build.sh" "$here/shim.c" "$here/keys.c" "$here"/*.patch /usr/include/openssl/opensslv.h
  g++ --version
} | sha256sum | cut -c1-64)
if [ -f "$out/stamp" ] && [ "$(cat "$out/stamp")" = "$stamp" ]; then
  exit 0
fi

# SoftHSM2's configure, make and the flags take no folder with a blank, a $ or the like in its name: then the work is done in /tmp.
mkdir -p "$top/build"
room=$top/build
case $room in *[!A-Za-z0-9/._+-]*) room=/tmp ;; esac
work=$(mktemp -d "$room/softhsm2.XXXXXX")
ready=$(mktemp -d "$top/build/softhsm2.XXXXXX")
trap 'rm -rf "$work" "$ready"' EXIT

# fetch_from URI SUITE [KEYRING] fetches the tar into $work with apt folders of its own: the machine's apt state stays as it is.
fetch_from() {
  local apt=$work/apt
  rm -rf "$apt" && mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/get"
  printf 'deb-src %s%s %s main\n' "${3:+[signed-by=$3] }" "$1" "$2" >"$apt/sources"
  local options=(-q -o "Dir::Etc::sourcelist=$apt/sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$apt/lists"
    -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)" -o Acquire::Retries=2)
  apt-get "${options[@]}" update >>"$work/fetch.log" 2>&1 || return 1
  (cd "$apt/get" && apt-get "${options[@]}" source --tar-only softhsm2) >>"$work/fetch.log" 2>&1 || return 1
  [ -f "$apt/get/$tar" ] || return 1
  cp "$apt/get/$tar" "$work/$tar"
}

# fetch tries each source of binary packages that apt itself is configured with, whatever the format of its files.
fetch() {
  command -v apt-get >/dev/null || die "no apt-get here to fetch SoftHSM2's source with" "put $tar (sha256 $sha256) into $cache"
  printf 'Fetching the source of SoftHSM2 %s from this machine'"'"'s Debian sources\n' "$version"
  local uri suite keyring
  while IFS='|' read -r uri suite; do
    for keyring in "" /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
      [ -z "$keyring" ] || [ -f "$keyring" ] || continue
      if fetch_from "$uri" "$suite" "$keyring"; then
        return 0
      fi
    done
  done < <(apt-get indextargets --no-release-info --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' |
    awk -F'|' '$3 == "main" && !seen[$1 $2]++ { print $1 "|" $2 }')
  tail -n 5 "$work/fetch.log" >&2 || true
  die "none of this machine's Debian sources has $tar" "check /etc/apt, or put the file (sha256 $sha256) into $cache"
}

if ! matches "$cache/$tar"; then
  fetch
  matches "$work/$tar" || die "$tar from Debian has another checksum than the pinned $sha256" "the sources of this machine may carry another version: put the right file into $cache"
  mkdir -p "$cache"
  cp "$work/$tar" "$cache/.$tar.$$" && mv "$cache/.$tar.$$" "$cache/$tar"
fi

tar -xzf "$cache/$tar" -C "$work"
source=$work/softhsm2-$version
common="-O2 -ffile-prefix-map=$work=/softhsm2 -ffunction-sections -fdata-sections -fstack-protector-strong -D_FORTIFY_SOURCE=2"
printf 'Building SoftHSM2 %s as a static library (about a minute of CPU time, once)\n' "$version"
build() {
  cd "$source"
  for change in "$here"/*.patch; do
    patch -p1 <"$change"
  done
  # SoftHSM2's calls of these two go to keys.c.
  local renamed="-DEVP_PKCS82PKEY=shim_EVP_PKCS82PKEY -Dd2i_ECPKParameters=shim_d2i_ECPKParameters"
  ./configure --sysconfdir=/etc/softhsm --localstatedir=/var --disable-shared --enable-static --with-crypto-backend=openssl \
    --enable-ecc --enable-eddsa --disable-gost --disable-p11-kit --disable-dependency-tracking \
    CXXFLAGS="$common $renamed -fno-plt -Wno-deprecated-declarations" CFLAGS="$common"
  jobs=$(nproc)
  for part in common crypto data_mgr object_store session_mgr slot_mgr handle_mgr; do
    make -j"$jobs" -C "src/lib/$part"
  done
  make -j"$jobs" -C src/lib libsofthsm2.la
  mkdir -p "$work/out/lib"
  cp src/lib/.libs/libsofthsm2.a "$work/out/lib/"
  for part in shim keys; do
    # shellcheck disable=SC2086 # the flags are several words
    gcc $common -ffile-prefix-map="$here"=/softhsm2 -Wall -Wextra -Werror -c "$here/$part.c" -o "$work/$part.o"
    ar rD "$work/out/lib/libsofthsm2.a" "$work/$part.o"
  done
}
build >"$work/build.log" 2>&1 & # in a process of its own, where the first failure ends it
wait $! || {
  cp "$work/build.log" "$top/build/softhsm2.log"
  grep -m 5 -B 2 -A 5 -iE 'error' "$work/build.log" >&2 || tail -n 30 "$work/build.log" >&2
  die "building SoftHSM2 failed" "the whole of what was said is in build/softhsm2.log"
}
mv "$work/out/lib" "$ready/"
printf '%s\n' "$stamp" >"$ready/stamp"
chmod 755 "$ready"
rm -rf "$out"
mv "$ready" "$out"
