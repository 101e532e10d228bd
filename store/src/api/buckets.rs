//! Buckets as a whole.

use std::sync::Arc;

use s3s::dto::{
    Bucket, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
    GetBucketLocationInput, GetBucketLocationOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput,
    ListBucketsOutput,
};
use s3s::{S3Request, S3Result, s3_error};

use crate::config::DEFAULT_REGION;
use crate::disk::{Acl, BucketSettings};

use super::Api;
use super::access::owner;
use super::acl::canned;
use super::error::blocking;
use super::meta::{refuse_not_kept, timestamp};
use super::sharing::{admit, ownership, refuse_lost_acl};

/// Most buckets on one page.
const MAX_BUCKETS: usize = 10_000;

/// How names begin and end that S3 keeps for aliases and buckets of other kinds.
const RESERVED_STARTS: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_ENDS: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Whether a bucket may have this name (S3 User Guide, "General purpose bucket naming rules"). Such a name is also safe
/// as the name of a directory.
pub(crate) fn valid_bucket_name(name: &str) -> bool {
    s3s::path::check_bucket_name(name)
        && !name.contains(".-")
        && !name.contains("-.")
        && !RESERVED_STARTS.iter().any(|start| name.starts_with(start))
        && !RESERVED_ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether this is a name as regions have it: `eu-west-1`, or `EU` from before there were several in Europe.
fn is_region(name: &str) -> bool {
    let mut parts = name.split('-');
    let number = parts.next_back().unwrap_or_default();
    let words: Vec<_> = parts.collect();
    let is_word = |word: &&str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    name == "EU" || (words.len() >= 2 && words.iter().all(is_word) && number.parse::<u8>().is_ok())
}

impl Api {
    pub(super) fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<ListBucketsOutput> {
        let input = request.input;
        let max = match input.max_buckets.map(usize::try_from) {
            None => usize::MAX,
            Some(Ok(max @ 1..=MAX_BUCKETS)) => max,
            Some(_) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "Argument max-buckets must be an integer between 1 and {MAX_BUCKETS}"
                ));
            }
        };
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = input.continuation_token.as_deref().unwrap_or_default();
        let all = self.disk.buckets().into_iter();
        let mut rest = all.filter(|(name, _)| name.starts_with(prefix) && name.as_str() > after);
        let page: Vec<_> = rest.by_ref().take(max).collect();
        let next = page.last().map(|(name, _)| name.clone());
        let buckets = page.into_iter().map(|(name, created)| Bucket {
            bucket_region: input.max_buckets.map(|_| self.region.clone()),
            creation_date: Some(timestamp(created)),
            name: Some(name),
        });
        Ok(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            continuation_token: next.filter(|_| rest.next().is_some()),
            owner: Some(owner()),
            prefix: input.prefix.clone(),
        })
    }

    pub(super) async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<CreateBucketOutput> {
        let input = request.input;
        let place = input
            .create_bucket_configuration
            .and_then(|config| config.location_constraint);
        let place = place.filter(|place| !place.as_str().is_empty() && place.as_str() != self.region);
        if let Some(place) = place.as_ref().filter(|place| !is_region(place.as_str())) {
            return Err(s3_error!(
                InvalidLocationConstraint,
                "The specified location-constraint is not valid: {}",
                place.as_str()
            ));
        }
        if let Some(place) = place {
            return Err(s3_error!(
                IllegalLocationConstraintException,
                "this store is in {}, not in {}",
                self.region,
                place.as_str()
            ));
        }
        if !valid_bucket_name(&input.bucket) {
            return Err(s3_error!(InvalidBucketName));
        }
        refuse_not_kept(&request.headers)?;
        let settings = BucketSettings {
            acl: input.acl.map_or(Ok(Acl::Private), |acl| canned(acl.as_str()))?,
            ownership: input.object_ownership.as_ref().map(ownership).transpose()?,
            ..BucketSettings::default()
        };
        if let Some(ownership) = settings.ownership {
            refuse_lost_acl(ownership, settings.acl)?;
        }
        if let Ok(there) = self.disk.bucket(&input.bucket) {
            admit(settings.acl, &there.settings())?;
        }
        let (disk, name) = (Arc::clone(&self.disk), input.bucket.clone());
        // Its owner may create a bucket again, as in us-east-1 (S3 API, CreateBucket).
        // That sets its ACL anew, and nothing else.
        blocking(move || {
            let acl = settings.acl;
            if !disk.create_bucket(&name, settings)? {
                disk.bucket(&name)?.change_settings(|settings| settings.acl = acl)?;
            }
            Ok(())
        })
        .await?;
        Ok(CreateBucketOutput {
            location: Some(format!("/{}", input.bucket)),
        })
    }

    pub(super) fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<HeadBucketOutput> {
        self.listable(&request.input.bucket, request.credentials.is_none())?;
        Ok(HeadBucketOutput {
            bucket_region: Some(self.region.clone()),
            ..HeadBucketOutput::default()
        })
    }

    pub(super) async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<DeleteBucketOutput> {
        let disk = Arc::clone(&self.disk);
        blocking(move || disk.delete_bucket(&request.input.bucket)).await?;
        Ok(DeleteBucketOutput::default())
    }

    pub(super) fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<GetBucketLocationOutput> {
        self.bucket(&request.input.bucket)?;
        Ok(GetBucketLocationOutput {
            location_constraint: (self.region != DEFAULT_REGION)
                .then(|| BucketLocationConstraint::from(self.region.clone())),
        })
    }
}
