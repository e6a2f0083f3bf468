#!/usr/bin/env bash
# Measures CPU time per forwarded packet, next to the floor of the same run, and memory per idle participant.
source "$(dirname "$0")/lib.sh"

step "building, optimized"
cargo build --release --package signaling --package loadtest --bin anytime --bin loadtest

step "inside the engine"
cargo bench --package sfu-engine

step "the whole path, and memory"
target/release/loadtest bench --server target/release/anytime
