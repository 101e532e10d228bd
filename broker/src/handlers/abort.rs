//! `DELETE /v1/uploads/{id}`: gives an upload up; its parts are deleted and its URLs stop working.

use actix_web::HttpResponse;
use actix_web::web::Path;

use super::session;
use crate::app::Shared;
use crate::error::ApiError;
use crate::give_up::give_up;
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
