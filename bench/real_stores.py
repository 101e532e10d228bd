#!/usr/bin/env python3
"""Measures uploaders side by side against stores that keep what they get: the embedded one, and Garage and Ceph RGW.

    bench/real_stores.py                    # 512 MiB, and 500 files of 64 KiB, 3 rounds, to every store that is installed
    bench/real_stores.py --stores ceph --rounds 5

tests/stores/ installs and starts Garage and Ceph. After each run the store is asked what has arrived, and emptied; s5cmd
does that, so it has to be there (--install).
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import clients
import harness
from clients import ROOT
from harness import median, rate, to_ours

STORES = ["embedded", "garage", "ceph"]


def main():
    parser = harness.argument_parser(__doc__, rounds=3)
    parser.add_argument("--stores", default=",".join(STORES), metavar="NAME,NAME", help=f"which ({','.join(STORES)})")
    parser.add_argument("--in-environment", action="store_true", help="the one store that with.sh has started, and told of")
    parser.add_argument("--size-mib", type=int, default=512, metavar="N", help="size of the one file (512)")
    parser.add_argument("--count", type=int, default=500, metavar="N", help="how many small files (500)")
    parser.add_argument("--size-kib", type=int, default=64, metavar="N", help="size of each (64)")
    arguments = parser.parse_args()
    harness.prepare(arguments)
    with tempfile.TemporaryDirectory(prefix="stores-", dir=clients.WORK) as name:
        scratch = pathlib.Path(name)
        if arguments.in_environment:
            external(arguments, scratch)
            return
        for store in arguments.stores.split(","):
            if store == "embedded":
                with harness.embedded_broker(scratch / "broker") as (broker, reached):
                    compare("embedded", reached, broker, arguments)
            elif harness.is_installed(store):
                again = [sys.executable, __file__, *sys.argv[1:], "--no-build", "--in-environment"]
                subprocess.run([ROOT / "tests/stores/with.sh", store, scratch / store, "0", *again], check=True)
            else:
                harness.say(f"{store}: not installed, left out (tests/stores/README.md)")


def external(arguments, scratch):
    options = ["--bucket", os.environ["S3_BUCKET"], "--profile", os.environ["STORE_PROFILE"]]
    with harness.broker(scratch / "broker", {}, *options) as broker:
        compare(os.environ["STORE_PROFILE"], harness.store_of(os.environ), broker, arguments)


def compare(name, store, broker, arguments):
    found = clients.find({"ours": clients.ours(broker.url)}, store, arguments.only)
    for what, source, speed in (
        (f"{arguments.size_mib} MiB", harness.make_file(arguments.size_mib), ("MiB/s", arguments.size_mib)),
        (
            f"{arguments.count} files of {arguments.size_kib} KiB",
            harness.make_directory(arguments.count, arguments.size_kib),
            ("files/s", arguments.count),
        ),
    ):
        check = arrivals_taken_away(store, source)
        results = harness.take_turns(found, store, source, arguments.rounds, [], check)
        print(f"\n{name}, {what}:\n")
        harness.print_table(
            results,
            [
                ("wall s", median("wall")),
                ("least to most", lambda runs: f"{min(run.wall for run in runs):.2f} to {max(run.wall for run in runs):.2f}"),
                (speed[0], rate(speed[1])),
                ("CPU s", median("cpu")),
                ("peak MiB", median("rss_mib", 0)),
                ("wall / ours", to_ours(results, "wall")),
                ("CPU / ours", to_ours(results, "cpu")),
            ],
        )


def arrivals_taken_away(store, source):
    """A check that the store has all of each run, which then removes it: stores in memory are small."""
    size, count = harness.size_of(source), len(harness.files_of(source))

    def s5cmd(*words):
        command = [clients.tool("s5cmd"), "--endpoint-url", store.endpoint, *words]
        environment = {name: str(value) for name, value in store.peer_environment().items()}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def check(name, key):
        everything = f"s3://{store.bucket}/{key}*"
        told = s5cmd("du", everything)
        if told.split()[:5] != [str(size), "bytes", "in", str(count), "objects:"]:
            sys.exit(f"{name}: the store has {told.strip()}, and the source {size} bytes in {count} files")
        s5cmd("rm", everything)

    return check


if __name__ == "__main__":
    main()
