//! `GET /v1/uploads/{id}/events`: what has happened to an upload, page by page, also once it has ended.

use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use shared::api::{ListEvents, UploadEvents};

use super::query::{page_size, query};
use super::session;
use crate::app::Shared;
use crate::error::ApiError;
use crate::policy::Touch;
use crate::principal::Principal;

/// Answers with one page. No store call.
///
/// # Errors
/// The upload is not the caller's, the query cannot be used, or the ledger does not answer.
pub async fn events(
    broker: Shared,
    principal: Principal,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let session = session::recorded(&broker, &principal, &id, Touch::Look).await?;
    let ListEvents { cursor, limit } = query(&request)?;
    let limit = page_size(limit)?;
    // One more than is shown tells whether there is a next page.
    let mut events = broker.ledger.events(&session.id, cursor.as_ref(), limit + 1).await?;
    let more = events.len() > usize::from(limit);
    events.truncate(limit.into());
    let next_cursor = events.last().filter(|_| more).map(|last| last.id.clone());
    Ok(HttpResponse::Ok().json(UploadEvents {
        events,
        next_cursor,
        server_time: broker.clock.now(),
    }))
}
