"""What clients asked of a store and were told, and what they may therefore find in it after a power cut.

Of each thing, an object for one, every request makes the next of its states. After a cut it is in the state that the last
answered request made, or in the next one, whose answer may have been cut off.
"""

import dataclasses
import os
import threading

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

KEY, SECRET = "POWERCUTPOWERCUTPOWE", "power-cut-secret"
BUCKET = "bucket"
RULES = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]
LEAST_PART = 5 << 20


class Wrong(Exception):
    """What is there is nothing that was ever to be there."""


def client(endpoint):
    config = Config(
        retries={"max_attempts": 0},
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET, config=config
    )


@dataclasses.dataclass(frozen=True)
class Open:
    """An upload's parts: number -> (ETag, bytes)."""

    parts: tuple = ()


@dataclasses.dataclass(frozen=True)
class Ended:
    """An upload that became an object or was given up; which, its key tells."""


class Thing:
    """Something that one client after the other changes."""

    def __init__(self, state=None):
        self.steps = [(None, state)]

    def become(self, state, answer):
        self.steps.append((answer["ResponseMetadata"]["RequestId"], state))

    def may_be(self, answered):
        """The state that was answered last, and the next one if there is one."""
        last = max(place for place, (request, _) in enumerate(self.steps) if request is None or request in answered)
        return [state for _, state in self.steps[last : last + 2]]


class History:
    def __init__(self):
        self.objects, self.uploads, self.buckets, self.rules = {}, {}, {}, {}

    def object(self, key, bucket=BUCKET):
        return self.objects.setdefault((bucket, key), Thing())

    def requests(self):
        things = [self.objects, self.uploads, self.buckets, self.rules]
        return {request for kind in things for thing in kind.values() for request, _ in thing.steps if request}


