#!/usr/bin/env python3
"""Measures what one form of the original protocol costs the broker: CPU time of `POST /presign`, over HTTP on loopback.

    cargo build --release && bench/form.py
    bench/form.py --parts 10000 --forms 50

The broker runs on its embedded store, in a directory that is removed afterwards, so the figures hold what the store and the
ledger do for each upload too: forms with one part show how much that is. CPU time is read from /proc, user and system
together, over all forms of a kind; clock ticks are 10 ms, so ask for forms enough. Linux, Python 3.9 or later.
"""

import argparse
import base64
import hashlib
import http.client
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
BROKER = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "broker"
ROUNDS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--forms", type=int, default=40, help="of each kind, a round")
    arguments = parser.parse_args()
    listen, store_listen = free_address(), free_address()
    for name, signature in (("V4", "v4"), ("V2", "v2")):
        with tempfile.TemporaryDirectory(prefix="bench-") as data:
            command = [BROKER, "--data-dir", data, "--listen", listen, "--store-listen", store_listen, "--signature", signature]
            broker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                wait_until_ready(listen)
                report(name, broker.pid, listen, arguments)
            finally:
                broker.terminate()
                broker.wait(timeout=30)


def report(name, pid, listen, arguments):
    connection = http.client.HTTPConnection(listen, timeout=60)
    many, one = form(arguments.parts), form(1)
    size = presign(connection, many, arguments.parts)
    presign(connection, one, 1)
    costs = {"many": [], "one": []}
    for _ in range(ROUNDS):
        for kind, body, parts in (("many", many, arguments.parts), ("one", one, 1)):
            before = cpu_seconds(pid)
            for _ in range(arguments.forms):
                presign(connection, body, parts)
            costs[kind].append((cpu_seconds(pid) - before) / arguments.forms * 1000)
    many_ms, one_ms = (sorted(costs[kind])[ROUNDS // 2] for kind in ("many", "one"))
    print(
        f"{name}: {arguments.parts} parts {many_ms:.1f} ms CPU ({', '.join(f'{ms:.1f}' for ms in costs['many'])}), "
        f"1 part {one_ms:.1f} ms; form of {len(many) / 1e6:.2f} MB, answer of {size / 1e6:.2f} MB",
        flush=True,
    )


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


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_ready(listen):
    for _ in range(300):
        try:
            connection = http.client.HTTPConnection(listen, timeout=5)
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            if answer.status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the broker does not become ready")


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


if __name__ == "__main__":
    main()
