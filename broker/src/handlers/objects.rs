//! `GET /v1/objects`: what the caller may see of the store, page by page.

use actix_web::{HttpRequest, HttpResponse};
use shared::api::{ListObjects, ObjectList};

use super::query::{key_text, page_size, query};
use crate::app::Shared;
use crate::error::ApiError;
use crate::principal::Principal;
use crate::s3::{Page, StoreError, StoreErrorKind};

/// Answers with one page, as the store lists it.
///
/// # Errors
/// Downloads are not granted, the query cannot be used, or the store does not answer.
pub async fn objects(broker: Shared, principal: Principal, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let ListObjects {
        destination,
        prefix,
        delimiter,
        cursor,
        limit,
    } = query(&request)?;
    let asked = prefix.unwrap_or_default();
    let limit = page_size(limit)?;
    key_text("prefix", &asked)?;
    key_text("delimiter", delimiter.as_deref().unwrap_or_default())?;
    if cursor.as_deref() == Some("") {
        return Err(ApiError::InvalidQuery(
            "the cursor is empty; leave it out for the first page".into(),
        ));
    }
    let Some(grant) = broker.policy.admit_list(&principal, destination.as_deref(), &asked)? else {
        return Ok(HttpResponse::Ok().json(ObjectList {
            prefix: asked,
            objects: Vec::new(),
            prefixes: Vec::new(),
            next_cursor: None,
        }));
    };
    let with_cursor = cursor.is_some();
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty());
    let page = Page {
        delimiter,
        cursor,
        limit,
    };
    let listed = broker.store.list(&grant, page).await.map_err(|error| match error {
        // What else the store could mind is of the broker's own making.
        StoreError {
            kind: StoreErrorKind::Refused(code),
            ..
        } if with_cursor => ApiError::InvalidQuery(format!(
            "the store does not take this cursor, or not with this prefix ({code})"
        )),
        error => error.into(),
    })?;
    Ok(HttpResponse::Ok().json(listed))
}
