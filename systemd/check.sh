#!/usr/bin/env bash
# Checks the units and the AppArmor profiles without starting anything: systemd knows every directive, the exposure that systemd-analyze finds is within
# what docs/hardening.md promises, and the profiles' syntax is right.
#
#   systemd/check.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# unit | exposure in tenths, at most
limits='
aes-signer.service|5
aes-signer-pin@.service|2
aes-portal.service|10
aes-receiver.service|10
aes-expiry.service|1
aes-doctor.service|30
aes-upgrade.service|24
aes-renew-archive.service|1
aes-drill.service|1
'

die() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the units start is not installed here: for the check another program stands in its place.
for unit in systemd/*.service systemd/*.socket systemd/*.timer systemd/*.target; do
  sed -E 's#^(Exec[A-Za-z]+=[+]?)/usr/bin/appliance#\1/bin/true#' "$unit" >"$work/${unit##*/}"
done
cp "$work/aes-signer-pin@.service" "$work/aes-signer-pin@check.service"
# chrony may be absent here, and with it its unit.
said=$(SYSTEMD_UNIT_PATH="$work:" systemd-analyze verify --man=no --recursive-errors=no "$work"/aes-*.{socket,timer,target} \
  "$work"/aes-{signer,portal,receiver,expiry,renew-archive,doctor,upgrade,drill,signer-pin@check}.service 2>&1) || die "systemd-analyze verify: $said"
[ -z "$said" ] || die "systemd-analyze verify: $said" "a directive is misspelt, or Debian 12's systemd does not know it"

while IFS='|' read -r unit most; do
  [ -n "$unit" ] || continue
  found=$(cd "$work" && systemd-analyze security --offline=yes --threshold="$most" "./${unit/@./@check.}" 2>/dev/null) ||
    die "$unit: $(tail -n 1 <<<"$found")" "systemd-analyze security --offline=yes systemd/$unit shows why; docs/hardening.md promises ${most} tenths at most"
done <<<"$limits"

for profile in packaging/apparmor/*; do
  said=$(apparmor_parser -QK "$profile" 2>&1) || die "the AppArmor profile $profile is not valid: $said"
done
