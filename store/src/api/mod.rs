//! The operations of S3, each from its input to the disk and back; what is not here is answered 501 NotImplemented.

// Operations have the form that the protocol layer's trait gives them.
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

mod access;
mod buckets;
mod error;
mod listings;
mod meta;
mod objects;
mod receive;
mod uploads;

use std::sync::Arc;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
    DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
    GetBucketAclInput, GetBucketAclOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, GetObjectAclInput, GetObjectAclOutput, GetObjectInput, GetObjectOutput, HeadBucketInput,
    HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput, PutObjectOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};

use crate::disk::{Bucket, Disk};

pub(crate) use access::{Access, Keys};
pub(crate) use buckets::valid_bucket_name;

/// The store as the protocol layer sees it.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) disk: Arc<Disk>,
    pub(crate) region: String,
}

impl Api {
    fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        self.disk.bucket(name).map_err(error::to_s3)
    }
}

/// The protocol layer's trait, each operation answered by the method of the same name in one of the files beside.
macro_rules! operations {
    (from memory { $($told:ident: $ask:ty => $tell:ty;)* } with the disk { $($done:ident: $input:ty => $output:ty;)* }) => {
        #[async_trait::async_trait]
        impl S3 for Api {
            $(async fn $told(&self, request: S3Request<$ask>) -> S3Result<S3Response<$tell>> {
                Api::$told(self, request).map(S3Response::new)
            })*
            $(async fn $done(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
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
        get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput;

        list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput;

        list_parts: ListPartsInput => ListPartsOutput;
    }
    with the disk {
        create_bucket: CreateBucketInput => CreateBucketOutput;
        delete_bucket: DeleteBucketInput => DeleteBucketOutput;

        list_objects: ListObjectsInput => ListObjectsOutput;
        list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;

        put_object: PutObjectInput => PutObjectOutput;
        get_object: GetObjectInput => GetObjectOutput;
        head_object: HeadObjectInput => HeadObjectOutput;
        get_object_acl: GetObjectAclInput => GetObjectAclOutput;
        delete_object: DeleteObjectInput => DeleteObjectOutput;
        delete_objects: DeleteObjectsInput => DeleteObjectsOutput;

        create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
        upload_part: UploadPartInput => UploadPartOutput;
        complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
        abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
    }
}
