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
    // Where others' objects can have the key of one's own, an equal MD5 says nothing of whose it is: whoever may only upload could
    // find out by guessing what others have stored, or that they have.
    let own_place = |session: &Session| broker.policy.keeps_apart(session);
    let by_md5 = |session: &Session| broker.profile.etag_is_md5 && own_place(session);
    let found = broker.store.look_for(&puts, by_md5).await?;
    let judged: Vec<_> = puts
        .into_iter()
        .zip(found)
        .map(|(session, looked)| {
            let part = || vec![PartNumber::FIRST];
            match looked {
                Looked::Own(object) if Some(object.size) == session.plan.size() => Ok((session, object)),
                Looked::Other if !own_place(&session) => Err(ApiError::PartsMissing(part())),
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
