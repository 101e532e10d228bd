//! Uploads that are to become no object: given up by their owner, or ended with the token or ticket that created them.

use std::ops::AddAssign;

use shared::api::UploadState;
use tokio::task::JoinSet;

use crate::app::{Broker, Shared, to_its_end};
use crate::error::ApiError;
use crate::ledger::{By, REVOKED, Session};

/// Ends the upload in the ledger first, so that nobody completes it any more, then in the store: both, whether or not the
/// caller waits for it.
///
/// # Errors
/// The upload is completed or being completed, or ledger or store do not answer.
pub async fn give_up(broker: Shared, session: Session, by: By) -> Result<(), ApiError> {
    to_its_end(async move {
        match end(&broker, &session, &by, None).await {
            // Whose upload it is may go on with completing it; who ends others' does not wait for a moment when they do not.
            Err(ApiError::UploadBusy) if session.owner != by.actor => {
                broker.ledger.ask_to_abort(&session.id, &by).await?;
                Err(ApiError::UploadBusy)
            }
            outcome => outcome,
        }
    })
    .await
}

/// Uploads that are ended at once where many are.
const AT_ONCE: usize = 16;

/// What became of the uploads of a credential.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ended {
    /// Ended: their part URLs are good for nothing any more.
    pub aborted: u64,
    /// Being completed at this moment, which ends them unless they are complete; or ended, and not to be had from the store,
    /// which is asked again when this is, and by the sweeper.
    pub left: u64,
    /// Ended before, and the store has been asked again to forget them.
    pub again: u64,
}

impl AddAssign for Ended {
    fn add_assign(&mut self, other: Self) {
        self.aborted += other.aborted;
        self.left += other.left;
        self.again += other.again;
    }
}

/// Ends all open uploads that were created by this credential, `token:ID` or `ticket:ID`, which is revoked: the part URLs that
/// were given out stop working. Asked again, it sees to those that are left.
///
/// # Errors
/// The ledger does not answer.
pub async fn end_uploads_of(broker: &Shared, credential: &str, by: &By) -> Result<Ended, ApiError> {
    let (mut open, before): (Vec<_>, Vec<_>) = broker
        .ledger
        .opened_by(credential)
        .await?
        .into_iter()
        .partition(|session| matches!(session.state, UploadState::Open | UploadState::Completing));
    let fresh = open.len();
    open.extend(before);
    let (mut ended, mut running) = (Ended::default(), JoinSet::new());
    let mut left = open.into_iter().enumerate();
    loop {
        while running.len() < AT_ONCE
            && let Some((place, session)) = left.next()
        {
            let (broker, by) = (broker.clone(), by.clone());
            running.spawn(async move {
                (
                    place < fresh,
                    end(&broker, &session, &by, Some(REVOKED)).await,
                    session.id,
                )
            });
        }
        match running.join_next().await {
            None => return Ok(ended),
            Some(Ok((true, Ok(()), _))) => ended.aborted += 1,
            Some(Ok((false, Ok(()), _))) => ended.again += 1,
            Some(Ok((_, Err(error), id))) => {
                tracing::warn!(upload = %id, %error, "an upload of a revoked credential could not be ended at once");
                ended.left += 1;
            }
            Some(Err(broke)) => {
                tracing::error!(error = %broke, "an upload of a revoked credential could not be ended");
                ended.left += 1;
            }
        }
    }
}

async fn end(broker: &Broker, session: &Session, by: &By, reason: Option<&str>) -> Result<(), ApiError> {
    let now = broker.clock.now();
    match broker.ledger.abort(&session.id, by, reason, now).await? {
        Some(UploadState::Aborted) => {}
        Some(UploadState::Completed) => return Err(ApiError::UploadEnded(UploadState::Completed)),
        Some(UploadState::Completing | UploadState::Open) => return Err(ApiError::UploadBusy),
        // It had run out; whoever revokes what it was created by wants its parts gone all the same.
        Some(UploadState::Expired) if reason.is_some() => {}
        Some(UploadState::Expired) | None => return Err(ApiError::NoSuchUpload),
    }
    if let Some(store_upload_id) = &session.store_upload_id {
        broker
            .store
            .abort(&session.bucket, &session.key, store_upload_id)
            .await?;
    }
    tracing::info!(upload = %session.id, key = %session.key, reason, "upload aborted");
    Ok(())
}
