//! `POST /v1/downloads`: a URL for one object that the caller may see.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use shared::api::{CreateDownload, Download};
use shared::{PartNumber, PartSizes};

use super::body;
use crate::app::Shared;
use crate::error::ApiError;
use crate::policy::no_such_object;
use crate::principal::Principal;

/// Answers with a presigned GET, and what the object is like now.
///
/// # Errors
/// Downloads are not granted, there is no such object, or the store does not answer.
pub async fn download(
    broker: Shared,
    principal: Principal,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let CreateDownload { key, destination } = body::json(&request, payload).await?;
    let grant = broker.policy.admit_download(&principal, destination.as_deref(), key)?;
    let head = broker.store.head(&grant.bucket, &grant.key).await?;
    let object = head.ok_or_else(|| no_such_object(&grant.key))?.object;
    let sizes = broker
        .ledger
        .part_sizes(&grant.bucket, &grant.key, &object.etag)
        .await?;
    let now = broker.clock.now();
    let (url, expires_in) = broker.download_url(&grant).await?;
    tracing::info!(
        principal = principal.name(),
        key = grant.key.as_str(),
        "download signed"
    );
    Ok(HttpResponse::Created().json(Download {
        key: grant.key,
        method: "GET".to_owned(),
        url,
        size: object.size,
        etag: object.etag,
        etag_is_md5: broker.profile.etag_is_md5,
        part_size: sizes.map(|sizes| sizes.part_size(PartNumber::FIRST)),
        growing_parts: sizes == Some(PartSizes::Growing),
        expires_at: now + expires_in,
        expires_in: expires_in.as_secs(),
        server_time: now,
    }))
}
