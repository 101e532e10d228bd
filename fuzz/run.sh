#!/usr/bin/env bash
# Builds all fuzz targets and runs each for some seconds, from the seeds in corpus/:  fuzz/run.sh SECONDS [TARGET...]
#
# A stable toolchain is enough: the flags are those that `cargo fuzz build --sanitizer none` sets, and memory is the
# compiler's to look after: what is `unsafe` in the store and the hashing below it is in no target's way. What a run finds to be new stays out of the seeds, in
# target/corpus. A failure ends the run; the bytes that made it are in target/artifacts, and
# `target/x86_64-unknown-linux-gnu/release/TARGET FILE` makes it again.
set -euo pipefail
cd "$(dirname "$0")"

readonly SECONDS_EACH=${1:?usage: fuzz/run.sh SECONDS [TARGET...]}
shift
HOST=$(rustc --print host-tuple)
readonly HOST BUILT=target/$HOST/release

# With a target named, cargo keeps the flags from build scripts and macros, which are not linked with libFuzzer.
RUSTFLAGS='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares' \
    cargo build --release --locked --target "$HOST" --target-dir target

if [ $# -eq 0 ]; then
    for file in targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
fi
for name in "$@"; do
    mkdir -p "target/corpus/$name" "target/artifacts/$name"
    printf '\n== %s, %s s\n' "$name" "$SECONDS_EACH"
    timeout $((SECONDS_EACH + 60)) "$BUILT/$name" -max_total_time="$SECONDS_EACH" -max_len=4096 -timeout=5 -rss_limit_mb=1024 \
        -artifact_prefix="target/artifacts/$name/" "target/corpus/$name" "corpus/$name" 2>&1 |
        grep -vE '^(INFO|#[0-9]+[[:space:]]+(NEW|REDUCE|pulse|RELOAD)|[[:space:]]+NEW_FUNC)' || {
        echo "fuzz target $name failed"
        exit 1
    }
done
