#!/usr/bin/env python3
"""The broker held to its own /openapi.json by schemathesis: generated requests, right and wrong, and every check on the answers.

    openapi.py [--max-examples N] [--seed N]

Three runs against the built broker on the embedded store: one that needs no credentials, one that needs a token and gets it,
and one that needs it and does not get it. Needs schemathesis beside the Python that runs this, and the broker built
(`cargo build --workspace --bins --tests`). What is configured away, and why, stands in openapi.toml. Exits 1 at a finding.
"""

import argparse
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
BROKER = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")) / "debug" / "broker"


def main():
    arguments = parse_arguments()
    schemathesis = shutil.which("schemathesis", path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))
    if schemathesis is None:
        sys.exit("FAILED schemathesis is not installed: pip install schemathesis")
    failed = []
    for name, needs_token, headers in (
        ("no credentials needed", False, lambda token: []),
        ("a token needed and sent", True, lambda token: ["--header", f"Authorization: Bearer {token}"]),
        ("a token needed and not sent", True, lambda token: []),
    ):
        print(f"\n=== {name} ===", flush=True)
        with tempfile.TemporaryDirectory(prefix="openapi-") as directory, Broker(pathlib.Path(directory), needs_token) as broker:
            environment = dict(os.environ, SCHEMATHESIS_HOOKS=str(HERE / "openapi_hooks.py"), PYTHONDONTWRITEBYTECODE="1")
            command = [schemathesis, "--config-file", HERE / "openapi.toml", "run", broker.url + "/openapi.json"]
            command += ["--max-examples", arguments.max_examples, "--seed", arguments.seed, "--no-color", *headers(broker.token)]
            began = time.monotonic()
            done = subprocess.run([str(word) for word in command], cwd=directory, stdin=subprocess.DEVNULL, env=environment)
            print(f"=== {name}: {'ok' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - began:.0f} s ===", flush=True)
            if done.returncode != 0 or not broker.is_alive():
                failed.append(name)
    if failed:
        sys.exit("FAILED " + "; ".join(failed))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-examples", type=int, default=25, metavar="N", help="generated requests for each operation (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the generation (%(default)s)")
    return parser.parse_args()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """The broker as a person starts it, on free ports, with a data directory of its own."""

    def __init__(self, directory, needs_token):
        self.directory, self.needs_token, self.token = directory, needs_token, None
        self.url = f"http://127.0.0.1:{free_port()}"
        # Nothing of the caller's own may say where the store is.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BROKER_", "S3_"))}

    def __enter__(self):
        options = ["--data-dir", str(self.directory / "broker-data")]
        if self.needs_token:
            (self.directory / "broker-data").mkdir(mode=0o700)
            made = subprocess.run(
                [BROKER, "token", "create", "fuzzer", *options],
                cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, check=True, stdout=subprocess.PIPE, text=True,
            )
            self.token = next(word for word in made.stdout.split() if word.startswith("ubt_"))
        options += ["--listen", self.url.removeprefix("http://"), "--store-listen", f"127.0.0.1:{free_port()}"]
        print("$", shlex.join(["broker", *options]), flush=True)
        self.log = open(self.directory / "broker.log", "w+")
        self.process = subprocess.Popen(
            [BROKER, *options], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.environment
        )
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_ready(self):
        for _ in range(600):
            if not self.is_alive():
                break
            try:
                urllib.request.urlopen(self.url + "/readyz", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        self.log.seek(0)
        sys.exit("the broker did not get ready:\n" + self.log.read())

    def is_alive(self):
        return self.process.poll() is None

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


if __name__ == "__main__":
    main()
