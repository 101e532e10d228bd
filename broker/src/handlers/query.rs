//! What stands after the `?` of a URL, for the listings.

use std::ops::RangeInclusive;

use actix_web::HttpRequest;
use serde::de::DeserializeOwned;
use shared::api::MAX_PAGE;

use crate::error::ApiError;

/// The query as this struct.
///
/// # Errors
/// A field is unknown, comes twice or is of the wrong kind.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, ApiError> {
    serde_urlencoded::from_str(request.query_string()).map_err(|error| ApiError::InvalidQuery(error.to_string()))
}

/// How many entries a page may have.
///
/// # Errors
/// None, or more than [`MAX_PAGE`].
pub(super) fn page_size(limit: Option<u16>) -> Result<u16, ApiError> {
    const ALLOWED: RangeInclusive<u16> = 1..=MAX_PAGE;
    match limit.unwrap_or(MAX_PAGE) {
        limit if ALLOWED.contains(&limit) => Ok(limit),
        limit => Err(ApiError::InvalidQuery(format!(
            "a limit of {limit} is outside 1 to {MAX_PAGE}"
        ))),
    }
}
