#!/usr/bin/env bash
# Everything the call page and the browser tests need: Chromium, ffmpeg, the packages of both npm projects.
# May be run any number of times; what is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '[setup] %s\n' "$*"; }

packages=()
command -v chromium >/dev/null || packages+=(chromium)
command -v ffmpeg >/dev/null || packages+=(ffmpeg)
if [ ${#packages[@]} -gt 0 ]; then
  say "installing ${packages[*]} (a few minutes)"
  # Another job of the machine may hold the package database.
  apt-get -o DPkg::Lock::Timeout=300 update -q
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${packages[@]}"
else
  say 'chromium and ffmpeg are installed'
fi

for project in signaling/web tests/browser; do
  lock=$project/package-lock.json
  # Written last, so that an installation that was interrupted is done again.
  stamp=$project/node_modules/.installed
  wanted=$(sha256sum <"$lock")
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    say "$project: packages are up to date"
    continue
  fi
  say "$project: npm ci"
  (cd "$project" && npm ci --loglevel=error)
  printf '%s' "$wanted" >"$stamp"
done
say 'ready'
