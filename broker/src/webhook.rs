//! One receiver that is told how uploads end, by the Standard Webhooks convention (standardwebhooks.com, version 1.0.0).
//!
//! Every request has the event's id, by which a receiver knows what it has already, and a signature over id, time and body.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use serde::Serialize;
use sha2::Sha256;
use shared::api::{EventDetail, UploadEvent};
use shared::{EventId, ObjectKey, UploadId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::ledger::Session;

/// A receiver that takes longer has not taken it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer's body, which says nothing: so much that the connection can be used again.
const READ: usize = 64 * 1024;
/// Fewest bytes of a secret (Standard Webhooks, "Signature scheme").
const SECRET: usize = 24;

/// The receiver. `Debug` shows neither its secret nor its URL, which may hold another.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    key: Vec<u8>,
    http: Client,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

/// Why this cannot be a receiver. Shows neither URL nor secret.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It is no URL at all.
    #[error("--webhook-url: expected a URL such as https://example.org/hook")]
    Url,
    /// Others could read and change what is sent there.
    #[error("--webhook-url: expected https, or http to this machine alone (127.0.0.1, [::1], localhost)")]
    Plain,
    /// The secret could be guessed.
    #[error(
        "--webhook-secret: expected at least {SECRET} bytes, as they are or as whsec_ and their base64; \
         make one with: echo whsec_$(openssl rand -base64 32)"
    )]
    Secret,
    /// There is no HTTP client.
    #[error("the webhook's HTTP client does not start")]
    Client(#[source] reqwest::Error),
}

/// An event was not taken.
#[derive(Debug, Eq, PartialEq)]
pub struct Refused {
    /// Why, without URL and body.
    pub why: String,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl Webhook {
    /// A receiver at this URL, which knows this secret. A secret that begins with `whsec_` is the base64 of the key, as
    /// receivers' libraries take it; any other is the key itself.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn new(url: &str, secret: &str) -> Result<Self, WebhookError> {
        let url: Url = url.parse().map_err(|_| WebhookError::Url)?;
        let here = is_loopback(url.host_str().ok_or(WebhookError::Url)?);
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            return Err(WebhookError::Plain);
        }
        let key = match secret.strip_prefix("whsec_") {
            Some(text) => STANDARD.decode(text).map_err(|_| WebhookError::Secret)?,
            None => secret.as_bytes().to_vec(),
        };
        if key.len() < SECRET {
            return Err(WebhookError::Secret);
        }
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .user_agent(concat!("upload-broker/", env!("CARGO_PKG_VERSION")));
        // What does not leave this machine needs no proxy, and must not pass one in clear.
        let client = if here { client.no_proxy() } else { client };
        let http = client.build().map_err(WebhookError::Client)?;
        Ok(Self { url, key, http })
    }

    /// Sends an event once; `at` is the time of sending.
    ///
    /// # Errors
    /// The receiver has not said that it took it.
    pub async fn send(&self, id: &EventId, at: OffsetDateTime, body: Vec<u8>) -> Result<(), Refused> {
        let timestamp = at.unix_timestamp();
        let request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id.as_str())
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature(&self.key, id.as_str(), timestamp, &body))
            .body(body);
        let answer = request.send().await.map_err(|error| Refused {
            why: failure(&error),
            retry_after: None,
        })?;
        let status = answer.status();
        let retry_after = retry_after(answer.headers(), at);
        drain(answer).await;
        if status.is_success() {
            return Ok(());
        }
        Err(Refused {
            why: format!("answered {}", status.as_u16()),
            retry_after,
        })
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// `v1,` and the base64 of the HMAC-SHA256 over `ID.TIMESTAMP.BODY` (Standard Webhooks, "Symmetric").
fn signature(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    // A key of any length will do (RFC 2104 section 3), so there is always a code.
    let code = Hmac::<Sha256>::new_from_slice(key).map(|mut mac| {
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac.finalize().into_bytes()
    });
    format!("v1,{}", STANDARD.encode(code.unwrap_or_default()))
}

/// What went wrong with a request, without its URL.
fn failure(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("did not answer within {} s", TIMEOUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let what = if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off"
    };
    // The outermost one would tell the URL.
    match std::error::Error::source(error) {
        Some(_) => format!("{what}: {cause}"),
        None => what.to_owned(),
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // HTTP dates are RFC 2822 dates but for the zone's name (RFC 9110 section 5.6.7).
    let at = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
    (at - now).try_into().ok()
}

async fn drain(mut answer: Response) {
    let mut read = 0;
    while read < READ
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        read += chunk.len();
    }
}

/// What the receiver is told.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    upload_id: &'a UploadId,
    owner: &'a str,
    actor: &'a str,
    destination: &'a str,
    bucket: &'a str,
    key: &'a ObjectKey,
    name: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(flatten)]
    detail: EventDetail,
}

/// The body that tells of this event of this upload: the same one whenever it is sent.
pub fn body(event: &UploadEvent, session: &Session) -> Vec<u8> {
    let told = Told {
        kind: format!("upload.{}", event.kind.name()),
        timestamp: event.at,
        data: Data {
            upload_id: &session.id,
            owner: &session.owner,
            actor: &event.actor,
            destination: &session.destination,
            bucket: &session.bucket,
            key: &session.key,
            name: &session.name,
            created_at: session.created_at,
            detail: EventDetail {
                size: event.detail.size.or(session.plan.size()),
                ..event.detail.clone()
            },
        },
    };
    serde_json::to_vec(&told).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_that_the_conventions_libraries_are_tested_by_is_signed_as_by_them() {
        let webhook = Webhook::new("https://a.example/", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = signature(&webhook.key, id, 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_what_others_cannot_read_and_guess_makes_a_receiver() {
        let (secret, encoded) = ("x".repeat(24), format!("whsec_{}", STANDARD.encode([1; 24])));
        for url in [
            "https://example.org/hook?token=hunter2",
            "http://127.0.0.1:1/",
            "http://[::1]/",
            "http://localhost/",
        ] {
            let webhook = Webhook::new(url, &secret).unwrap();
            assert!(!format!("{webhook:?}").contains("example"));
        }
        assert_eq!(Webhook::new("https://a.example/", &encoded).unwrap().key, [1; 24]);
        for (url, secret) in [
            ("http://example.org/hunter2", secret.as_str()),
            ("http://127.0.0.1.example.org/hunter2", &secret),
            ("ftp://localhost/hunter2", &secret),
            ("hunter2", &secret),
            ("https://example.org/", "hunter2"),
            ("https://example.org/", "whsec_hunter2hunter2hunter2hunter2"),
            ("https://example.org/", "whsec_aHVudGVyMg=="),
        ] {
            let error = Webhook::new(url, secret).unwrap_err().to_string();
            assert!(error.starts_with("--webhook-") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_receiver_may_say_when_to_come_again_in_seconds_or_by_a_date() {
        let said = |text: &str| {
            let headers = [(RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
            retry_after(&headers, OffsetDateTime::UNIX_EPOCH)
        };
        assert_eq!(said("120"), Some(Duration::from_mins(2)));
        assert_eq!(said("Thu, 01 Jan 1970 00:02:00 GMT"), Some(Duration::from_mins(2)));
        assert_eq!(said("Wed, 31 Dec 1969 23:59:59 GMT"), None);
        assert_eq!(said("soon"), None);
    }
}
