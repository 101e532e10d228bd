//! Uploads by HTML forms (S3 API, "POST Object"), in front of the protocol layer, which would read a file into memory before
//! it looks at the signature.
//!
//! ```text
//! body ─ fields ─▶ fields, file ─ signature ─▶ key ─ policy ─▶ bounds ─ object ─▶ PutObject ─ answer ─▶ 204, 201, redirect
//!                           └───────────────────── streams ──────────────────────────▲
//! ```
//!
//! Who fills in a form need not have a key: a signed policy says until when which fields may hold what. All fields that
//! mean something stand before the file, so nothing of it is read before everything is known to be right.

mod answer;
mod fields;
mod file;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod object;
mod policy;
mod signature;

use http::Response;
use http::request::Parts;
use s3s::dto::PutObjectInput;
use s3s::{Body, S3Request, S3Result, s3_error};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::api::{Access, Api, STALL, check_rights, valid_bucket_name};
use crate::body::LentBody;
use crate::front::{INTERNAL_ERROR, refused};
use crate::sigv2::bucket_of_host;

use self::answer::Success;
use self::policy::Policy;

/// What answers posted forms.
pub(crate) struct Forms {
    api: Api,
    access: Access,
    region: String,
}

impl Forms {
    /// Stores by way of `api` what holders of keys have signed for this region.
    pub(crate) fn new(api: Api, access: Access, region: String) -> Self {
        Self { api, access, region }
    }

    /// Answers a request that posts a form.
    pub(crate) async fn take(&self, head: &Parts, body: LentBody, now: OffsetDateTime) -> Response<Body> {
        let answer = match self.store(head, body, now).await {
            Ok(answer) => Ok(answer),
            Err(refusal) => refusal.to_http_response(),
        };
        answer.unwrap_or_else(|_| refused(&INTERNAL_ERROR))
    }

    async fn store(&self, head: &Parts, body: LentBody, now: OffsetDateTime) -> S3Result<Response<Body>> {
        let address = Address::of(head)?;
        let (fields, file) = timeout(STALL, fields::read(&head.headers, body)).await.map_err(|_| {
            s3_error!(
                RequestTimeout,
                "the fields before the file did not arrive within a minute"
            )
        })??;
        let key = object::key(&fields)?;
        let success = Success::asked_for(&fields);

        let signer = signature::signer(&fields, &self.access, &self.region, now)?;
        let policy = Policy::parse(fields.need("Policy")?)?;
        let bounds = policy.check(&fields, address.bucket, now)?;
        let headers = object::headers(&fields)?;
        check_rights(signer, "PutObject", Some(address.bucket), Some(&key), &headers)?;

        let input = PutObjectInput {
            bucket: address.bucket.to_owned(),
            key: key.clone(),
            body: Some(file.stream(bounds)),
            ..object::input(&fields)?
        };
        let put = S3Request {
            input,
            method: head.method.clone(),
            uri: head.uri.clone(),
            headers,
            extensions: http::Extensions::new(),
            credentials: Some(s3s::auth::Credentials {
                access_key: signer.credentials.access_key_id.clone(),
                secret_key: signer.credentials.secret_access_key.as_str().into(),
            }),
            region: None,
            service: None,
            trailing_headers: None,
        };
        let stored = self.api.put_object(put).await?;
        Ok(success.answer(&address, &key, &stored))
    }
}

/// Where the form was posted to.
struct Address<'a> {
    host: &'a str,
    bucket: &'a str,
    /// Whether the host's name is the bucket's: its objects' paths begin without it.
    of_its_own: bool,
}

impl<'a> Address<'a> {
    fn of(head: &'a Parts) -> S3Result<Self> {
        let host = head.headers.get(http::header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = head.uri.path().trim_start_matches('/');
        let (bucket, rest) = match bucket_of_host(host) {
            Some(bucket) => (bucket, path),
            None => path.split_once('/').unwrap_or((path, "")),
        };
        if bucket.is_empty() || !rest.is_empty() {
            return Err(s3_error!(
                MethodNotAllowed,
                "The specified method is not allowed against this resource: forms are posted to a bucket"
            ));
        }
        if !valid_bucket_name(bucket) {
            return Err(s3_error!(InvalidBucketName, "The specified bucket is not valid."));
        }
        Ok(Self {
            host,
            bucket,
            of_its_own: bucket_of_host(host).is_some(),
        })
    }
}
