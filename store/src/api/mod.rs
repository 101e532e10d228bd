//! The operations of S3, each from its input to the disk and back; what is not here is answered 501 NotImplemented.

// Operations have the form that the protocol layer's trait gives them.
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

mod access;
mod acl;
mod attributes;
mod buckets;
mod copy;
mod error;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod lifecycle;
mod listings;
mod meta;
mod objects;
mod receive;
mod settings;
mod sharing;
mod tagging;
mod uploads;

use std::sync::Arc;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteBucketCorsInput, DeleteBucketCorsOutput, DeleteBucketEncryptionInput,
    DeleteBucketEncryptionOutput, DeleteBucketInput, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput,
    DeleteBucketOutput, DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput,
    DeleteBucketPolicyInput, DeleteBucketPolicyOutput, DeleteBucketReplicationInput, DeleteBucketReplicationOutput,
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteBucketWebsiteInput, DeleteBucketWebsiteOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput,
    GetBucketAccelerateConfigurationInput, GetBucketAccelerateConfigurationOutput, GetBucketAclInput,
    GetBucketAclOutput, GetBucketCorsInput, GetBucketCorsOutput, GetBucketEncryptionInput, GetBucketEncryptionOutput,
    GetBucketLifecycleConfigurationInput, GetBucketLifecycleConfigurationOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketLoggingInput, GetBucketLoggingOutput, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput,
    GetBucketPolicyInput, GetBucketPolicyOutput, GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput,
    GetBucketReplicationInput, GetBucketReplicationOutput, GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput,
    GetBucketTaggingInput, GetBucketTaggingOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
    GetBucketWebsiteInput, GetBucketWebsiteOutput, GetObjectAclInput, GetObjectAclOutput, GetObjectAttributesInput,
    GetObjectAttributesOutput, GetObjectInput, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput,
    GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput, GetPublicAccessBlockInput,
    GetPublicAccessBlockOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    ListBucketAnalyticsConfigurationsInput, ListBucketAnalyticsConfigurationsOutput,
    ListBucketIntelligentTieringConfigurationsInput, ListBucketIntelligentTieringConfigurationsOutput,
    ListBucketInventoryConfigurationsInput, ListBucketInventoryConfigurationsOutput,
    ListBucketMetricsConfigurationsInput, ListBucketMetricsConfigurationsOutput, ListBucketsInput, ListBucketsOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutBucketAclInput, PutBucketAclOutput, PutBucketCorsInput, PutBucketCorsOutput,
    PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput, PutBucketLoggingInput,
    PutBucketLoggingOutput, PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput,
    PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput, PutBucketRequestPaymentInput,
    PutBucketRequestPaymentOutput, PutBucketTaggingInput, PutBucketTaggingOutput, PutBucketVersioningInput,
    PutBucketVersioningOutput, PutObjectAclInput, PutObjectAclOutput, PutObjectInput, PutObjectOutput,
    PutObjectTaggingInput, PutObjectTaggingOutput, PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::disk::{Bucket, Disk};
use crate::document::Document;

pub(crate) use access::{Access, check_rights};
pub(crate) use buckets::valid_bucket_name;
pub(crate) use receive::STALL;

/// The store as the protocol layer sees it.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) disk: Arc<Disk>,
    pub(crate) region: String,
}

impl Api {
    fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        self.disk.bucket(name).map_err(error::to_s3)
    }

    /// The bucket, if the caller may list it. Who may not is not told whether it is there.
    fn listable(&self, name: &str, anonymous: bool) -> S3Result<Arc<Bucket>> {
        match self.bucket(name) {
            Ok(bucket) if anonymous => {
                let settings = bucket.settings();
                if sharing::is_public(settings.acl, &settings) {
                    Ok(bucket)
                } else {
                    Err(access::not_signed())
                }
            }
            Err(_) if anonymous => Err(access::not_signed()),
            found => found,
        }
    }
}

/// Refuses an operation whose XML is not what was sent, or not what it will be taken for.
fn check_document<T>(operation: &str, request: &S3Request<T>) -> S3Result<()> {
    // The checksum that comes with this one is of the object (S3 API, CompleteMultipartUpload).
    let of_body = operation != "complete_multipart_upload";
    Document::check(&request.headers, &request.extensions, of_body)
}

/// The protocol layer's trait, each operation answered by the method of the same name in one of the files beside.
macro_rules! operations {
    (from memory { $($told:ident: $ask:ty => $tell:ty;)* } with the disk { $($done:ident: $input:ty => $output:ty;)* }) => {
        #[async_trait::async_trait]
        impl S3 for Api {
            $(async fn $told(&self, request: S3Request<$ask>) -> S3Result<S3Response<$tell>> {
                check_document(stringify!($told), &request)?;
                Api::$told(self, request).map(S3Response::new)
            })*
            $(async fn $done(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                check_document(stringify!($done), &request)?;
                Api::$done(self, request).await.map(S3Response::new)
            })*
        }
    };
}

