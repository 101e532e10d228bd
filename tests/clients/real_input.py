#!/usr/bin/env python3
"""Real files through our programs as a person runs them, judged by boto3: the bytes downloaded again have the same SHA-256.

    real_input.py [--large-mib N]

The store is the one that AWS_ENDPOINT_URL_S3 and STORE_PROFILE name (tests/stores/with.sh sets them), else the embedded one.
Needs boto3, and the programs built (`cargo build --workspace --bins`). Prints what it ran and found; exits 1 at the first
difference. Everything it starts it stops, by PID; files are under a temporary directory.
"""

import argparse
import hashlib
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3
import botocore.config
import botocore.exceptions

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MIB = 1 << 20
FILES = {"empty": 0, "one-byte": 1, "5MiB": 5 * MIB, "5MiB+1": 5 * MIB + 1, "ünï cödé +&=%.bin": 12 * MIB + 7}


def main():
    arguments = parse_arguments()
    files = dict(FILES)
    if arguments.large_mib:
        files[f"{arguments.large_mib}MiB"] = arguments.large_mib * MIB
    with tempfile.TemporaryDirectory(prefix="real-input-") as directory, Broker(pathlib.Path(directory), arguments.build) as broker:
        store, checks = Store(broker.store_environment), 0
        for name, size in files.items():
            path = make_file(pathlib.Path(directory), name, size)
            for send in (uploader, form_client, form_client_stdlib):
                if size > 64 * MIB and send is not uploader:
                    continue  # the form clients read a part at a time in Python: their business here is the protocol
                if size == 0 and send is not uploader and os.environ.get("STORE_PROFILE") == "garage":
                    print("left out: an empty file by the form protocol: it needs a part without bytes, which Garage refuses")
                    continue
                key = f"{send.__name__}/{name}"
                took = send(broker, path, key)
                store.check(path, key)
                checks += 1
                print(f"ok    {key!r}: {size} bytes in {took:.2f} s, SHA-256 equal")
        missing_part(broker, store, make_file(pathlib.Path(directory), "3 parts", 11 * MIB))
        left = store.open_uploads()
        expect(left == ["missing"], f"uploads left open in the store: {left}")
        print(f"{checks + 1} passed, 0 failed")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large-mib", type=int, default=0, metavar="N", help="one more file, of N MiB, by the uploader")
    parser.add_argument("--build", default="debug", choices=["debug", "release"], help="which programs (%(default)s)")
    return parser.parse_args()


def expect(condition, text):
    if not condition:
        sys.exit("FAILED " + text)


def make_file(directory, name, size):
    path = directory / name
    with open(path, "wb") as out:
        for _ in range(size // MIB):
            out.write(os.urandom(MIB))
        out.write(os.urandom(size % MIB))
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """The broker as a person starts it, on free ports."""

    def __init__(self, directory, build):
        self.directory, self.programs = directory, TARGET / build
        self.url = f"http://127.0.0.1:{free_port()}"

    def __enter__(self):
        self.options = ["--listen", self.url.removeprefix("http://"), "--data-dir", self.directory / "broker-data"]
        environment = dict(os.environ)
        if "AWS_ENDPOINT_URL_S3" in environment:
            self.options += ["--bucket", environment["S3_BUCKET"], "--profile", environment["STORE_PROFILE"]]
        else:
            self.options += ["--store-listen", f"127.0.0.1:{free_port()}"]
        self.log = open(self.directory / "broker.log", "w+")
        command = [self.programs / "broker", *self.options]
        print("$", shlex.join(map(str, command)), flush=True)
        self.process = subprocess.Popen(
            command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment
        )
        try:
            self.wait_until_ready()
            self.store_environment = environment if "AWS_ENDPOINT_URL_S3" in environment else self.print_env()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_ready(self):
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(self.url + "/readyz", timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        self.log.seek(0)
        sys.exit("the broker did not get ready:\n" + self.log.read())

    def print_env(self):
        """What `broker env` exports: how any S3 tool reaches the store in use."""
        lines = subprocess.run([self.programs / "broker", "env", *self.options], cwd=self.directory, check=True, stdout=subprocess.PIPE, text=True)
        words = shlex.split(lines.stdout.replace("export ", ""))
        return dict(word.split("=", 1) for word in words)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Store:
    """The store behind the broker, by boto3."""

    def __init__(self, environment):
        self.bucket = environment["S3_BUCKET"]
        self.s3 = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
            region_name=environment["AWS_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            config=botocore.config.Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def check(self, path, key):
        stored, sent = hashlib.sha256(), hashlib.sha256()
        for chunk in self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(MIB):
            stored.update(chunk)
        with open(path, "rb") as file:
            while chunk := file.read(MIB):
                sent.update(chunk)
        expect(stored.digest() == sent.digest(), f"{key!r} differs from {path}")
        head = self.s3.head_object(Bucket=self.bucket, Key=key)
        if not key.startswith("uploader/"):
            expect(head["ContentType"] == "text/x-test", f"{key!r} has the type {head['ContentType']}")
            expect(head["Metadata"].get("origin") == "form client", f"{key!r} has the metadata {head['Metadata']}")

    def has(self, key):
        try:
            self.s3.head_object(Bucket=self.bucket, Key=key)
        except botocore.exceptions.ClientError as error:
            expect(error.response["ResponseMetadata"]["HTTPStatusCode"] == 404, str(error))
            return False
        return True

    def open_uploads(self):
        return [upload["Key"] for upload in self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])]


def run(command, **environment):
    began = time.monotonic()
    command = [str(word) for word in command]
    done = subprocess.run(
        command, env=dict(os.environ, **environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    return done, time.monotonic() - began


def uploader(broker, path, key):
    command = [broker.programs / "uploader", "put", "--name", key, path]
    print("$", shlex.join(map(str, command)), flush=True)
    done, took = run(command, UPLOADER_BROKER=broker.url)
    expect(done.returncode == 0, f"the uploader ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return took


def form_client(broker, path, key, *more, **environment):
    command = [sys.executable, HERE / "form_client.py", "--broker", broker.url, "--content-type", "text/x-test"]
    command += ["--meta", "origin=form client", *more, path, key]
    done, took = run(command, **environment)
    expect(done.returncode == 0 or more, f"form_client.py ended with {done.returncode}:\n{done.stderr}")
    return done if more else took


def form_client_stdlib(broker, path, key):
    return form_client(broker, path, key, FORM_CLIENT_STDLIB="1")


def missing_part(broker, store, path):
    """A part that was never sent: a refusal that names it, and no object."""
    done = form_client(broker, path, "missing", "--skip", "2")
    expect(done.returncode != 0, "an upload with a missing part was completed")
    expect("422" in done.stderr and '"parts":[2]' in done.stderr.replace(" ", ""), f"the refusal does not name part 2: {done.stderr}")
    expect(not store.has("missing"), "an object with a hole was made")
    print("ok    a missing part: refused with 422, part 2 named, no object")


if __name__ == "__main__":
    main()
