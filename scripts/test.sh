#!/usr/bin/env bash
# Runs every test. A failing test runner ends the script, with the runner's own summary as the last output.
source "$(dirname "$0")/lib.sh"

# The tests of panic containment make one participant panic.
features=sfu-engine/fault-injection

step "building the workspace and its tests"
# One build for everything: separate builds resolve features differently and would compile dependencies twice.
cargo build --workspace --lib --bins --tests --features "$features"

step "cargo test"
cargo test --workspace --features "$features"

if [ -f signaling/web/package.json ]; then
    step "the call page: vitest"
    npm --prefix signaling/web test
fi

if [ -f tests/browser/package.json ]; then
    step "the client of the Go SDK"
    go build -C tests/go -o ../../target/go-client .
    step "browsers and published clients"
    # One file at a time, since each keeps both cores busy.
    node --test --test-concurrency=1 --test-reporter=spec tests/browser/*.test.mjs
fi
step "test: done"
