//! Whose keys are known, and what a request without any may ask for.

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::{Grant, Grantee, Owner, Permission, Type};
use s3s::{S3Error, S3Result, s3_error};
use subtle::ConstantTimeEq as _;

use crate::config::Credentials;
use crate::disk::Acl;

/// The one key pair.
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) Credentials);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key.as_bytes().ct_eq(self.0.access_key_id.as_bytes()).into() {
            Ok(self.0.secret_access_key.as_str().into())
        } else {
            Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            ))
        }
    }
}

/// Signed requests may do everything, unsigned ones read: the objects that are public.
#[derive(Debug)]
pub(crate) struct Access;

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        // Whether the object or the bucket is public is for the operation to see.
        let readable = matches!(
            request.s3_op().name(),
            "GetObject" | "HeadObject" | "HeadBucket" | "ListObjects" | "ListObjectsV2"
        );
        if request.credentials().is_some() || readable {
            Ok(())
        } else {
            Err(not_signed())
        }
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
