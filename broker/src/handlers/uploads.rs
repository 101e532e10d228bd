//! `GET /v1/uploads`: the caller's uploads that have not ended, page by page.

use actix_web::{HttpRequest, HttpResponse};
use shared::UploadId;
use shared::api::{ListUploads, OpenUpload, OpenUploads};

use super::query::{page_size, query};
use crate::app::Shared;
use crate::error::ApiError;
use crate::policy::Touch;
use crate::principal::Principal;

/// Answers with one page. No store call.
///
/// # Errors
/// The query cannot be used, or the ledger does not answer.
pub async fn uploads(broker: Shared, principal: Principal, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let ListUploads { cursor, limit } = query(&request)?;
    let limit = page_size(limit)?;
    let after = cursor.map(|cursor| cursor.parse::<UploadId>()).transpose();
    let after = after.map_err(|_| ApiError::InvalidQuery("the cursor is not one that a page before gave".into()))?;
    let now = broker.clock.now();
    // One more than is shown tells whether there is a next page.
    let mut page = broker
        .ledger
        .open_uploads(principal.name(), after.as_ref(), limit + 1, now)
        .await?;
    let more = page.len() > usize::from(limit);
    page.truncate(limit.into());
    let next_cursor = page.last().filter(|_| more).map(|last| last.id.to_string());
    // A token for one destination is told of no other.
    page.retain(|session| broker.policy.admit_touch(&principal, session, Touch::Look).is_ok());
    let uploads = page.into_iter().map(|session| OpenUpload {
        upload_id: session.id,
        state: session.state,
        name: session.name,
        key: session.key,
        size: session.plan.size(),
        created_at: session.created_at,
        expires_at: session.expires_at,
    });
    Ok(HttpResponse::Ok().json(OpenUploads {
        uploads: uploads.collect(),
        next_cursor,
        server_time: now,
    }))
}
