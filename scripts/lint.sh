#!/usr/bin/env bash
# Formatting, clippy, the page's linters, architecture and file lengths. Stops at the first that fails.
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

step "fuzz targets"
cargo check --manifest-path sfu/engine/fuzz/Cargo.toml --target-dir target/fuzz-check

step "what may call what"
# Of the whole workspace, so that features are resolved as in `make test` and nothing is built twice.
cargo test --workspace --features sfu-engine/fault-injection --test architecture

if [ -f signaling/web/package.json ]; then
    step "the call page: tsc and eslint"
    npm --prefix signaling/web run --silent lint
fi

step "alerting rules"
# That they name metrics which exist is tested by signaling/tests/grafana.rs.
if command -v promtool >/dev/null; then
    promtool check rules grafana/alerts.yaml
    promtool test rules grafana/alerts.test.yaml
else
    echo "skipped: promtool is not installed (apt: prometheus)"
fi
step "lint: done"
