#!/usr/bin/env python3
"""Measures the embedded store by itself, beside s3s-fs and Garage; reading beside nginx.

    bench/store.py --install                # once: s3s-fs by cargo, about 3 minutes of CPU, and nginx by apt-get
    bench/store.py                          # 1 GiB in 128 parts, 10,000 small parts, 8 uploads at once; 3 rounds
    bench/store.py --only ours,nginx --rounds 5

All are asked by the same client: presigned URLs, bodies from the page cache, several connections of one process (presigned.py).
tests/stores/ installs Garage. The data are below target/bench, so on the disk that the sources are on.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import mmap
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import clients
import harness
from clients import ROOT, TARGET, WORK
from harness import median, middle, rate, to_ours
from presigned import Bucket

S3S_FS_VERSION = "0.14.1"
S3S_FS = WORK / "s3s-fs/bin/s3s-fs"
PART_MIB = 8
PARTS_AT_ONCE = 4
UPLOADS = 8
UPLOAD_MIB = 64
SMALL_PART_KIB = 16


@dataclasses.dataclass
class Server:
    """A server that is running: a store has a bucket, nginx has the files of target/bench at a URL."""

    pid: int
    bucket: Bucket = None
    files: str = None


@dataclasses.dataclass
class Sent:
    """What one upload took: seconds of the parts and of Complete, and the server's CPU for both."""

    parts: float
    complete: float
    servers_cpu: float

    @property
    def wall(self):
        return self.parts + self.complete


def main():
    parser = harness.argument_parser(__doc__, rounds=3)
    parser.add_argument("--size-mib", type=int, default=1024, metavar="N", help="size of the one object (1024)")
    parser.add_argument("--many", type=int, default=10_000, metavar="N", help="how many small parts (10000)")
    arguments = parser.parse_args()
    if arguments.install:
        install()
        return
    harness.prepare(arguments)
    found = find(arguments.only)
    with tempfile.TemporaryDirectory(prefix="store-", dir=WORK) as name:
        scratch = pathlib.Path(name)
        sent, got = one_object(found, scratch, arguments)
        many = many_parts(found, scratch, arguments)
        peaks = memory(found, scratch)
        goals(sent, got, many, peaks, arguments)


def install():
    WORK.mkdir(parents=True, exist_ok=True)
    command = ["cargo", "install", "s3s-fs", "--version", S3S_FS_VERSION, "--features", "binary", "--locked"]
    subprocess.run([*command, "--root", WORK / "s3s-fs", "--target-dir", WORK / "s3s-fs-build"], check=True)
    if nginx_program() is None and shutil.which("apt-get"):
        # Unpacked, not installed: no service is started, and no root is needed.
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run(["apt-get", "download", "-q", "nginx"], cwd=directory, check=True)
            for package in pathlib.Path(directory).iterdir():
                subprocess.run(["dpkg", "-x", package, WORK / "nginx"], check=True)


def nginx_program():
    return shutil.which("nginx", path=f"{WORK}/nginx/usr/sbin:{os.environ['PATH']}:/usr/sbin")


def find(only):
    """Name -> what starts it, for every server that is there. Ours is the first."""
    there = {
        "ours": (store, True),
        "ours unsynced": (store_without_sync, True),
        "s3s-fs": (s3s_fs, S3S_FS.exists()),
        "Garage": (garage, harness.is_installed("garage")),
        "nginx": (nginx, nginx_program()),
    }
    wanted = only.split(",") if only else list(there)
    unknown = set(wanted) - set(there)
    if unknown or "ours" not in wanted:
        sys.exit(f"--only names some of {', '.join(there)}, and ours")
    for name in wanted:
        if not there[name][1]:
            harness.say(f"{name}: not installed, left out (--install, tests/stores/README.md)")
    return {name: there[name][0] for name in there if name in wanted and there[name][1]}


