#!/usr/bin/env bash
# Prints the version of the package (docs/decisions/0008-package.md), or with the word epoch the time that everything in it carries.
#
# On a tag v1.2.3: 1.2.3. After it: 1.2.3+7.gabcdef0, which sorts after 1.2.3 and before 1.2.4; before the first tag: 0.0.0+307.gabcdef0. A tree with
# changes that no commit has says so. Without git, VERSION and SOURCE_DATE_EPOCH must be given.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }
known() { git rev-parse --verify -q HEAD >/dev/null 2>&1; }

if [ "${1:-}" = epoch ]; then
  if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    known || die 'git does not know this tree, so nothing says of when it is' 'set SOURCE_DATE_EPOCH (seconds since 1970)'
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  fi
  printf '%s\n' "$SOURCE_DATE_EPOCH"
  exit 0
fi

if [ -z "${VERSION:-}" ]; then
  known || die 'git does not know this tree, so nothing says which version it is' 'make deb VERSION=1.2.3'
  tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*.[0-9]*.[0-9]*' 2>/dev/null || true)
  count=$(git rev-list --count "${tag:+$tag..}HEAD")
  VERSION=${tag:-v0.0.0}
  VERSION=${VERSION#v}
  [ -n "$tag" ] && [ "$count" = 0 ] || VERSION+=+$count.g$(git rev-parse --short=7 HEAD)
  [ -z "$(git status --porcelain --untracked-files=no)" ] || VERSION+=.dirty
fi
[[ $VERSION =~ ^[0-9][0-9A-Za-z.+~]*$ ]] || die "$VERSION is no version of a Debian package" 'digits, letters, dots, + and ~, beginning with a digit'
printf '%s\n' "$VERSION"
