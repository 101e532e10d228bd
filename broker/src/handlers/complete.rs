//! `POST /v1/uploads/{id}/complete`: has the store join the parts.

use actix_web::http::header::RETRY_AFTER;
use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use shared::api::{CompleteUpload, Completing, UploadState};

use super::{body, session, status};
use crate::app::Shared;
use crate::complete::{self, Completion};
use crate::error::ApiError;
use crate::policy::Touch;
use crate::principal::Caller;

/// Seconds to wait while another request is completing the upload.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Answers `200` with the object, now and whenever asked again; `202` while another request is at it.
///
/// # Errors
/// Parts are missing or wrong, the upload has ended otherwise, or the store did not do it.
pub async fn complete(
    broker: Shared,
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let session = session::touched(&broker, &caller.principal, &id, Touch::GoOn).await?;
    let CompleteUpload { size } = body::optional_json(&request, payload).await?;
    match complete::complete(broker.clone(), session.clone(), size, caller.by()).await? {
        Completion::Done(object) => Ok(HttpResponse::Ok().json(status::completed(&broker, &session, &object))),
        Completion::Busy => Ok(HttpResponse::Accepted()
            .insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS.to_string()))
            .json(Completing {
                state: UploadState::Completing,
                retry_after: RETRY_AFTER_SECONDS,
            })),
    }
}
