//! The original form protocol, kept to the letter: `POST /presign`, `POST /complete`, `POST /abort`.
//!
//! Its clients take every field of the presign answer but `UploadID` for a part, so whatever else there is to say goes into
//! headers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::Version;
use actix_web::http::header::{self, HeaderName};
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse};
use shared::PartNumber;
use time::format_description::well_known::Rfc3339;

use super::form_fields::{NamedUpload, PresignForm};
use super::{body, session};
use crate::admit::admit;
use crate::app::{Broker, Shared};
use crate::complete::{self, Completion};
use crate::error::ApiError;
use crate::give_up::give_up;
use crate::ledger::{Digests, Session};
use crate::policy::Touch;
use crate::principal::{Caller, Principal};
use crate::sign::{Part, PartSigner, escaped_path};

/// How long `/complete` waits for another request that is completing the same upload: the protocol has no "not yet".
const BUSY_TRIES: u32 = 120;
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Admits an upload and answers `201` with its id and a URL for every part.
///
/// # Errors
/// A field is missing or malformed, the policy refuses, or the store or the ledger did not do it.
pub async fn presign(
    broker: Shared,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let PresignForm(form) = body::form(&request, payload).await?;
    let form = form?;
    broker
        .rates
        .take_entries(caller.principal.name(), caller.address, form.digests.len())?;
    let now = broker.clock.now();
    let numbered = || PartNumber::up_to(PartNumber::MAX).zip(form.digests.iter().copied());
    let parts: Vec<Part> = numbered()
        .map(|(number, md5)| Part {
            number,
            md5: Some(md5),
            size: None,
        })
        .collect();
    let declared: Digests = numbered().collect();
    let (grant, life) = broker
        .policy
        .admit_form(&caller.principal, form, now, broker.upload_random())?;
    let session = admit(broker.clone(), grant, declared, caller.by())
        .await?
        .ok_or(ApiError::UploadBusy)?;
    let grant = broker.policy.admit_parts(&session, parts, life, now)?;
    let (signer, grant) = broker.signer(grant).await?;

    let instant = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let named = HeaderName::from_static;
    let answer = Answer {
        next: 0,
        id: session.id.to_string(),
        parts: grant.parts().to_vec(),
        signer,
    };
    // Chunks are unknown to HTTP/1.0 (RFC 9112 section 6.1), so there it is one piece.
    let answer = if request.version() < Version::HTTP_11 {
        Bytes::from(answer.flatten().collect::<Vec<u8>>()).boxed()
    } else {
        answer.boxed()
    };
    Ok(HttpResponse::Created()
        .content_type("application/json")
        .insert_header((named("x-upload-key"), escaped_path(session.key.as_str())))
        .insert_header((named("x-upload-expires-at"), instant(session.expires_at)))
        .insert_header((named("x-url-expires-in"), grant.expires_in().as_secs().to_string()))
        .insert_header((named("x-url-expires-at"), instant(now + grant.expires_in())))
        .insert_header((named("x-server-time"), instant(now)))
        .insert_header((named("x-max-object-size"), session.reserved.to_string()))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(answer))
}

/// How many parts are signed at a time: some 64 KiB of answer, which stays in the processor's cache until it is sent.
const PARTS_PER_PIECE: usize = 112;

/// `{"UploadID": id, "1": url, ...}`, signed while it is sent. Neither ids nor URLs hold anything that JSON escapes.
struct Answer {
    id: String,
    parts: Vec<Part>,
    /// How many parts are in the answer already.
    next: usize,
    signer: PartSigner,
}

impl Iterator for Answer {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (_, left) = self.parts.split_at_checked(self.next).unwrap_or_default();
        if left.is_empty() {
            return None;
        }
        let (now, later) = left.split_at_checked(PARTS_PER_PIECE).unwrap_or((left, &[]));
        let mut piece = Vec::with_capacity(640 * (now.len() + 1));
        if self.next == 0 {
            piece.extend_from_slice(b"{\"UploadID\":\"");
            piece.extend_from_slice(self.id.as_bytes());
        }
        self.signer.write_urls(now, &mut piece, |part, piece| {
            piece.extend_from_slice(b"\",\"");
            piece.extend_from_slice(itoa::Buffer::new().format(part.number.get()).as_bytes());
            piece.extend_from_slice(b"\":\"");
        });
        if later.is_empty() {
            piece.extend_from_slice(b"\"}");
        }
        self.next += now.len();
        Some(piece.into())
    }
}

impl MessageBody for Answer {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(self.get_mut().next().map(Ok))
    }
}

/// Has the store join the parts and answers `200`.
///
/// # Errors
/// `400` for a missing field, the one 404 for an upload that is not the caller's, `422` for everything else.
pub async fn complete(
    broker: Shared,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let named = body::form(&request, payload).await?;
    let session = named_session(&broker, &caller.principal, named, Touch::GoOn).await?;
    for _ in 0..BUSY_TRIES {
        match complete::complete(broker.clone(), session.clone(), None, caller.by()).await {
            Ok(Completion::Done(_)) => return Ok(done()),
            Ok(Completion::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
            Err(error) => return Err(ApiError::NotCompleted(Box::new(error))),
        }
    }
    Err(ApiError::NotCompleted(Box::new(ApiError::UploadBusy)))
}

/// Gives the upload up and answers `200`.
///
/// # Errors
/// As for `DELETE /v1/uploads/{id}`.
pub async fn abort(
    broker: Shared,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let named = body::form(&request, payload).await?;
    let session = named_session(&broker, &caller.principal, named, Touch::End).await?;
    give_up(broker, session, caller.by()).await?;
    Ok(done())
}

fn done() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(r#"{"status_code":200}"#)
}

/// The upload that `uploadid` and `keyname` name together.
async fn named_session(
    broker: &Broker,
    principal: &Principal,
    named: NamedUpload,
    touch: Touch,
) -> Result<Session, ApiError> {
    let (id, name) = named.into_parts()?;
    let session = session::touched(broker, principal, &id, touch).await?;
    // The name as it was given, or the key that the destination's template made of it.
    let normal = name
        .parse()
        .map_err(ApiError::InvalidName)
        .map(|name: crate::key::UploadName| name.to_string());
    if normal.is_ok_and(|normal| normal == session.name) || name == session.key.as_str() {
        Ok(session)
    } else {
        Err(ApiError::NoSuchUpload)
    }
}
