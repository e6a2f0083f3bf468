#!/usr/bin/env bash
# Formatting, clippy, the call page's linters, architecture test and file lengths. Stops at the first failure.
source "$(dirname "$0")/lib.sh"

step "cargo fmt --check"
cargo fmt --all --check
cargo fmt --manifest-path sfu/engine/fuzz/Cargo.toml --check

step "file lengths"
scripts/file-lengths.sh

step "cargo clippy"
cargo clippy --workspace --all-targets --features sfu-engine/fault-injection -- -D warnings

step "unused code of the engine, without what only tests reach"
cargo clippy --package sfu-engine --lib -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

step "fuzz targets"
cargo check --manifest-path sfu/engine/fuzz/Cargo.toml --target-dir target/fuzz-check

step "what may call what"
# The whole workspace, so that features are resolved as in `make test` and nothing is built twice.
cargo test --workspace --features sfu-engine/fault-injection --test architecture

if [ -f signaling/web/package.json ]; then
    step "the call page: tsc and eslint"
    npm --prefix signaling/web run --silent lint
fi

step "alerting rules"
# signaling/tests/grafana.rs checks that the rules name existing metrics.
if command -v promtool >/dev/null; then
    promtool check rules grafana/alerts.yaml
    promtool test rules grafana/alerts.test.yaml
else
    echo "skipped: promtool is not installed (apt: prometheus)"
fi
step "lint: done"
