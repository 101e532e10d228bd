"""What the benches share: files to send, servers to send them to, one measured run of a client, rounds, tables.

What it starts it ends, by PID. What a run leaves behind is the files and the venv under target/bench. Python 3.10 or later.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import clients
from clients import ROOT, TARGET, WORK, Store

BUCKET = "bench"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "BENCHBENCHBENCHBENCH", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}


def say(text):
    print(text, file=sys.stderr, flush=True)


def argument_parser(description, rounds):
    """The options that every bench has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--install", action="store_true", help=f"install the peers ({', '.join(clients.PEERS)}) and stop")
    parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"measured rounds, after one to warm up ({rounds})")
    parser.add_argument("--only", metavar="NAME,NAME", help="just these clients")
    parser.add_argument("--no-build", action="store_true", help="take the release programs as they are")
    return parser


def prepare(arguments):
    """Installs the peers and stops, if that was asked; builds our programs otherwise, unless told not to."""
    WORK.mkdir(parents=True, exist_ok=True)
    if arguments.install:
        clients.install()
        sys.exit()
    if not arguments.no_build:
        packages = ["-p", "bench", "-p", "broker", "-p", "uploader", "-p", "store"]
        subprocess.run(["cargo", "build", "--release", *packages], cwd=ROOT, check=True)


def make_file(size_mib):
    """A file of random bytes."""
    path = WORK / f"random-{size_mib}MiB.bin"
    if not path.exists() or path.stat().st_size != size_mib << 20:
        with open(path, "wb") as out:
            for _ in range(size_mib):
                out.write(os.urandom(1 << 20))
    return path


def make_directory(count, size_kib):
    """A directory of files of random bytes."""
    path = WORK / f"random-{count}x{size_kib}KiB"
    path.mkdir(exist_ok=True)
    for number in range(count):
        file = path / f"{number:05}.bin"
        if not file.exists() or file.stat().st_size != size_kib << 10:
            file.write_bytes(os.urandom(size_kib << 10))
    return path


def files_of(source):
    return sorted(source.iterdir()) if source.is_dir() else [source]


def size_of(source):
    return sum(file.stat().st_size for file in files_of(source))


def warm(source):
    """Has the page cache hold it: what is measured is the client, not the disk."""
    for file in files_of(source):
        with open(file, "rb", buffering=0) as opened:
            while opened.read(1 << 20):
                pass


@contextlib.contextmanager
def running(command, **options):
    """A process that ends with the block."""
    process = subprocess.Popen([str(word) for word in command], **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Sink(Store):
    """nullsink, plain or over TLS."""

    def __init__(self, process, certificates):
        self.pid = process.pid
        self.plain_endpoint = process.stdout.readline().strip()
        endpoint = process.stdout.readline().strip() if certificates else self.plain_endpoint
        super().__init__(endpoint, BUCKET, CREDENTIALS, certificates / "ca.pem" if certificates else None)

    def stats(self):
        """What has arrived so far."""
        with urllib.request.urlopen(self.plain_endpoint + "/-stats", timeout=10) as answer:
            return json.load(answer)


@contextlib.contextmanager
def sink(certificates=None):
    """Starts nullsink; with a directory of certificates, over TLS too."""
    tls = ["127.0.0.1:0", certificates / "cert.pem", certificates / "key.pem"] if certificates else []
    with running([TARGET / "release/nullsink", *tls], stdout=subprocess.PIPE, text=True) as process:
        yield Sink(process, certificates)


def make_certificates(directory):
    """An authority of a day, and a certificate of 127.0.0.1 by it, which are two: many clients refuse one that is both."""
    directory.mkdir()
    new = ["openssl", "req", "-x509", "-days", "1", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    for words in (
        ["-subj", "/CN=bench-authority", "-keyout", "ca.key", "-out", "ca.pem"],
        ["-subj", "/CN=bench", "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "key.pem", "-out", "cert.pem"]
        + ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
    ):
        subprocess.run(new + words, cwd=directory, check=True, capture_output=True)
    return directory


@dataclasses.dataclass
class Broker:
    """A broker that is running."""

    url: str
    pid: int


@contextlib.contextmanager
def broker(data, store_environment, *options):
    """Starts a broker with its data in a new directory, and waits until it serves."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [TARGET / "release/broker", "--listen", url.removeprefix("http://"), "--data-dir", data, *options]
    with open(f"{data}.log", "w+") as log:
        environment = {**os.environ, **store_environment}
        with running(command, env=environment, cwd=data.parent, stdout=log, stderr=log) as process:
            wait_until_answers(url + "/healthz", process, log)
            yield Broker(url, process.pid)


@contextlib.contextmanager
def embedded_broker(data, *options):
    """Starts a broker on its embedded store; the broker, and the store as other clients reach it."""
    nowhere_else = {"AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL": "", "BROKER_STORE_LISTEN": f"127.0.0.1:{free_port()}"}
    with broker(data, nowhere_else, *options) as started:
        command = [TARGET / "release/broker", "env", "--data-dir", data]
        environment = {**os.environ, **nowhere_else}
        told = subprocess.run(command, env=environment, cwd=data.parent, check=True, capture_output=True, text=True)
        words = shlex.split(told.stdout, comments=True)
        yield started, store_of(dict(word.split("=", 1) for word in words if "=" in word))


def store_of(exported):
    """The store that `broker env`, or a script in tests/stores/, tells of."""
    names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"]
    return Store(exported["AWS_ENDPOINT_URL_S3"], exported["S3_BUCKET"], {name: exported[name] for name in names})


@contextlib.contextmanager
def broker_for(sink, data, profile):
    """Starts a broker in front of a sink: its own calls go there plainly, its clients' parts as the sink is to be reached."""
    options = ["--bucket", sink.bucket, "--profile", profile, "--addressing", "path", "--public-endpoint", sink.endpoint]
    with broker(data, {"AWS_ENDPOINT_URL_S3": sink.plain_endpoint, **sink.environment}, *options) as started:
        yield started


def wait_until_answers(url, process, log):
    """Until the server that was started answers, were it with a refusal."""
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    log.seek(0)
    sys.exit(f"{process.args[0]} did not start:\n{log.read()}")


def free_port():
    """Below the ports that the system hands out to connections: one of those could take it between look and use."""
    for _ in range(100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(10_000, 30_000)))
            return probe.getsockname()[1]
    sys.exit("no free port of 127.0.0.1 was found below 30000")


def is_installed(store):
    """Whether garage or ceph is there, as tests/stores/ looks for it."""
    if store == "ceph":
        return shutil.which("radosgw") is not None
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    built = list(cache.glob("s3-stores/garage-*/bin/garage"))
    return bool(built or os.environ.get("GARAGE_BIN") or shutil.which("garage"))


@dataclasses.dataclass
class Run:
    """What one run of a client took. CPU and memory are the kernel's accounting of it and of the children it waited for."""

    wall: float
    user: float
    sys: float
    rss_mib: float
    servers_cpu: float

    @property
    def cpu(self):
        return self.user + self.sys


class ClientFailed(Exception):
    """A client's exit status was not 0."""


def measure(command, environment, server_pids):
    """Runs one client."""
    command = [str(word) for word in command]
    environment = {name: str(value) for name, value in environment.items()}
    servers_before = cpu_of(server_pids)
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)]
        pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
        try:
            _, status, usage = os.wait4(pid, 0)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        wall = time.monotonic() - began
        output.seek(0)
        text = output.read().decode(errors="replace")[-2000:]
    if status != 0:
        raise ClientFailed(f"{command[0]} failed (wait status {status}):\n{text}")
    return Run(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss / 1024, cpu_of(server_pids) - servers_before)


