#!/usr/bin/env bash
# Installs everything that building and testing needs. Finishes quickly if all of it is installed.
source "$(dirname "$0")/lib.sh"

# Debian packages, such as a C compiler for the cipher library.
packages=()
command -v cc >/dev/null || packages+=(build-essential)
command -v curl >/dev/null || packages+=(curl ca-certificates)
if [ ${#packages[@]} -gt 0 ]; then
    step "apt: ${packages[*]}"
    root apt-get -o DPkg::Lock::Timeout=300 update -q
    root apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${packages[@]}"
fi

command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup (rust-toolchain.toml names the version)"; exit 1; }
# With rustup, asking for the version installs the toolchain that rust-toolchain.toml names.
cargo --version >/dev/null
cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || {
    step "rustup: clippy and rustfmt"
    rustup component add clippy rustfmt
}

command -v node >/dev/null || { echo "Node is missing: 20.19 or newer is needed"; exit 1; }
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    { echo "Node $(node --version) is too old: 20.19 or newer is needed"; exit 1; }
command -v go >/dev/null && go version | grep -qE 'go1\.(2[1-9]|[3-9][0-9])' ||
    { echo "Go is missing or too old: 1.21 or newer is needed (it fetches the version that tests/go/go.mod names)"; exit 1; }
packages=()
command -v chromium >/dev/null || packages+=(chromium)
command -v firefox-esr >/dev/null || packages+=(firefox-esr)
# Firefox processes no audio without a sound device; PulseAudio provides a null sink.
command -v pulseaudio >/dev/null || packages+=(pulseaudio)
command -v ffmpeg >/dev/null || packages+=(ffmpeg)
if [ ${#packages[@]} -gt 0 ]; then
    step "apt: ${packages[*]} (a few minutes)"
    root apt-get -o DPkg::Lock::Timeout=300 update -q
    root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${packages[@]}"
fi

npm_install signaling/web
npm_install tests/browser

# The published Python SDK, pinned, in its own virtual environment.
venv=tests/python/.venv
hash="$(sha256sum <tests/python/requirements.txt)"
if [ "$(cat "$venv/.requirements-hash" 2>/dev/null)" != "$hash" ]; then
    step "the Python SDK"
    python3 -m venv "$venv" 2>/dev/null || {
        root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends python3 python3-venv
        python3 -m venv "$venv"
    }
    "$venv/bin/pip" install -q --disable-pip-version-check -r tests/python/requirements.txt
    printf '%s\n' "$hash" >"$venv/.requirements-hash"
fi
