# Sourced by the other scripts: changes to the project's root, and defines helpers.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# step WORDS...: prints the next step, with the seconds since the script began.
step() {
    printf '==> [%4ds] %s\n' "$SECONDS" "$*"
}

# root COMMAND...: runs a command as root, with sudo if necessary.
root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# npm_install DIR: installs the packages of DIR's lock file, unless they are installed already.
npm_install() {
    local stamp="$1/node_modules/.lock-hash" hash
    hash="$(sha256sum <"$1/package-lock.json")"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ]; then return; fi
    step "npm ci in $1"
    npm --prefix "$1" ci --no-audit --no-fund --loglevel=error
    printf '%s\n' "$hash" >"$stamp"
}
