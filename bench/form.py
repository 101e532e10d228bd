#!/usr/bin/env python3
"""Measures what one form of the original protocol costs the broker: CPU time of `POST /presign`, over HTTP on loopback.

    bench/form.py
    bench/form.py --parts 10000 --forms 50

The broker runs on its embedded store, in a directory that is removed afterwards, so the figures hold what the store and the
ledger do for each upload too: forms with one part show how much that is. CPU time is read from /proc, user and system
together, over all forms of a kind; clock ticks are 10 ms, so ask for forms enough. Linux.
"""

import base64
import hashlib
import http.client
import pathlib
import statistics
import tempfile
import urllib.parse

import harness


def main():
    parser = harness.argument_parser(__doc__, rounds=5)
    parser.add_argument("--parts", type=int, default=10_000, metavar="N", help="parts of a large form (10000)")
    parser.add_argument("--forms", type=int, default=40, metavar="N", help="forms of each kind in a round (40)")
    arguments = parser.parse_args()
    harness.prepare(arguments)
    print(f"| signature | answer of {arguments.parts} parts, MB | CPU ms, {arguments.parts} parts | 1 part |\n| --- | --- | --- | --- |")
    for signature in ("v4", "v2"):
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as name,
            harness.embedded_broker(pathlib.Path(name) / "broker", "--signature", signature) as (broker, _store),
        ):
            report(signature, broker, arguments)


def report(signature, broker, arguments):
    connection = http.client.HTTPConnection(broker.url.removeprefix("http://"), timeout=60)
    bodies = {parts: form(parts) for parts in (arguments.parts, 1)}
    costs, sizes = {parts: [] for parts in bodies}, {}
    for number in range(arguments.rounds + 1):
        for parts, body in bodies.items():
            before = harness.cpu_of([broker.pid])
            for _ in range(arguments.forms if number else 1):
                sizes[parts] = presign(connection, body, parts)
            if number:
                costs[parts].append((harness.cpu_of([broker.pid]) - before) / arguments.forms * 1000)
    many, one = (statistics.median(milliseconds) for milliseconds in costs.values())
    print(f"| {signature} | {sizes[arguments.parts] / 1e6:.2f} | {many:.1f} | {one:.1f} |", flush=True)


def form(parts):
    digests = {number: base64.b64encode(hashlib.md5(b"%d" % number).digest()).decode() for number in range(1, parts + 1)}
    return urllib.parse.urlencode({"keyname": "bench/form.bin", "expires": 3600, **digests})


def presign(connection, body, parts):
    connection.request("POST", "/presign", body, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 201 or text.count(b"http://") != parts:
        raise SystemExit(f"broken answer: {answer.status} {text[:200]!r}")
    return len(text)


if __name__ == "__main__":
    main()
