//! What single fields of a request may hold.

use std::collections::BTreeMap;

use super::{Destination, WRITE_TOKEN, WRITE_TOKEN_LEN};
use crate::error::ApiError;

/// User metadata of one object: S3 allows 2 KB, names and values together, of which the write token takes its part.
pub const MAX_METADATA_LEN: usize = 2048 - WRITE_TOKEN.len() - WRITE_TOKEN_LEN;
/// Names of user metadata: each is a header, and stores take only so many of those.
const MAX_METADATA_NAMES: usize = 64;
/// What the broker itself keeps in user metadata begins so; clients may not.
const RESERVED_METADATA: &str = "broker-";

/// A media type to the letter of RFC 9110 section 8.3.1: what is read into anything else differs from browser to browser, and
/// of what has a comma in it they take the last part.
pub(super) fn check_content_type(text: &str) -> Result<(), ApiError> {
    if text.len() <= 255 && is_media_type(text) {
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

/// `type/subtype`, then parameters: `;name=value` or `;name="quoted"`, blanks around the semicolons.
fn is_media_type(text: &str) -> bool {
    let (kind, mut rest) = text.split_at(text.find([';', ' ']).unwrap_or(text.len()));
    let Some((top, sub)) = kind.split_once('/') else {
        return false;
    };
    if !is_token(top) || !is_token(sub) {
        return false;
    }
    while !rest.is_empty() {
        let Some(parameter) = rest.trim_start_matches(' ').strip_prefix(';') else {
            return false;
        };
        let parameter = parameter.trim_start_matches(' ');
        let Some((name, value)) = parameter.split_once('=') else {
            return false;
        };
        let len = match value.strip_prefix('"') {
            Some(quoted) => quoted_len(quoted).map(|len| len + 1),
            None => Some(value.find([';', ' ']).unwrap_or(value.len())).filter(|len| {
                let (value, _) = value.split_at(*len);
                is_token(value)
            }),
        };
        let (true, Some(len)) = (is_token(name), len) else {
            return false;
        };
        rest = value.get(len..).unwrap_or_default();
    }
    true
}

/// Bytes of a quoted string after its first quote, the last one included.
fn quoted_len(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b' '..=b'~' if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            b' '..=b'~' => {}
            _ => return None,
        }
    }
    None
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// User metadata that any store keeps as it is.
pub(super) fn check_metadata(metadata: &BTreeMap<String, String>, destination: &Destination) -> Result<(), ApiError> {
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
    let max = destination.max_metadata;
    if length > max {
        return refuse(format!(
            "has {length} bytes, names and values together; the destination {:?} takes at most {max}: say less, or ask the \
             operator",
            destination.name
        ));
    }
    Ok(())
}

/// Enough of a client's text to recognise it by.
pub fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t14_a_media_type_is_one_to_the_letter() {
        for good in [
            "text/plain",
            "image/svg+xml",
            "text/plain; charset=utf-8",
            "text/plain;charset=\"utf-8\"",
            "multipart/mixed; boundary=\"a, \\\"b\" ;x=y",
            "application/vnd.api+json;version=1",
        ] {
            assert!(check_content_type(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text",
            "text/",
            "/html",
            "image/png, text/html",
            "text/html,",
            "image/svg+xml ,x/y",
            "text/html(x",
            "text/html x",
            "x y/z",
            "text /html",
            "image/ text/html",
            "text/plain;",
            "text/plain;a",
            "text/plain;a=",
            "text/plain;a=\"b",
            "text/plain;a=\"b\"c",
            "text/plain;a=b, text/html",
            "text/plain\n",
            "tëxt/plain",
        ] {
            assert!(check_content_type(bad).is_err(), "{bad}");
        }
    }
}
