//! Request bodies: read whole, up to a limit, refused with a problem otherwise.

use std::time::{Duration, Instant};

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{self, Bytes, BytesMut, Payload};
use actix_web::{HttpMessage, HttpRequest};
use futures_util::StreamExt as _;
use percent_encoding::percent_decode;
use serde::de::DeserializeOwned;
use shared::api::Object;

use crate::app::Shared;
use crate::edge::rates::ClientAddress;
use crate::error::ApiError;
use crate::principal::Principal;

/// A sign request for 1,000 parts has about 80 KB.
const JSON_LIMIT: usize = 256 * 1024;
/// A batch of 500 files with names of 1 KiB, and a form with 10,000 digests; of that, every `+`, `/` and `=` escaped, has at most about 600 KB.
const FORM_LIMIT: usize = 1024 * 1024;

/// Up to this, reading a body takes less than handing it to another thread.
const SHORT: usize = 16 * 1024;

/// What a body has to begin to come within.
const GRACE: Duration = Duration::from_secs(9);
/// Bytes that then have to come every second, on average: whoever is slower holds a connection for nothing.
const LEAST_RATE: usize = 32 * 1024;

/// An `application/x-www-form-urlencoded` body.
///
/// # Errors
/// Another media type, too large, broken off, or not such a form.
pub async fn form<T>(request: &HttpRequest, payload: Payload) -> Result<T, ApiError>
where
    T: DeserializeOwned + Send + 'static,
{
    let bytes = read(request, payload, "application/x-www-form-urlencoded", FORM_LIMIT).await?;
    beside_others(bytes, parse_form).await
}

fn parse_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // The parser would take bytes that are not UTF-8 for U+FFFD, and so make one name of several.
    if !decodes_to_ascii(bytes) && percent_decode(bytes).decode_utf8().is_err() {
        return Err(ApiError::InvalidForm("it is not UTF-8".into()));
    }
    serde_urlencoded::from_bytes(bytes).map_err(|error| ApiError::InvalidForm(excerpt(&error.to_string())))
}

/// Parses a long body on another thread: it takes milliseconds, which every other request of this worker's would wait.
async fn beside_others<T: Send + 'static>(
    bytes: Bytes,
    parse: fn(&[u8]) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    if bytes.len() <= SHORT {
        return parse(&bytes);
    }
    let parsed = web::block(move || parse(&bytes)).await;
    parsed.map_err(|_| ApiError::Interrupted)?
}

/// Whether there is nothing beyond ASCII in the form, as it is or escaped.
fn decodes_to_ascii(form: &[u8]) -> bool {
    let escapes_more = |pair: &[u8]| matches!(pair, [b'%', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F']);
    form.is_ascii() && !form.windows(2).any(escapes_more)
}

/// A JSON body.
///
/// # Errors
/// Another media type, too large, broken off, or not JSON of this shape.
pub async fn json<T>(request: &HttpRequest, payload: Payload) -> Result<T, ApiError>
where
    T: DeserializeOwned + Send + 'static,
{
    let bytes = read(request, payload, "application/json", JSON_LIMIT).await?;
    beside_others(bytes, parse).await
}

/// A JSON body of up to 1 MiB.
///
/// # Errors
/// As [`json()`].
pub async fn large_json<T>(request: &HttpRequest, payload: Payload) -> Result<T, ApiError>
where
    T: DeserializeOwned + Send + 'static,
{
    let bytes = read(request, payload, "application/json", FORM_LIMIT).await?;
    beside_others(bytes, parse).await
}

/// A JSON body, or none at all.
///
/// # Errors
/// As [`json()`], for a body that is there.
pub async fn optional_json<T: DeserializeOwned + Default>(
    request: &HttpRequest,
    payload: Payload,
) -> Result<T, ApiError> {
    let bytes = whole(request, payload, JSON_LIMIT).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    check_media_type(request, "application/json")?;
    parse(&bytes)
}

/// A parser's words with what they quote of the client's: not too much of it, and nothing that forges a line of the log.
pub(super) fn excerpt(text: &str) -> String {
    text.chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect::<String>()
        .replace("\\\"", "\"")
        .replace("\\'", "'")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let parsed = serde_json::from_slice::<Object<T>>(bytes);
    parsed
        .map(|Object(value)| value)
        .map_err(|error| ApiError::InvalidJson(excerpt(&error.to_string())))
}

async fn read(
    request: &HttpRequest,
    payload: Payload,
    expected: &'static str,
    limit: usize,
) -> Result<Bytes, ApiError> {
    check_media_type(request, expected)?;
    whole(request, payload, limit).await
}

async fn whole(request: &HttpRequest, payload: Payload, limit: usize) -> Result<Bytes, ApiError> {
    if let Some(encoding) = request
        .headers()
        .get(CONTENT_ENCODING)
        .filter(|value| value.as_bytes() != b"identity")
    {
        return Err(ApiError::ContentEncoding(
            encoding.to_str().unwrap_or("?").chars().take(32).collect(),
        ));
    }
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::BodyTooLarge { limit });
    }
    // Before it is read, where it says how long it is.
    if let Some(length) = announced {
        count(request, usize::try_from(length).unwrap_or(limit))?;
    }
    let (began, mut whole, mut payload) = (Instant::now(), BytesMut::new(), payload);
    loop {
        let allowed = GRACE + Duration::from_secs((whole.len() / LEAST_RATE) as u64);
        let left = allowed.saturating_sub(began.elapsed());
        match tokio::time::timeout(left, payload.next()).await {
            Ok(None) if announced.is_none() => {
                count(request, whole.len())?;
                return Ok(whole.freeze());
            }
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Ok(piece))) if whole.len() + piece.len() > limit => return Err(ApiError::BodyTooLarge { limit }),
            Ok(Some(Ok(piece))) => whole.extend_from_slice(&piece),
            Ok(Some(Err(_))) => return Err(ApiError::BodyIncomplete),
            Err(_) => {
                return Err(ApiError::BodyTimeout {
                    seconds: allowed.as_secs(),
                });
            }
        }
    }
}

/// Has the body count for as many requests as it is worth, where it is known whose it is.
fn count(request: &HttpRequest, bytes: usize) -> Result<(), ApiError> {
    let (Some(broker), extensions) = (request.app_data::<Shared>(), request.extensions()) else {
        return Ok(());
    };
    let address = extensions.get::<ClientAddress>().and_then(|address| address.0);
    match extensions.get::<Principal>() {
        Some(principal) => broker.rates.take_body(principal.name(), address, bytes),
        None => Ok(()),
    }
}

fn check_media_type(request: &HttpRequest, expected: &'static str) -> Result<(), ApiError> {
    if request.content_type().eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let given = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    Err(ApiError::UnsupportedMediaType {
        given: given.chars().take(64).collect(),
        expected,
    })
}
