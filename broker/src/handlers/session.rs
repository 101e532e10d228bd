//! The upload that a request names: found in the ledger and owned by the caller, or the one and only 404.

use std::sync::Arc;

use shared::UploadId;
use shared::api::UploadState;

use crate::app::Broker;
use crate::error::ApiError;
use crate::ledger::Session;
use crate::policy::Touch;
use crate::principal::Principal;

/// The upload of this id, if the caller may do this to it. Malformed, unknown, foreign and expired ids get the same answer.
///
/// # Errors
/// [`ApiError::NoSuchUpload`], [`ApiError::NotGranted`], or the ledger does not answer.
pub async fn touched(broker: &Broker, principal: &Principal, id: &str, touch: Touch) -> Result<Session, ApiError> {
    let session = recorded(broker, principal, id, touch).await?;
    match session.state_at(broker.clock.now()) {
        UploadState::Expired => Err(ApiError::NoSuchUpload),
        UploadState::Open | UploadState::Completing | UploadState::Completed | UploadState::Aborted => Ok(session),
    }
}

/// The same, also where it has expired: it can still be looked back at.
///
/// # Errors
/// As [`touched`], but for an upload that has expired.
pub async fn recorded(broker: &Broker, principal: &Principal, id: &str, touch: Touch) -> Result<Session, ApiError> {
    let id: UploadId = id.parse().map_err(|_| ApiError::NoSuchUpload)?;
    let session = broker.ledger.find(&id).await?.ok_or(ApiError::NoSuchUpload)?;
    broker.policy.admit_touch(principal, &session, touch)?;
    Ok(session)
}

/// The caller's upload of this id, as it was when parts could still be sent; whether they still can, the ledger tells when
/// they are declared.
///
/// # Errors
/// As [`touched`], or the upload is no longer open.
pub async fn open(broker: &Broker, principal: &Principal, id: &str) -> Result<Arc<Session>, ApiError> {
    let id: UploadId = id.parse().map_err(|_| ApiError::NoSuchUpload)?;
    let session = broker.ledger.recall(&id).await?.ok_or(ApiError::NoSuchUpload)?;
    broker.policy.admit_touch(principal, &session, Touch::GoOn)?;
    match session.state_at(broker.clock.now()) {
        UploadState::Open => Ok(session),
        state => Err(ApiError::not_open(state)),
    }
}
