//! A form's fields as PutObject would have them: the same names as headers, the same input.

use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{PutObjectInput, Tagging, Timestamp, TimestampFormat};
use s3s::xml::{Deserialize as _, Deserializer};
use s3s::{S3Result, s3_error};

use super::fields::Fields;

const METADATA: &str = "x-amz-meta-";

/// The object's key.
pub(super) fn key(fields: &Fields) -> S3Result<String> {
    match fields.need("key")? {
        "" => Err(s3_error!(
            InvalidArgument,
            "User key must have a length greater than 0."
        )),
        key => Ok(key.to_owned()),
    }
}

/// The headers of the PutObject that says the same.
pub(super) fn headers(fields: &Fields) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (field, value) in fields.iter() {
        let name = match field {
            "acl" => "x-amz-acl",
            // Said under two names, one would be judged and the other done.
            "x-amz-acl" | "x-amz-tagging" => {
                return Err(s3_error!(
                    InvalidArgument,
                    "a form has no field {field}: it is called {:?} there",
                    field.trim_start_matches("x-amz-")
                ));
            }
            "content-md5" => field,
            _ if field.starts_with("x-amz-") => field,
            _ => continue,
        };
        let header = (HeaderName::try_from(name), HeaderValue::try_from(value));
        let (Ok(name), Ok(value)) = header else {
            return Err(s3_error!(InvalidArgument, "the field {field} cannot be a header"));
        };
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The input of that PutObject, but for bucket, key and body.
pub(super) fn input(fields: &Fields) -> S3Result<PutObjectInput> {
    let text = |name: &str| match fields.get(name) {
        // What a header would carry: an answer has to carry it, too.
        Some(value) if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) => {
            Err(s3_error!(InvalidArgument, "the field {name} is not plain ASCII"))
        }
        value => Ok(value.map(str::to_owned)),
    };
    let expires = text("expires")?.map(|date| {
        let parsed = Timestamp::parse(TimestampFormat::HttpDate, &date);
        parsed.map_err(|_| s3_error!(InvalidArgument, "the field Expires is not a date as HTTP has them"))
    });
    let metadata = fields
        .iter()
        .filter_map(|(name, _)| name.strip_prefix(METADATA).map(|short| (name, short)));
    let metadata = metadata
        .map(|(name, short)| Ok((short.to_owned(), text(name)?.unwrap_or_default())))
        .collect::<S3Result<_>>()?;
    Ok(PutObjectInput {
        acl: text("acl")?.map(Into::into),
        cache_control: text("cache-control")?,
        content_disposition: text("content-disposition")?,
        content_encoding: text("content-encoding")?,
        content_language: text("content-language")?,
        content_md5: text("content-md5")?,
        content_type: text("content-type")?,
        expires: expires.transpose()?,
        metadata: Some(metadata),
        storage_class: text("x-amz-storage-class")?.map(Into::into),
        tagging: fields.get("tagging").map(tagging).transpose()?,
        website_redirect_location: text("x-amz-website-redirect-location")?,
        ..PutObjectInput::default()
    })
}

/// Tags, which a form carries in XML, as the header has them: encoded as a query is.
fn tagging(xml: &str) -> S3Result<String> {
    let malformed = || {
        s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        )
    };
    let mut parser = Deserializer::new(xml.as_bytes());
    let tagging = Tagging::deserialize(&mut parser).and_then(|tagging| parser.expect_eof().map(|()| tagging));
    let tags = tagging.map_err(|_| malformed())?.tag_set.into_iter();
    let tags: Vec<_> = tags
        .map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))
        .collect();
    serde_urlencoded::to_string(tags).map_err(|_| malformed())
}
