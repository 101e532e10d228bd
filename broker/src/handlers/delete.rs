//! `DELETE /v1/objects`: one object that the caller may see, gone.

use actix_web::{HttpRequest, HttpResponse};
use shared::api::DeleteObject;

use super::query::query;
use crate::app::Shared;
use crate::error::ApiError;
use crate::principal::Caller;

/// Answers `204`, again `204`: on a versioned bucket the versions before stay.
///
/// # Errors
/// Deleting is not granted, the object is not the caller's to see, or the store does not answer.
pub async fn delete(broker: Shared, caller: Caller, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let DeleteObject { key, destination } = query(&request)?;
    let grant = broker
        .policy
        .admit_delete(&caller.principal, destination.as_deref(), key)?;
    broker.store.delete(&grant).await?;
    tracing::info!(principal = caller.principal.name(), address = ?caller.address, key = grant.key.as_str(), "object deleted");
    Ok(HttpResponse::NoContent().finish())
}
