#!/usr/bin/env bash
# What a forwarded packet costs, beside the floor measured in the same run, and what an idle participant holds.
source "$(dirname "$0")/lib.sh"

step "building, optimized"
cargo build --release --package signaling --package loadtest --bin anytime --bin loadtest

step "inside the engine"
cargo bench --package sfu-engine

step "the whole path, and memory"
target/release/loadtest bench --server target/release/anytime