operations! {
    from memory {
        list_buckets: ListBucketsInput => ListBucketsOutput;
        head_bucket: HeadBucketInput => HeadBucketOutput;
        get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput;
        get_bucket_acl: GetBucketAclInput => GetBucketAclOutput;
        get_bucket_cors: GetBucketCorsInput => GetBucketCorsOutput;
        get_bucket_lifecycle_configuration: GetBucketLifecycleConfigurationInput => GetBucketLifecycleConfigurationOutput;
        get_bucket_tagging: GetBucketTaggingInput => GetBucketTaggingOutput;
        get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput;
        put_bucket_versioning: PutBucketVersioningInput => PutBucketVersioningOutput;
        get_bucket_request_payment: GetBucketRequestPaymentInput => GetBucketRequestPaymentOutput;
        get_bucket_encryption: GetBucketEncryptionInput => GetBucketEncryptionOutput;
        get_bucket_ownership_controls: GetBucketOwnershipControlsInput => GetBucketOwnershipControlsOutput;
        list_bucket_analytics_configurations: ListBucketAnalyticsConfigurationsInput => ListBucketAnalyticsConfigurationsOutput;
        list_bucket_intelligent_tiering_configurations:
            ListBucketIntelligentTieringConfigurationsInput => ListBucketIntelligentTieringConfigurationsOutput;
        list_bucket_inventory_configurations: ListBucketInventoryConfigurationsInput => ListBucketInventoryConfigurationsOutput;
        list_bucket_metrics_configurations: ListBucketMetricsConfigurationsInput => ListBucketMetricsConfigurationsOutput;
        put_bucket_logging: PutBucketLoggingInput => PutBucketLoggingOutput;
        put_bucket_notification_configuration:
            PutBucketNotificationConfigurationInput => PutBucketNotificationConfigurationOutput;
        put_bucket_request_payment: PutBucketRequestPaymentInput => PutBucketRequestPaymentOutput;
        get_bucket_policy: GetBucketPolicyInput => GetBucketPolicyOutput;
        get_bucket_policy_status: GetBucketPolicyStatusInput => GetBucketPolicyStatusOutput;
        get_bucket_replication: GetBucketReplicationInput => GetBucketReplicationOutput;
        get_bucket_website: GetBucketWebsiteInput => GetBucketWebsiteOutput;
        get_object_lock_configuration: GetObjectLockConfigurationInput => GetObjectLockConfigurationOutput;
        get_public_access_block: GetPublicAccessBlockInput => GetPublicAccessBlockOutput;
        get_bucket_accelerate_configuration: GetBucketAccelerateConfigurationInput => GetBucketAccelerateConfigurationOutput;
        get_bucket_logging: GetBucketLoggingInput => GetBucketLoggingOutput;
        get_bucket_notification_configuration: GetBucketNotificationConfigurationInput => GetBucketNotificationConfigurationOutput;
        delete_bucket_encryption: DeleteBucketEncryptionInput => DeleteBucketEncryptionOutput;
        delete_bucket_policy: DeleteBucketPolicyInput => DeleteBucketPolicyOutput;
        delete_bucket_replication: DeleteBucketReplicationInput => DeleteBucketReplicationOutput;
        delete_bucket_website: DeleteBucketWebsiteInput => DeleteBucketWebsiteOutput;

        list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput;

        list_parts: ListPartsInput => ListPartsOutput;
    }
    with the disk {
        create_bucket: CreateBucketInput => CreateBucketOutput;
        delete_bucket: DeleteBucketInput => DeleteBucketOutput;
        put_bucket_acl: PutBucketAclInput => PutBucketAclOutput;
        put_bucket_cors: PutBucketCorsInput => PutBucketCorsOutput;
        delete_bucket_cors: DeleteBucketCorsInput => DeleteBucketCorsOutput;
        put_bucket_ownership_controls: PutBucketOwnershipControlsInput => PutBucketOwnershipControlsOutput;
        delete_bucket_ownership_controls: DeleteBucketOwnershipControlsInput => DeleteBucketOwnershipControlsOutput;
        put_public_access_block: PutPublicAccessBlockInput => PutPublicAccessBlockOutput;
        delete_public_access_block: DeletePublicAccessBlockInput => DeletePublicAccessBlockOutput;
        put_bucket_lifecycle_configuration: PutBucketLifecycleConfigurationInput => PutBucketLifecycleConfigurationOutput;
        delete_bucket_lifecycle: DeleteBucketLifecycleInput => DeleteBucketLifecycleOutput;
        put_bucket_tagging: PutBucketTaggingInput => PutBucketTaggingOutput;
        delete_bucket_tagging: DeleteBucketTaggingInput => DeleteBucketTaggingOutput;

        list_objects: ListObjectsInput => ListObjectsOutput;
        list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
        list_object_versions: ListObjectVersionsInput => ListObjectVersionsOutput;

        put_object: PutObjectInput => PutObjectOutput;
        get_object: GetObjectInput => GetObjectOutput;
        copy_object: CopyObjectInput => CopyObjectOutput;
        put_object_acl: PutObjectAclInput => PutObjectAclOutput;
        put_object_tagging: PutObjectTaggingInput => PutObjectTaggingOutput;
        delete_object_tagging: DeleteObjectTaggingInput => DeleteObjectTaggingOutput;
        head_object: HeadObjectInput => HeadObjectOutput;
        get_object_acl: GetObjectAclInput => GetObjectAclOutput;
        get_object_attributes: GetObjectAttributesInput => GetObjectAttributesOutput;
        get_object_tagging: GetObjectTaggingInput => GetObjectTaggingOutput;
        delete_object: DeleteObjectInput => DeleteObjectOutput;
        delete_objects: DeleteObjectsInput => DeleteObjectsOutput;

        create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
        upload_part: UploadPartInput => UploadPartOutput;
        upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput;
        complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
        abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
    }
}
