//! The upload that a request names: found in the ledger and owned by the caller, or the one and only 404.

use shared::UploadId;
use shared::api::UploadState;

use crate::app::Broker;
use crate::error::ApiError;
use crate::ledger::Session;
use crate::principal::Principal;

/// The caller's upload of this id. Malformed, unknown, foreign and expired ids get the same answer.
///
/// # Errors
/// [`ApiError::NoSuchUpload`], or the ledger does not answer.
pub async fn owned(broker: &Broker, principal: &Principal, id: &str) -> Result<Session, ApiError> {
    let id: UploadId = id.parse().map_err(|_| ApiError::NoSuchUpload)?;
    let session = broker
        .ledger
        .find(&id)
        .await?
        .filter(|session| session.owner == *principal);
    session
        .filter(|session| session.state_at(broker.clock.now()) != UploadState::Expired)
        .ok_or(ApiError::NoSuchUpload)
}

/// The caller's upload of this id, while parts can still be sent.
///
/// # Errors
/// As [`owned`], or the upload is no longer open.
pub async fn open(broker: &Broker, principal: &Principal, id: &str) -> Result<Session, ApiError> {
    let session = owned(broker, principal, id).await?;
    match session.state {
        UploadState::Open => Ok(session),
        UploadState::Completing => Err(ApiError::UploadBusy),
        ended @ (UploadState::Completed | UploadState::Aborted | UploadState::Expired) => {
            Err(ApiError::UploadEnded(ended))
        }
    }
}
