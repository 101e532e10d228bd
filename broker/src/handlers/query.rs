//! What stands after the `?` of a URL, for the listings.

use std::ops::RangeInclusive;

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use shared::api::MAX_PAGE;

use super::body::excerpt;
use crate::error::ApiError;

/// The query as this struct.
///
/// # Errors
/// A field is unknown, comes twice or is of the wrong kind.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, ApiError> {
    let text = request.query_string();
    // The parser would take bytes that are not UTF-8 for U+FFFD.
    if percent_decode_str(text).decode_utf8().is_err() {
        return Err(ApiError::InvalidQuery("it is not UTF-8".into()));
    }
    serde_urlencoded::from_str(text).map_err(|error| ApiError::InvalidQuery(excerpt(&error.to_string())))
}

/// Text that keys can begin with or hold: nothing that could not stand in the store's XML.
///
/// # Errors
/// Which character cannot be.
pub(super) fn key_text(field: &str, text: &str) -> Result<(), ApiError> {
    match text
        .chars()
        .find(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        None => Ok(()),
        Some(c) => Err(ApiError::InvalidQuery(format!(
            "the {field} holds U+{:04X}, which no key here has",
            u32::from(c)
        ))),
    }
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
