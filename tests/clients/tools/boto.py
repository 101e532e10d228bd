"""boto3: by both signatures, in headers and presigned; what only version 4 can do; keys that are not file names."""

import io
import os
import uuid

import boto3
import boto3.s3.transfer
import botocore.config
import botocore.exceptions

from .stand import MIB, expect, send

NEEDS = []
ODD_KEYS = [
    "a",
    "a/b",
    "a/b/",
    "x/",
    "a//b",
    "/leading",
    "..",
    "../up",
    "./here",
    "a/../b",
    "tab\tline\nreturn\rbell\x07delete\x7f",
    "tab\tline\nreturn\r.",
    "ünï cödé/日本語/🦀",
    "+ &=%25?#;:@$,'\"<>[]{}|\\^~`!*()",
    "k" * 1024,
    "é" * 512,
]


def run(stand):
    for name, version in (("V4", "s3v4"), ("V2", "s3")):
        s3 = client(stand, version)
        bucket = "boto-" + name.lower()
        s3.create_bucket(Bucket=bucket)
        objects(stand, s3, bucket, name)
        conditions(stand, s3, bucket, name)
        transfers(stand, s3, bucket, name)
        listings(stand, s3, bucket, name)
        presigned(stand, s3, bucket, name)
        odd_keys(stand, s3, bucket, name)
        s3.delete_bucket(Bucket=bucket)
    s3, bucket = client(stand, "s3v4"), "boto-more"
    s3.create_bucket(Bucket=bucket)
    checksums(stand, s3, bucket)
    tags(stand, s3, bucket)
    public_read(stand, s3, bucket)
    cors(stand, s3, bucket)
    form(stand, s3, bucket)


def client(stand, version="s3v4"):
    config = botocore.config.Config(
        signature_version=version, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=60
    )
    return boto3.client(
        "s3",
        endpoint_url=stand.endpoint,
        region_name=stand.region,
        aws_access_key_id=stand.key,
        aws_secret_access_key=stand.secret,
        config=config,
    )


def refused(call, status, code=None, **arguments):
    """Expects a call to be refused."""
    try:
        answer = call(**arguments)
    except botocore.exceptions.ClientError as error:
        told = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        expect(told == (status, code or told[1]), f"{call.__name__} of {arguments} was answered {told}, not {status} {code}")
        return
    expect(False, f"{call.__name__} of {arguments} was not refused with {status} {code}, but answered {answer}")


def objects(stand, s3, bucket, name):
    data = os.urandom(100_000)
    s3.put_object(Bucket=bucket, Key="one", Body=data, ContentType="text/x-one", Metadata={"who": "me", "spaced": "a  b"})
    got = s3.get_object(Bucket=bucket, Key="one")
    expect(got["Body"].read() == data, "get differs from put")
    head = s3.head_object(Bucket=bucket, Key="one")
    told = head["ContentType"], head["Metadata"].get("who"), head["ContentLength"], head["ETag"]
    expect(told == ("text/x-one", "me", 100_000, got["ETag"]), f"head tells {told}")
    for asked, start, end in (("bytes=10-19", 10, 20), ("bytes=-5", 99_995, None), ("bytes=99990-", 99_990, None)):
        part = s3.get_object(Bucket=bucket, Key="one", Range=asked)
        expect(part["Body"].read() == data[start:end], f"the range {asked} differs")
    refused(s3.get_object, 416, "InvalidRange", Bucket=bucket, Key="one", Range="bytes=100000-")
    s3.upload_fileobj(io.BytesIO(b""), bucket, "empty")
    expect(s3.get_object(Bucket=bucket, Key="empty")["Body"].read() == b"", "the empty object is not empty")
    s3.delete_object(Bucket=bucket, Key="empty")
    s3.delete_object(Bucket=bucket, Key="never-was")
    refused(s3.head_object, 404, Bucket=bucket, Key="empty")
    refused(s3.get_object, 404, "NoSuchKey", Bucket=bucket, Key="empty")
    refused(s3.delete_bucket, 409, "BucketNotEmpty", Bucket=bucket)
    stand.ok(f"boto3 {name}: put, get, ranges, head, metadata, an empty file, delete")


