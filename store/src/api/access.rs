//! Whose keys are known, what each may do, and what a request without any may ask for.

use std::sync::Arc;

use http::HeaderMap;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::dto::{
    CopyObjectInput, CopySource, DeleteObjectsInput, Grant, Grantee, ListMultipartUploadsInput,
    ListObjectVersionsInput, ListObjectsInput, ListObjectsV2Input, ObjectCannedACL, Owner, Permission, Type,
    UploadPartCopyInput,
};
use s3s::{S3Error, S3Request, S3Result, s3_error};

use crate::disk::Acl;
use crate::keys::{AccessKey, Deed, Keys, Rights};

/// The keys, as the protocol layer asks for them.
#[derive(Clone, Debug)]
pub(crate) struct Access(pub(crate) Arc<Keys>);

/// What S3's operation of this name does (S3 User Guide, "Required permissions for Amazon S3 API operations").
fn deed(operation: &str) -> Deed {
    match operation {
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" | "AbortMultipartUpload" => {
            Deed::Write
        }
        "ListParts" => Deed::ListParts,
        "DeleteObjects" => Deed::DeleteMany,
        _ if ["Get", "Head", "List"].iter().any(|verb| operation.starts_with(verb)) => Deed::Read,
        _ => Deed::Change,
    }
}

impl Access {
    /// The key of this id.
    pub(crate) fn key(&self, id: &str) -> S3Result<&AccessKey> {
        let unknown = || {
            s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            )
        };
        self.0.find(id).ok_or_else(unknown)
    }

    /// Refuses what reads or changes an object, by whatever operation, that the request's key is not for.
    fn covers(&self, credentials: Option<&Credentials>, operation: &str, bucket: &str, key: &str) -> S3Result<()> {
        let Some(credentials) = credentials else { return Ok(()) };
        let access_key = self.key(&credentials.access_key)?;
        if access_key.covers(bucket, key) {
            return Ok(());
        }
        Err(denied(access_key, operation, Some(bucket), Some(key)))
    }

    /// Refuses to list more than what the request's key is for.
    fn covers_list(
        &self,
        credentials: Option<&Credentials>,
        operation: &str,
        bucket: &str,
        prefix: Option<&str>,
    ) -> S3Result<()> {
        self.covers(credentials, operation, bucket, prefix.unwrap_or_default())
    }

    /// Refuses to copy from what the request's key is not for.
    fn covers_source(&self, credentials: Option<&Credentials>, source: &CopySource) -> S3Result<()> {
        match source {
            CopySource::Bucket { bucket, key, .. } => self.covers(credentials, "GetObject", bucket, key),
            CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => {
                Err(s3_error!(NotImplemented, "this store has buckets, no access points"))
            }
        }
    }
}

/// Refuses what `access_key` may not do with the bucket or object.
pub(crate) fn check_rights(
    access_key: &AccessKey,
    operation: &str,
    bucket: Option<&str>,
    key: Option<&str>,
    headers: &HeaderMap,
) -> S3Result<()> {
    // Whoever may not read may not let others read either: on AWS that is a permission besides, s3:PutObjectAcl.
    let publishes = access_key.rights == Rights::WriteOnly && lets_others_read(headers);
    if !publishes && access_key.may(deed(operation), bucket, key) {
        return Ok(());
    }
    Err(denied(access_key, operation, bucket, key))
}

fn lets_others_read(headers: &HeaderMap) -> bool {
    const KEPT_TO_THE_OWNER: [&str; 3] = [
        ObjectCannedACL::PRIVATE,
        ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL,
        ObjectCannedACL::BUCKET_OWNER_READ,
    ];
    let canned = headers.get("x-amz-acl");
    canned.is_some_and(|acl| !KEPT_TO_THE_OWNER.iter().any(|kept| acl == kept))
        || headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-"))
}

fn denied(access_key: &AccessKey, operation: &str, bucket: Option<&str>, key: Option<&str>) -> S3Error {
    let path = match (bucket, key) {
        (Some(bucket), Some(key)) => format!("{bucket}/{key}"),
        (Some(bucket), None) => bucket.to_owned(),
        (None, _) => "*".to_owned(),
    };
    s3_error!(
        AccessDenied,
        "User: {} is not authorized to perform: s3:{operation} on resource: \"arn:aws:s3:::{path}\" because its rights here do not allow it",
        access_key.credentials.access_key_id,
    )
}

#[async_trait::async_trait]
impl S3Auth for Access {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let known = self.key(access_key)?;
        Ok(known.credentials.secret_access_key.as_str().into())
    }
}

