//! `DELETE /v1/uploads/{id}`: gives an upload up; its parts are deleted and its URLs stop working.

use actix_web::HttpResponse;
use actix_web::web::Path;
use shared::api::UploadState;

use super::session;
use crate::app::{Broker, Shared, to_its_end};
use crate::error::ApiError;
use crate::ledger::{By, Session};
use crate::policy::Touch;
use crate::principal::Caller;

/// Answers `204`, and `204` again.
///
/// # Errors
/// The upload is not the caller's, is completed or being completed, or the store does not answer.
pub async fn abort(broker: Shared, caller: Caller, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let session = session::touched(&broker, &caller.principal, &id, Touch::End).await?;
    give_up(broker, session, caller.by()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends the upload in the ledger first, so that nobody completes it any more, then in the store: both, whether or not the
/// caller waits for it.
///
/// # Errors
/// As [`abort`], for an upload that is the caller's.
pub async fn give_up(broker: Shared, session: Session, by: By) -> Result<(), ApiError> {
    to_its_end(async move { end(&broker, &session, &by).await }).await
}

async fn end(broker: &Broker, session: &Session, by: &By) -> Result<(), ApiError> {
    match broker.ledger.abort(&session.id, by, None, broker.clock.now()).await? {
        Some(UploadState::Aborted) => {}
        Some(UploadState::Completed) => return Err(ApiError::UploadEnded(UploadState::Completed)),
        Some(UploadState::Completing | UploadState::Open) => return Err(ApiError::UploadBusy),
        Some(UploadState::Expired) | None => return Err(ApiError::NoSuchUpload),
    }
    if let Some(store_upload_id) = &session.store_upload_id {
        broker
            .store
            .abort(&session.bucket, &session.key, store_upload_id)
            .await?;
    }
    tracing::info!(upload = %session.id, key = %session.key, "upload aborted");
    Ok(())
}