def conditions(stand, s3, bucket, name):
    etag = s3.put_object(Bucket=bucket, Key="one", Body=b"first")["ETag"]
    refused(s3.get_object, 304, Bucket=bucket, Key="one", IfNoneMatch=etag)
    refused(s3.get_object, 412, "PreconditionFailed", Bucket=bucket, Key="one", IfMatch='"other"')
    refused(s3.put_object, 412, "PreconditionFailed", Bucket=bucket, Key="one", Body=b"second", IfNoneMatch="*")
    refused(s3.put_object, 412, "PreconditionFailed", Bucket=bucket, Key="one", Body=b"second", IfMatch='"other"')
    expect(s3.get_object(Bucket=bucket, Key="one", IfMatch=etag)["Body"].read() == b"first", "a refused put took effect")
    s3.put_object(Bucket=bucket, Key="one", Body=b"second", IfMatch=etag)
    expect(s3.get_object(Bucket=bucket, Key="one", IfNoneMatch=etag)["Body"].read() == b"second", "If-Match did not let pass")
    stand.ok(f"boto3 {name}: conditional reads and writes")


def transfers(stand, s3, bucket, name):
    """20 MiB, which boto3 sends in parts, and copies in parts where it is told to."""
    data = os.urandom(20 * MIB)
    s3.upload_fileobj(io.BytesIO(data), bucket, "large", ExtraArgs={"Metadata": {"who": "me"}, "ContentType": "text/x-large"})
    expect(s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-3"'), "20 MiB were not sent in parts")
    s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copied whole")
    in_parts = boto3.s3.transfer.TransferConfig(multipart_threshold=8 * MIB)
    s3.copy({"Bucket": bucket, "Key": "large"}, bucket, "copied in parts", Config=in_parts)
    for key in ("large", "copied whole", "copied in parts"):
        into = io.BytesIO()
        s3.download_fileobj(bucket, key, into)
        expect(into.getvalue() == data, f"{key} differs from what was sent")
    head = s3.head_object(Bucket=bucket, Key="copied whole")
    expect((head["ContentType"], head["Metadata"]) == ("text/x-large", {"who": "me"}), f"the copy has {head}")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="given up")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="given up", UploadId=upload, PartNumber=1, Body=b"part")
    parts = s3.list_parts(Bucket=bucket, Key="given up", UploadId=upload)["Parts"]
    expect([(part["PartNumber"], part["Size"]) for part in parts] == [(1, 4)], f"the parts are {parts}")
    expect([found["Key"] for found in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["given up"], "one upload is open")
    s3.abort_multipart_upload(Bucket=bucket, Key="given up", UploadId=upload)
    refused(s3.list_parts, 404, "NoSuchUpload", Bucket=bucket, Key="given up", UploadId=upload)
    stand.ok(f"boto3 {name}: 20 MiB in parts, copied whole and in parts; an upload listed and aborted")


def listings(stand, s3, bucket, name):
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys(s3, bucket)]})
    expect(keys(s3, bucket) == [], "DeleteObjects left something")
    names = ["dir/1", "dir/2", "dir/sub/3", "dir/sub/4", "top 1", "top 2"]
    for key in names:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    for operation in ("list_objects", "list_objects_v2"):
        for prefix, found, folders in (("", names[4:], ["dir/"]), ("dir/", names[:2], ["dir/sub/"])):
            pages = list(
                s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter="/", Prefix=prefix, PaginationConfig={"PageSize": 1})
            )
            told = [item["Key"] for page in pages for item in page.get("Contents", [])]
            prefixes = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
            expect((told, prefixes) == (found, folders), f"{operation} of {prefix!r} tells {told} and {prefixes}")
    told = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in names], "Quiet": True})
    expect("Deleted" not in told and "Errors" not in told, f"a quiet delete tells {told}")
    expect(keys(s3, bucket) == [], "DeleteObjects left something")
    stand.ok(f"boto3 {name}: both listings, by delimiter, page by page; many deleted at once")


