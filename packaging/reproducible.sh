#!/usr/bin/env bash
# Builds the working tree once more, in another folder and with an empty build cache, and compares the binaries byte by byte.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'chmod -R u+w "$copy"; rm -rf "$copy"' EXIT

# Without the commit in it: the copy has no repository.
make --no-print-directory build VCS=false BINARY=build/reproducible
mkdir -p "$copy/elsewhere"
git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} sh -c '[ ! -e "$1" ] || printf "%s\0" "$1"' _ {} |
  tar --null -T - -cf - | tar -C "$copy/elsewhere" -xf -
GOCACHE=$copy/cache make --no-print-directory -C "$copy/elsewhere" build VCS=false BINARY=build/reproducible

cmp build/reproducible "$copy/elsewhere/build/reproducible" || {
  echo 'error: two builds of the same tree differ' >&2
  exit 1
}
echo "two builds, the same $(stat -c %s build/reproducible) bytes: $(sha256sum <build/reproducible | cut -c1-64)"
rm build/reproducible
