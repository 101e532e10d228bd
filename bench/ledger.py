#!/usr/bin/env python3
"""Measures what the ledger costs the broker's users: uploads and windows of URLs a second, on SQLite and on PostgreSQL.

    bench/ledger.py
    bench/ledger.py --open 0 --seconds 3

One run has, in turn: an actix server that only says hello; a broker on SQLite and one on PostgreSQL, each with an empty
ledger and with 100,000 open uploads in it. The store is nullsink, which answers at once, so what is left of a store's time is
that it is asked at all. PostgreSQL is the machine's (initdb and postgres, as the tests need them), with its own defaults:
it waits for the disk at every commit, as SQLite does here. Clients, servers and databases share the machine. Linux.
"""

import contextlib
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import harness


def main():
    parser = harness.argument_parser(__doc__, rounds=2)
    parser.add_argument("--seconds", type=int, default=5, metavar="N", help="how long each kind of request is asked (5)")
    parser.add_argument("--connections", type=int, default=16, metavar="N", help="clients at once (16)")
    parser.add_argument("--open", type=int, default=100_000, metavar="N", help="open uploads of a ledger that is full (100000)")
    arguments = parser.parse_args()
    harness.prepare(arguments)
    print("| broker | asked | a second | of hello | p50, ms | p99, ms |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=harness.WORK) as name, harness.sink() as sink:
        home = pathlib.Path(name)
        hello = print_hello(arguments)
        for ledger in ("SQLite", "PostgreSQL"):
            with contextlib.ExitStack() as stack:
                options = []
                if ledger == "PostgreSQL":
                    options = ["--ledger", stack.enter_context(postgres(home))]
                broker = stack.enter_context(broker_on(sink, home / ledger, options))
                print_rates(f"{ledger}, empty", broker, hello, arguments)
                if arguments.open:
                    load("fill", broker.url, arguments.open, arguments.connections)
                    print_rates(f"{ledger}, {arguments.open} open", broker, hello, arguments)


def broker_on(sink, data, options):
    options = ["--bucket", sink.bucket, "--profile", "generic", "--addressing", "path", "--log", "warn", *options]
    return harness.broker(data, {"AWS_ENDPOINT_URL_S3": sink.plain_endpoint, **sink.environment}, *options)


def print_hello(arguments):
    """What actix answers a second when there is nothing to do."""
    with harness.running([harness.TARGET / "release/brokerload", "serve-hello"], stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        rounds = [load("hello", url, arguments.seconds, arguments.connections) for _ in range(arguments.rounds + 1)]
    best = middle([by_kind["hello"] for by_kind in rounds[1:]])
    row("actix hello", best, best["per_second"])
    return best["per_second"]


def print_rates(name, broker, hello, arguments):
    for kind in ("sign", "uploads"):
        rounds = [load(kind, broker.url, arguments.seconds, arguments.connections) for _ in range(arguments.rounds + 1)]
        for what in rounds[0]:
            row(name if kind == "sign" else f"{name}, whole uploads", middle([found[what] for found in rounds[1:]]), hello)


def row(name, found, hello):
    share = found["per_second"] / hello
    print(f"| {name} | {found['what']} | {found['per_second']:.0f} | {share:.2f} | {found['p50_ms']:.2f} | {found['p99_ms']:.2f} |", flush=True)


def middle(found):
    """The round of the median rate."""
    return sorted(found, key=lambda each: each["per_second"])[len(found) // 2]


def load(kind, url, amount, connections):
    command = [harness.TARGET / "release/brokerload", kind, url, str(amount), str(connections)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=1800).stdout
    return {line["what"]: line for line in map(json.loads, told.splitlines())}


@contextlib.contextmanager
def postgres(home):
    """A PostgreSQL of its own with an empty database, by its URL."""
    found = shutil.which("initdb") or max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), default=None)
    if not found:
        sys.exit("PostgreSQL's initdb is not there: apt-get install postgresql")
    programs = pathlib.Path(found).resolve().parent
    home.chmod(0o755)
    data = home / "postgres"
    data.mkdir()
    as_nobody = {}
    if os.geteuid() == 0:
        # It refuses to be run by root.
        os.chown(data, 65534, 65534)
        as_nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    quiet = {"cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_nobody}
    subprocess.run([programs / "initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D", data / "db"], check=True, **quiet)
    port = harness.free_port()
    with harness.running([programs / "postgres", "-D", data / "db", "-h", "127.0.0.1", "-p", port, "-k", data], **quiet):
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        for _ in range(300):
            if subprocess.run(ready, check=False, **quiet).returncode == 0:
                break
            time.sleep(0.1)
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"


if __name__ == "__main__":
    main()