def keys(s3, bucket):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def presigned(stand, s3, bucket, name):
    def url(operation, **arguments):
        return s3.generate_presigned_url(operation, Params={"Bucket": bucket, "Key": "by url", **arguments}, ExpiresIn=300)

    typed = {"Content-Type": "text/x-typed", "x-amz-meta-who": "me"}
    put = url("put_object", ContentType="text/x-typed", Metadata={"who": "me"})
    put = send("PUT", put, b"12345", typed)
    expect(put[0] == 200, f"a presigned put is answered {put}")
    got = send("GET", url("get_object"))
    expect(got == (200, b"12345"), f"a presigned get is answered {got}")
    expect(send("GET", url("get_object"), headers={"Range": "bytes=1-2"}) == (206, b"23"), "a presigned get of a range")
    attached = send("GET", url("get_object", ResponseContentType="text/x-asked"))
    expect(attached == (200, b"12345"), f"a presigned get with another type is answered {attached}")
    expect(send("HEAD", url("head_object")) == (200, b""), "a presigned head")
    expect(s3.head_object(Bucket=bucket, Key="by url")["Metadata"] == {"who": "me"}, "the metadata of a presigned put")
    tampered = url("get_object").replace("by%20url", "by%20other")
    expect(send("GET", tampered)[0] == 403, "a URL for another key was not refused")
    if name == "V4":
        stolen = send("PUT", url("put_object"), b"", {"x-amz-copy-source": f"/{bucket}/by url", "Content-Type": ""})
        expect(stolen[0] == 403, f"a header that was not signed took effect: {stolen}")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="by url")["UploadId"]
    part = send("PUT", url("upload_part", UploadId=upload, PartNumber=1), b"in a part", {"Content-Type": ""})
    expect(part[0] == 200, f"a presigned part is answered {part}")
    etag = s3.list_parts(Bucket=bucket, Key="by url", UploadId=upload)["Parts"][0]["ETag"]
    done = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="by url", UploadId=upload, MultipartUpload=done)
    expect(send("GET", url("get_object")) == (200, b"in a part"), "an object of a presigned part")
    expect(send("DELETE", url("delete_object"))[0] == 204, "a presigned delete")
    refused(s3.head_object, 404, Bucket=bucket, Key="by url")
    stand.ok(f"boto3 {name}: presigned put, part, get, range, head, delete; a URL for another key refused")


def odd_keys(stand, s3, bucket, name):
    for key in ODD_KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in ODD_KEYS:
        expect(s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode(), f"the object {key!r} is another")
        url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
        expect(send("GET", url) == (200, key.encode()), f"the object {key!r} by {url} is another")
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
        expect(s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == key.encode(), f"the copy of {key!r} is of another")
    s3.delete_object(Bucket=bucket, Key="copy")
    in_order = sorted(ODD_KEYS, key=str.encode)
    expect(keys(s3, bucket) == in_order, f"the listing has {keys(s3, bucket)}")
    pages = s3.get_paginator("list_objects").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
    told = [item["Key"] for page in pages for item in page.get("Contents", [])]
    expect(told == in_order, f"the first version's listing, one by one, has {told}")
    refused(s3.put_object, 400, "KeyTooLongError", Bucket=bucket, Key="k" * 1025, Body=b"")
    # XML cannot carry some characters, so that a tool has to delete those keys one by one, from AWS too.
    carried = [key for key in ODD_KEYS if "\x07" not in key]
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in carried]})
    told = sorted((item["Key"] for item in done["Deleted"]), key=str.encode)
    expect(told == sorted(carried, key=str.encode), f"told as deleted are {told}")
    for key in set(ODD_KEYS) - set(carried):
        s3.delete_object(Bucket=bucket, Key=key)
    expect(keys(s3, bucket) == [], f"after all were deleted there is {keys(s3, bucket)}")
    stand.ok(f"boto3 {name}: {len(ODD_KEYS)} odd keys put, read, presigned, copied, listed in order, deleted")


def checksums(stand, s3, bucket):
    told = []
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        member = f"Checksum{algorithm}"
        try:
            put = s3.put_object(Bucket=bucket, Key="summed", Body=b"123456789", ChecksumAlgorithm=algorithm)
        except botocore.exceptions.MissingDependencyException:
            stand.leave_out(f"boto3: checksum {algorithm}", "botocore has it by awscrt only, which is not installed")
            continue
        head = s3.head_object(Bucket=bucket, Key="summed", ChecksumMode="ENABLED")
        expect(put[member] and head[member] == put[member], f"put tells {put.get(member)}, head {head.get(member)}")
        expect(s3.get_object(Bucket=bucket, Key="summed", ChecksumMode="ENABLED")["Body"].read() == b"123456789", algorithm)
        wrong = {member: other_checksum(put[member])}
        refused(s3.put_object, 400, "BadDigest", Bucket=bucket, Key="summed", Body=b"123456789", **wrong)
        s3.upload_fileobj(io.BytesIO(os.urandom(9 * MIB)), bucket, "in parts", ExtraArgs={"ChecksumAlgorithm": algorithm})
        large = s3.head_object(Bucket=bucket, Key="in parts", ChecksumMode="ENABLED")
        expect(large.get(member), f"an object in parts has no {member}: {large}")
        s3.download_fileobj(bucket, "in parts", io.BytesIO())
        told.append(algorithm)
    stand.ok(f"boto3 V4: checksums of objects and of parts, a wrong one refused: {', '.join(told)}")


def other_checksum(checksum):
    """One as long."""
    return ("B" if checksum[0] == "A" else "A") + checksum[1:]


