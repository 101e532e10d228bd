#!/usr/bin/env python3
"""Measures what others notice of a broker that is flooded: how long their requests take meanwhile, and what its memory does.

    bench/flood.py
    bench/flood.py --seconds 3 --minutes 1

Eight clients sign eight parts every 40 ms, alone and then beside each attack in turn; these clients' addresses and principal are
not the attackers'. Then all attacks at once, for minutes, while the broker's memory is looked at. Attackers have the lowest
priority of the processor (nice 19): in truth they would not share the machine. The store is nullsink. Linux.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.parse

import harness

HONEST = 8
HEAD = "Host: broker\r\nX-Forwarded-For: {address}\r\n"


def main():
    parser = harness.argument_parser(__doc__, rounds=1)
    parser.add_argument("--seconds", type=int, default=8, metavar="N", help="how long each attack lasts (8)")
    parser.add_argument("--minutes", type=int, default=10, metavar="N", help="how long all of them together (10)")
    arguments = parser.parse_args()
    harness.prepare(arguments)
    tokens = {name: secrets.token_hex(16) for name in ("honest", "mallory")}
    known = ",".join(f"{name}={hashlib.sha256(token.encode()).hexdigest()}" for name, token in tokens.items())
    attacks = attacks_by(tokens["mallory"])
    with tempfile.TemporaryDirectory(prefix="bench-", dir=harness.WORK) as name, harness.sink() as sink:
        options = ["--bucket", sink.bucket, "--profile", "generic", "--addressing", "path", "--log", "error"]
        options += ["--tokens", known, "--trusted-proxies", "127.0.0.1"]
        with harness.broker(pathlib.Path(name) / "broker", {"AWS_ENDPOINT_URL_S3": sink.plain_endpoint, **sink.environment}, *options) as broker:
            print("| attack | tried a second | answered | others' p50, ms | p99, ms | p99 alone | ratio |\n| --- | --- | --- | --- | --- | --- | --- |")
            polite(broker, tokens["honest"], arguments.seconds)
            for attack in attacks:
                for _ in range(arguments.rounds):
                    print_beside(attack, broker, tokens["honest"], arguments.seconds)
            if arguments.minutes:
                print_memory(attacks, broker, tokens["honest"], arguments.minutes)


def attacks_by(token):
    """Name, how it is sent, connections, bytes."""
    bearer = f"Authorization: Bearer {token}\r\n"

    def post(path, kind, body, headers=bearer):
        return f"POST {path} HTTP/1.1\r\n{HEAD}{headers}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}"

    digest = urllib.parse.quote("ndTkYSaMgDT1yFZOFVxnpg==", safe="")
    form = "keyname=big.bin&expires=3600&" + "&".join(f"{part}={digest}" for part in range(1, 10_001))
    json_type, form_type = "application/json", "application/x-www-form-urlencoded"
    unclear = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    return [
        ("heads, a byte a second", "drip", 1500, f"GET /v1/me HTTP/1.1\r\n{HEAD}X: "),
        ("bodies, a byte a second", "drip", 500, f"POST /v1/uploads HTTP/1.1\r\n{HEAD}{bearer}Content-Type: {json_type}\r\nContent-Length: 99999\r\n\r\n"),
        ("framing that is unclear", "flood", 16, f"POST /abort HTTP/1.1\r\n{HEAD}{unclear}\r\n0\r\n\r\nGET /v1/me HTTP/1.1\r\n\r\n"),
        ("JSON, 50,000 deep", "flood", 16, post("/v1/uploads", json_type, "[" * 50_000)),
        ("forms of 10,000 fields", "flood", 16, post("/presign", form_type, form)),
        ("forms of 10,000 wrong fields", "flood", 16, post("/presign", form_type, "a=b&" * 10_000)),
        ("tokens that nobody has", "flood", 16, f"GET /v1/me HTTP/1.1\r\n{HEAD}Authorization: Bearer ubt_{'x' * 43}\r\n\r\n"),
        ("ids that nobody has", "flood", 16, f"GET /v1/uploads/{'x' * 26} HTTP/1.1\r\n{HEAD}{bearer}\r\n"),
        ("uploads that are never sent", "flood", 16, post("/v1/uploads", json_type, json.dumps({"name": "a", "size": 1 << 40}))),
        ("all routes, nobody", "flood", 64, f"GET /v1/objects HTTP/1.1\r\n{HEAD}\r\n"),
    ]


def print_beside(attack, broker, token, seconds):
    name, *_ = attack
    alone = polite(broker, token, seconds)
    with attacking(attack, broker, seconds + 2) as attacker:
        time.sleep(1)
        beside = polite(broker, token, seconds)
        told = json.loads(attacker.communicate(timeout=60)[0])
    answers = ", ".join(f"{what}: {times}" for what, times in told["answers"].items()) or "none yet"
    ratio = beside["p99_ms"] / alone["p99_ms"]
    print(
        f"| {name} | {told['per_second']:.0f} | {answers} | {beside['p50_ms']:.2f} | {beside['p99_ms']:.2f}"
        f" | {alone['p99_ms']:.2f} | {ratio:.2f} |",
        flush=True,
    )


def print_memory(attacks, broker, token, minutes):
    print("\n| minute | resident, MiB | open files | others' p99, ms |\n| --- | --- | --- | --- |")
    with contextlib.ExitStack() as stack:
        for attack in attacks:
            # Together they would want more of the two processors than there is.
            name, how, connections, sent = attack
            stack.enter_context(attacking((name, how, max(2, connections // 8), sent), broker, minutes * 60 + 5))
        for minute in range(minutes):
            found = polite(broker, token, 59)
            print(f"| {minute + 1} | {resident(broker.pid):.1f} | {open_files(broker.pid)} | {found['p99_ms']:.2f} |", flush=True)


@contextlib.contextmanager
def attacking(attack, broker, seconds):
    _, how, connections, sent = attack
    command = ["nice", "-n", "19", harness.TARGET / "release/brokerload", how, broker.url, seconds, connections]
    with harness.running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write(sent)
        process.stdin.close()
        process.stdin = None
        yield process


def polite(broker, token, seconds):
    command = [harness.TARGET / "release/brokerload", "polite", broker.url, str(seconds), str(HONEST)]
    environment = {**os.environ, "BROKERLOAD_TOKEN": token}
    told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=seconds + 60, check=False)
    if told.returncode:
        sys.exit("the clients beside the attack were not served")
    return json.loads(told.stdout)


def resident(pid):
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


if __name__ == "__main__":
    main()
