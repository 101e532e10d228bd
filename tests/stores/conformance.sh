#!/usr/bin/env bash
# Runs the conformance suite against one store, from start to stop.
#
#   conformance.sh embedded|garage|ceph [cargo test arguments: a filter, -- --nocapture]
#
# The real stores have to be installed first: ceph-rgw.sh install, garage.sh install.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
store=${1:-}
case "$store" in
    embedded | garage | ceph) shift ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
cd "$here/../.."

# `--workspace`, so that dependencies keep the features, and the builds, that `cargo test --workspace` gave them.
build=(cargo test --workspace --locked --test conformance)
suite=("${build[@]}" "$@")
if [ "$store" = embedded ]; then
    unset AWS_ENDPOINT_URL_S3 STORE_PROFILE
    exec "${suite[@]}"
fi

"${build[@]}" --no-run # built before the store runs, not beside it
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Ceph would insist on parts of 5 MiB; the suite's uploads of more than 1000 parts are cheap without.
RGW_MIN_PART_SIZE=1 "$here/with.sh" "$store" "$work/store" 0 "${suite[@]}"
