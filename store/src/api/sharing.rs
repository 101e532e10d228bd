//! What keeps ACLs of a bucket and its objects from counting: its ownership controls, and its public access block (S3 User
//! Guide, "Controlling ownership of objects and disabling ACLs" and "Blocking public access").

use s3s::dto::{
    DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput, DeletePublicAccessBlockInput,
    DeletePublicAccessBlockOutput, GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput,
    GetPublicAccessBlockInput, GetPublicAccessBlockOutput, ObjectOwnership, OwnershipControls, OwnershipControlsRule,
    PublicAccessBlockConfiguration, PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput,
    PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
};
use s3s::{S3Request, S3Result, s3_error};

use crate::disk::{Acl, BucketSettings, Ownership, PublicAccess};

use super::Api;
use super::error::blocking;
use super::settings::has_none;

impl Api {
    pub(super) fn get_bucket_ownership_controls(
        &self,
        request: S3Request<GetBucketOwnershipControlsInput>,
    ) -> S3Result<GetBucketOwnershipControlsOutput> {
        let settings = self.bucket(&request.input.bucket)?.settings();
        let none = || {
            has_none(
                "OwnershipControlsNotFoundError",
                "The bucket ownership controls were not found",
            )
        };
        let ownership = settings.ownership.ok_or_else(none)?;
        let rule = OwnershipControlsRule {
            object_ownership: ObjectOwnership::from_static(match ownership {
                Ownership::Enforced => ObjectOwnership::BUCKET_OWNER_ENFORCED,
                Ownership::Preferred => ObjectOwnership::BUCKET_OWNER_PREFERRED,
                Ownership::Writer => ObjectOwnership::OBJECT_WRITER,
            }),
        };
        Ok(GetBucketOwnershipControlsOutput {
            ownership_controls: Some(OwnershipControls { rules: vec![rule] }),
        })
    }

    pub(super) async fn put_bucket_ownership_controls(
        &self,
        request: S3Request<PutBucketOwnershipControlsInput>,
    ) -> S3Result<PutBucketOwnershipControlsOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let [rule] = input.ownership_controls.rules.as_slice() else {
            return Err(s3_error!(MalformedXML, "ownership controls have one rule"));
        };
        let asked = ownership(&rule.object_ownership).map_err(|_| {
            s3_error!(
                MalformedXML,
                "The XML you provided was not well-formed or did not validate against our published schema"
            )
        })?;
        refuse_lost_acl(asked, bucket.settings().acl)?;
        blocking(move || bucket.change_settings(|settings| settings.ownership = Some(asked))).await?;
        Ok(PutBucketOwnershipControlsOutput::default())
    }

    pub(super) async fn delete_bucket_ownership_controls(
        &self,
        request: S3Request<DeleteBucketOwnershipControlsInput>,
    ) -> S3Result<DeleteBucketOwnershipControlsOutput> {
        let bucket = self.bucket(&request.input.bucket)?;
        blocking(move || bucket.change_settings(|settings| settings.ownership = None)).await?;
        Ok(DeleteBucketOwnershipControlsOutput::default())
    }

    pub(super) fn get_public_access_block(
        &self,
        request: S3Request<GetPublicAccessBlockInput>,
    ) -> S3Result<GetPublicAccessBlockOutput> {
        let settings = self.bucket(&request.input.bucket)?.settings();
        let none = || {
            has_none(
                "NoSuchPublicAccessBlockConfiguration",
                "The public access block configuration was not found",
            )
        };
        let block = settings.public_access.ok_or_else(none)?;
        Ok(GetPublicAccessBlockOutput {
            public_access_block_configuration: Some(PublicAccessBlockConfiguration {
                block_public_acls: Some(block.block_acls),
                ignore_public_acls: Some(block.ignore_acls),
                block_public_policy: Some(block.block_policy),
                restrict_public_buckets: Some(block.restrict_buckets),
            }),
        })
    }

    /// There are no policies here, so what is said of them holds whatever it is.
    pub(super) async fn put_public_access_block(
        &self,
        request: S3Request<PutPublicAccessBlockInput>,
    ) -> S3Result<PutPublicAccessBlockOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let asked = input.public_access_block_configuration;
        let block = PublicAccess {
            block_acls: asked.block_public_acls.unwrap_or_default(),
            ignore_acls: asked.ignore_public_acls.unwrap_or_default(),
            block_policy: asked.block_public_policy.unwrap_or_default(),
            restrict_buckets: asked.restrict_public_buckets.unwrap_or_default(),
        };
        blocking(move || bucket.change_settings(|settings| settings.public_access = Some(block))).await?;
        Ok(PutPublicAccessBlockOutput::default())
    }

    pub(super) async fn delete_public_access_block(
        &self,
        request: S3Request<DeletePublicAccessBlockInput>,
    ) -> S3Result<DeletePublicAccessBlockOutput> {
        let bucket = self.bucket(&request.input.bucket)?;
        blocking(move || bucket.change_settings(|settings| settings.public_access = None)).await?;
        Ok(DeletePublicAccessBlockOutput::default())
    }
}

/// Who is to own what others put.
pub(super) fn ownership(asked: &ObjectOwnership) -> S3Result<Ownership> {
    match asked.as_str() {
        ObjectOwnership::BUCKET_OWNER_ENFORCED => Ok(Ownership::Enforced),
        ObjectOwnership::BUCKET_OWNER_PREFERRED => Ok(Ownership::Preferred),
        ObjectOwnership::OBJECT_WRITER => Ok(Ownership::Writer),
        other => Err(s3_error!(
            InvalidArgument,
            "Invalid x-amz-object-ownership header: {other}"
        )),
    }
}

/// Refuses to do away with ACLs where the bucket's lets others in.
pub(super) fn refuse_lost_acl(ownership: Ownership, acl: Acl) -> S3Result<()> {
    if ownership != Ownership::Enforced || acl == Acl::Private {
        return Ok(());
    }
    Err(s3_error!(
        InvalidBucketAclWithObjectOwnership,
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
    ))
}

/// Refuses an ACL, of the bucket or of an object in it, that the bucket does not allow.
pub(super) fn admit(acl: Acl, settings: &BucketSettings) -> S3Result<()> {
    if acl == Acl::Private {
        return Ok(());
    }
    if settings.ownership == Some(Ownership::Enforced) {
        return Err(s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs"
        ));
    }
    if settings.public_access.is_some_and(|block| block.block_acls) {
        return Err(s3_error!(
            AccessDenied,
            "Access Denied: the bucket's public access block does not allow public ACLs"
        ));
    }
    Ok(())
}

/// Whether this ACL lets everybody read, as far as the bucket lets ACLs count.
pub(super) fn is_public(acl: Acl, settings: &BucketSettings) -> bool {
    let ignores = settings.public_access.is_some_and(|block| block.ignore_acls);
    acl == Acl::PublicRead && settings.ownership != Some(Ownership::Enforced) && !ignores
}
