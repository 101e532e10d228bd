//! Schemas of the form protocol, whose forms are read field by field, and of the answers that have no type of their own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use shared::Md5Digest;

/// The form of `POST /presign`.
pub(super) struct PresignForm;

impl JsonSchema for PresignForm {
    fn schema_name() -> Cow<'static, str> {
        "PresignForm".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let digest = generator.subschema_for::<Md5Digest>();
        json_schema!({
            "type": "object",
            "required": ["keyname", "expires", "1"],
            "properties": {
                "keyname": { "type": "string", "minLength": 1, "description": "The file's name, as CreateUpload has it." },
                "expires": {
                    "type": "integer", "minimum": 1, "maximum": u64::MAX,
                    "description": "Seconds that the URLs are to live; shortened to what the broker allows.",
                },
                "contenttype": { "type": "string", "description": "Media type of the object." },
                "x-amz-acl": { "type": "string", "description": "Canned ACL; refused unless granted." },
                "1": digest,
            },
            "patternProperties": {
                "^(?:[1-9][0-9]{0,3}|10000)$": digest,
                "^[Xx]-[Aa][Mm][Zz]-[Mm][Ee][Tt][Aa]-": { "type": "string" },
            },
            "additionalProperties": { "type": "string" },
            "description": "Fields 1, 2, 3 and so on, without gaps, are the base64 MD5s of the parts. Fields that are not known are ignored.",
        })
    }
}

/// The form of `POST /complete` and `POST /abort`.
pub(super) struct NamedUploadForm;

impl JsonSchema for NamedUploadForm {
    fn schema_name() -> Cow<'static, str> {
        "NamedUploadForm".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["uploadid", "keyname"],
            "properties": {
                "uploadid": { "type": "string", "minLength": 1, "description": "As /presign answered it." },
                "keyname": { "type": "string", "minLength": 1, "description": "As given to /presign, or as its header x-upload-key says." },
            },
            "description": "Fields that are not known are ignored.",
        })
    }
}

/// The answer of `POST /presign`.
pub(super) struct Presigned;

impl JsonSchema for Presigned {
    fn schema_name() -> Cow<'static, str> {
        "Presigned".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["UploadID", "1"],
            "properties": { "UploadID": generator.subschema_for::<shared::UploadId>() },
            "patternProperties": { "^(?:[1-9][0-9]{0,3}|10000)$": { "type": "string", "description": "Where to PUT that part." } },
            "additionalProperties": false,
        })
    }
}

/// The answer of `POST /complete` and `POST /abort`.
pub(super) struct Done;

impl JsonSchema for Done {
    fn schema_name() -> Cow<'static, str> {
        "Done".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "required": ["status_code"], "properties": { "status_code": { "const": 200 } } })
    }
}

/// The answer of `GET /healthz`.
pub(super) struct Alive;

impl JsonSchema for Alive {
    fn schema_name() -> Cow<'static, str> {
        "Alive".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "required": ["status"], "properties": { "status": { "const": "ok" } } })
    }
}

/// The answer of `GET /openapi.json`.
pub(super) struct Document;

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "Document".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "required": ["openapi", "info", "paths"], "description": "This document." })
    }
}
