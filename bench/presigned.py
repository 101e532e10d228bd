"""A bucket by presigned URLs and nothing else: a signer of version 4, and http.client, which adds little of its own.

Several threads can use one `Bucket`: each has its own connection. Bodies go to the socket as they are, from a mapped file
without a copy in Python.
"""

import datetime
import hashlib
import hmac
import http.client
import re
import threading
import urllib.parse


class Bucket:
    """One bucket of a store, in path style."""

    def __init__(self, store):
        self.host = store.endpoint.removeprefix("http://")
        self.name, self.region = store.bucket, store.environment["AWS_REGION"]
        self.key, self.secret = store.environment["AWS_ACCESS_KEY_ID"], store.environment["AWS_SECRET_ACCESS_KEY"]
        self.of_thread = threading.local()

    def target(self, method, key="", **query):
        """A path and a presigned query (Signature Version 4, "Authenticating requests: using query parameters")."""
        now = datetime.datetime.now(datetime.timezone.utc)
        scope = f"{now:%Y%m%d}/{self.region}/s3/aws4_request"
        query |= {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{self.key}/{scope}"}
        query |= {"X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}", "X-Amz-Expires": "3600", "X-Amz-SignedHeaders": "host"}
        path = urllib.parse.quote(f"/{self.name}/{key}" if key else f"/{self.name}")
        pairs = urllib.parse.urlencode(sorted(query.items()), quote_via=urllib.parse.quote, safe="-_.~")
        request = f"{method}\n{path}\n{pairs}\nhost:{self.host}\n\nhost\nUNSIGNED-PAYLOAD"
        to_sign = f"AWS4-HMAC-SHA256\n{now:%Y%m%dT%H%M%SZ}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signing = b"AWS4" + self.secret.encode()
        for word in scope.split("/"):
            signing = hmac.digest(signing, word.encode(), "sha256")
        return f"{path}?{pairs}&X-Amz-Signature={hmac.digest(signing, to_sign.encode(), 'sha256').hex()}"

    def url(self, method, key):
        return f"http://{self.host}{self.target(method, key)}"

    def ask(self, method, key="", body=b"", **query):
        """One request; its answer's headers and body. What is refused ends the bench."""
        connection = getattr(self.of_thread, "connection", None)
        if connection is None:
            connection = self.of_thread.connection = http.client.HTTPConnection(self.host, timeout=600)
        connection.request(method, self.target(method, key, **query), body)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300 or b"<Error>" in text:
            raise SystemExit(f"{method} of {key or self.name} was answered {answer.status}: {text[:500].decode(errors='replace')}")
        return answer.headers, text

    def create(self):
        self.ask("PUT")

    def begin(self, key):
        """A new multipart upload; its id."""
        _, text = self.ask("POST", key, uploads="")
        return re.search("<UploadId>(.*?)</UploadId>", text.decode()).group(1)

    def put_part(self, key, upload, number, body):
        """Sends one part; its ETag."""
        headers, _ = self.ask("PUT", key, body, partNumber=str(number), uploadId=upload)
        return headers["ETag"]

    def complete(self, key, upload, etags):
        parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1))
        self.ask("POST", key, f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode(), uploadId=upload)

    def size(self, key):
        headers, _ = self.ask("HEAD", key)
        return int(headers["Content-Length"])

    def delete(self, key):
        self.ask("DELETE", key)
