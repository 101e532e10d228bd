//! Who may read what, as canned ACLs; in XML the same, spelt out (S3 User Guide, "Access control list (ACL) overview").

use s3s::dto::{
    AccessControlPolicy, BucketCannedACL, GetBucketAclInput, GetBucketAclOutput, GetObjectAclInput, GetObjectAclOutput,
    Grant, ObjectCannedACL, Permission, PutBucketAclInput, PutBucketAclOutput, PutObjectAclInput, PutObjectAclOutput,
};
use s3s::{S3Request, S3Result, s3_error};

use crate::disk::{Acl, Amendment};

use super::Api;
use super::access::{ALL_USERS, AUTHENTICATED_USERS, grants, owner};
use super::error::blocking;
use super::meta::refuse_not_kept;
use super::objects::check_version;
use super::sharing::admit;

impl Api {
    pub(super) async fn get_object_acl(&self, request: S3Request<GetObjectAclInput>) -> S3Result<GetObjectAclOutput> {
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let object = self.readable(&input.bucket, &input.key, false).await?;
        Ok(GetObjectAclOutput {
            grants: Some(grants(object.record.meta.acl)),
            owner: Some(owner()),
            ..GetObjectAclOutput::default()
        })
    }

    pub(super) async fn put_object_acl(&self, request: S3Request<PutObjectAclInput>) -> S3Result<PutObjectAclOutput> {
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let bucket = self.bucket(&input.bucket)?;
        refuse_not_kept(&request.headers)?;
        let acl = asked(
            input.acl.as_ref().map(ObjectCannedACL::as_str),
            input.access_control_policy,
        )?;
        admit(acl, &bucket.settings())?;
        blocking(move || bucket.amend(input.key, Amendment::Acl(acl))).await?;
        Ok(PutObjectAclOutput::default())
    }

    pub(super) fn get_bucket_acl(&self, request: S3Request<GetBucketAclInput>) -> S3Result<GetBucketAclOutput> {
        let bucket = self.bucket(&request.input.bucket)?;
        Ok(GetBucketAclOutput {
            grants: Some(grants(bucket.settings().acl)),
            owner: Some(owner()),
        })
    }

    pub(super) async fn put_bucket_acl(&self, request: S3Request<PutBucketAclInput>) -> S3Result<PutBucketAclOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        refuse_not_kept(&request.headers)?;
        let acl = asked(
            input.acl.as_ref().map(BucketCannedACL::as_str),
            input.access_control_policy,
        )?;
        admit(acl, &bucket.settings())?;
        blocking(move || bucket.change_settings(|settings| settings.acl = acl)).await?;
        Ok(PutBucketAclOutput::default())
    }
}

/// The ACL that a request asks for: by name, or spelt out.
fn asked(name: Option<&str>, policy: Option<AccessControlPolicy>) -> S3Result<Acl> {
    match (name, policy) {
        (Some(name), None) => canned(name),
        (None, Some(policy)) => spelt_out(policy),
        (Some(_), Some(_)) => Err(s3_error!(
            InvalidRequest,
            "Specifying both Canned ACLs and Header Grants is not allowed"
        )),
        (None, None) => Err(s3_error!(
            MissingSecurityHeader,
            "Your request was missing a required header: x-amz-acl"
        )),
    }
}

/// The canned ACL of this name.
pub(super) fn canned(name: &str) -> S3Result<Acl> {
    match name {
        // There is one owner, of buckets and objects alike.
        ObjectCannedACL::PRIVATE | ObjectCannedACL::BUCKET_OWNER_FULL_CONTROL | ObjectCannedACL::BUCKET_OWNER_READ => {
            Ok(Acl::Private)
        }
        ObjectCannedACL::PUBLIC_READ => Ok(Acl::PublicRead),
        ObjectCannedACL::AUTHENTICATED_READ => Ok(Acl::AuthenticatedRead),
        ObjectCannedACL::PUBLIC_READ_WRITE | ObjectCannedACL::AWS_EXEC_READ | "log-delivery-write" => Err(s3_error!(
            NotImplemented,
            "of the canned ACLs this store knows private, public-read, authenticated-read, bucket-owner-read and bucket-owner-full-control; \
             the last two grant what private does"
        )),
        other => Err(s3_error!(InvalidArgument, "{other:?} is not a canned ACL")),
    }
}

/// The canned ACL that grants the same as this policy.
fn spelt_out(policy: AccessControlPolicy) -> S3Result<Acl> {
    const PERMISSIONS: [&str; 5] = [
        Permission::FULL_CONTROL,
        Permission::READ,
        Permission::READ_ACP,
        Permission::WRITE,
        Permission::WRITE_ACP,
    ];
    let malformed = || {
        s3_error!(
            MalformedACLError,
            "The XML you provided was not well-formed or did not validate against our published schema"
        )
    };
    if policy.owner.is_some_and(|named| named.id != owner().id) {
        return Err(s3_error!(AccessDenied, "Access Denied: the policy names another owner"));
    }
    let mut acl = Acl::Private;
    for grant in policy.grants.ok_or_else(malformed)? {
        let Grant {
            grantee: Some(grantee),
            permission: Some(permission),
        } = grant
        else {
            return Err(malformed());
        };
        if !PERMISSIONS.contains(&permission.as_str()) {
            return Err(malformed());
        }
        match (grantee.id.as_deref(), grantee.uri.as_deref(), permission.as_str()) {
            (Some(id), None, _) if owner().id.as_deref() == Some(id) => {}
            (Some(_), None, _) => return Err(s3_error!(InvalidArgument, "Invalid id")),
            (None, Some(ALL_USERS), Permission::READ) => acl = Acl::PublicRead,
            (None, Some(AUTHENTICATED_USERS), Permission::READ) if acl == Acl::Private => acl = Acl::AuthenticatedRead,
            (None, Some(AUTHENTICATED_USERS), Permission::READ) => {}
            _ => {
                return Err(s3_error!(
                    NotImplemented,
                    "this store grants READ to everybody or to its own users, and nothing else to others than the owner"
                ));
            }
        }
    }
    Ok(acl)
}
