//! The original form protocol, kept to the letter: `POST /presign`, `POST /complete`, `POST /abort`.
//!
//! Its clients take every field of the presign answer but `UploadID` for a part, so whatever else there is to say goes into
//! headers.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::header::{self, HeaderName};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use shared::{Md5Digest, PartNumber};
use time::format_description::well_known::Rfc3339;

use super::abort::give_up;
use super::create::admit;
use super::{body, session};
use crate::app::{Broker, Shared};
use crate::complete::{self, Completion};
use crate::error::ApiError;
use crate::ledger::{Digests, Session};
use crate::policy::FormUpload;
use crate::principal::Principal;
use crate::sign::{Part, escaped_path};

/// How long `/complete` waits for another request that is completing the same upload: the protocol has no "not yet".
const BUSY_TRIES: u32 = 120;
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Admits an upload and answers `201` with its id and a URL for every part.
///
/// # Errors
/// A field is missing or malformed, the policy refuses, or the store or the ledger did not do it.
pub async fn presign(
    broker: Shared,
    principal: Principal,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let form = parse_presign(body::form(&request, payload).await?)?;
    let now = broker.clock.now();
    let numbered = || PartNumber::up_to(PartNumber::MAX).zip(form.digests.iter().copied());
    let parts: Vec<Part> = numbered()
        .map(|(number, md5)| Part {
            number,
            md5: Some(md5),
            size: None,
        })
        .collect();
    let declared: Digests = numbered().collect();
    let (grant, life) = broker
        .policy
        .admit_form(&principal, form, now, broker.upload_random())?;
    let session = admit(&broker, grant, &declared).await?;
    let grant = broker.policy.admit_parts(&session, parts, life, now)?;
    let (mut signer, grant) = broker.signer(grant).await?;

    // Neither ids nor URLs hold anything that JSON escapes.
    let mut answer = Vec::with_capacity(64 + grant.parts().len() * 640);
    answer.extend_from_slice(b"{\"UploadID\":\"");
    answer.extend_from_slice(session.id.as_str().as_bytes());
    for part in grant.parts() {
        answer.extend_from_slice(b"\",\"");
        answer.extend_from_slice(itoa::Buffer::new().format(part.number.get()).as_bytes());
        answer.extend_from_slice(b"\":\"");
        signer.write_url(part, &mut answer);
    }
    answer.extend_from_slice(b"\"}");

    let instant = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let named = HeaderName::from_static;
    Ok(HttpResponse::Created()
        .content_type("application/json")
        .insert_header((named("x-upload-key"), escaped_path(session.key.as_str())))
        .insert_header((named("x-upload-expires-at"), instant(session.expires_at)))
        .insert_header((named("x-url-expires-in"), grant.expires_in().as_secs().to_string()))
        .insert_header((named("x-url-expires-at"), instant(now + grant.expires_in())))
        .insert_header((named("x-server-time"), instant(now)))
        .insert_header((
            named("x-max-object-size"),
            broker.policy.destination.max_size.to_string(),
        ))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(answer))
}

