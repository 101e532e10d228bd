//! XML documents that requests carry, held against what their headers say of them before an operation goes by them: the
//! protocol layer reads a number up to the first character that is no digit, drops CDATA sections, and looks at no digest.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::request::Parts;
use http::{Extensions, HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use md5::{Digest as _, Md5};
use parking_lot::Mutex;
use s3s::{S3Result, s3_error};
use shared::Md5Digest;

use crate::body::LentBody;
use crate::disk::{Algorithm, hasher};

/// Elements that hold a number, in all documents that operations here read.
const NUMBERS: [&str; 7] = [
    "Days",
    "DaysAfterInitiation",
    "MaxAgeSeconds",
    "ObjectSizeGreaterThan",
    "ObjectSizeLessThan",
    "PartNumber",
    "Size",
];

/// What a bucket or an object is told in a document.
const SUB_RESOURCES: [&str; 10] = [
    "acl",
    "cors",
    "lifecycle",
    "logging",
    "notification",
    "ownershipControls",
    "publicAccessBlock",
    "requestPayment",
    "tagging",
    "versioning",
];

/// Largest document: a Complete of 10,000 parts with checksums has about 3 MB.
pub(crate) const MAX_SIZE: usize = 8 << 20;

/// What has been read of a request's document, shared between the body and the operation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document(Arc<Mutex<Vec<u8>>>);

/// A body of which [`Document`] keeps a copy. The protocol layer reads none of it before it knows whose it is.
#[derive(Debug)]
pub(crate) struct Copied {
    inner: LentBody,
    copy: Document,
}

impl Document {
    /// Whether the body of this request may be a document.
    pub(crate) fn is_in(head: &Parts) -> bool {
        let query = head.uri.query().unwrap_or_default();
        let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        match head.method {
            Method::POST => true,
            Method::PUT => names.any(|name| SUB_RESOURCES.contains(&name)),
            _ => false,
        }
    }

    /// Keeps a copy of what is read of `body`.
    pub(crate) fn of(&self, body: LentBody) -> Copied {
        Copied {
            inner: body,
            copy: self.clone(),
        }
    }

    /// Refuses a document that would be read otherwise than it was meant, or that is not the one that was sent.
    pub(crate) fn check(headers: &HeaderMap, extensions: &Extensions, of_body: bool) -> S3Result<()> {
        let Some(Self(bytes)) = extensions.get() else {
            return Ok(());
        };
        let mut bytes = std::mem::take(&mut *bytes.lock());
        if bytes.is_empty() {
            return Ok(());
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text("x-amz-content-sha256").is_some_and(|kind| kind.starts_with("STREAMING-")) {
            bytes = unframed(&bytes).ok_or_else(malformed)?;
        }
        if let Some(told) = headers.get("content-md5") {
            let told = told.to_str().ok().and_then(|told| told.parse::<Md5Digest>().ok());
            let told = told.ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid."))?;
            if told.to_base64() != BASE64.encode(Md5::digest(&bytes)) {
                return Err(s3_error!(
                    BadDigest,
                    "The Content-MD5 you specified did not match what we received."
                ));
            }
        }
        for algorithm in Algorithm::ALL.into_iter().filter(|_| of_body) {
            let Some(told) = text(algorithm.header()) else { continue };
            let mut hasher = hasher(&[algorithm]);
            hasher.update(&bytes);
            if algorithm.computed(&hasher.finalize()).map(String::as_str) != Some(told) {
                return Err(s3_error!(
                    BadDigest,
                    "The {} you specified did not match the calculated checksum.",
                    algorithm.name()
                ));
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("<![CDATA[") || !NUMBERS.iter().all(|name| is_number(&text, name)) {
            return Err(malformed());
        }
        Ok(())
    }
}

/// Whether a request says that its document, or what it tells a bucket that is to be made, is larger than any is read.
pub(crate) fn is_too_large(head: &Parts) -> bool {
    let of_object = head
        .uri
        .path()
        .trim_start_matches('/')
        .split_once('/')
        .is_some_and(|(_, key)| !key.is_empty());
    let document = Document::is_in(head) || head.method == Method::PUT && !of_object;
    let length = head.headers.get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    document && length.is_some_and(|length| length > MAX_SIZE)
}

fn malformed() -> s3s::S3Error {
    s3_error!(
        MalformedXML,
        "The XML you provided was not well-formed or did not validate against our published schema"
    )
}

/// Whether all elements of this name hold a number and nothing else.
pub(crate) fn is_number(text: &str, name: &str) -> bool {
    let tag = format!("<{name}");
    text.split(&tag).skip(1).all(|rest| {
        let Some((attributes, rest)) = rest.split_once('>') else {
            return true;
        };
        // Another element whose name begins the same, or one without content, which is for the protocol layer to refuse.
        if !attributes.is_empty() && !attributes.starts_with([' ', '\t', '\r', '\n']) {
            return true;
        }
        let number = rest.split_once('<').filter(|(_, end)| end.starts_with('/'));
        number.is_some_and(|(number, _)| {
            let number = number.trim_ascii();
            let digits = number.strip_prefix('-').unwrap_or(number);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

/// What stands in the chunks of a body that came in signed ones (SigV4, "Transferring payload in multiple chunks").
pub(crate) fn unframed(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::with_capacity(bytes.len());
    loop {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, rest) = bytes.split_at_checked(end)?;
        let size = str::from_utf8(line).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        let (chunk, rest) = rest.get(2..)?.split_at_checked(size)?;
        whole.extend_from_slice(chunk);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let mut copy = self.copy.0.lock();
            // Past that it is no document, whatever it looked like: the protocol layer refuses one.
            if copy.len() + data.len() <= MAX_SIZE {
                copy.extend_from_slice(data);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_that_is_a_number_is_digits_to_its_end() {
        for (text, expected) in [
            ("<Days>10</Days>", true),
            ("<Days> 10\n</Days>", true),
            ("<Days xmlns=\"x\">10</Days><Days>-1</Days>", true),
            ("<DaysAfterInitiation>x</DaysAfterInitiation>", true),
            ("<Days/>", true),
            ("<Days>1,000</Days>", false),
            ("<Days>1.5</Days>", false),
            ("<Days>1<!-- -->0</Days>", false),
            ("<Days>1&#48;</Days>", false),
            ("<Days></Days>", false),
            ("<Days>1</Days><Days>2x</Days>", false),
        ] {
            assert_eq!(is_number(text, "Days"), expected, "{text}");
        }
    }

    #[test]
    fn chunks_are_put_together() {
        let framed = b"3;chunk-signature=ab\r\nabc\r\na\r\n0123456789\r\n0;chunk-signature=cd\r\n\r\n";
        assert_eq!(unframed(framed).as_deref(), Some(&b"abc0123456789"[..]));
        for cut in [&framed[..10], b"4\r\nabc\r\n0\r\n\r\n", b"x\r\n", b"3\r\nabcd\r\n0\r\n"] {
            assert_eq!(unframed(cut), None);
        }
    }
}
