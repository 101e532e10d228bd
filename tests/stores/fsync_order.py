#!/usr/bin/env python3
"""Whether what `store serve` has answered would survive a power cut: held to the system calls that it really makes.

    fsync_order.py [--build release]

A power cut takes what was written and not synced: bytes of files, and names in directories. So a client sends one request
after another while strace watches, and of every answer of 2xx it is asked what was still unsynced below the store's
directory: nothing may be. It is also held that the index is not synced before the data that it names, and that nothing is
removed while the index that no longer names it is not on the disk.

Needs strace (Debian: apt-get install strace), boto3, and the store built. Prints an `ok` line a kind of request; exits 1 at
the first answer that came too early, naming the file. What it starts it ends.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import boto3
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WATCHED = (
    "openat,write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,link,linkat,"
    "unlink,unlinkat,mkdir,mkdirat,ftruncate,fallocate,copy_file_range,sendfile,splice"
)
KEY, SECRET = "POWERCUTPOWERCUTPOWE", "power-cut-secret"
# No more than this is lost with them: room that is held for a full disk, who has the directory, what a start removes anyway.
NO_MATTER = ("/reserve", "/lock", "/trash", "/draft-")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="debug", choices=["debug", "release"], help="which store (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fsync-order-") as name:
        home = pathlib.Path(name)
        program = TARGET / arguments.build / "store"
        asked = ask(home, program)
        answers = judge(home / "trace", str(home / "dir"))
        try:
            ask(home, program, "--no-sync")
            judge(home / "trace", str(home / "dir"))
        except SystemExit as noticed:
            print(f"ok with --no-sync it is noticed that {noticed}")
        else:
            sys.exit("a store that does not wait for the disk was not noticed: this looks at nothing")
    if len(answers) != len(asked):
        sys.exit(f"{len(asked)} requests were answered, and {len(answers)} answers were seen in the trace")
    for (what, unsynced), request in zip(answers, asked):
        # The bucket is gone with its directory's name; what the index has of it is cleared later, or by the next start.
        late = [path for path in unsynced if not (request == "delete_bucket" and path.endswith("/index.redb"))]
        if late:
            sys.exit(f"{request} was answered {what} while not on the disk: {', '.join(sorted(late))}")
        print(f"ok {request}: {what}, nothing unsynced")


def ask(home, program, *options):
    """Runs a new store under strace and sends it one request after another; what was sent."""
    shutil.rmtree(home / "dir", ignore_errors=True)
    environment = {**os.environ, "STORE_ACCESS_KEY_ID": KEY, "STORE_SECRET_ACCESS_KEY": SECRET}
    strace = ["strace", "-f", "-y", "-s", "32", "-o", home / "trace", "-e", f"trace={WATCHED}"]
    serve = [program, "serve", home / "dir", "--listen", "127.0.0.1:0", *options]
    log = open(home / "log", "w")
    # A group of its own, so that the store gets the signal too, and strace sees it end.
    running = subprocess.Popen([*strace, *serve], env=environment, stdout=subprocess.PIPE, stderr=log, text=True, process_group=0)
    try:
        line = running.stdout.readline()
        endpoint = re.search(r"http://[^\s'\"]+", line)
        if not endpoint:
            sys.exit(f"the store did not start: {line}{(home / 'log').read_text()}")
        return requests(endpoint.group())
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(30)
        log.close()


def requests(endpoint):
    """Each kind of request that changes something, at least once; in order."""
    config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET, config=config)
    asked = []

    def send(name, **parameters):
        asked.append(name)
        # What is removed behind an answer's back is not this answer's any more.
        time.sleep(0.05)
        return getattr(s3, name)(Bucket="bucket", **parameters)

    send("create_bucket")
    for size in (0, 1, 300_000, 2_000_000):
        send("put_object", Key="key", Body=os.urandom(size))
    send("put_object", Key="folder/", Body=b"")
    send("put_object_tagging", Key="key", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    send("put_object_acl", Key="key", ACL="public-read")
    send("copy_object", Key="copy", CopySource="bucket/key")
    upload = send("create_multipart_upload", Key="parts")["UploadId"]
    part = {"Key": "parts", "UploadId": upload}
    first = send("upload_part", PartNumber=1, Body=os.urandom(5 << 20), **part)["ETag"]
    send("upload_part", PartNumber=2, Body=os.urandom(100), **part)
    second = send("upload_part", PartNumber=2, Body=os.urandom(200), **part)["ETag"]
    parts = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]
    send("complete_multipart_upload", MultipartUpload={"Parts": parts}, **part)
    given_up = send("create_multipart_upload", Key="given-up")["UploadId"]
    send("upload_part", Key="given-up", UploadId=given_up, PartNumber=1, Body=b"part")
    send("abort_multipart_upload", Key="given-up", UploadId=given_up)
    send("delete_object", Key="key")
    # One key: of several each is a change of its own, and the next begins while the file of the one before is removed.
    send("delete_objects", Delete={"Objects": [{"Key": "copy"}]})
    send("delete_object", Key="parts")
    rules = [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}]
    send("put_bucket_cors", CORSConfiguration={"CORSRules": rules})
    send("delete_object", Key="folder/")
    send("delete_bucket")
    return asked


CALL = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")
PATH = re.compile(r'"([^"]*)"')
OPEN_FILE = re.compile(r"^\d+<([^>]*)>")


class Disk:
    """What has changed below a directory and is not synced: files by path, directories whose names have changed."""

    def __init__(self, root):
        self.root, self.unsynced = root, {}
        self.time = 0

    def change(self, path):
        self.time += 1
        if self.matters(path):
            self.unsynced[path] = self.time

    def named(self, path):
        """A name that is new in its directory."""
        if self.matters(path):
            self.change(os.path.dirname(path))

    def matters(self, path):
        return path.startswith(self.root) and not any(harmless in path[len(self.root) :] for harmless in NO_MATTER)

    def gone(self, path):
        """What has lost its only name need not be kept; that it has lost it need not be, either: a start removes it again."""
        self.unsynced.pop(path, None)

    def renamed(self, old, new):
        if old in self.unsynced:
            sys.exit(f"{old} got its name before its bytes were on the disk")
        self.named(new)

    def commits(self):
        """The index's first bytes say which of its pages count."""
        early = [path for path in self.unsynced if "/buckets/" in path]
        if early:
            sys.exit(f"the index was committed before what it names was on the disk: {', '.join(sorted(early))}")

    def synced(self, path, began):
        if self.unsynced.get(path, began + 1) <= began:
            del self.unsynced[path]


