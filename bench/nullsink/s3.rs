//! What an uploader asks of S3, answered from sizes and ETags alone.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};

use crate::http::{Answer, Request};

/// ETag of a body that came without an MD5. Nobody computes one: that would cost more than all the rest. The dash tells
/// clients that it is no MD5, as in the ETag of a multipart object.
const NO_MD5: &str = "not-hashed";
/// Parts on a page of ListParts, and keys on one of ListObjectsV2, as on S3.
const PAGE_LEN: usize = 1000;

struct Part {
    size: u64,
    md5: Option<[u8; 16]>,
}

struct Upload {
    path: String,
    metadata: Vec<(String, String)>,
    parts: BTreeMap<u32, Part>,
}

struct Object {
    size: u64,
    etag: String,
    metadata: Vec<(String, String)>,
}

/// All that the sink remembers.
#[derive(Default)]
pub(crate) struct Sink {
    uploads: Mutex<HashMap<String, Upload>>,
    /// By path, so that those of a bucket are in the order of their keys.
    objects: Mutex<BTreeMap<String, Object>>,
    created: AtomicU64,
    /// When the first byte of the upload that was begun last came, in microseconds since 1970; 0 while it has not.
    first_byte: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Sink {
    pub(crate) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The first byte of this request's body is there.
    pub(crate) fn body_begins(&self, request: &Request) {
        if request.method == "PUT" {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
            // Only the first one counts: an exchange that fails leaves that.
            _ = self
                .first_byte
                .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Answers a request whose body had `received` bytes.
    pub(crate) fn handle(&self, request: &Request, received: u64) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(received, Ordering::Relaxed);
        let in_bucket = request.path.trim_start_matches('/');
        match in_bucket.split_once('/') {
            Some((_, key)) if !key.is_empty() => self.handle_object(request, received),
            Some(_) | None if in_bucket == "-stats" => self.stats(),
            Some(_) | None => self.handle_bucket(request),
        }
    }

    fn handle_object(&self, request: &Request, received: u64) -> Answer {
        // With `aws-chunked`, the body on the wire is framed; this header has the size that counts.
        let size = request
            .header("x-amz-decoded-content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(received);
        match (request.method.as_str(), request.query("uploadId")) {
            ("POST", None) if request.query("uploads").is_some() => self.create(request),
            ("PUT", Some(id)) => self.upload_part(request, id, size),
            ("GET", Some(id)) => self.list_parts(request, id),
            ("POST", Some(id)) => self.complete(request, id),
            ("DELETE", Some(id)) => match lock(&self.uploads).remove(id) {
                Some(_) => Answer::empty(204),
                None => no_such_upload(),
            },
            ("PUT", None) => self.put_object(request, size),
            ("HEAD" | "GET", None) => self.head_object(request),
            ("DELETE", None) => {
                lock(&self.objects).remove(&request.path);
                Answer::empty(204)
            }
            _ => error(501, "NotImplemented"),
        }
    }

    fn create(&self, request: &Request) -> Answer {
        let id = format!("upload-{:08}", self.created.fetch_add(1, Ordering::Relaxed));
        let (bucket, key) = bucket_and_key(&request.path);
        let body = document(
            "InitiateMultipartUploadResult",
            &format!("<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>"),
        );
        let upload = Upload {
            path: request.path.clone(),
            metadata: request.metadata(),
            parts: BTreeMap::new(),
        };
        lock(&self.uploads).insert(id, upload);
        self.first_byte.store(0, Ordering::Relaxed);
        Answer::xml(200, body)
    }

    fn upload_part(&self, request: &Request, id: &str, size: u64) -> Answer {
        let Some(number) = request.query("partNumber").and_then(|text| text.parse().ok()) else {
            return error(400, "InvalidArgument");
        };
        let part = Part {
            size,
            md5: declared_md5(request),
        };
        let etag = etag_of(part.md5);
        match lock(&self.uploads).get_mut(id) {
            Some(upload) => upload.parts.insert(number, part),
            None => return no_such_upload(),
        };
        Answer::empty(200).with("ETag", format!("\"{etag}\""))
    }

    /// As S3 pages them: those above `part-number-marker`, at most 1000.
    fn list_parts(&self, request: &Request, id: &str) -> Answer {
        let number = |name| request.query(name).and_then(|text| text.parse::<u32>().ok());
        let after = number("part-number-marker").unwrap_or(0);
        let uploads = lock(&self.uploads);
        let Some(upload) = uploads.get(id) else {
            return no_such_upload();
        };
        let mut rest = upload.parts.range(after.saturating_add(1)..);
        let (mut listed, mut last) = (String::new(), after);
        for (number, part) in rest.by_ref().take(PAGE_LEN) {
            let etag = etag_of(part.md5);
            _ = write!(
                listed,
                "<Part><PartNumber>{number}</PartNumber><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{etag}&quot;</ETag><Size>{}</Size></Part>",
                part.size
            );
            last = *number;
        }
        let truncated = rest.next().is_some();
        let (bucket, key) = bucket_and_key(&upload.path);
        let body = format!(
            "<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
             <PartNumberMarker>{after}</PartNumberMarker><NextPartNumberMarker>{last}</NextPartNumberMarker>\
             <MaxParts>{PAGE_LEN}</MaxParts><IsTruncated>{truncated}</IsTruncated>{listed}"
        );
        Answer::xml(200, document("ListPartsResult", &body))
    }

    /// Joins all parts there are: which of them the request names is not read.
    fn complete(&self, request: &Request, id: &str) -> Answer {
        let Some(upload) = lock(&self.uploads).remove(id) else {
            return no_such_upload();
        };
        let mut joined = Md5::new();
        for part in upload.parts.values() {
            joined.update(part.md5.unwrap_or_default());
        }
        let etag = format!("{}-{}", hex(&joined.finalize()), upload.parts.len());
        let (bucket, key) = bucket_and_key(&upload.path);
        let host = request.header("host").unwrap_or("nullsink");
        let location = format!("http://{host}/{bucket}/{key}");
        let body = document(
            "CompleteMultipartUploadResult",
            &format!(
                "<Location>{location}</Location><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>&quot;{etag}&quot;</ETag>"
            ),
        );
        let object = Object {
            size: upload.parts.values().map(|part| part.size).sum(),
            etag,
            metadata: upload.metadata,
        };
        lock(&self.objects).insert(upload.path, object);
        Answer::xml(200, body)
    }

    fn put_object(&self, request: &Request, size: u64) -> Answer {
        let etag = etag_of(declared_md5(request));
        let object = Object {
            size,
            etag: etag.clone(),
            metadata: request.metadata(),
        };
        lock(&self.objects).insert(request.path.clone(), object);
        Answer::empty(200).with("ETag", format!("\"{etag}\""))
    }

    fn head_object(&self, request: &Request) -> Answer {
        if request.method == "GET" {
            return error(405, "MethodNotAllowed"); // there is nothing left to get
        }
        let objects = lock(&self.objects);
        let Some(object) = objects.get(&request.path) else {
            return error(404, "NoSuchKey");
        };
        let mut answer = Answer::empty(200)
            .with("ETag", format!("\"{}\"", object.etag))
            .with("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT");
        answer.headers.extend(object.metadata.iter().cloned());
        answer.content_length = Some(object.size);
        answer
    }

    /// `GET /-stats`: what has arrived so far, for the script that measures.
    fn stats(&self) -> Answer {
        let [connections, requests, bytes, first_byte] =
            [&self.connections, &self.requests, &self.bytes, &self.first_byte]
                .map(|count| count.load(Ordering::Relaxed));
        let body = format!(
            r#"{{"connections": {connections}, "requests": {requests}, "bytes": {bytes}, "first_byte_us": {first_byte}}}"#
        );
        Answer::xml(200, body)
    }

    /// Any bucket is there.
    fn handle_bucket(&self, request: &Request) -> Answer {
        let asked = |name| request.query(name).is_some();
        match request.method.as_str() {
            "GET" if asked("location") => Answer::xml(200, document("LocationConstraint", "")),
            "GET" if asked("uploads") => {
                let body = "<IsTruncated>false</IsTruncated>";
                Answer::xml(200, document("ListMultipartUploadsResult", body))
            }
            "GET" => self.list_objects(request),
            "HEAD" | "PUT" | "POST" => Answer::empty(200),
            "DELETE" => Answer::empty(204),
            _ => error(501, "NotImplemented"),
        }
    }

    /// ListObjectsV2, without `delimiter`: keys that begin with `prefix`, from behind `start-after` or the page before.
    fn list_objects(&self, request: &Request) -> Answer {
        let asked = |name| request.query(name).unwrap_or_default();
        let bucket = request.path.trim_matches('/');
        let prefix = format!("/{bucket}/{}", asked("prefix"));
        // A page's token is the last key on it.
        let after = format!("/{bucket}/{}", asked("start-after").max(asked("continuation-token")));
        let limit = asked("max-keys")
            .parse()
            .map_or(PAGE_LEN, |keys: usize| keys.min(PAGE_LEN));

        let objects = lock(&self.objects);
        let from = if after < prefix {
            Bound::Included(prefix.as_str())
        } else {
            Bound::Excluded(after.as_str())
        };
        let mut rest = objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(&prefix));
        let (mut listed, mut count, mut last) = (String::new(), 0, String::new());
        for (path, object) in rest.by_ref().take(limit) {
            (_, last) = bucket_and_key(path);
            _ = write!(
                listed,
                "<Contents><Key>{last}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{}&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                object.etag, object.size
            );
            count += 1;
        }
        let next = match rest.next() {
            Some(_) => format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"),
            None => "<IsTruncated>false</IsTruncated>".to_owned(),
        };
        let body = format!(
            "<Name>{bucket}</Name><Prefix/><KeyCount>{count}</KeyCount><MaxKeys>{limit}</MaxKeys>{next}{listed}"
        );
        Answer::xml(200, document("ListBucketResult", &body))
    }
}

fn declared_md5(request: &Request) -> Option<[u8; 16]> {
    request
        .header("content-md5")
        .and_then(|text| BASE64.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
}

/// As they stand in a document.
fn bucket_and_key(path: &str) -> (String, String) {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    match path.trim_start_matches('/').split_once('/') {
        Some((bucket, key)) => (escape(bucket), escape(key)),
        None => (escape(path), String::new()),
    }
}

fn document(root: &str, content: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{content}</{root}>"
    )
}

fn error(status: u16, code: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message/></Error>");
    Answer::xml(status, body)
}

fn no_such_upload() -> Answer {
    error(404, "NoSuchUpload")
}

fn etag_of(md5: Option<[u8; 16]>) -> String {
    md5.map_or_else(|| NO_MD5.to_owned(), |digest| hex(&digest))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect()
}

/// The maps stay usable whatever happened to the thread that held them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
