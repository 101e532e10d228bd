//! Requests as any HTTP client makes them, and answers with the shape of every problem checked.

use std::collections::BTreeMap;

use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::api::{
    CompletedObject, CreateUpload, PartToSign, Problem, SignParts, SignedPart, SignedParts, UploadCreated,
};
use shared::{Md5Digest, PartNumber, UploadId};

use crate::{cut, md5};

/// A client of one broker, with or without a token.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: Option<String>,
    http: Client,
}

/// Status, headers and the whole body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Api {
    /// Requests go to `base`, for example `http://127.0.0.1:5000`, without credentials.
    pub fn at(base: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            token: None,
            http: Client::builder().no_proxy().build().unwrap(),
        }
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// A request to shape further; `send` it with [`Api::send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request, whatever the answer's status.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.bytes().await.unwrap().to_vec(),
        }
    }

    /// GETs `path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// DELETEs `path`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// POSTs JSON to `path`.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// POSTs a form to `path`.
    pub async fn post_form(&self, path: &str, fields: &[(String, String)]) -> Answer {
        let pairs = fields
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(body)).await
    }

    /// Creates an upload of `size` bytes, or fails the test.
    pub async fn create(&self, name: &str, size: u64) -> UploadCreated {
        let asked = CreateUpload {
            name: name.to_owned(),
            size: Some(size),
            ..CreateUpload::default()
        };
        self.post("/v1/uploads", &asked).await.expect(201)
    }

    /// Signs one part, or fails the test.
    pub async fn sign(&self, id: &UploadId, number: u16, md5: Option<Md5Digest>) -> SignedPart {
        let asked = SignParts {
            parts: vec![part_to_sign(number, md5)],
        };
        let answer = self.post(&format!("/v1/uploads/{id}/parts"), &asked).await;
        answer.expect::<SignedParts>(200).parts.remove(0)
    }

    /// Signs and sends these parts of `bytes`, each with its MD5.
    pub async fn send_parts(&self, upload: &UploadCreated, bytes: &[u8], numbers: impl IntoIterator<Item = u16>) {
        for number in numbers {
            let part = part_of(bytes, upload.part_size, number);
            let signed = self.sign(&upload.upload_id, number, Some(md5(part))).await;
            let answer = put(&signed.url, &signed.headers, part.to_vec()).await;
            assert_eq!(answer.status, 200, "part {number}: {}", answer.text());
        }
    }

    /// Asks for the parts to be joined.
    pub async fn complete(&self, id: &UploadId) -> Answer {
        let request = self.request(Method::POST, &format!("/v1/uploads/{id}/complete"));
        self.send(request).await
    }

    /// All of it: create, sign, send, complete.
    pub async fn upload(&self, name: &str, bytes: &[u8]) -> CompletedObject {
        let upload = self.create(name, bytes.len() as u64).await;
        self.send_parts(&upload, bytes, 1..=upload.part_count.unwrap()).await;
        self.complete(&upload.upload_id).await.expect(200)
    }
}

/// PUTs `body` to a presigned URL with exactly these headers.
pub async fn put(url: &str, headers: &BTreeMap<String, String>, body: Vec<u8>) -> Answer {
    let api = Api::at(url);
    // An empty body would otherwise be sent without its length.
    let mut request = api
        .request(Method::PUT, "")
        .header(CONTENT_LENGTH, body.len())
        .body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    api.send(request).await
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON, if the status is the expected one.
    #[track_caller]
    pub fn expect<T: DeserializeOwned>(&self, status: u16) -> T {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The problem that the body tells, if the status is the expected one and the shape is that of RFC 9457 and ours: a stable
    /// code, a request id that is in the headers too, and words that tell what to do.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Problem {
        let problem: Problem = self.expect(status);
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{}",
            self.text()
        );
        assert_eq!(problem.status, status);
        assert_eq!(problem.request_id, self.header("x-request-id"));
        assert!(!problem.request_id.is_empty());
        assert!(
            !problem.kind.is_empty() && !problem.title.is_empty() && !problem.detail.is_empty(),
            "{problem:?}"
        );
        let snake_case = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
        assert!(
            !problem.code.is_empty() && problem.code.bytes().all(snake_case),
            "{}",
            problem.code
        );
        problem
    }
}

/// What [`SignParts`] asks about one part.
fn part_to_sign(number: u16, md5: Option<Md5Digest>) -> PartToSign {
    PartToSign {
        number: PartNumber::try_from(u64::from(number)).unwrap(),
        md5,
        size: None,
    }
}

fn part_of(bytes: &[u8], part_size: u64, number: u16) -> &[u8] {
    cut(bytes, part_size).nth(usize::from(number) - 1).unwrap()
}

/// `application/x-www-form-urlencoded`, every byte that is not plain escaped.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