def judge(trace, root):
    """Each answer of the store that was not a refusal, and what was unsynced when it was given."""
    disk, begun, answers = Disk(root), {}, []
    for line in trace.read_text(errors="replace").splitlines():
        found = CALL.match(line)
        if not found:
            continue
        thread, resumed, name, rest = found.groups()
        if name:
            begun[thread] = (rest, disk.time)
        unfinished = rest.endswith("<unfinished ...>")
        name, (arguments, began) = name or resumed, begun.get(thread, ("", 0))
        if not resumed and name in ("write", "writev", "sendto", "sendmsg") and "<socket:" in arguments[:40]:
            answer = re.search(r'"HTTP/1\.1 (2\d\d) ', arguments)
            if answer:
                answers.append((answer.group(1), set(disk.unsynced)))
            continue
        file = OPEN_FILE.match(arguments)
        if not resumed and name in ("write", "writev", "pwrite64", "pwritev", "ftruncate", "fallocate") and file:
            disk.change(file.group(1))
            if name == "pwrite64" and file.group(1).endswith("/index.redb") and arguments.startswith(", 0", arguments.rindex(",")):
                disk.commits()
        if unfinished:
            continue
        if " = -1 " in rest or " = ? " in rest:
            continue
        paths = PATH.findall(arguments)
        if name in ("fsync", "fdatasync") and file:
            disk.synced(file.group(1), began)
        elif name == "openat" and "O_CREAT" in arguments and paths:
            disk.named(paths[0])
            disk.change(paths[0])
        elif name in ("mkdir", "mkdirat") and paths:
            disk.named(paths[0])
        elif name.startswith("rename") and len(paths) == 2:
            disk.renamed(*paths)
        elif name.startswith("link") and len(paths) == 2:
            disk.named(paths[1])
        elif name.startswith("unlink") and paths:
            # Relative to an open directory, whose path strace tells.
            path = os.path.join(file.group(1) if file else "", paths[0])
            if disk.matters(path) and any(changed.endswith("/index.redb") for changed in disk.unsynced):
                sys.exit(f"{path} was removed before the index that no longer names it was on the disk")
            disk.gone(path)
    return answers


if __name__ == "__main__":
    main()
