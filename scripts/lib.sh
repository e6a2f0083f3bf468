# Sourced by the other scripts: where we are, and how progress looks.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# step WORDS...: says what comes next, with the seconds since the script began.
step() {
    printf '==> [%4ds] %s\n' "$SECONDS" "$*"
}

# root COMMAND...: as root, whether we are or sudo makes us.
root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# npm_install DIR: what the lock file says, if it is not there already.
npm_install() {
    local stamp="$1/node_modules/.lock-hash" hash
    hash="$(sha256sum <"$1/package-lock.json")"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ]; then return; fi
    step "npm ci in $1"
    npm --prefix "$1" ci --no-audit --no-fund --loglevel=error
    printf '%s\n' "$hash" >"$stamp"
}
