#!/usr/bin/env bash
# Every test. A runner that fails ends the run; its own closing lines stand last.
source "$(dirname "$0")/lib.sh"

# The tests of panic containment make one participant panic.
features=sfu-engine/fault-injection

step "building the workspace and its tests"
# In one go: separate builds resolve features differently and would compile dependencies twice.
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
    # One file at a time: each of them keeps both cores busy.
    node --test --test-concurrency=1 --test-reporter=spec tests/browser/*.test.mjs
fi
step "test: done"