/// Signed requests may do what their key may, unsigned ones read: the objects that are public.
#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = request.s3_op().name();
        let Some(credentials) = request.credentials() else {
            // Whether the object or the bucket is public is for the operation to see.
            return match operation {
                "GetObject" | "HeadObject" | "HeadBucket" | "ListObjects" | "ListObjectsV2" => Ok(()),
                _ => Err(not_signed()),
            };
        };
        let (bucket, key) = (request.s3_path().get_bucket_name(), request.s3_path().get_object_key());
        let access_key = self.key(&credentials.access_key)?;
        check_rights(access_key, operation, bucket, key, request.headers())
    }

    // What operations name in a query or a body, the path does not tell. A listing has to keep below the key's prefix.

    async fn list_objects(&self, request: &mut S3Request<ListObjectsInput>) -> S3Result<()> {
        let (input, who) = (&request.input, request.credentials.as_ref());
        self.covers_list(who, "ListObjects", &input.bucket, input.prefix.as_deref())
    }

    async fn list_objects_v2(&self, request: &mut S3Request<ListObjectsV2Input>) -> S3Result<()> {
        let (input, who) = (&request.input, request.credentials.as_ref());
        self.covers_list(who, "ListObjectsV2", &input.bucket, input.prefix.as_deref())
    }

    async fn list_object_versions(&self, request: &mut S3Request<ListObjectVersionsInput>) -> S3Result<()> {
        let (input, who) = (&request.input, request.credentials.as_ref());
        self.covers_list(who, "ListObjectVersions", &input.bucket, input.prefix.as_deref())
    }

    async fn list_multipart_uploads(&self, request: &mut S3Request<ListMultipartUploadsInput>) -> S3Result<()> {
        let (input, who) = (&request.input, request.credentials.as_ref());
        self.covers_list(who, "ListMultipartUploads", &input.bucket, input.prefix.as_deref())
    }

    async fn delete_objects(&self, request: &mut S3Request<DeleteObjectsInput>) -> S3Result<()> {
        let (input, who) = (&request.input, request.credentials.as_ref());
        let mut objects = input.delete.objects.iter();
        objects.try_for_each(|object| self.covers(who, "DeleteObjects", &input.bucket, &object.key))
    }

    async fn copy_object(&self, request: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        self.covers_source(request.credentials.as_ref(), &request.input.copy_source)
    }

    async fn upload_part_copy(&self, request: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        self.covers_source(request.credentials.as_ref(), &request.input.copy_source)
    }
}

/// What is refused to callers without a key.
pub(super) fn not_signed() -> S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

/// Everybody, signed or not; and whoever signs with a key of this store.
pub(super) const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
pub(super) const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// The owner of everything.
pub(super) fn owner() -> Owner {
    Owner {
        display_name: Some("owner".to_owned()),
        id: Some("owner".to_owned()),
    }
}

/// A canned ACL, spelt out.
pub(super) fn grants(acl: Acl) -> Vec<Grant> {
    let grant = |id: Option<&str>, uri: Option<&str>, kind, permission| Grant {
        grantee: Some(Grantee {
            display_name: id.map(str::to_owned),
            email_address: None,
            id: id.map(str::to_owned),
            type_: Type::from_static(kind),
            uri: uri.map(str::to_owned),
        }),
        permission: Some(Permission::from_static(permission)),
    };
    let mut grants = vec![grant(
        Some("owner"),
        None,
        Type::CANONICAL_USER,
        Permission::FULL_CONTROL,
    )];
    let others = match acl {
        Acl::Private => None,
        Acl::PublicRead => Some(ALL_USERS),
        Acl::AuthenticatedRead => Some(AUTHENTICATED_USERS),
    };
    if let Some(others) = others {
        grants.push(grant(None, Some(others), Type::GROUP, Permission::READ));
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_uploads_consist_of_is_a_write() {
        for (operation, expected) in [
            ("PutObject", Deed::Write),
            ("UploadPart", Deed::Write),
            ("UploadPartCopy", Deed::Change),
            ("CopyObject", Deed::Change),
            ("DeleteObject", Deed::Change),
            ("DeleteObjects", Deed::DeleteMany),
            ("PutObjectAcl", Deed::Change),
            ("PutBucketCors", Deed::Change),
            ("SelectObjectContent", Deed::Change),
            ("ListParts", Deed::ListParts),
            ("ListBuckets", Deed::Read),
            ("HeadObject", Deed::Read),
            ("GetBucketLocation", Deed::Read),
        ] {
            assert_eq!(deed(operation), expected, "{operation}");
        }
    }
}
