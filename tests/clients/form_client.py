#!/usr/bin/env python3
"""A client of the original form protocol, as such clients were written: it knows that protocol and nothing else.

    form_client.py [options] FILE KEY

It reads FILE once to hash its parts, asks /presign for a URL for each, PUTs every part with its Content-MD5 and no other
header of its own, and has /complete join them. Prints one JSON line: upload id, parts, bytes. Uses `requests` where that
is installed, else (or with FORM_CLIENT_STDLIB set) the standard library alone: they send different headers, and both have
to work.
"""

import argparse
import base64
import hashlib
import http.client
import json
import os
import sys
import urllib.parse

try:
    import requests
except ImportError:
    requests = None

MIB = 1024 * 1024


def main():
    arguments = parse_arguments()
    part_size = int(arguments.part_size * MIB)
    digests = list(hash_parts(arguments.file, part_size))

    form = {"keyname": arguments.key, "expires": str(arguments.expires)}
    if arguments.content_type:
        form["contenttype"] = arguments.content_type
    if arguments.acl:
        form["x-amz-acl"] = arguments.acl
    for name, _, value in (pair.partition("=") for pair in arguments.meta):
        form["x-amz-meta-" + name] = value
    for number, digest in enumerate(digests, start=1):
        form[str(number)] = digest

    status, answer = post_form(arguments, "/presign", form)
    if status != 201:
        fail(f"/presign answered {status}: {answer}")
    # As old clients read it: one field is the upload id, each other one is a part.
    urls = json.loads(answer)
    upload_id = urls.pop("UploadID")
    urls = {int(number): url for number, url in urls.items()}
    if sorted(urls) != list(range(1, len(digests) + 1)):
        fail(f"/presign was asked for {len(digests)} parts and answered with {sorted(urls)}")

    with open(arguments.file, "rb") as file:
        for number in sorted(urls):
            if number in arguments.skip:
                continue
            file.seek((number - 1) * part_size)
            status, answer = request("PUT", urls[number], file.read(part_size), {"Content-MD5": digests[number - 1]})
            if status != 200:
                fail(f"part {number} was answered with {status}: {answer}")

    status, answer = post_form(arguments, "/complete", {"uploadid": upload_id, "keyname": arguments.key})
    if status != 200 or json.loads(answer).get("status_code") != 200:
        fail(f"/complete answered {status}: {answer}")
    print(json.dumps({"upload_id": upload_id, "parts": len(digests), "bytes": os.path.getsize(arguments.file)}))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("key")
    parser.add_argument("--broker", default="http://127.0.0.1:5000", help="(%(default)s)")
    parser.add_argument("--part-size", type=float, default=5, metavar="MIB", help="(%(default)s)")
    parser.add_argument("--expires", type=int, default=900, metavar="SECONDS", help="(%(default)s)")
    parser.add_argument("--content-type", metavar="TYPE")
    parser.add_argument("--acl")
    parser.add_argument("--meta", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--token", help="sent as a bearer token")
    parser.add_argument("--skip", type=int, action="append", default=[], metavar="PART", help="do not send this part")
    return parser.parse_args()


def hash_parts(path, part_size):
    """Base64 MD5 of each part; an empty file has one, empty."""
    with open(path, "rb") as file:
        chunk = file.read(part_size)
        while True:
            yield base64.b64encode(hashlib.md5(chunk).digest()).decode()
            chunk = file.read(part_size)
            if not chunk:
                return


def post_form(arguments, path, form):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if arguments.token:
        headers["Authorization"] = "Bearer " + arguments.token
    return request("POST", arguments.broker + path, urllib.parse.urlencode(form).encode(), headers)


def request(method, url, body, headers):
    """Status and text of the answer, whatever the status."""
    if requests and not os.environ.get("FORM_CLIENT_STDLIB"):
        answer = requests.request(method, url, data=body, headers=headers, timeout=300)
        return answer.status_code, answer.text
    # http.client and not urllib, which adds a Content-Type; a store that verifies SigV2 refuses one that was not signed.
    parts = urllib.parse.urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=300)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def fail(text):
    sys.exit("form_client.py: " + text)


if __name__ == "__main__":
    main()