/// Has the store join the parts and answers `200`.
///
/// # Errors
/// `400` for a missing field, the one 404 for an upload that is not the caller's, `422` for everything else.
pub async fn complete(
    broker: Shared,
    principal: Principal,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let session = named_session(&broker, &principal, body::form(&request, payload).await?).await?;
    for _ in 0..BUSY_TRIES {
        match complete::complete(broker.clone(), session.clone(), None).await {
            Ok(Completion::Done(_)) => return Ok(done()),
            Ok(Completion::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
            Err(error) => return Err(ApiError::NotCompleted(Box::new(error))),
        }
    }
    Err(ApiError::NotCompleted(Box::new(ApiError::UploadBusy)))
}

/// Gives the upload up and answers `200`.
///
/// # Errors
/// As for `DELETE /v1/uploads/{id}`.
pub async fn abort(
    broker: Shared,
    principal: Principal,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let session = named_session(&broker, &principal, body::form(&request, payload).await?).await?;
    give_up(&broker, &session).await?;
    Ok(done())
}

fn done() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(r#"{"status_code":200}"#)
}

/// The upload that `uploadid` and `keyname` name together.
async fn named_session(
    broker: &Broker,
    principal: &Principal,
    fields: Vec<(String, String)>,
) -> Result<Session, ApiError> {
    let (mut id, mut name) = (None, None);
    for (field, value) in fields {
        match field.as_str() {
            "uploadid" => id = Some(value),
            "keyname" => name = Some(value),
            // Clients of the original sent other fields along, and it ignored them.
            _ => {}
        }
    }
    let filled = |value: Option<String>, field| {
        value
            .filter(|text| !text.is_empty())
            .ok_or(ApiError::MissingField(field))
    };
    let (id, name) = (filled(id, "uploadid")?, filled(name, "keyname")?);
    let session = session::owned(broker, principal, &id).await?;
    // The name as it was given, or the key that the destination's template made of it.
    let normal = name
        .parse()
        .map_err(ApiError::InvalidName)
        .map(|name: crate::key::UploadName| name.to_string());
    if normal.is_ok_and(|normal| normal == session.name) || name == session.key.as_str() {
        Ok(session)
    } else {
        Err(ApiError::NoSuchUpload)
    }
}

fn parse_presign(fields: Vec<(String, String)>) -> Result<FormUpload, ApiError> {
    let (mut name, mut expires) = (None, None);
    let mut form = FormUpload::default();
    let mut digests: BTreeMap<PartNumber, Md5Digest> = BTreeMap::new();
    for (field, value) in fields {
        match field.as_str() {
            "keyname" => name = Some(value),
            "expires" => expires = Some(value),
            "contenttype" => form.content_type = Some(value).filter(|text| !text.is_empty()),
            "x-amz-acl" => form.acl = Some(value).filter(|text| !text.is_empty()),
            number if number.starts_with(|first: char| first.is_ascii_digit()) => {
                let number: PartNumber = number.parse()?;
                let digest = value
                    .parse()
                    .map_err(|reason| ApiError::InvalidDigest { number, reason })?;
                if digests.insert(number, digest).is_some() {
                    return Err(ApiError::PartTwice(number));
                }
            }
            other => {
                let lower = other.to_ascii_lowercase();
                // The original ignored fields that it did not know, so its clients may send some.
                if let Some(meta) = lower.strip_prefix("x-amz-meta-") {
                    form.metadata.insert(meta.to_owned(), value);
                }
            }
        }
    }
    form.name = name
        .filter(|name| !name.is_empty())
        .ok_or(ApiError::MissingField("keyname"))?;
    let expires = expires
        .filter(|text| !text.is_empty())
        .ok_or(ApiError::MissingField("expires"))?;
    form.expires_in = expires.parse().map_err(|_| ApiError::InvalidField {
        field: "expires",
        reason: format!(
            "is {:?}; expected a whole number of seconds",
            expires.chars().take(32).collect::<String>()
        ),
    })?;
    for (expected, number) in PartNumber::up_to(PartNumber::MAX).zip(digests.keys()) {
        if expected != *number {
            let last = digests.last_key_value().map_or(*number, |(last, _)| *last);
            return Err(ApiError::PartGap {
                missing: expected,
                last,
            });
        }
    }
    form.digests = digests.into_values().collect();
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &[(&str, &str)]) -> Result<FormUpload, ApiError> {
        parse_presign(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    const EMPTY: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";

    #[test]
    fn a_form_is_read_field_by_field() {
        let form = parse(&[
            ("keyname", "a/b.bin"),
            ("expires", "3600"),
            ("contenttype", "text/plain"),
            ("X-Amz-Meta-Colour", "blue"),
            ("submit", "a field of the client's own"),
            ("2", EMPTY),
            ("1", EMPTY),
        ])
        .unwrap();
        assert_eq!(
            (form.name.as_str(), form.expires_in, form.digests.len()),
            ("a/b.bin", 3600, 2)
        );
        assert_eq!(form.metadata.get("colour").map(String::as_str), Some("blue"));
    }

    #[test]
    fn what_is_wrong_with_a_form_is_named() {
        let base = [("keyname", "k"), ("expires", "60")];
        let code = |extra: &[(&str, &str)]| parse(&[&base, extra].concat()).unwrap_err().code();
        assert_eq!(code(&[("0", EMPTY)]), "invalid_part_number");
        assert_eq!(code(&[("10001", EMPTY)]), "invalid_part_number");
        assert_eq!(code(&[("1", "MTIzNDU2Nzg5MDEyMzQ1")]), "invalid_digest");
        assert_eq!(code(&[("1", EMPTY), ("1", EMPTY)]), "part_twice");
        assert_eq!(code(&[("1", EMPTY), ("3", EMPTY)]), "part_gap");
        assert_eq!(parse(&[("expires", "60")]).unwrap_err().code(), "missing_field");
        assert_eq!(parse(&[("keyname", "k")]).unwrap_err().code(), "missing_field");
        assert_eq!(
            parse(&[("keyname", "k"), ("expires", "soon")]).unwrap_err().code(),
            "invalid_field"
        );
    }
}