def write(endpoint):
    """Has four clients change things at the same time, so that they share commits; what they were told."""
    history, failed = History(), []
    bucket = history.buckets.setdefault(BUCKET, Thing(False))
    bucket.become(True, client(endpoint).create_bucket(Bucket=BUCKET))

    def run(work):
        try:
            work(client(endpoint), history)
        except Exception as failure:
            failed.append(failure)

    threads = [threading.Thread(target=run, args=(work,)) for work in (objects, uploads, small, buckets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return history


def objects(s3, history):
    """Puts, replaces, copies, says other things of, deletes."""
    first, copy = history.object("first"), history.object("copy")
    for size in (0, 1, 100_000, 4096, 700_000):
        body = os.urandom(size)
        first.become((body, ()), s3.put_object(Bucket=BUCKET, Key="first", Body=body))
        # By a second name for the same file.
        copy.become((body, ()), s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/first"))
        tags = {"TagSet": [{"Key": "size", "Value": str(size)}]}
        answer = s3.put_object_tagging(Bucket=BUCKET, Key="first", Tagging=tags)
        first.become((body, (("size", str(size)),)), answer)
        if size % 2 == 0:
            first.become(None, s3.delete_object(Bucket=BUCKET, Key="first"))


def uploads(s3, history):
    """Completes, replaces parts and objects, gives up, and leaves open."""

    def create(key):
        answer = s3.create_multipart_upload(Bucket=BUCKET, Key=key)
        upload = history.uploads.setdefault((key, answer["UploadId"]), Thing())
        upload.become(Open(), answer)
        return {"Bucket": BUCKET, "Key": key, "UploadId": answer["UploadId"]}, upload

    def part(where, upload, number, size):
        body = os.urandom(size)
        answer = s3.upload_part(PartNumber=number, Body=body, **where)
        parts = {**dict(upload.steps[-1][1].parts), number: (answer["ETag"], body)}
        upload.become(Open(tuple(sorted(parts.items()))), answer)

    def complete(where, upload):
        parts = dict(upload.steps[-1][1].parts)
        listed = [{"PartNumber": number, "ETag": etag} for number, (etag, _) in parts.items()]
        answer = s3.complete_multipart_upload(MultipartUpload={"Parts": listed}, **where)
        body = b"".join(body for _, body in parts.values())
        upload.become(Ended(), answer)
        history.object(where["Key"]).become((body, ()), answer)

    large = create("parts")
    part(*large, 1, LEAST_PART)
    part(*large, 2, 100)
    part(*large, 2, 200_000)
    complete(*large)
    where, upload = create("given up")
    part(where, upload, 1, 1000)
    upload.become(Ended(), s3.abort_multipart_upload(**where))
    for size in (3000, 50_000):
        again = create("parts")
        part(*again, 7, size)
        complete(*again)
    history.object("parts").become(None, s3.delete_object(Bucket=BUCKET, Key="parts"))
    left = create("open")
    part(*left, 3, 5000)
    part(*left, 3, 6000)


def small(s3, history):
    """One key after the other, to fill the others' transactions; and a few deleted at once."""
    keys = [f"small/{number}" for number in range(12)]
    for key in keys:
        body = os.urandom(2000)
        history.object(key).become((body, ()), s3.put_object(Bucket=BUCKET, Key=key, Body=body))
    listed = [{"Key": key} for key in keys[::2]]
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": listed})
    for key in keys[::2]:
        history.object(key).become(None, answer)


def buckets(s3, history):
    """The same name twice, with other contents."""
    bucket, rules = history.buckets.setdefault("other", Thing(False)), history.rules.setdefault("other", Thing())
    thing = history.object("key", "other")
    for number in range(2):
        bucket.become(True, s3.create_bucket(Bucket="other"))
        rules.become(RULES, s3.put_bucket_cors(Bucket="other", CORSConfiguration={"CORSRules": RULES}))
        body = b"of bucket %d" % number
        thing.become((body, ()), s3.put_object(Bucket="other", Key="key", Body=body))
        thing.become(None, s3.delete_object(Bucket="other", Key="key"))
        answer = s3.delete_bucket(Bucket="other")
        bucket.become(False, answer)
        rules.become(None, answer)


def judge(s3, history, answered):
    """Holds everything in a store that was begun anew against what had been answered when the power went."""
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name, bucket in history.buckets.items():
        allow(bucket, answered, name in there, f"the bucket {name}")
    for name, rules in history.rules.items():
        allow(rules, answered, ask(s3.get_bucket_cors, "CORSRules", Bucket=name), f"the CORS rules of {name}")
    listed = {(name, item["Key"]) for name in there for item in s3.list_objects_v2(Bucket=name).get("Contents", [])}
    for (bucket, key), thing in history.objects.items():
        body, tags = ask(s3.get_object, "Body", Bucket=bucket, Key=key), ()
        if body is not None:
            body = body.read()
            found = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
            tags = tuple((tag["Key"], tag["Value"]) for tag in found)
        if (body is not None) != ((bucket, key) in listed):
            raise Wrong(f"{bucket}/{key} is listed, or can be read, but not both")
        allow(thing, answered, None if body is None else (body, tags), f"{bucket}/{key}")
    unknown = listed - set(history.objects)
    if unknown:
        raise Wrong(f"objects that nobody put: {unknown}")
    for (key, upload_id), upload in history.uploads.items():
        judge_upload(s3, {"Bucket": BUCKET, "Key": key, "UploadId": upload_id}, upload.may_be(answered))


def judge_upload(s3, where, states):
    found = ask(s3.list_parts, "Parts", **where)
    if states[0] is None:
        return  # Whoever created it was not told, and its parts are of later.
    if found is None:
        if not any(isinstance(state, Ended) for state in states):
            raise Wrong(f"the upload of {where['Key']} is gone")
        return
    found = {part["PartNumber"]: part["ETag"] for part in found}
    for state in states:
        if isinstance(state, Open) and found == {number: etag for number, (etag, _) in state.parts}:
            if not found:
                return
            listed = [{"PartNumber": number, "ETag": etag} for number, etag in found.items()]
            s3.complete_multipart_upload(MultipartUpload={"Parts": listed}, **where)
            body = s3.get_object(Bucket=BUCKET, Key=where["Key"])["Body"].read()
            if body != b"".join(body for _, (_, body) in state.parts):
                raise Wrong(f"the upload of {where['Key']} was completed, but of other bytes")
            return
    raise Wrong(f"the upload of {where['Key']} has the parts {found}")


def allow(thing, answered, found, what):
    if found not in thing.may_be(answered):
        raise Wrong(f"{what} is {brief(found)}, not one of {[brief(state) for state in thing.may_be(answered)]}")


def brief(state):
    if isinstance(state, tuple) and isinstance(state[0], bytes):
        return f"{len(state[0])} bytes {state[0][:8].hex()}… {state[1]}"
    return "gone" if state is None else str(state)


def ask(call, field, **parameters):
    """A field of an answer, empty or not; nothing for what is not there. An answer of 5xx or 403 is a failure."""
    try:
        return call(**parameters).get(field, [])
    except ClientError as refused:
        if refused.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise Wrong(f"{call.__name__} of {parameters}: {refused}") from refused
        return None
