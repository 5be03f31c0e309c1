#!/usr/bin/env bash
# Builds the working tree once more, in a folder with a difficult name, and compares binary and package byte by byte: neither the place nor the
# run may show in them.
#
# What is built anew there: SoftHSM2, from the source in the cache folder, and all that Go has not compiled from the same input before.
# Go's build cache is shared: with an empty one this would be a test of Go itself, for some minutes more (GOCACHE=$(mktemp -d) does it).
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
elsewhere="$copy/else where for \$5"

# Without the commit in it: the copy has no repository. What git would say of version and time, both are told.
export VERSION SOURCE_DATE_EPOCH
VERSION=$(packaging/version.sh 2>/dev/null || echo 0.0.0)
SOURCE_DATE_EPOCH=$(packaging/version.sh epoch 2>/dev/null || echo 1700000000)
build=(make --no-print-directory deb VCS=false VERSION="$VERSION" BINARY=build/reproducible DEB=build/reproducible.deb)

"${build[@]}"
mkdir -p "$elsewhere"
git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} sh -c '[ ! -e "$1" ] || printf "%s\0" "$1"' _ {} |
  tar --null -T - -cf - | tar -C "$elsewhere" -xf -
"${build[@]}" -C "$elsewhere"

for made in build/reproducible build/reproducible.deb; do
  cmp "$made" "$elsewhere/$made" || {
    echo "error: two builds of the same tree differ: $made" >&2
    exit 1
  }
  echo "two builds, the same $(stat -c %s "$made") bytes: $(sha256sum <"$made" | cut -c1-64) $made"
  rm "$made"
done
