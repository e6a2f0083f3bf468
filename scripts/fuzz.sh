#!/usr/bin/env bash
# Every fuzz target for so many seconds. The first run installs cargo-fuzz.
source "$(dirname "$0")/lib.sh"

seconds="${1:-20}"
[ -d sfu/engine/fuzz ] || { echo "no fuzz targets yet"; exit 0; }
cargo fuzz --version >/dev/null 2>&1 || { step "installing cargo-fuzz"; cargo install --locked cargo-fuzz; }
cd sfu/engine
# The sanitizer's flags are unstable, the compiler is not.
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
    step "fuzzing $target for $seconds s"
    cargo fuzz run "$target" -- -max_total_time="$seconds" -print_final_stats=1
done
