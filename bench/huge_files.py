#!/usr/bin/env python3
"""Measures what does not grow with the file: the time until the first byte is sent, and memory, of sparse files to nullsink.

    bench/huge_files.py                     # first byte of 100 GiB, median of 9; memory over 2 minutes of 1 TiB
    bench/huge_files.py --minutes 10

The files have no bytes on the disk, and are not sent to their end: the uploader is interrupted as by Ctrl-C.
"""

import os
import pathlib
import signal
import statistics
import tempfile
import time

import clients
import harness

EXIT_INTERRUPTED = 130
GIB = 1 << 30


def main():
    parser = harness.argument_parser(__doc__, rounds=9)
    parser.add_argument("--first-byte-gib", type=int, default=100, metavar="N", help="size of the file for the first byte (100)")
    parser.add_argument("--memory-gib", type=int, default=1024, metavar="N", help="size of the file for memory (1024)")
    parser.add_argument("--minutes", type=float, default=2, metavar="N", help="how long memory is watched (2)")
    arguments = parser.parse_args()
    harness.prepare(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="huge-", dir=clients.WORK) as name,
        harness.sink() as sink,
        harness.broker_for(sink, pathlib.Path(name) / "broker", "generic") as broker,
    ):
        source = pathlib.Path(name) / "sparse"
        errors = open(pathlib.Path(name) / "errors", "w+")

        def put(key):
            command, environment = clients.ours(broker.url)(sink, source, key)
            environment = {name: str(value) for name, value in environment.items()}
            return harness.running(command, env=environment, stdout=errors, stderr=errors)

        source.touch()
        os.truncate(source, arguments.first_byte_gib * GIB)
        try:
            first_bytes(put, sink, arguments)
            os.truncate(source, arguments.memory_gib * GIB)
            memory(put, sink, arguments)
        except Ended as ended:
            errors.seek(0)
            raise SystemExit(f"{ended}:\n{errors.read()[-2000:]}") from None


class Ended(Exception):
    """The uploader ended otherwise than by our interruption."""


def first_bytes(put, sink, arguments):
    """From just before the program is started to when the store has the first byte, process start and broker included."""
    seconds = []
    for number in range(arguments.rounds + 1):
        began = time.time()
        with put(f"first-byte-{number}") as process:
            while (came := sink.stats()["first_byte_us"] / 1e6) < began:
                fail_if_ended(process)
                time.sleep(0.02)
            interrupt(process)
        if number:
            seconds.append(came - began)
    low, middle, high = (value * 1000 for value in (min(seconds), statistics.median(seconds), max(seconds)))
    print("| file | first byte, median ms | least | most |\n| --- | --- | --- | --- |")
    print(f"| {arguments.first_byte_gib} GiB | {middle:.0f} | {low:.0f} | {high:.0f} |\n", flush=True)


def memory(put, sink, arguments):
    """Resident memory each second."""
    before, resident = sink.stats()["bytes"], []
    with put("memory") as process:
        until = time.monotonic() + arguments.minutes * 60
        while time.monotonic() < until:
            fail_if_ended(process)
            time.sleep(1)
            resident.append(resident_mib(process.pid))
        cpu = harness.cpu_of([process.pid])
        interrupt(process)
    sent = (sink.stats()["bytes"] - before) / GIB
    quarter = len(resident) // 4
    print("| quarter | resident MiB, least | median | most |\n| --- | --- | --- | --- |")
    for number in range(4):
        part = resident[number * quarter : (number + 1) * quarter]
        print(f"| {number + 1} | {min(part):.1f} | {statistics.median(part):.1f} | {max(part):.1f} |")
    print(f"\n{sent:.0f} GiB of {arguments.memory_gib} arrived in {arguments.minutes:g} minutes, at {cpu / sent:.2f} CPU s/GiB.", flush=True)


def resident_mib(pid):
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def fail_if_ended(process):
    if process.poll() is not None:
        raise Ended(f"the uploader ended with {process.returncode} before its time")


def interrupt(process):
    process.send_signal(signal.SIGINT)
    if process.wait(30) != EXIT_INTERRUPTED:
        raise Ended(f"the uploader, interrupted, ended with {process.returncode}")


if __name__ == "__main__":
    main()
