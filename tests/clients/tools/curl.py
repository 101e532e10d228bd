"""curl, which signs by itself: `--aws-sigv4`."""

from .boto import client
from .stand import expect, expect_file

NEEDS = ["curl"]


def run(stand):
    s3, path = client(stand), stand.make_file("curl/file.bin", 70_001)
    s3.create_bucket(Bucket="curl-bucket")
    # Of a file, curl signs the payload as a person tells it, since it does not read it twice.
    unsigned = ["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]
    for key, source in (("file", path), ("empty", stand.make_file("curl/empty", 0))):
        curl(stand, *unsigned, "--upload-file", source, f"{stand.endpoint}/curl-bucket/{key}")
        expect_file(s3.get_object(Bucket="curl-bucket", Key=key)["Body"].read(), source, "curl --upload-file")
        expect_file(curl(stand, *unsigned, f"{stand.endpoint}/curl-bucket/{key}").bytes, source, "curl")
    curl(stand, *unsigned, f"{stand.endpoint}/curl-bucket?list-type=2&prefix=f").expect("<Key>file</Key>")
    curl(stand, *unsigned, "--request", "DELETE", f"{stand.endpoint}/curl-bucket/file")
    expect("file" not in str(s3.list_objects_v2(Bucket="curl-bucket")["Contents"]), "curl --request DELETE")
    stand.ok("curl --aws-sigv4: put, get, list, delete")
    wrong = ["--silent", "--user", f"{stand.key}:wrong", *signing(stand), *unsigned]
    stand.run("curl", *wrong, f"{stand.endpoint}/curl-bucket/empty").expect("<Code>SignatureDoesNotMatch</Code>")
    stand.ok("curl --aws-sigv4: a wrong secret refused")


def signing(stand):
    return ["--aws-sigv4", f"aws:amz:{stand.region}:s3"]


def curl(stand, *words):
    keys = ["--user", f"{stand.key}:{stand.secret}", *signing(stand)]
    return stand.run("curl", "--silent", "--show-error", "--fail-with-body", *keys, *words)
