"""s3cmd by both signatures: trees, ACLs, copies, headers, open uploads, signed URLs."""

from .boto import client
from .stand import expect, expect_equal_trees, expect_file, send

NEEDS = ["s3cmd", "curl"]


def run(stand):
    settings = {
        "access_key": stand.key,
        "secret_key": stand.secret,
        "host_base": stand.host,
        "host_bucket": stand.host,
        "bucket_location": stand.region,
        "use_https": "False",
        "signurl_use_https": "False",
        "max_retries": "1",
        "progress_meter": "False",
    }
    lines = ["[default]", *(f"{name} = {value}" for name, value in settings.items())]
    (stand.home / ".s3cfg").write_text("\n".join(lines) + "\n")
    for name, options in (("V4", []), ("V2", ["--signature-v2"])):
        all_of_it(stand, name, f"s3cmd-{name.lower()}", options)


def all_of_it(stand, name, bucket, options):
    s3, remote = client(stand), f"s3://{bucket}"

    def s3cmd(*words, **more):
        return stand.run("s3cmd", *options, *words, **more).expect_not("WARNING", "Traceback")

    s3cmd("mb", remote).expect("created")
    s3cmd("ls").expect(remote)
    tree = stand.make_tree(f"s3cmd/{name}")
    s3cmd("sync", f"{tree}/", f"{remote}/tree/").expect("upload:")
    s3cmd("sync", f"{tree}/", f"{remote}/tree/").expect_not("upload:")
    back = stand.home / f"s3cmd-back-{name}"
    back.mkdir()
    s3cmd("sync", f"{remote}/tree/", f"{back}/").expect("download:")
    expect_equal_trees(tree, back)
    s3cmd("sync", f"{remote}/tree/", f"{back}/").expect_not("download:")
    s3cmd("ls", f"{remote}/tree/").expect("DIR", "one-byte")
    stand.ok(f"s3cmd {name}: mb, sync twice each way, the second sends nothing, the same back")

    path = stand.make_file("s3cmd/20MiB.bin", 20 << 20)
    s3cmd("put", path, f"{remote}/large")
    s3cmd("get", "--force", f"{remote}/large", stand.home / "large")
    expect_file((stand.home / "large").read_bytes(), path, "s3cmd put and get")
    open_upload(s3, s3cmd, bucket)
    url = f"{stand.endpoint}/{bucket}/large"
    expect(send("GET", url)[0] == 403, "a private object was read by anybody")
    s3cmd("setacl", "--acl-public", f"{remote}/large").expect("ACL set to Public")
    expect_file(send("GET", url)[1], path, "an object made public by s3cmd setacl")
    s3cmd("info", f"{remote}/large").expect("20971520", "READ", "MD5 sum")
    s3cmd("setacl", "--acl-private", f"{remote}/large").expect("ACL set to Private")
    expect(send("GET", url)[0] == 403, "a private object was read by anybody")
    s3cmd("info", remote).expect("Location")
    stand.ok(f"s3cmd {name}: put in parts and get, uploads listed and aborted, setacl, info")

    signed = s3cmd("signurl", f"{remote}/large", "+60").text.strip().splitlines()[-1]
    expect_file(stand.run("curl", "--silent", "--show-error", "--fail", signed).bytes, path, "s3cmd signurl, and curl")
    s3cmd("cp", f"{remote}/large", f"{remote}/copy").expect("remote copy:")
    s3cmd("mv", f"{remote}/copy", f"{remote}/moved").expect("move:")
    s3cmd("modify", "--add-header=x-amz-meta-who:me", "--mime-type=text/x-moved", f"{remote}/moved").expect("modify:")
    head = s3.head_object(Bucket=bucket, Key="moved")
    told = head["ContentType"], head["Metadata"].get("who"), head["ContentLength"]
    expect(told == ("text/x-moved", "me", 20 << 20), f"after s3cmd modify the object has {told}")
    expect([key["Key"] for key in s3.list_objects_v2(Bucket=bucket, Delimiter="/")["Contents"]] == ["large", "moved"], "s3cmd mv")
    size = sum(file.stat().st_size for file in tree.rglob("*") if file.is_file())
    s3cmd("du", f"{remote}/tree/").expect(f"{size} ")
    s3cmd("rb", remote, status=(13,)).expect("BucketNotEmpty")
    s3cmd("del", "--recursive", "--force", remote).expect("delete:")
    s3cmd("rb", remote).expect("removed")
    expect(bucket not in [found["Name"] for found in s3.list_buckets()["Buckets"]], "s3cmd rb left the bucket")
    stand.ok(f"s3cmd {name}: signurl, cp, mv, modify, du, del of all, rb")


def open_upload(s3, s3cmd, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="open one")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="open one", UploadId=upload, PartNumber=1, Body=b"part")
    s3cmd("multipart", f"s3://{bucket}").expect("open one", upload)
    s3cmd("listmp", f"s3://{bucket}/open one", upload).expect("\t1\t", "\t4")
    s3cmd("abortmp", f"s3://{bucket}/open one", upload)
    s3cmd("multipart", f"s3://{bucket}").expect_not(upload)
