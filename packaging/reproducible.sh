#!/usr/bin/env bash
# Builds the working tree once more, in a folder with a difficult name, and compares the binaries byte by byte: neither the place nor the
# run may show in them.
#
# What is built anew there: SoftHSM2, from the source in the cache folder, and all that Go has not compiled from the same input before.
# Go's build cache is shared: with an empty one this would be a test of Go itself, for some minutes more (GOCACHE=$(mktemp -d) does it).
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
elsewhere="$copy/else where for \$5"

# Without the commit in it: the copy has no repository.
make --no-print-directory build VCS=false BINARY=build/reproducible
mkdir -p "$elsewhere"
git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} sh -c '[ ! -e "$1" ] || printf "%s\0" "$1"' _ {} |
  tar --null -T - -cf - | tar -C "$elsewhere" -xf -
make --no-print-directory -C "$elsewhere" build VCS=false BINARY=build/reproducible

cmp build/reproducible "$elsewhere/build/reproducible" || {
  echo 'error: two builds of the same tree differ' >&2
  exit 1
}
echo "two builds, the same $(stat -c %s build/reproducible) bytes: $(sha256sum <build/reproducible | cut -c1-64)"
rm build/reproducible
