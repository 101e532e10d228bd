//! JSON schemas of what became a type at the edge, as exact as a schema can say it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{ETag, EventId, Md5Digest, ObjectKey, PartNumber, UploadId};

/// A schema for a type: by reference under its own name, or written out where it stands.
macro_rules! schema {
    ($type:ty, $name:literal, inline: $inline:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn inline_schema() -> bool {
                $inline
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(UploadId, "UploadId", inline: false, json_schema!({
    "type": "string", "pattern": "^[A-Za-z0-9_-]{32}$",
    "description": "The broker's name for one upload."
}));

schema!(EventId, "EventId", inline: false, json_schema!({
    "type": "string", "pattern": "^[0-9a-f]{28}$",
    "description": "The broker's name for one event."
}));

schema!(ObjectKey, "ObjectKey", inline: false, json_schema!({
    "type": "string", "minLength": 1, "maxLength": ObjectKey::MAX_LEN,
    "description": "Where the object is in its bucket: at most 1024 bytes of UTF-8."
}));

schema!(ETag, "ETag", inline: false, json_schema!({
    "type": "string", "description": "What the store calls a version of an object or a part, quotes kept."
}));

schema!(PartNumber, "PartNumber", inline: false, json_schema!({
    "type": "integer", "minimum": 1, "maximum": PartNumber::MAX,
    "description": "Place of a part in its upload."
}));

// The last character before the padding has only two bits to say: others are no base64 (RFC 4648 section 3.5).
schema!(Md5Digest, "Md5Digest", inline: false, json_schema!({
    "type": "string", "pattern": "^[A-Za-z0-9+/]{21}[AQgw]==$",
    "description": "MD5 as base64."
}));

/// An instant, RFC 3339.
pub(crate) struct Instant;

schema!(Instant, "Instant", inline: true, json_schema!({ "type": "string", "format": "date-time" }));

/// A file's name as a client may choose it.
pub(crate) struct FileName;

schema!(FileName, "FileName", inline: false, json_schema!({
    "type": "string", "minLength": 1, "maxLength": ObjectKey::MAX_LEN, "pattern": name_pattern(),
    "description": "A file's name: at most 1024 bytes of UTF-8 in Unicode's form C, at most 255 between two slashes."
}));

/// Not only white space; no segment that is empty, `.`, `..` or too long; no backslash, and nothing that hides in listings and
/// logs.
fn name_pattern() -> String {
    let beyond: String = (1..=16_u32)
        .flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff])
        .filter_map(char::from_u32)
        .collect();
    let tags = "\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}";
    let refused = format!(
        r"\\\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff{tags}{beyond}"
    );
    format!(r"^(?!\s*$)(?!(?:.*/)?\.{{0,2}}(?:/|$))(?!.*[^/]{{256}})[^{refused}]+$")
}

/// A media type (RFC 9110 section 8.3.1).
pub(crate) struct MediaType;

schema!(MediaType, "MediaType", inline: false, json_schema!({
    "type": "string", "maxLength": 255, "pattern": r#"^[A-Za-z0-9!#$%&'*+.^_`|~-]+/[A-Za-z0-9!#$%&'*+.^_`|~-]+(?: *; *[A-Za-z0-9!#$%&'*+.^_`|~-]+=(?:[A-Za-z0-9!#$%&'*+.^_`|~-]+|"(?:[ !#-\[\]-~]|\\[ -~])*"))*$"#,
    "description": "A media type, such as application/pdf."
}));

/// Media types, one or all of a kind.
pub(crate) struct TypeRange;

schema!(TypeRange, "TypeRange", inline: true, json_schema!({
    "type": "string", "maxLength": 127, "pattern": r"^[A-Za-z0-9!#$&^_.+-]+/(?:\*|[A-Za-z0-9!#$&^_.+-]+)$"
}));

/// User metadata.
pub(crate) struct Metadata;

schema!(Metadata, "Metadata", inline: false, json_schema!({
    "type": "object", "maxProperties": 64,
    "propertyNames": { "pattern": "^(?!broker-)[a-z0-9._-]+$" },
    "additionalProperties": { "type": "string", "pattern": "^(?:[!-~](?:[ -~]*[!-~])?)?$" },
    "description": "User metadata, names without x-amz-meta-: at most 1998 bytes, names and values together."
}));

/// What keys begin with or hold.
pub(crate) struct KeyText;

schema!(KeyText, "KeyText", inline: true, json_schema!({
    "type": "string", "pattern": r"^[^\u0000-\u001f\u007f-\u009f\ufffe\uffff]*$"
}));
