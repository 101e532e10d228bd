"""The AWS command line: a tree with empty files again and again, pipes, moves, presigned URLs, what it asks of a bucket."""

import json
import time

from .boto import client
from .stand import expect, expect_equal_trees, expect_file

NEEDS = ["aws", "curl"]
SYNCS = 20


def run(stand):
    stand.run("aws", "s3", "mb", "s3://aws-bucket").expect("make_bucket: aws-bucket")
    stand.run("aws", "s3", "ls").expect("aws-bucket")
    copies(stand)
    trees(stand)
    told = stand.run("aws", "s3api", "list-object-versions", "--bucket", "aws-bucket", "--prefix", "tree-0/empty")
    versions = [(version["Key"], version["VersionId"], version["IsLatest"]) for version in json.loads(told.bytes)["Versions"]]
    expect(versions == [("tree-0/empty", "null", True)], f"the versions of a bucket without are {versions}")
    stand.run("aws", "s3api", "get-bucket-versioning", "--bucket", "aws-bucket").expect_not("Status")
    stand.run("aws", "s3api", "list-multipart-uploads", "--bucket", "aws-bucket").expect_not("UploadId")
    stand.ok("aws s3api: versions and uploads of a bucket that has none")
    stand.run("aws", "s3", "rb", "s3://aws-bucket", status=(1,)).expect("BucketNotEmpty")
    stand.run("aws", "s3", "rm", "--recursive", "--only-show-errors", "s3://aws-bucket")
    left = stand.run("aws", "s3", "ls", "--recursive", "s3://aws-bucket").text
    expect(left == "", f"aws s3 rm left {left}")
    stand.run("aws", "s3", "rb", "s3://aws-bucket").expect("remove_bucket: aws-bucket")
    stand.run("aws", "s3", "ls", "s3://aws-bucket", status=(254, 255)).expect("NoSuchBucket")
    stand.ok("aws s3: rb refused while there is something, rm of all, rb")


def copies(stand):
    s3 = client(stand)

    def stored(key):
        return s3.get_object(Bucket="aws-bucket", Key=key)["Body"].read()

    large = stand.make_file("aws/20MiB.bin", 20 << 20)
    stand.run("aws", "s3", "cp", "--no-progress", large, "s3://aws-bucket/large").expect("upload:")
    expect_file(stored("large"), large, "aws s3 cp")
    stand.run("aws", "s3", "cp", "--no-progress", "--checksum-algorithm", "SHA256", large, "s3://aws-bucket/summed")
    expect_file(stored("summed"), large, "aws s3 cp --checksum-algorithm SHA256")
    stand.run("aws", "s3", "cp", "--no-progress", "s3://aws-bucket/summed", stand.home / "back")
    expect_file((stand.home / "back").read_bytes(), large, "aws s3 cp back")
    for data in (b"", b"one line\n", large.read_bytes()):
        stand.run("aws", "s3", "cp", "-", "s3://aws-bucket/piped", given=data)
        expect(stored("piped") == data, f"{len(data)} bytes by standard input are others in the store")
        piped = stand.run("aws", "s3", "cp", "s3://aws-bucket/piped", "-")
        expect(piped.bytes == data, f"{len(data)} bytes to standard output are others")
    stand.run("aws", "s3", "cp", "--no-progress", "s3://aws-bucket/large", "s3://aws-bucket/copy of large").expect("copy:")
    stand.run("aws", "s3", "mv", "--no-progress", "s3://aws-bucket/copy of large", "s3://aws-bucket/moved").expect("move:")
    expect_file(stored("moved"), large, "aws s3 mv")
    stand.run("aws", "s3", "ls", "s3://aws-bucket/copy", status=(1,))
    url = stand.run("aws", "s3", "presign", "s3://aws-bucket/moved", "--expires-in", "60").text.strip()
    expect_file(stand.run("curl", "--silent", "--show-error", "--fail", url).bytes, large, "aws s3 presign, and curl")
    stand.ok("aws s3: mb, cp of 20 MiB both ways and by SHA-256, pipes both ways, cp and mv in the store, presign")


def trees(stand):
    """botocore waits for a 100 before it sends an empty file, and a store that never says it can keep it waiting."""
    tree, slowest = stand.make_tree("aws/tree"), 0.0
    for number in range(SYNCS):
        began = time.monotonic()
        stand.run("aws", "s3", "sync", "--no-progress", tree, f"s3://aws-bucket/tree-{number}", timeout=60).expect("upload:")
        slowest = max(slowest, time.monotonic() - began)
    again = stand.run("aws", "s3", "sync", "--no-progress", tree, "s3://aws-bucket/tree-0")
    expect(again.text == "", f"the second sync sent something: {again}")
    stand.run("aws", "s3", "sync", "--no-progress", "s3://aws-bucket/tree-0", stand.home / "aws-back")
    expect_equal_trees(tree, stand.home / "aws-back")
    stand.ok(f"aws s3 sync: a tree with empty files {SYNCS} times, the slowest in {slowest:.1f} s; then nothing; the same back")
