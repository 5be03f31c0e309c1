#!/usr/bin/env bash
# Makes the package from a binary and the tags that it was built with: packaging/deb.sh BINARY TAGS OUT.deb. Writes what is generated into build/deb, then has nfpm (pinned in
# packaging/tools, which also pins the checksums of all that it is made of) put the files of nfpm.yaml together.
#
# Everything carries the time of the commit, so that the same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$1 tags=$2 out=$3
SOURCE_DATE_EPOCH=$(packaging/version.sh epoch)
VERSION=$(packaging/version.sh)
MTIME=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
export SOURCE_DATE_EPOCH VERSION
die() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

"$binary" version | grep -qxF "appliance $VERSION" || die "$binary is not of version $VERSION" 'make deb builds it first'

stage=build/deb
rm -rf "$stage"
doc=$stage/usr/share/doc/aes-appliance
man=$stage/usr/share/man
mkdir -p "$doc/examples" "$man/man1" "$man/man5" "$stage/generated" "$stage/usr/share/lintian/overrides" \
  "$stage/usr/share/bash-completion/completions" "$stage/usr/share/zsh/vendor-completions" "$stage/usr/share/fish/vendor_completions.d"

"$binary" manual --dir "$stage/generated" --date "${MTIME%T*}"
for section in 1 5; do
  for page in "$stage/generated/man/"*.$section; do
    gzip -9n <"$page" >"$man/man$section/$(basename "$page").gz"
  done
done
mv "$stage/generated/completion/bash" "$stage/usr/share/bash-completion/completions/appliance"
mv "$stage/generated/completion/zsh" "$stage/usr/share/zsh/vendor-completions/_appliance"
mv "$stage/generated/completion/fish" "$stage/usr/share/fish/vendor_completions.d/appliance.fish"
mv "$stage/generated/examples/"* "$doc/examples/"
install -m 644 -t "$doc/examples" packaging/monitoring/*
cp -r docs/*.md docs/decisions docs/openapi.json "$doc/"
rm -r "$stage/generated"

"${GO:-go}" build -o build/bill ./packaging/bill
build/bill copyright -binary "$binary" -tags "$tags" >"$doc/copyright"
build/bill sbom -binary "$binary" -tags "$tags" -version "$VERSION" -time "$SOURCE_DATE_EPOCH" >"$doc/sbom.cdx.json"

# A build between two releases says in the changelog what it is.
{
  newest=$(sed -n '1s/.*(\(.*\)).*/\1/p' packaging/debian/changelog)
  if [ "$newest" != "$VERSION" ]; then
    printf 'aes-appliance (%s) unstable; urgency=medium\n\n  * Built between two releases.\n\n%s\n\n' "$VERSION" \
      "$(sed -n 's/^ -- \(.*>\)  .*/ -- \1/p' packaging/debian/changelog | head -n 1)  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
  fi
  cat packaging/debian/changelog
} | gzip -9n >"$doc/changelog.gz"
install -D -m 755 "$binary" "$stage/usr/bin/appliance"
install -D -m 644 -t "$stage/usr/lib/systemd/system" systemd/aes-*
install -D -m 644 systemd/sysusers.conf "$stage/usr/lib/sysusers.d/aes-appliance.conf"
install -D -m 644 systemd/tmpfiles.conf "$stage/usr/lib/tmpfiles.d/aes-appliance.conf"
install -D -m 644 -t "$stage/etc/apparmor.d" packaging/apparmor/*
install -D -m 644 -t "$stage/etc/ufw/applications.d" firewall/aes-appliance
install -m 644 packaging/debian/lintian-overrides "$stage/usr/share/lintian/overrides/aes-appliance"
install -m 644 packaging/debian/templates "$stage/templates"

# What the maintainer scripts go through: every unit but templates, those that setup enables, and of the services those that go on running, the signer first.
units=$(cd systemd && printf '%s\n' aes-* | grep -v @ | paste -sd ' ')
enableable=$(cd systemd && grep -l '^\[Install\]' aes-* | paste -sd ' ')
services=$(cd systemd && grep -l '^Type=notify' aes-*.service | sort -r | paste -sd ' ')
mkdir -p "$stage/usr/lib/aes-appliance"
for script in preinst postinst prerm postrm usr/lib/aes-appliance/upgrade; do
  sed "s/@UNITS@/$units/; s/@ENABLEABLE@/$enableable/; s/@SERVICES@/$services/" "packaging/debian/${script##*/}" >"$stage/$script"
  chmod 755 "$stage/$script"
done
chmod -R u=rwX,go=rX "$stage"
find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

(cd packaging/tools && GOFLAGS=-mod=readonly CGO_ENABLED=0 "${GO:-go}" build -trimpath -o ../../build/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm)
mkdir -p "$(dirname "$out")"
said=$(build/nfpm package --config nfpm.yaml --packager deb --target "$out.part" 2>&1) || die "nfpm: $said" "nfpm.yaml says what is in the package"
mv "$out.part" "$out"
echo "$out: $(stat -c %s "$out") bytes, $(sha256sum <"$out" | cut -c1-64)"
