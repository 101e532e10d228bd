#!/usr/bin/env bash
# Runs a command with a store of its own beside it, then stops that store.
#
#   with.sh garage|ceph DIR PORT COMMAND...
#
# The command finds the store through AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, S3_BUCKET and
# STORE_PROFILE. DIR is the store's state: a new directory, removed at the end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
case "${1:-}" in
    garage) script=$here/garage.sh ;;
    ceph) script=$here/ceph-rgw.sh ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
[ $# -ge 4 ] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
dir=$2 port=$3
shift 3
[ ! -e "$dir" ] || { echo "with.sh: $dir is there already; name a new directory" >&2; exit 2; }

mkdir -p "$dir"
trap '"$script" stop "$dir" && rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
settings=$("$script" start "$dir" "$port")
eval "$settings"
"$@"
