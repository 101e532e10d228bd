#!/usr/bin/env bash
# Runs every bench at the sizes that docs/PERFORMANCE.md tells of, and prints the tables: under 20 minutes on two cores, when
# nothing else runs and the programs are built.
#
#   bench/all.sh >tables.md       # how far it is goes to standard error
#
# Garage and Ceph RGW are measured where they are installed: tests/stores/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."

# TITLE COMMAND...
table() {
    printf '\n## %s\n\n' "$1"
    shift
    printf '%s\n' "$*" >&2
    "$@"
}

# Built together, so that dependencies have the same features for both commands and are built once.
packages=(-p bench -p broker -p uploader -p store)

bench/uploaders.py --install
bench/store.py --install
cargo build --release "${packages[@]}"
cargo bench "${packages[@]}" --bench sign --no-run

table 'One file of 2 GiB' bench/uploaders.py --no-build --rounds 3
table 'One file of 2 GiB, over TLS' bench/uploaders.py --no-build --rounds 2 --tls
table '2,000 files of 64 KiB' bench/small_files.py --no-build --rounds 3
table 'Huge files' bench/huge_files.py --no-build
table 'Stores that keep what they get' bench/real_stores.py --no-build --rounds 2
table 'The embedded store' bench/store.py --no-build --rounds 2
table 'Under attack' bench/flood.py --no-build --minutes 1
table 'Forms' bench/form.py --no-build
table 'Signatures' cargo bench "${packages[@]}" --bench sign
