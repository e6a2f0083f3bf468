#!/usr/bin/env bash
# Runs every fuzz target of the engine for FUZZ_SECONDS each, or only the targets named as arguments. A crash ends the
# run and leaves its input in sfu/engine/fuzz/artifacts; sfu/engine/fuzz/corpus keeps the inputs found earlier.
source "$(dirname "$0")/lib.sh"

seconds="${FUZZ_SECONDS:-10}"
version=0.13.2
if [ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $version" ]; then
    step "installing cargo-fuzz $version"
    cargo install cargo-fuzz --version "$version" --locked
fi
command -v c++ >/dev/null || { echo "a C++ compiler is missing: libFuzzer is built from source"; exit 1; }

# Sanitizers are unstable compiler features; this enables them in the stable compiler.
export RUSTC_BOOTSTRAP=1
cd sfu/engine
step "building the engine and its fuzz targets with a sanitizer (minutes, the first time)"
cargo fuzz build
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
    step "fuzz $target for $seconds s"
    # Start with long inputs: a slow target would not get beyond a few bytes. Most targets read their input as a list of
    # decisions, so even random bytes reach much of the code.
    corpus="fuzz/corpus/$target"
    mkdir -p "$corpus"
    if [ -z "$(ls -A "$corpus")" ]; then
        for seed in 1 2 3 4 5 6 7 8; do head -c $((seed * 200)) /dev/urandom >"$corpus/noise-$seed"; done
    fi
    options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -len_control=0 -max_len=3000 -print_final_stats=1)
    output="$(mktemp)"
    if ! cargo fuzz run "$target" -- "${options[@]}" >"$output" 2>&1; then
        grep -vE '^#[0-9]+|^ +(at |[0-9]+: )' "$output" | tail -n 40
        echo "error: fuzz target $target failed"
        exit 1
    fi
    grep -E 'number_of_executed_units|^#[0-9]+.*DONE' "$output" || true
    rm -f "$output"
done
step "fuzz: done, nothing found"
