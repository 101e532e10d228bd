//! Small files that clients put whole: there when the store has them, and recorded then.

use shared::PartNumber;
use shared::api::UploadState;

use crate::app::Broker;
use crate::error::ApiError;
use crate::ledger::{By, Session, StoredObject};
use crate::s3::Looked;

/// Looks for the objects of these uploads, and records those that are right; an answer each, in their order.
///
/// # Errors
/// What concerns all of them: the store while it is looked through, the ledger. Nothing was recorded.
pub async fn find_objects(
    broker: &Broker,
    puts: Vec<Session>,
    by: &By,
) -> Result<Vec<Result<(Session, StoredObject), ApiError>>, ApiError> {
    let found = broker.store.look_for(&puts, broker.profile.etag_is_md5).await?;
    let judged: Vec<_> = puts
        .into_iter()
        .zip(found)
        .map(|(session, looked)| {
            let part = || vec![PartNumber::FIRST];
            match looked {
                Looked::Own(object) if Some(object.size) == session.plan.size() => Ok((session, object)),
                Looked::Own(_) | Looked::Other => Err(ApiError::PartsWrong(part())),
                Looked::Nothing => Err(ApiError::PartsMissing(part())),
            }
        })
        .collect();
    let right: Vec<_> = judged
        .iter()
        .flatten()
        .map(|(session, object)| (&session.id, object))
        .collect();
    let states = broker.ledger.finish_puts(&right, by, broker.clock.now()).await?;
    let mut states = states.into_iter();
    // Between the look and the record somebody may have given an upload up: who was told so is right, whatever the store holds.
    let mut recorded = |(session, object)| match states.next() {
        Some(UploadState::Completed) => Ok((session, object)),
        Some(state) => Err(ApiError::not_open(state)),
        None => Err(ApiError::Interrupted),
    };
    Ok(judged
        .into_iter()
        .map(|judged| judged.and_then(&mut recorded))
        .collect())
}
