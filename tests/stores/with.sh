#!/usr/bin/env bash
# Runs a command with a store of its own beside it, then stops that store.
#
#   with.sh garage|ceph DIR PORT COMMAND...
#
# The command finds the store through AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, S3_BUCKET and
# STORE_PROFILE. DIR is the store's state: a new directory, removed at the end. PORT 0 is a free one.
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

# Below the ports that the system hands out to connections: one of those could take a port between look and use.
free_port() {
    local port=$((10000 + RANDOM % 20000))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 7)); done
    printf '%s\n' "$port"
}
if [ "$port" = 0 ]; then port=$(free_port); fi

mkdir -p "$dir"
trap '"$script" stop "$dir" && rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
settings=$("$script" start "$dir" "$port")
eval "$settings"
"$@"
