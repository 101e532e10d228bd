//! `GET /v1/uploads/{id}`: where an upload stands, and what the store holds of it.

use actix_web::HttpResponse;
use actix_web::web::Path;
use shared::api::{CompletedObject, UploadState, UploadStatus};

use super::session;
use crate::app::{Broker, Shared};
use crate::error::ApiError;
use crate::ledger::{Session, StoredObject};
use crate::policy::Touch;
use crate::principal::Principal;
use crate::s3::{StoreError, StoreErrorKind};

/// Answers with state, plan and parts.
///
/// # Errors
/// The upload is not the caller's, or the store does not answer.
pub async fn status(broker: Shared, principal: Principal, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let mut session = session::touched(&broker, &principal, &id, Touch::Look).await?;
    let parts = match (&session.store_upload_id, session.state) {
        (Some(store_upload_id), UploadState::Open) => match broker.store.list_parts(&session, store_upload_id).await {
            Ok(parts) => parts,
            Err(error) => {
                // It may have been completed or aborted since it was looked up, and is no longer at the store for that.
                session = session::touched(&broker, &principal, &id, Touch::Look).await?;
                if session.state == UploadState::Open {
                    if !is_joined(&broker, &session, &error).await? {
                        return Err(error.into());
                    }
                    session.state = UploadState::Completing;
                }
                Vec::new()
            }
        },
        _ => Vec::new(),
    };
    Ok(HttpResponse::Ok().json(UploadStatus {
        upload_id: session.id.clone(),
        state: session.state,
        name: session.name.clone(),
        key: session.key.clone(),
        size: session.plan.size(),
        part_size: session.plan.part_size(),
        growing_parts: session.plan.growing_parts(),
        part_count: session.plan.part_count(),
        expires_at: session.expires_at,
        server_time: broker.clock.now(),
        parts,
        object: session
            .object
            .as_ref()
            .map(|object| completed(&broker, &session, object)),
    }))
}

/// Whether the object is there of an upload that the store no longer knows: it was completed, and the ledger is one from before
/// that. Whoever completes it again has it recorded.
async fn is_joined(broker: &Broker, session: &Session, error: &StoreError) -> Result<bool, ApiError> {
    if error.kind != StoreErrorKind::NoSuchUpload {
        return Ok(false);
    }
    let there = match broker.store.head(&session.bucket, &session.key).await {
        // Where the key may not list the bucket, HEAD of what is not there is refused, not answered with 404.
        Err(StoreError {
            kind: StoreErrorKind::Denied(_),
            ..
        }) => None,
        there => there?,
    };
    Ok(there.is_some_and(|head| head.write_token.as_ref() == Some(&session.write_token)))
}

/// The object as callers are told of it.
pub(super) fn completed(broker: &Broker, session: &Session, object: &StoredObject) -> CompletedObject {
    CompletedObject {
        key: session.key.clone(),
        etag: object.etag.clone(),
        etag_is_md5: broker.profile.etag_is_md5,
        size: object.size,
        version_id: object.version_id.clone(),
        location: broker.location(&session.bucket, &session.key),
    }
}
