//! What a failed call to the store means, from S3's codes and from what the transport saw.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// A call to the store that failed. Never holds the store's own document: those echo key ids and strings to sign.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed at the store: {kind}")]
pub struct StoreError {
    /// The S3 operation.
    pub operation: &'static str,
    /// What it means.
    pub kind: StoreErrorKind,
}

/// What a failed call means.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreErrorKind {
    /// The store does not know the multipart upload (any more).
    #[error("NoSuchUpload")]
    NoSuchUpload,
    /// The bucket is not there.
    #[error("NoSuchBucket")]
    NoSuchBucket,
    /// A part named in Complete is not there, or its ETag is another.
    #[error("InvalidPart")]
    InvalidPart,
    /// A part that is not the last is smaller than the store allows.
    #[error("EntityTooSmall")]
    EntityTooSmall,
    /// What was to be done only on a condition was not done, since that does not hold.
    #[error("PreconditionFailed")]
    PreconditionFailed,
    /// Key, secret or rights are wrong.
    #[error("{0}: check the broker's access key, its secret and its rights on the bucket")]
    Denied(String),
    /// The store's clock and the broker's are too far apart.
    #[error("RequestTimeTooSkewed: the clocks of broker and store differ; set the broker's by NTP")]
    ClockSkew,
    /// The store answered that it could not do it now. It may all the same have acted.
    #[error("{0}: the store could not do it now")]
    Busy(String),
    /// The store answered something else that is definite.
    #[error("{0}")]
    Refused(String),
    /// No answer, or none that can be understood: it may or may not have acted.
    #[error("no clear answer ({0})")]
    Unknown(String),
}

impl StoreErrorKind {
    fn from_code(code: &str, status: Option<u16>) -> Self {
        match code {
            "NoSuchUpload" => Self::NoSuchUpload,
            "NoSuchBucket" => Self::NoSuchBucket,
            "InvalidPart" | "InvalidPartOrder" => Self::InvalidPart,
            "EntityTooSmall" => Self::EntityTooSmall,
            "PreconditionFailed" => Self::PreconditionFailed,
            "RequestTimeTooSkewed" => Self::ClockSkew,
            "AccessDenied"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "AuthorizationHeaderMalformed"
            | "ExpiredToken"
            | "InvalidToken"
            | "NotSignedUp"
            | "AllAccessDisabled"
            | "AccountProblem" => Self::Denied(code.to_owned()),
            "SlowDown"
            | "ServiceUnavailable"
            | "Busy"
            | "TooManyRequests"
            | "RequestLimitExceeded"
            | "InternalError"
            | "ConditionalRequestConflict"
            | "OperationAborted" => Self::Busy(code.to_owned()),
            "RequestTimeout" => Self::Unknown(code.to_owned()),
            other => match status {
                Some(403) => Self::Denied(other.to_owned()),
                Some(429) => Self::Busy(other.to_owned()),
                Some(400..=499) => Self::Refused(other.to_owned()),
                Some(_) | None => Self::Unknown(other.to_owned()),
            },
        }
    }
}

impl StoreError {
    pub(super) fn new<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let kind = match error {
            SdkError::ServiceError(answer) => match answer.err().code() {
                Some(code) => StoreErrorKind::from_code(&plain(code), status),
                // HEAD has no body to carry a code; on anything else this is a proxy's answer, not the store's.
                None => match status {
                    Some(403) if operation.starts_with("Head") => StoreErrorKind::Denied("AccessDenied".into()),
                    Some(429 | 503) => StoreErrorKind::Busy("SlowDown".into()),
                    // 408 comes after waiting, so something may have been done.
                    Some(code @ (400..=407 | 409..=499)) => StoreErrorKind::Refused(format!("HTTP status {code}")),
                    Some(code) => StoreErrorKind::Unknown(format!("HTTP status {code} without an S3 error")),
                    None => StoreErrorKind::Unknown("no status".into()),
                },
            },
            SdkError::ConstructionFailure(_) => StoreErrorKind::Refused("the request could not be made".into()),
            SdkError::TimeoutError(_) => StoreErrorKind::Unknown("timed out".into()),
            // Whatever broke, it may have broken after the store acted; only missing credentials break before.
            SdkError::DispatchFailure(_) if lacks_credentials(error) => {
                StoreErrorKind::Denied("no usable credentials".into())
            }
            SdkError::DispatchFailure(_) => StoreErrorKind::Unknown("cannot be reached, or broke off".into()),
            SdkError::ResponseError(_) | _ => StoreErrorKind::Unknown("the answer is not S3's".into()),
        };
        // The SDK's text names codes and transport errors; presigned URLs never pass through it.
        tracing::debug!(operation, error = %DisplayErrorContext(error), "store call failed");
        Self { operation, kind }
    }
}

/// Whether the SDK gave up before it sent anything, because its chain has no credentials.
fn lacks_credentials(error: &dyn std::error::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<aws_credential_types::provider::error::CredentialsError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A code as it may be shown: stores' codes are CamelCase words, anything else is not repeated.
fn plain(code: &str) -> String {
    if code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        code.to_owned()
    } else {
        "unknown code".into()
    }
}
