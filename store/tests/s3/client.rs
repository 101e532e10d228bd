//! A client of a few lines with signers of its own, so that no slip of the store can be made good by the same slip here.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;
use store::{Credentials, DevStore, Store, StoreConfig};
use time::OffsetDateTime;
use time::macros::format_description;

/// One store's client.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) credentials: Credentials,
    pub(crate) now: OffsetDateTime,
    pub(crate) expires: u64,
    pub(crate) region: String,
}

/// What came back; nothing at all if the connection was cut.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of the first element of this name.
    pub(crate) fn element(&self, name: &str) -> String {
        elements(&self.text(), name).into_iter().next().unwrap_or_default()
    }

    /// The ETag, with its quotes.
    pub(crate) fn etag(&self) -> String {
        self.header("etag").expect("no ETag in the answer")
    }
}

/// Status and code of a refusal.
pub(crate) fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.element("Code"))
}

/// The texts of all elements of this name.
pub(crate) fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let texts = xml.split(&open).skip(1).filter_map(|rest| rest.split_once(&close));
    texts
        .map(|(text, _)| {
            text.replace("&quot;", "\"")
                .replace("&apos;", "'")
                .replace("&amp;", "&")
        })
        .collect()
}

pub(crate) fn md5_base64(bytes: &[u8]) -> String {
    BASE64.encode(Md5::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn escape(text: &str, keep: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep.as_bytes().contains(&byte);
    let escaped = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escaped).collect()
}

pub(crate) fn hmac256(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn hmac1(key: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}

impl Client {
    pub(crate) fn of(store: &DevStore) -> Self {
        Self::to(store, store.credentials())
    }

    pub(crate) fn to(store: &Store, credentials: &Credentials) -> Self {
        Self {
            address: store.address(),
            credentials: credentials.clone(),
            now: OffsetDateTime::now_utc(),
            expires: 300,
            region: "us-east-1".to_owned(),
        }
    }

    /// A V4 presigned target, `/uploads/KEY?…` (SigV4, "Authenticating requests: using query parameters").
    pub(crate) fn v4(&self, method: &str, key: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> String {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let time = self.now.format(&format).unwrap();
        let date = &time[..8];
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let host = self.address.to_string();
        let mut signed: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), (*value).to_owned()))
            .collect();
        signed.push(("host".to_owned(), host));
        signed.sort();
        let names: Vec<_> = signed.iter().map(|(name, _)| name.as_str()).collect();
        let mut pairs: Vec<_> = query
            .iter()
            .map(|(name, value)| (escape(name, ""), escape(value, "")))
            .collect();
        for (name, value) in [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            (
                "X-Amz-Credential",
                &format!("{}/{scope}", self.credentials.access_key_id),
            ),
            ("X-Amz-Date", &time),
            ("X-Amz-Expires", &self.expires.to_string()),
            ("X-Amz-SignedHeaders", &names.join(";")),
        ] {
            pairs.push((name.to_owned(), escape(value, "")));
        }
        pairs.sort();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = path_of(key);
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!(
            "{method}\n{path}\n{}\n{lines}\n{}\nUNSIGNED-PAYLOAD",
            pairs.join("&"),
            names.join(";")
        );
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
            hex(&Sha256::digest(&canonical))
        );
        let mut signing = format!("AWS4{}", self.credentials.secret_access_key).into_bytes();
        for step in scope.split('/') {
            signing = hmac256(&signing, step);
        }
        format!(
            "{path}?{}&X-Amz-Signature={}",
            pairs.join("&"),
            hex(&hmac256(&signing, &to_sign))
        )
    }

    /// A V2 presigned target. `query` holds only sub-resources, in order.
    pub(crate) fn v2(&self, method: &str, key: &str, query: &[(&str, &str)], md5: &str) -> String {
        let expires = self.now.unix_timestamp() + i64::try_from(self.expires).unwrap();
        let path = path_of(key);
        let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let resource = if pairs.is_empty() {
            String::new()
        } else {
            format!("?{}", pairs.join("&"))
        };
        let to_sign = format!("{method}\n{md5}\n\n{expires}\n{path}{resource}");
        let signature = escape(&hmac1(&self.credentials.secret_access_key, &to_sign), "");
        let id = &self.credentials.access_key_id;
        let glue = if resource.is_empty() { "?" } else { "&" };
        format!("{path}{resource}{glue}AWSAccessKeyId={id}&Expires={expires}&Signature={signature}")
    }

    /// The `Authorization` of a V2 request without a body.
    pub(crate) fn v2_header(&self, method: &str, path: &str, date: &str) -> String {
        let to_sign = format!("{method}\n\n\n{date}\n{path}");
        let signature = hmac1(&self.credentials.secret_access_key, &to_sign);
        format!("AWS {}:{signature}", self.credentials.access_key_id)
    }

    /// Sends a request on a connection of its own, body and all, then reads.
    pub(crate) fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let mut head = self.head(method, target, headers);
        if matches!(method, "PUT" | "POST") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("Connection: close\r\n\r\n");
        // A store that hangs up early is for the answer, or its absence, to tell.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        read_answer(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    pub(crate) fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Signs with V4 and sends.
    pub(crate) fn ask(&self, method: &str, key: &str, query: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, &self.v4(method, key, query, &[]), &[], body)
    }

    /// The same with headers, which are signed.
    pub(crate) fn call(
        &self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send(method, &self.v4(method, key, query, headers), headers, body)
    }

    pub(crate) fn put(&self, key: &str, body: &[u8]) -> Answer {
        self.ask("PUT", key, &[], body)
    }

    pub(crate) fn get(&self, key: &str) -> Answer {
        self.ask("GET", key, &[], b"")
    }

    pub(crate) fn create(&self, key: &str) -> String {
        let answer = self.ask("POST", key, &[("uploads", "")], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.element("UploadId")
    }

    pub(crate) fn part(&self, key: &str, id: &str, number: u32, body: &[u8]) -> Answer {
        self.ask(
            "PUT",
            key,
            &[("partNumber", &number.to_string()), ("uploadId", id)],
            body,
        )
    }

    pub(crate) fn list_parts(&self, key: &str, id: &str, marker: &str) -> Answer {
        self.ask("GET", key, &[("part-number-marker", marker), ("uploadId", id)], b"")
    }

    pub(crate) fn complete(&self, key: &str, id: &str, parts: &[(u32, &str)]) -> Answer {
        let parts: String = parts
            .iter()
            .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
            .collect();
        let xml = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        self.ask("POST", key, &[("uploadId", id)], xml.as_bytes())
    }
}

/// A store with the usual bucket that keeps its data in `dir`.
pub(crate) fn config(dir: &Path, credentials: &Credentials) -> StoreConfig {
    StoreConfig {
        buckets: vec![DevStore::BUCKET.to_owned()],
        ..StoreConfig::new(dir.to_owned(), credentials.clone())
    }
}

/// Starts it, for the first time or again.
pub(crate) async fn start(dir: &Path, credentials: &Credentials) -> (Store, Client) {
    let store = Store::start(config(dir, credentials)).await.unwrap();
    let client = Client::to(&store, credentials);
    (store, client)
}

fn path_of(key: &str) -> String {
    format!("/{}/{}", DevStore::BUCKET, escape(key, "/"))
}

/// Reads to the end of the connection.
pub(crate) fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer is no matter; without an answer nothing is there to split.
    let _ = stream.read_to_end(&mut bytes);
    let _ = stream.shutdown(Shutdown::Both);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 4..]),
        None => (&bytes[..], &[][..]),
    };
    let head = String::from_utf8(head.to_vec()).unwrap();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_default(),
        head,
        body: body.to_vec(),
    }
}
