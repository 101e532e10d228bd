//! The calls that the broker makes itself, with its own key: create, list parts, complete, head, abort; and for downloads, list objects.
//!
//! They go through the AWS SDK; part URLs are signed in [`crate::sign`] and cost no call.

mod clock;
mod credentials;
mod error;
mod list;
mod look;
mod open_uploads;
mod profile;

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::operation::head_bucket::HeadBucketError;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ObjectCannedAcl};
use shared::api::StoredPart;
use shared::{ETag, ObjectKey, PartNumber};

pub use clock::Clock;
pub use credentials::{CredentialSource, CredentialsError};
pub use error::{StoreError, StoreErrorKind};
pub use list::Page;
pub use look::Looked;
pub use open_uploads::{OpenAtStore, UploadMarker};
pub use profile::{Barred, Profile, ProfileName};

use crate::ledger::{Session, StoredObject};
use crate::metrics::{Counted, StoreCalls};
use crate::policy::{CreateGrant, DeleteGrant, WRITE_TOKEN};
use crate::sign::Addressing;

/// ListParts pages of 1,000 parts: more than this many is a store that turns in circles.
const MAX_PAGES: usize = 100;
/// Joining the parts of a large object takes some stores minutes.
const COMPLETE_TIMEOUT: Duration = Duration::from_mins(10);

/// The store, reached with the broker's own key.
#[derive(Clone, Debug)]
pub struct StoreClient {
    client: Client,
}

/// An object as HEAD tells it.
#[derive(Clone, Debug)]
pub struct Head {
    /// The object.
    pub object: StoredObject,
    /// The write token of the upload that it came from, if it came from this broker.
    pub write_token: Option<String>,
}

