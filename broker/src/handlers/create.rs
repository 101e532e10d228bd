//! `POST /v1/uploads`: admits an upload, or finds the one that the caller has open for the same content.

use std::time::Duration;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use shared::api::{CreateUpload, Integrity, StoredPart, UploadCreated, UploadState};

use super::body;
use crate::admit::admit;
use crate::app::{Broker, Shared};
use crate::error::ApiError;
use crate::ledger::{Digests, Session};
use crate::policy::CreateGrant;
use crate::principal::Caller;
use crate::s3::{StoreError, StoreErrorKind};

/// Answers `201` with a new upload, or `200` with one to go on with.
///
/// # Errors
/// What the policy refuses, or the store or the ledger did not do.
pub async fn create(
    broker: Shared,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let asked: CreateUpload = body::json(&request, payload).await?;
    let now = broker.clock.now();
    let grant = broker
        .policy
        .admit_create(&caller.principal, asked, now, broker.upload_random())?;
    for _ in 0..TRIES {
        if let Some((session, parts)) = resumable(&broker, &grant, &caller).await? {
            tracing::info!(upload = %session.id, stored = parts.len(), "upload continues");
            return Ok(HttpResponse::Ok().json(answer(&broker, &session, parts)));
        }
        if let Some(session) = admit(broker.clone(), grant.clone(), Digests::default(), caller.by()).await? {
            return Ok(HttpResponse::Created().json(answer(&broker, &session, Vec::new())));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(ApiError::UploadBusy)
}

/// How often to look for an upload that another request has just begun, and that has just ended when it is looked at.
const TRIES: u32 = 10;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The upload to go on with, and what the store holds of it.
async fn resumable(
    broker: &Broker,
    grant: &CreateGrant,
    caller: &Caller,
) -> Result<Option<(Session, Vec<StoredPart>)>, ApiError> {
    let Some(session) = broker.ledger.find_resumable(grant, grant.created_at).await? else {
        return Ok(None);
    };
    match (&session.store_upload_id, session.state) {
        (None, _) | (_, UploadState::Completing) => Ok(Some((session, Vec::new()))),
        (Some(id), _) => match broker.store.list_parts(&session, id).await {
            Ok(parts) => Ok(Some((session, parts))),
            Err(StoreError {
                kind: StoreErrorKind::NoSuchUpload,
                ..
            }) => {
                tracing::warn!(upload = %session.id, "the store no longer knows an open upload; a new one takes its place");
                let lost = ApiError::UploadLost.code();
                broker
                    .ledger
                    .abort(&session.id, &caller.by(), Some(lost), grant.created_at)
                    .await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        },
    }
}

fn answer(broker: &Broker, session: &Session, parts: Vec<StoredPart>) -> UploadCreated {
    let now = broker.clock.now();
    UploadCreated {
        upload_id: session.id.clone(),
        state: session.state,
        key: session.key.clone(),
        part_size: session.plan.part_size().unwrap_or(shared::plan::DEFAULT_PART_SIZE),
        growing_parts: session.plan.growing_parts(),
        part_count: session.plan.part_count(),
        integrity: Integrity::ContentMd5,
        expires_at: session.expires_at,
        expires_in: u64::try_from((session.expires_at - now).whole_seconds()).unwrap_or_default(),
        server_time: now,
        parts,
    }
}