def tags(stand, s3, bucket):
    s3.put_object(Bucket=bucket, Key="tagged", Body=b"", Tagging="colour=blue&size=a%20b")
    wanted = {"colour": "blue", "size": "a b"}
    for _ in range(2):
        told = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=bucket, Key="tagged")["TagSet"]}
        expect(told == wanted, f"the tags are {told}, not {wanted}")
        wanted = {"ünï": "x"}
        tag_set = [{"Key": key, "Value": value} for key, value in wanted.items()]
        s3.put_object_tagging(Bucket=bucket, Key="tagged", Tagging={"TagSet": tag_set})
    s3.delete_object_tagging(Bucket=bucket, Key="tagged")
    expect(s3.get_object_tagging(Bucket=bucket, Key="tagged")["TagSet"] == [], "the tags were not deleted")
    stand.ok("boto3 V4: tags put with the object, read, replaced, deleted")


def public_read(stand, s3, bucket):
    s3.put_object(Bucket=bucket, Key="private", Body=b"mine")
    s3.put_object(Bucket=bucket, Key="public", Body=b"everybody's", ACL="public-read")
    url = f"{stand.endpoint}/{bucket}/"
    expect(send("GET", url + "private")[0] == 403, "a private object was read by anybody")
    expect(send("GET", url + "public") == (200, b"everybody's"), "a public object cannot be read by everybody")
    expect(send("PUT", url + "public", b"x")[0] == 403, "a public object was written by anybody")
    s3.put_object_acl(Bucket=bucket, Key="private", ACL="public-read")
    grants = s3.get_object_acl(Bucket=bucket, Key="private")["Grants"]
    expect("READ" in [grant["Permission"] for grant in grants], f"the grants are {grants}")
    expect(send("GET", url + "private") == (200, b"mine"), "an object that was made public")
    s3.put_object_acl(Bucket=bucket, Key="private", ACL="private")
    expect(send("GET", url + "private")[0] == 403, "an object that was made private again")
    stand.ok("boto3 V4: ACLs; public-read is read without keys, and nothing else is")


def cors(stand, s3, bucket):
    origin = "https://page.example"
    rule = {"AllowedMethods": ["PUT"], "AllowedOrigins": [origin], "AllowedHeaders": ["*"], "ExposeHeaders": ["ETag"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    told = s3.get_bucket_cors(Bucket=bucket)["CORSRules"][0]
    expect({name: told.get(name) for name in rule} == rule, f"the rule came back as {told}")

    def preflight(origin, method):
        asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-md5"}
        return stand.request("OPTIONS", f"/{bucket}/key", asked)

    preflight(origin, "PUT").expect(200, access_control_allow_origin=origin)
    preflight("https://other.example", "PUT").expect(403)
    preflight(origin, "DELETE").expect(403)
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "by a page"})
    target = url.removeprefix(stand.endpoint)
    put = stand.request("PUT", target, {"Origin": origin}, b"x").expect(200, access_control_allow_origin=origin)
    expect("ETag" in put.headers.get("access-control-expose-headers", ""), f"a page cannot read the ETag: {put.headers}")
    s3.delete_bucket_cors(Bucket=bucket)
    preflight(origin, "PUT").expect(403)
    stand.ok("boto3 V4: CORS rules, preflights by them, and a page's put")


def form(stand, s3, bucket):
    post = s3.generate_presigned_post(
        bucket,
        "by form/${filename}",
        Fields={"Content-Type": "text/x-form", "x-amz-meta-who": "me"},
        Conditions=[{"Content-Type": "text/x-form"}, {"x-amz-meta-who": "me"}, ["content-length-range", 1, 1000]],
    )

    def send_form(data):
        boundary = uuid.uuid4().hex
        begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
        fields = "".join(f'{begin}"{name}"\r\n\r\n{value}\r\n' for name, value in post["fields"].items())
        file = f'{begin}"file"; filename="file.bin"\r\n\r\n'
        body = (fields + file).encode() + data + f"\r\n--{boundary}--\r\n".encode()
        return send("POST", post["url"], body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})

    status, answer = send_form(b"data of a form")
    if status == 501:
        stand.leave_out("boto3: forms (generate_presigned_post)", "the store answers 501 NotImplemented")
        return
    expect(status == 204, f"a form is answered {status} {answer}")
    got = s3.get_object(Bucket=bucket, Key="by form/file.bin")
    told = got["Body"].read(), got["ContentType"], got["Metadata"]
    expect(told == (b"data of a form", "text/x-form", {"who": "me"}), f"the form's object is {told}")
    too_large = send_form(b"x" * 1001)
    expect(too_large[0] == 400 and b"EntityTooLarge" in too_large[1], f"a form larger than allowed is answered {too_large}")
    stand.ok("boto3 V4: a form as a browser posts it; one larger than its policy refused")
