//! `POST /v1/uploads/{id}/parts`: a URL for each part about to be sent, for a short while.

use std::collections::HashSet;

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use shared::api::{MAX_PARTS_PER_SIGN, SignParts, SignedPart, SignedParts};

use super::{body, session};
use crate::app::{Broker, Shared};
use crate::error::ApiError;
use crate::ledger::Declared;
use crate::principal::Caller;
use crate::sign::Part;

/// How often an upload is looked up that is begun anew at the store just then.
const TRIES: u32 = 3;

/// Records the MD5s and signs the parts, in the order asked. No store call.
///
/// # Errors
/// The upload is not the caller's or not open, or a part is not as planned: then none is signed.
pub async fn sign_parts(
    broker: Shared,
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    // Before anything of the body is read: whose upload this is.
    session::open(&broker, &caller.principal, &id).await?;
    let SignParts { parts: asked } = body::json(&request, payload).await?;
    if asked.is_empty() || asked.len() > MAX_PARTS_PER_SIGN {
        return Err(ApiError::TooManyParts {
            given: asked.len(),
            limit: MAX_PARTS_PER_SIGN,
        });
    }
    broker
        .rates
        .take_entries(caller.principal.name(), caller.address, asked.len())?;
    let mut seen = HashSet::with_capacity(asked.len());
    if let Some(twice) = asked.iter().find(|part| !seen.insert(part.number)) {
        return Err(ApiError::PartTwice(twice.number));
    }
    let parts = asked
        .iter()
        .map(|part| Part {
            number: part.number,
            md5: part.md5,
            size: part.size,
        })
        .collect();
    Ok(HttpResponse::Ok().json(sign(&broker, &caller, &id, parts).await?))
}

/// Signs these parts of the caller's upload, once their MD5s are recorded.
///
/// # Errors
/// As [`sign_parts`].
pub async fn sign(broker: &Broker, caller: &Caller, id: &str, parts: Vec<Part>) -> Result<SignedParts, ApiError> {
    for _ in 0..TRIES {
        let session = session::open(broker, &caller.principal, id).await?;
        let now = broker.clock.now();
        let grant = broker
            .policy
            .admit_parts(&session, parts.clone(), broker.policy.url_life(&session), now)?;
        let declared = grant.parts().iter().map(|part| (part.number, part.md5)).collect();
        let declared = broker.ledger.declare(&session, declared, caller.by(), now);
        match declared.await? {
            Declared::Recorded => {}
            Declared::BegunAgain => continue,
            Declared::NotOpen(state) => return Err(ApiError::not_open(state)),
            Declared::Unknown => return Err(ApiError::NoSuchUpload),
        }
        let (mut signer, grant) = broker.signer(grant).await?;
        let expires_at = now + grant.expires_in();
        let urls = signer.urls(grant.parts());
        let parts = grant.parts().iter().zip(urls).map(|(part, url)| SignedPart {
            number: part.number,
            method: "PUT".to_owned(),
            url,
            headers: part.headers(),
            expires_at,
            expires_in: grant.expires_in().as_secs(),
        });
        return Ok(SignedParts {
            parts: parts.collect(),
            server_time: now,
        });
    }
    Err(ApiError::UploadBusy)
}