@contextlib.contextmanager
def store(data, *options):
    """`store serve`, which syncs unless it is told not to."""
    command = [TARGET / "release/store", "serve", data, "--listen", "127.0.0.1:0", "--bucket", harness.BUCKET, *options]
    with open(f"{data}.log", "w") as log, harness.running(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        words = shlex.split("".join(process.stdout.readline() for _ in range(4)))
        exported = dict(word.split("=", 1) for word in words if "=" in word)
        yield Server(process.pid, Bucket(harness.store_of({**exported, "S3_BUCKET": harness.BUCKET})))


def store_without_sync(data):
    return store(data, "--no-sync")


@contextlib.contextmanager
def store_of_many_parts(data):
    with open(f"{data}.log", "w") as log, harness.running(
        [TARGET / "release/manyparts", data], stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        endpoint, key, secret = (process.stdout.readline().strip() for _ in range(3))
        keys = {**harness.CREDENTIALS, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
        yield Server(process.pid, Bucket(clients.Store(endpoint, harness.BUCKET, keys)))


@contextlib.contextmanager
def s3s_fs(data):
    """Never syncs."""
    data.mkdir()
    port, keys = harness.free_port(), harness.CREDENTIALS
    told = ["--access-key", keys["AWS_ACCESS_KEY_ID"], "--secret-key", keys["AWS_SECRET_ACCESS_KEY"]]
    with open(f"{data}.log", "w+") as log:
        with harness.running([S3S_FS, "--host", "127.0.0.1", "--port", port, *told, data], stdout=log, stderr=log) as process:
            harness.wait_until_answers(f"http://127.0.0.1:{port}/", process, log)
            bucket = Bucket(clients.Store(f"http://127.0.0.1:{port}", harness.BUCKET, keys))
            bucket.create()
            yield Server(process.pid, bucket)


@contextlib.contextmanager
def garage(data):
    """As tests/stores/ sets it up: Garage's own defaults, which do not sync data."""
    script = ROOT / "tests/stores/garage.sh"
    try:
        told = subprocess.run([script, "start", data, str(harness.free_port())], check=True, stdout=subprocess.PIPE, text=True)
        exported = dict(word.split("=", 1) for word in shlex.split(told.stdout) if "=" in word)
        yield Server(int((data / "garage.pid").read_text()), Bucket(harness.store_of(exported)))
    finally:
        subprocess.run([script, "stop", data], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def nginx(data):
    """Static files, by sendfile as Debian sets it up; in one process, so that its CPU is that process's."""
    data.mkdir()
    port = harness.free_port()
    temporary = "".join(f"{what}_temp_path {data};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (data / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {data}/pid; error_log {data}/error.log; events {{}}\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port}; root {WORK}; }} }}\n"
    )
    command = [nginx_program(), "-e", data / "error.log", "-c", data / "nginx.conf"]
    with open(f"{data}.log", "w+") as log, harness.running(command, stdout=log, stderr=log) as process:
        harness.wait_until_answers(f"http://127.0.0.1:{port}/", process, log)
        yield Server(process.pid, files=f"http://127.0.0.1:{port}")


def upload(bucket, key, data, part_bytes, at_once):
    """Sends all of `data`; seconds of the parts, and of Complete."""
    upload_id = bucket.begin(key)
    view = memoryview(data)
    pieces = [view[start : start + part_bytes] for start in range(0, len(data), part_bytes)]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
        numbered = enumerate(pieces, 1)
        etags = list(threads.map(lambda part: bucket.put_part(key, upload_id, *part), numbered))
    sent = time.monotonic()
    bucket.complete(key, upload_id, etags)
    completed = time.monotonic()
    if bucket.size(key) != len(data):
        sys.exit(f"{key}: {len(data)} bytes were sent, and the store has {bucket.size(key)}")
    return sent - began, completed - sent


def one_object(found, scratch, arguments):
    """The object to each store and back, in turn, round after round; the round before the first warms up, and compares."""
    source = harness.make_file(arguments.size_mib)
    harness.warm(source)
    sent, got = {}, {}
    with contextlib.ExitStack() as stack, open(source, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        servers = {name: stack.enter_context(start(scratch / f"one-{name.split()[-1]}")) for name, start in found.items()}
        digest = hashlib.md5(data).hexdigest()
        for number in range(arguments.rounds + 1):
            for name, server in servers.items():
                key = f"object-{number}"
                if server.bucket:
                    before = harness.cpu_of([server.pid])
                    times = upload(server.bucket, key, data, PART_MIB << 20, PARTS_AT_ONCE)
                    run = Sent(*times, harness.cpu_of([server.pid]) - before)
                url = server.bucket.url("GET", key) if server.bucket else f"{server.files}/{source.name}"
                read = get(url, server, digest if number == 0 else None)
                if number:
                    got.setdefault(name, []).append(read)
                    harness.say(f"round {number} {name}: got in {read.wall:.2f} s")
                if server.bucket:
                    server.bucket.delete(key)
                    if number:
                        sent.setdefault(name, []).append(run)
                        harness.say(f"round {number} {name}: sent in {run.parts:.2f} + {run.complete:.2f} s")
    size = arguments.size_mib
    print(f"{size} MiB in parts of {PART_MIB} MiB, {PARTS_AT_ONCE} at once:\n")
    speed = [("whole s", median("wall")), ("least to most", span("wall")), ("MiB/s", rate(size))]
    stages = [("parts s", median("parts")), ("Complete s", median("complete", 3))]
    cost = [("server's CPU s", median("servers_cpu"))]
    harness.print_table(sent, [*stages, *speed, *cost, ("whole / ours", to_ours(sent, "wall"))], "store")
    print(f"\n{size} MiB read by curl:\n")
    speed[0] = ("s", median("wall"))
    harness.print_table(got, [*speed, *cost, ("s / ours", to_ours(got, "wall"))], "server")
    return sent, got


def get(url, server, digest):
    """Reads an object by curl, which throws it away; where a digest is given, holds it to that first."""
    command = [shutil.which("curl"), "-sSf", url, "-o"]
    if digest:
        came = hashlib.md5()
        with subprocess.Popen([*command, "-"], stdout=subprocess.PIPE) as curl:
            while chunk := curl.stdout.read(1 << 20):
                came.update(chunk)
        if came.hexdigest() != digest:
            sys.exit("what comes back is not what was sent")
    return harness.measure([*command, os.devnull], dict(os.environ), [server.pid])


def span(field):
    """A cell: least to most."""
    return lambda runs: f"{min(getattr(run, field) for run in runs):.2f} to {max(getattr(run, field) for run in runs):.2f}"


def many_parts(found, scratch, arguments):
    """Complete of as many parts as there can be. s3s-fs has none that are so small; Garage takes minutes for them: once."""
    startable = {"ours": store_of_many_parts, "Garage": garage}
    results = {}
    data = os.urandom(arguments.many * SMALL_PART_KIB << 10)
    for name in [name for name in startable if name in found]:
        with startable[name](scratch / f"many-{name}") as server:
            for number in range(arguments.rounds if name == "ours" else 1):
                before = harness.cpu_of([server.pid])
                times = upload(server.bucket, f"many-{number}", data, SMALL_PART_KIB << 10, PARTS_AT_ONCE)
                run = Sent(*times, harness.cpu_of([server.pid]) - before)
                results.setdefault(name, []).append(run)
                harness.say(f"round {number + 1} {name}: many parts in {run.parts:.2f} s, Complete in {run.complete:.3f} s")
    print(f"\nComplete of {arguments.many} parts of {SMALL_PART_KIB} KiB:\n")
    complete = [("Complete s", median("complete", 3)), ("least to most", span("complete"))]
    harness.print_table(results, [("parts s", median("parts")), *complete], "store")
    return results


@dataclasses.dataclass
class Peak:
    """The most memory of a server, MiB, since its start: at rest, and once all were sent, a part or several at once each."""

    rest: float
    one_at_once: float = 0.0
    several_at_once: float = 0.0


def memory(found, scratch):
    """Uploads side by side to a store that has just started."""
    results = {}
    data = os.urandom(UPLOAD_MIB << 20)
    for name in [name for name in found if name != "nginx"]:
        peaks = []
        for at_once in (1, PARTS_AT_ONCE):
            with found[name](scratch / f"memory-{name.split()[-1]}-{at_once}") as server:
                rest = most_memory(server.pid)
                with concurrent.futures.ThreadPoolExecutor(UPLOADS) as threads:
                    keys = [f"object-{number}" for number in range(UPLOADS)]
                    list(threads.map(lambda key: upload(server.bucket, key, data, PART_MIB << 20, at_once), keys))
                peaks.append(most_memory(server.pid))
        results[name] = [Peak(rest, *peaks)]
    print(f"\nMost memory of the server, {UPLOADS} uploads of {UPLOAD_MIB} MiB side by side (VmHWM):\n")
    harness.print_table(
        results,
        [
            ("at rest, MiB", median("rest", 0)),
            ("a part at once each, MiB", median("one_at_once", 0)),
            (f"{PARTS_AT_ONCE} parts at once each, MiB", median("several_at_once", 0)),
        ],
        "store",
    )
    return results


def most_memory(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1)) / 1024


def goals(sent, got, many, peaks, arguments):
    rows = []
    if "s3s-fs" in sent:
        times = middle(sent["s3s-fs"], "wall") / middle(sent["ours"], "wall")
        rows.append(("parts and Complete at least 1.7 times as fast as s3s-fs", f"{times:.2f}", times >= 1.7))
    seconds = middle(many["ours"], "complete")
    rows.append((f"Complete of {arguments.many:,} parts in less than 1 s", f"{seconds:.3f}", seconds < 1))
    if "nginx" in got:
        part = middle(got["nginx"], "wall") / middle(got["ours"], "wall")
        rows.append(("read at least half as fast as from nginx", f"{part:.2f}", part >= 0.5))
    mib = middle(peaks["ours"], "several_at_once")
    rows.append((f"less than 64 MiB resident with {UPLOADS} uploads", f"{mib:.0f}", mib < 64))
    print("\n| goal | here |\n| --- | --- |")
    for goal, here, met in rows:
        print(f"| {goal} | {here if met else f'**{here}**'} |")


if __name__ == "__main__":
    main()
