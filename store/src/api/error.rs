//! What happened on the disk, as the code and status that S3 has for it.

use std::io::ErrorKind;

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode, StdError};
use tracing::error;

use crate::disk::DiskError;

/// Runs what blocks away from the threads that serve requests. What only the log may know is logged here.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, S3Error> {
    let work = move || {
        work().inspect_err(|failure| {
            if let DiskError::Io { .. } = failure {
                error!(error = failure as &dyn std::error::Error, "the disk failed a request");
            }
        })
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(to_s3),
        Err(stopped) => Err(S3Error::with_source(S3ErrorCode::InternalError, Box::new(stopped))),
    }
}

/// The code that S3 has for it (S3 API Reference, "Error responses"), with what happened as the message.
pub(super) fn to_s3(failure: DiskError) -> S3Error {
    let code = match &failure {
        DiskError::NoSuchBucket => S3ErrorCode::NoSuchBucket,
        DiskError::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
        DiskError::NoSuchKey => S3ErrorCode::NoSuchKey,
        DiskError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
        DiskError::InvalidPart(_) => S3ErrorCode::InvalidPart,
        DiskError::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
        DiskError::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
        DiskError::WrongObjectSize { .. } | DiskError::ChecksumNotPlanned(_) => S3ErrorCode::InvalidRequest,
        DiskError::PreconditionFailed(_) => S3ErrorCode::PreconditionFailed,
        DiskError::BadDigest | DiskError::BadChecksum(_) => S3ErrorCode::BadDigest,
        DiskError::IncompleteBody { .. } => S3ErrorCode::IncompleteBody,
        DiskError::MalformedTrailer => {
            let code = S3ErrorCode::Custom("MalformedTrailerError".into());
            let mut malformed = S3Error::with_message(code, said(&failure));
            malformed.set_status_code(StatusCode::BAD_REQUEST);
            return malformed;
        }
        DiskError::Io { source, .. } => return from_system(source.kind()),
    };
    S3Error::with_message(code, said(&failure))
}

/// In S3's own words, which people look for, and with what they do not say in brackets.
fn said(failure: &DiskError) -> String {
    match failure {
        DiskError::NoSuchBucket => "The specified bucket does not exist".to_owned(),
        DiskError::BucketNotEmpty => "The bucket you tried to delete is not empty".to_owned(),
        DiskError::NoSuchKey => "The specified key does not exist.".to_owned(),
        DiskError::NoSuchUpload => {
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                                    aborted or completed."
                .to_owned()
        }
        DiskError::InvalidPart(_) => format!(
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity \
             tag may not match the part's entity tag. ({failure})"
        ),
        DiskError::InvalidPartOrder => {
            "The list of parts was not in ascending order. Parts must be ordered by part number.".to_owned()
        }
        DiskError::PartTooSmall { .. } => {
            format!("Your proposed upload is smaller than the minimum allowed size ({failure})")
        }
        DiskError::PreconditionFailed(_) => {
            format!("At least one of the pre-conditions you specified did not hold ({failure})")
        }
        DiskError::BadDigest => "The Content-MD5 you specified did not match what we received.".to_owned(),
        DiskError::IncompleteBody { .. } => {
            format!("You did not provide the number of bytes specified by the Content-Length HTTP header ({failure})")
        }
        DiskError::MalformedTrailer => format!(
            "The request contained trailing data that was not well-formed or did not conform to our published schema. ({failure})"
        ),
        DiskError::BadChecksum(_)
        | DiskError::ChecksumNotPlanned(_)
        | DiskError::WrongObjectSize { .. }
        | DiskError::Io { .. } => failure.to_string(),
    }
}

/// Paths and the system's words stay in the log.
fn from_system(kind: ErrorKind) -> S3Error {
    if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        let mut full = S3Error::with_message(
            S3ErrorCode::Custom("StorageFull".into()),
            "the store's disk is full: nothing was stored",
        );
        full.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
        return full;
    }
    S3Error::with_message(
        S3ErrorCode::InternalError,
        "the store's disk failed; see the store's log",
    )
}

/// A body that stopped or was not what its signature said: the protocol layer's stream tells it as text only, a form's
/// in S3's words.
pub(super) fn from_stream(failure: StdError) -> S3Error {
    let failure = match failure.downcast::<S3Error>() {
        Ok(told) => return *told,
        Err(failure) => failure,
    };
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(next) = cause {
        text.push_str(&next.to_string());
        cause = next.source();
    }
    let (code, message) = if text.contains("Sha256Mismatch") {
        let mut mismatch = S3Error::with_message(
            S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            "x-amz-content-sha256 is not the SHA-256 of the body that arrived",
        );
        mismatch.set_status_code(StatusCode::BAD_REQUEST);
        return mismatch;
    } else if text.contains("SignatureMismatch") {
        (
            S3ErrorCode::SignatureDoesNotMatch,
            "a chunk's signature does not match its bytes",
        )
    } else {
        (
            S3ErrorCode::IncompleteBody,
            "the body ended early or is not in the form that was announced",
        )
    };
    S3Error::with_message(code, message)
}
