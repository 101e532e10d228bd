#!/usr/bin/env python3
"""Measures uploaders side by side: a directory of small files to a body-discarding store on loopback, round-robin.

    bench/small_files.py                    # 2,000 files of 64 KiB, 5 rounds, every client that is installed
    bench/small_files.py --rounds 9 --only ours,s5cmd

Ours runs twice: by a broker whose store is known to be safe for PUTs of whole objects, and by one that knows nothing of its
store, where every file is an upload of one part.
"""

import pathlib
import tempfile

import clients
import harness
from harness import median, rate, to_ours

# Of the kinds of store that take PUTs of the whole (`single_put` in broker/src/s3/profile.rs), one that is reached by a path
# and whose ETags are MD5s, as they are here: its broker looks for what has arrived by listing.
WHOLE = "garage"
IN_PARTS = "generic"


def main():
    parser = harness.argument_parser(__doc__, rounds=5)
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="how many files (2000)")
    parser.add_argument("--size-kib", type=int, default=64, metavar="N", help="size of each (64)")
    arguments = parser.parse_args()
    harness.prepare(arguments)
    directory = harness.make_directory(arguments.count, arguments.size_kib)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        harness.sink() as sink,
        harness.broker_for(sink, pathlib.Path(name) / "whole", WHOLE) as whole,
        harness.broker_for(sink, pathlib.Path(name) / "in-parts", IN_PARTS) as in_parts,
    ):
        own = {"ours": clients.ours(whole.url), "ours (one-part uploads)": clients.ours(in_parts.url)}
        found = clients.find(own, sink, arguments.only)
        pids = [sink.pid, whole.pid, in_parts.pid]
        results = harness.take_turns(found, sink, directory, arguments.rounds, pids, harness.arrivals(sink, directory))
    microseconds_each = 1e6 / arguments.count
    harness.print_table(
        results,
        [
            ("wall s", median("wall")),
            ("files/s", rate(arguments.count)),
            ("CPU us a file", median("cpu", 0, microseconds_each)),
            ("peak MiB", median("rss_mib", 0)),
            ("servers' CPU us a file", median("servers_cpu", 0, microseconds_each)),
            ("wall / ours", to_ours(results, "wall")),
            ("CPU / ours", to_ours(results, "cpu")),
        ],
    )


if __name__ == "__main__":
    main()
