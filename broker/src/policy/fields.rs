//! What single fields of a request may hold.

use std::collections::BTreeMap;

use super::{WRITE_TOKEN, WRITE_TOKEN_LEN};
use crate::error::ApiError;

/// User metadata of one object: S3 allows 2 KB, names and values together, of which the write token takes its part.
pub const MAX_METADATA_LEN: usize = 2048 - WRITE_TOKEN.len() - WRITE_TOKEN_LEN;
/// Names of user metadata: each is a header, and stores take only so many of those.
const MAX_METADATA_NAMES: usize = 64;
/// What the broker itself keeps in user metadata begins so; clients may not.
const RESERVED_METADATA: &str = "broker-";

/// A media type that any store takes.
pub(super) fn check_content_type(text: &str) -> Result<(), ApiError> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let (kind, rest) = text.split_once('/').unwrap_or_default();
    if printable && !kind.is_empty() && !rest.is_empty() && text.len() <= 255 {
        return Ok(());
    }
    let reason = format!(
        "{:?} is no media type (RFC 9110 section 8.3.1), such as application/pdf",
        shortened(text)
    );
    Err(ApiError::InvalidField {
        field: "content_type",
        reason,
    })
}

/// User metadata that any store keeps as it is.
pub(super) fn check_metadata(metadata: &BTreeMap<String, String>, max: usize) -> Result<(), ApiError> {
    let refuse = |reason: String| {
        Err(ApiError::InvalidField {
            field: "metadata",
            reason,
        })
    };
    if metadata.len() > MAX_METADATA_NAMES {
        let count = metadata.len();
        return refuse(format!(
            "has {count} names; at most {MAX_METADATA_NAMES} work on every store"
        ));
    }
    let mut length = 0;
    for (name, value) in metadata {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(plain) {
            let name = shortened(name);
            return refuse(format!(
                "has the name {name:?}; only a-z, 0-9, dash, underscore and dot work on every store"
            ));
        }
        if name.starts_with(RESERVED_METADATA) {
            return refuse(format!(
                "has the name {name:?}; {RESERVED_METADATA}* is the broker's own"
            ));
        }
        let edge_blank = value.starts_with(' ') || value.ends_with(' ');
        if edge_blank || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return refuse(format!(
                "{name:?} is not printable ASCII without blanks at its ends; encode it, for example by percent-encoding"
            ));
        }
        length += name.len() + value.len();
    }
    if length > max {
        return refuse(format!(
            "has {length} bytes, names and values together; at most {max} are allowed"
        ));
    }
    Ok(())
}

/// Enough of a client's text to recognise it by.
pub fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
