#!/usr/bin/env bash
# Installs what a command needs and the machine lacks. Does nothing, quickly, where everything is there.
#
#   setup.sh        what building, running and linting need: a C compiler, Rust, Node, the call page's packages
#   setup.sh test   also what the tests need: browsers, ffmpeg, Go, and the JavaScript and Python SDKs
source "$(dirname "$0")/lib.sh"

# debian_packages NAMES...: installs Debian packages.
debian_packages() {
    step "apt: $* (browsers take a few minutes)"
    root apt-get -o DPkg::Lock::Timeout=300 update -q
    root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@"
}

run_needs() {
    local packages=()
    # The cipher library is written in C; the fuzz targets, which lint checks, link a C++ library.
    command -v cc >/dev/null && command -v c++ >/dev/null || packages+=(build-essential)
    command -v curl >/dev/null || packages+=(curl ca-certificates)
    [ ${#packages[@]} -eq 0 ] || debian_packages "${packages[@]}"

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
    npm_install signaling/web
}

test_needs() {
    command -v go >/dev/null && go version | grep -qE 'go1\.(2[1-9]|[3-9][0-9])' ||
        { echo "Go is missing or too old: 1.21 or newer is needed (it fetches the version that tests/go/go.mod names)"; exit 1; }
    local packages=()
    command -v chromium >/dev/null || packages+=(chromium)
    command -v firefox-esr >/dev/null || packages+=(firefox-esr)
    # Firefox processes no audio without an output device. PulseAudio provides a null sink.
    command -v pulseaudio >/dev/null || packages+=(pulseaudio)
    command -v ffmpeg >/dev/null || packages+=(ffmpeg)
    [ ${#packages[@]} -eq 0 ] || debian_packages "${packages[@]}"
    npm_install tests/browser
    python_sdk
}

# The published Python SDK at the version in requirements.txt, in a virtual environment of its own.
python_sdk() {
    local venv=tests/python/.venv hash
    hash="$(sha256sum <tests/python/requirements.txt)"
    if [ "$(cat "$venv/.requirements-hash" 2>/dev/null)" = "$hash" ]; then return; fi
    step "the Python SDK"
    python3 -m venv "$venv" 2>/dev/null || {
        debian_packages python3 python3-venv
        python3 -m venv "$venv"
    }
    "$venv/bin/pip" install -q --disable-pip-version-check -r tests/python/requirements.txt
    printf '%s\n' "$hash" >"$venv/.requirements-hash"
}

run_needs
case "${1:-}" in
    '') ;;
    test) test_needs ;;
    *) echo "usage: scripts/setup.sh [test]"; exit 1 ;;
esac