impl StoreClient {
    /// A client for the store at `endpoint`, or for Amazon S3 itself.
    pub fn new(
        config: &aws_config::SdkConfig,
        endpoint: Option<&str>,
        addressing: Addressing,
        clock: Clock,
        calls: StoreCalls,
    ) -> Self {
        let jumps = clock.jumps();
        let mut builder = aws_sdk_s3::config::Builder::from(config)
            .behavior_version(BehaviorVersion::latest())
            .force_path_style(addressing == Addressing::Path)
            // What an SDK would add by default, stores that are not Amazon's refuse or ignore.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(retries())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5))
                    .read_timeout(Duration::from_secs(30))
                    .operation_attempt_timeout(Duration::from_secs(30))
                    .build(),
            )
            .interceptor(clock::ReadDate(clock))
            .interceptor(Counted(calls));
        if jumps {
            // Nor do the SDK's own pauses take time then, and what it has for retries is not shared with the whole process.
            let own = RetryPartition::custom("own").token_bucket(TokenBucket::default());
            builder = builder
                .retry_config(retries().with_initial_backoff(Duration::ZERO))
                .retry_partition(own.build());
        }
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(builder.build()),
        }
    }

    /// Answers if the bucket is there and may be used.
    ///
    /// # Errors
    /// It is not, or the store does not answer.
    pub async fn check_bucket(&self, bucket: &str) -> Result<(), StoreError> {
        match self.client.head_bucket().bucket(bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(HeadBucketError::is_not_found) => Err(StoreError {
                operation: "HeadBucket",
                kind: StoreErrorKind::NoSuchBucket,
            }),
            Err(error) => Err(StoreError::new("HeadBucket", &error)),
        }
    }

    /// Begins a multipart upload and answers the store's name for it. Type, ACL, metadata and write token are fixed here.
    ///
    /// # Errors
    /// The store did not begin one, or its answer was lost: then an upload without parts stays behind, which holds no bytes.
    pub async fn create(&self, grant: &CreateGrant) -> Result<String, StoreError> {
        let properties = Properties {
            content_type: grant.content_type.clone(),
            content_disposition: grant.content_disposition.map(str::to_owned),
            acl: grant.acl.as_deref().map(ObjectCannedAcl::from),
            metadata: metadata(grant.metadata.clone(), &grant.write_token),
        };
        self.begin(&grant.bucket, &grant.key, properties).await
    }

    /// The same for an upload that was admitted before and that the store has lost: same key, same properties, same write token.
    ///
    /// # Errors
    /// As [`StoreClient::create`].
    pub async fn create_again(&self, session: &Session) -> Result<String, StoreError> {
        self.begin(&session.bucket, &session.key, Properties::of(session)).await
    }

    async fn begin(&self, bucket: &str, key: &ObjectKey, properties: Properties) -> Result<String, StoreError> {
        let created = self
            .client
            .create_multipart_upload()
            .bucket(bucket)
            .key(key.as_str())
            .set_content_type(properties.content_type)
            .set_content_disposition(properties.content_disposition)
            .set_acl(properties.acl)
            .set_metadata(Some(properties.metadata))
            .send()
            .await
            .map_err(|error| StoreError::new("CreateMultipartUpload", &error))?;
        created.upload_id.filter(|id| !id.is_empty()).ok_or_else(|| StoreError {
            operation: "CreateMultipartUpload",
            kind: StoreErrorKind::Unknown("the answer has no upload id".into()),
        })
    }

    /// Every part that the store holds of an upload, in order, from all pages.
    ///
    /// # Errors
    /// The store does not know the upload, or does not answer, or its pages make no sense.
    pub async fn list_parts(&self, session: &Session, store_upload_id: &str) -> Result<Vec<StoredPart>, StoreError> {
        let nonsense = |what: &str| StoreError {
            operation: "ListParts",
            kind: StoreErrorKind::Unknown(what.to_owned()),
        };
        let mut parts: Vec<StoredPart> = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = self
                .client
                .list_parts()
                .bucket(&session.bucket)
                .key(session.key.as_str())
                .upload_id(store_upload_id)
                .set_part_number_marker(marker.clone())
                .send()
                .await
                .map_err(|error| no_such_upload(StoreError::new("ListParts", &error)))?;
            for part in page.parts() {
                let number = part.part_number().and_then(|number| u64::try_from(number).ok());
                let number = number.and_then(|number| PartNumber::try_from(number).ok());
                let size = part.size().and_then(|size| u64::try_from(size).ok());
                let (Some(number), Some(size), Some(etag)) = (number, size, part.e_tag()) else {
                    return Err(nonsense(
                        "a part without number, size or ETag, or with a number outside 1 to 10000",
                    ));
                };
                parts.push(StoredPart {
                    number,
                    size,
                    etag: ETag::new(etag),
                });
            }
            if !page.is_truncated().unwrap_or(false) {
                parts.sort_by_key(|part| part.number);
                parts.dedup_by_key(|part| part.number);
                return Ok(parts);
            }
            let next = page.next_part_number_marker().map(str::to_owned);
            if next.is_none() || next == marker {
                return Err(nonsense("the next page's marker is missing or the same again"));
            }
            marker = next;
        }
        Err(nonsense("more pages than 10000 parts can fill"))
    }

    /// Has the store join these parts, or with `only_new` only if there is no object at the key. One attempt: what a lost answer means is for the caller to find out. Answers the ETag,
    /// which some stores leave empty: HEAD knows it.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unknown`] and [`StoreErrorKind::Busy`] leave open whether the store acted.
    pub async fn complete(
        &self,
        session: &Session,
        store_upload_id: &str,
        parts: &[StoredPart],
        only_new: bool,
    ) -> Result<ETag, StoreError> {
        let parts = parts
            .iter()
            .map(|part| {
                CompletedPart::builder()
                    .part_number(part.number.get().into())
                    .e_tag(part.etag.as_str())
                    .build()
            })
            .collect();
        let once = aws_sdk_s3::config::Builder::new()
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5))
                    .read_timeout(COMPLETE_TIMEOUT)
                    .operation_attempt_timeout(COMPLETE_TIMEOUT)
                    .build(),
            );
        self.client
            .complete_multipart_upload()
            .bucket(&session.bucket)
            .key(session.key.as_str())
            .upload_id(store_upload_id)
            .set_if_none_match(only_new.then(|| "*".to_owned()))
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .config_override(once)
            .send()
            .await
            .map(|completed| ETag::new(completed.e_tag().unwrap_or_default()))
            .map_err(|error| no_such_upload(StoreError::new("CompleteMultipartUpload", &error)))
    }

    /// Puts the empty object of an upload without parts, with `only_new` only if there is no object at the key.
    ///
    /// # Errors
    /// The store did not take it, or its answer was lost; putting it again is harmless.
    pub async fn put_empty(&self, session: &Session, only_new: bool) -> Result<(), StoreError> {
        let properties = Properties::of(session);
        self.client
            .put_object()
            .bucket(&session.bucket)
            .key(session.key.as_str())
            .body(ByteStream::from_static(b""))
            .set_if_none_match(only_new.then(|| "*".to_owned()))
            .set_content_type(properties.content_type)
            .set_content_disposition(properties.content_disposition)
            .set_acl(properties.acl)
            .set_metadata(Some(properties.metadata))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| StoreError::new("PutObject", &error))
    }

    /// The object at this key, if there is one.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn head(&self, bucket: &str, key: &ObjectKey) -> Result<Option<Head>, StoreError> {
        match self.client.head_object().bucket(bucket).key(key.as_str()).send().await {
            // What is not told is not zero: an object of another size than its parts is the end of its upload.
            Ok(head) if head.content_length().is_none() => Err(StoreError {
                operation: "HeadObject",
                kind: StoreErrorKind::Unknown("the answer has no length".into()),
            }),
            Ok(head) => Ok(Some(Head {
                write_token: head.metadata().and_then(|metadata| metadata.get(WRITE_TOKEN)).cloned(),
                object: StoredObject {
                    etag: ETag::new(head.e_tag().unwrap_or_default()),
                    size: head
                        .content_length()
                        .and_then(|length| u64::try_from(length).ok())
                        .unwrap_or_default(),
                    version_id: head.version_id().filter(|id| *id != "null").map(str::to_owned),
                },
            })),
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
            Err(error) => Err(StoreError::new("HeadObject", &error)),
        }
    }

    /// Has the store delete an object. One that is not there is as good.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn delete(&self, grant: &DeleteGrant) -> Result<(), StoreError> {
        let deleted = self
            .client
            .delete_object()
            .bucket(&grant.bucket)
            .key(grant.key.as_str());
        let deleted = deleted.send().await;
        deleted
            .map(|_| ())
            .map_err(|error| StoreError::new("DeleteObject", &error))
    }

    /// Has the store forget an upload and its parts. An upload that it does not know is as good.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn abort(&self, bucket: &str, key: &ObjectKey, store_upload_id: &str) -> Result<(), StoreError> {
        let aborted = self
            .client
            .abort_multipart_upload()
            .bucket(bucket)
            .key(key.as_str())
            .upload_id(store_upload_id)
            .send()
            .await
            .map_err(|error| no_such_upload(StoreError::new("AbortMultipartUpload", &error)));
        match aborted {
            Err(error) if error.kind != StoreErrorKind::NoSuchUpload => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// How often the SDK asks again by itself.
fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

/// What an object is given when its upload begins.
struct Properties {
    content_type: Option<String>,
    content_disposition: Option<String>,
    acl: Option<ObjectCannedAcl>,
    metadata: HashMap<String, String>,
}

impl Properties {
    fn of(session: &Session) -> Self {
        Self {
            content_type: session.content_type.clone(),
            content_disposition: session.content_disposition.clone(),
            acl: session.acl.as_deref().map(ObjectCannedAcl::from),
            metadata: metadata(session.metadata.clone(), &session.write_token),
        }
    }
}

/// Ceph says NoSuchKey where it means NoSuchUpload.
fn no_such_upload(error: StoreError) -> StoreError {
    match &error.kind {
        StoreErrorKind::Refused(code) if code == "NoSuchKey" => StoreError {
            kind: StoreErrorKind::NoSuchUpload,
            ..error
        },
        _ => error,
    }
}

fn metadata(user: impl IntoIterator<Item = (String, String)>, write_token: &str) -> HashMap<String, String> {
    user.into_iter()
        .chain([(WRITE_TOKEN.to_owned(), write_token.to_owned())])
        .collect()
}
