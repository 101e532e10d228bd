"""The requests that Cyberduck makes by its profile for version 2 signatures, in path style, sent raw, as that profile is known to send them.

Cyberduck needs a desktop; what it needs of a store is these requests, and what it reads in their answers.
"""

import base64
import email.utils
import hashlib
import hmac
import re
import urllib.parse

from .boto import client
from .stand import expect, send

NEEDS = []
# What version 2 signs of the query ("Signing and authenticating REST requests", CanonicalizedResource).
SUBRESOURCES = (
    "acl cors delete lifecycle location logging notification partNumber policy requestPayment tagging torrent uploadId uploads "
    "versionId versioning versions website"
).split()

FILE = "/duck/folder/%C3%BCn%C3%AF%20%2B%26.txt"
GRANT = """<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="{}">{}</Grantee>
<Permission>{}</Permission></Grant>"""


def run(stand):
    s3 = client(stand)
    s3.create_bucket(Bucket="duck")
    browse(stand, s3)
    folders(stand, s3)
    properties(stand)
    transfers(stand, s3)
    rename_and_delete(stand, s3)
    stand.ok("Cyberduck's requests, V2: delete of many, and of the bucket")


def ask(stand, method, target, body=b"", **headers):
    """One request with an `Authorization: AWS KEY:SIGNATURE`."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers["Date"] = email.utils.formatdate(usegmt=True)
    path, _, query = target.partition("?")
    names = [pair.partition("=")[0] for pair in query.split("&")]
    signed = sorted(pair for pair, name in zip(query.split("&"), names) if name in SUBRESOURCES)
    resource = path + ("?" + "&".join(urllib.parse.unquote(pair) for pair in signed) if signed else "")
    amz = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-amz-"))
    lines = [method, headers.get("Content-MD5", ""), headers.get("Content-Type", ""), headers["Date"], amz + resource]
    signature = base64.b64encode(hmac.new(stand.secret.encode(), "\n".join(lines).encode(), hashlib.sha1).digest()).decode()
    headers["Authorization"] = f"AWS {stand.key}:{signature}"
    headers["User-Agent"] = "Cyberduck/9.1.3.42945 (Mac OS X/15.0) (aarch64)"
    return stand.request(method, target, headers, body)


def listing(stand, prefix):
    """A folder as it is shown: names of files and of folders."""
    target = f"/duck/?delimiter=%2F&max-keys=1000&prefix={urllib.parse.quote(prefix, safe='')}&encoding-type=url"
    answer = ask(stand, "GET", target).expect(200, "<Name>duck</Name>", "<IsTruncated>false</IsTruncated>")
    contents = re.findall(r"<Contents>(.*?)</Contents>", answer.text, re.S)
    for item in contents:
        for wanted in ("<ETag>", "<Size>", "<LastModified>", "<Owner>"):
            expect(wanted in item, f"no {wanted} in an item of a listing: {item}")
    files = [urllib.parse.unquote(re.search("<Key>(.*?)</Key>", item).group(1)) for item in contents]
    prefixes = re.findall(r"<CommonPrefixes><Prefix>(.*?)</Prefix></CommonPrefixes>", answer.text)
    return files, [urllib.parse.unquote(found) for found in prefixes]


def browse(stand, s3):
    for key in ("top.txt", "folder/in it.txt", "folder/deeper/ünï.txt"):
        s3.put_object(Bucket="duck", Key=key, Body=b"x")
    ask(stand, "GET", "/").expect(200, "<Name>duck</Name>", "<CreationDate>", "<Owner>")
    expect(listing(stand, "") == (["top.txt"], ["folder/"]), f"the bucket is shown as {listing(stand, '')}")
    shown = listing(stand, "folder/")
    expect(shown == (["folder/in it.txt"], ["folder/deeper/"]), f"the folder is shown as {shown}")
    ask(stand, "HEAD", "/duck/top.txt").expect(200, content_length="1")
    ask(stand, "HEAD", "/duck/nothing").expect(404)
    ask(stand, "GET", "/nothing/?location").expect(404, "<Code>NoSuchBucket</Code>")
    stand.ok("Cyberduck's requests, V2: buckets, and folders by delimiter")


def folders(stand, s3):
    """A folder is an object whose name ends with a slash; it must be there before and after it has something in it."""
    ask(stand, "PUT", "/duck/new%20folder/", Content_Type="application/x-directory").expect(200)
    ask(stand, "HEAD", "/duck/new%20folder/").expect(200, content_length="0", content_type="application/x-directory")
    expect(listing(stand, "")[1] == ["folder/", "new folder/"], f"the folders are {listing(stand, '')[1]}")
    expect(listing(stand, "new folder/") == (["new folder/"], []), f"the new folder is shown as {listing(stand, 'new folder/')}")
    s3.put_object(Bucket="duck", Key="new folder/file", Body=b"x")
    shown = listing(stand, "new folder/")
    expect(shown == (["new folder/", "new folder/file"], []), f"the new folder is shown as {shown}")
    ask(stand, "HEAD", "/duck/folder/").expect(404)  # never made: only names that begin with it
    stand.ok("Cyberduck's requests, V2: a folder made, looked at, filled")


def properties(stand):
    """What it asks when a bucket is opened, and when its properties are: what is not there must be answered as S3 does."""
    ask(stand, "GET", "/duck/?location").expect(200, "<LocationConstraint")
    ask(stand, "GET", "/duck/?versioning").expect(200, "<VersioningConfiguration")
    ask(stand, "GET", "/duck/?acl").expect(200, "<AccessControlPolicy", "FULL_CONTROL")
    ask(stand, "GET", "/duck/top.txt?acl").expect(200, "<AccessControlPolicy", "FULL_CONTROL")
    ask(stand, "GET", "/duck/?uploads").expect(200, "<ListMultipartUploadsResult")
    ask(stand, "GET", "/duck/?uploads&prefix=folder%2F&delimiter=%2F&max-uploads=1000").expect(200, "<Bucket>duck</Bucket>")
    ask(stand, "GET", "/duck/?cors").expect(404, "<Code>NoSuchCORSConfiguration</Code>")
    ask(stand, "GET", "/duck/?logging").expect(200, "<BucketLoggingStatus")
    ask(stand, "GET", "/duck/?policy").expect(404, "<Code>NoSuchBucketPolicy</Code>")
    ask(stand, "GET", "/duck/?website").expect(404, "<Code>NoSuchWebsiteConfiguration</Code>")
    ask(stand, "GET", "/duck/?requestPayment").expect(200, "<Payer>BucketOwner</Payer>")
    ask(stand, "GET", "/duck/?versions&prefix=top&delimiter=%2F&max-keys=1000").expect(200, "<VersionId>null</VersionId>")
    ask(stand, "GET", "/duck/top.txt?tagging").expect(200, "<TagSet")
    ask(stand, "GET", "/duck/?lifecycle").expect(404, "<Code>NoSuchLifecycleConfiguration</Code>")
    stand.ok("Cyberduck's requests, V2: location, versioning, ACLs, uploads, CORS, lifecycle, logging, policy, website, tags")


def md5(body):
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def transfers(stand, s3):
    body = b"sent by a duck"
    put = ask(stand, "PUT", FILE, body, Content_Type="text/plain", Content_MD5=md5(body), x_amz_meta_who="me")
    put.expect(200, etag=f'"{hashlib.md5(body).hexdigest()}"')
    ask(stand, "GET", FILE).expect(200, body.decode(), x_amz_meta_who="me")
    # Goes on with what was interrupted.
    rest = ask(stand, "GET", FILE, Range="bytes=5-")
    rest.expect(206, content_range=f"bytes 5-{len(body) - 1}/{len(body)}")
    expect(rest.body == body[5:], f"the rest is {rest.body}")
    begun = ask(stand, "POST", "/duck/large?uploads", Content_Type="application/octet-stream").expect(200, "<UploadId>")
    upload = re.search("<UploadId>(.*?)</UploadId>", begun.text).group(1)
    ask(stand, "GET", "/duck/?uploads&prefix=large").expect(200, f"<UploadId>{upload}</UploadId>")
    part = ask(stand, "PUT", f"/duck/large?partNumber=1&uploadId={upload}", body, Content_MD5=md5(body)).expect(200)
    ask(stand, "GET", f"/duck/large?uploadId={upload}&max-parts=1000").expect(200, "<PartNumber>1</PartNumber>", "<Size>14</Size>")
    etag = part.headers["etag"]
    parts = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    done = ask(stand, "POST", f"/duck/large?uploadId={upload}", parts.encode(), Content_Type="text/plain")
    done.expect(200, "<CompleteMultipartUploadResult", "<Key>large</Key>")
    expect(s3.get_object(Bucket="duck", Key="large")["Body"].read() == body, "what was sent in parts")
    owner = re.search("<Owner>.*?(<ID>.*?</ID>)", ask(stand, "GET", "/duck/large?acl").text).group(1)
    grants = GRANT.format("CanonicalUser", owner, "FULL_CONTROL")
    grants += GRANT.format("Group", "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>", "READ")
    policy = f"<AccessControlPolicy><Owner>{owner}</Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>".encode()
    ask(stand, "PUT", "/duck/large?acl", policy, Content_Type="application/xml").expect(200)
    expect(send("GET", f"{stand.endpoint}/duck/large") == (200, body), "an object that everyone may read by its ACL")
    stand.ok("Cyberduck's requests, V2: put with metadata, get, the rest of a get, parts, everyone may read")


def rename_and_delete(stand, s3):
    copied = ask(stand, "PUT", "/duck/renamed.txt", x_amz_copy_source=FILE, x_amz_metadata_directive="COPY")
    copied.expect(200, "<CopyObjectResult")
    ask(stand, "DELETE", FILE).expect(204)
    ask(stand, "HEAD", FILE).expect(404)
    ask(stand, "HEAD", "/duck/renamed.txt").expect(200, x_amz_meta_who="me", content_type="text/plain")
    # Its editor of metadata copies an object onto itself.
    changed = {"x_amz_copy_source": "/duck/renamed.txt", "x_amz_metadata_directive": "REPLACE", "x_amz_meta_who": "you"}
    ask(stand, "PUT", "/duck/renamed.txt", Content_Type="text/html", **changed).expect(200)
    ask(stand, "GET", "/duck/renamed.txt").expect(200, "sent by a duck", x_amz_meta_who="you", content_type="text/html")
    stand.ok("Cyberduck's requests, V2: renamed by copy and delete, metadata replaced")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="duck")["Contents"]]
    body = f"<Delete><Quiet>true</Quiet>{''.join(f'<Object><Key>{key}</Key></Object>' for key in keys)}</Delete>".encode()
    ask(stand, "POST", "/duck/?delete", body, Content_Type="application/xml", Content_MD5=md5(body)).expect(200, "DeleteResult")
    expect(listing(stand, "") == ([], []), f"after all was deleted there is {listing(stand, '')}")
    ask(stand, "DELETE", "/duck/").expect(204)
    ask(stand, "HEAD", "/duck/").expect(404)
