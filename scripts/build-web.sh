#!/usr/bin/env bash
# Builds the call page that the binary embeds, if its sources have changed.
source "$(dirname "$0")/lib.sh"

page=signaling/web
stamp="$page/dist/.sources-hash"
[ -f "$page/package.json" ] || { echo "no call page here"; mkdir -p "$page/dist"; exit 0; }
hash="$(cd "$page" && find . -path ./node_modules -prune -o -path ./dist -prune -o -type f -print0 | sort -z |
    xargs -0 sha256sum | sha256sum)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ]; then exit 0; fi
step "building the call page"
npm --prefix "$page" run --silent build
printf '%s\n' "$hash" >"$stamp"
