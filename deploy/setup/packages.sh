#!/usr/bin/env bash
# Installs the Debian programs that are missing. Usage: packages.sh redis-server chromium dockerd=docker.io
# (PROGRAM=PACKAGE where the package has another name).
# Those that are on PATH already are left as they are. Needs root (or sudo without a password) only when one is missing.
set -euo pipefail

missing=() # packages
for each in "$@"; do
  command -v "${each%%=*}" >/dev/null || missing+=("${each#*=}")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "setup: ${missing[*]} not found, and installing takes root: run 'apt-get install ${missing[*]}' as root, then try again" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null; then
  echo "setup: ${missing[*]} not found, and this is no Debian with apt-get: put them on PATH, then try again" >&2
  exit 1
fi

# Debian starts a server as soon as it is installed. Ours run on their own ports and data, so nothing is started now
# (policy-rc.d) nor at the next boot (systemctl disable, below): port 6379 stays free.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

log=$(mktemp)
quietly() {
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "setup: failed: $*" >&2
    exit 1
  fi
}
install=(apt-get install -o DPkg::Lock::Timeout=120 --yes --no-install-recommends "${missing[@]}")

echo "setup: installing ${missing[*]} (apt-get)"
# A new machine has no package lists, or old ones that name versions which are gone: they are fetched when needed.
if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" </dev/null >"$log" 2>&1; then
  echo "setup: fetching the package lists first (apt-get update)"
  quietly apt-get update
  quietly "${install[@]}"
fi
rm -f "$log"

for each in "$@"; do
  command -v "${each%%=*}" >/dev/null || { echo "setup: ${each#*=} is installed, but ${each%%=*} is not on PATH" >&2; exit 1; }
done
if [[ " ${missing[*]} " == *' redis-server '* ]] && [ -d /run/systemd/system ]; then
  "${as_root[@]}" systemctl disable --now redis-server >/dev/null 2>&1 || true
fi