def cpu_of(pids):
    """CPU seconds of running processes; 0 where the system has no /proc."""
    ticks = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def take_turns(found, store, source, rounds, server_pids, check):
    """Runs every client in every round, each time under a key that is new to the store; their runs, by name.

    `check` gets the key after each run, and finds out whether everything is there. A round before the first warms the page
    cache and the interpreters' bytecode; a peer that fails there cannot send to this store, and is left out.
    """
    warm(source)
    results = {name: [] for name in found}
    for number in range(rounds + 1):
        for name in list(results):
            key = f"{source.name}-{number}-{name.replace(' ', '-')}"
            try:
                run = measure(*found[name](store, source, key), server_pids)
            except ClientFailed as failure:
                if number or name not in clients.PEER_COMMANDS:
                    sys.exit(f"{name}: {failure}")
                say(f"{name}: left out, since it fails here: {str(failure).strip().splitlines()[-1]}")
                del results[name]
                continue
            check(name, key)
            if number:
                results[name].append(run)
                say(f"round {number} {name}: {run.wall:.2f} s, {run.cpu:.2f} CPU-s, {run.rss_mib:.0f} MiB")
    return results


def arrivals(sink, source):
    """A check that as many bytes arrive with each run as the source has."""
    size, before = size_of(source), sink.stats()["bytes"]

    def check(name, _key):
        nonlocal before
        now = sink.stats()["bytes"]
        if now - before < size:
            sys.exit(f"{name}: {now - before} bytes arrived, and the source has {size}")
        before = now

    return check


def print_table(results, columns, of="client"):
    """Medians, a row for each client. A column is a title and a function of a run, or of a client's runs and ours."""
    print(f"| {of} | " + " | ".join(title for title, _ in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for name, runs in results.items():
        print(f"| {name} | " + " | ".join(cell(runs) for _, cell in columns) + " |", flush=True)


def median(field, digits=2, scale=1.0):
    """A cell: the median of a field, in other units."""
    return lambda runs: f"{middle(runs, field) * scale:.{digits}f}"


def rate(amount, digits=0):
    """A cell: how much a second of wall."""
    return lambda runs: f"{amount / middle(runs, 'wall'):.{digits}f}"


def to_ours(results, field):
    """A cell: how many times as much as ours, which are the first."""
    own = next(iter(results.values()))
    return lambda runs: f"{middle(runs, field) / middle(own, field):.2f}"


def middle(runs, field):
    return statistics.median(getattr(run, field) for run in runs)
