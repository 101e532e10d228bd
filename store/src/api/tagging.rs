//! Tags of objects and buckets (S3 User Guide, "Categorizing your objects using tags").

use s3s::dto::{
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    GetBucketTaggingInput, GetBucketTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutBucketTaggingInput, PutBucketTaggingOutput, PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
};
use s3s::{S3Request, S3Result, s3_error};

use crate::disk::{Amendment, Tags};

use super::Api;
use super::error::blocking;
use super::objects::check_version;

/// Most tags of an object, and of a bucket.
const OF_OBJECT: usize = 10;
const OF_BUCKET: usize = 50;
/// Longest key and value of a tag, in characters.
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 256;

impl Api {
    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<GetObjectTaggingOutput> {
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let object = self.readable(&input.bucket, &input.key, false).await?;
        Ok(GetObjectTaggingOutput {
            tag_set: told(&object.record.meta.tags),
            version_id: None,
        })
    }

    pub(super) async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<PutObjectTaggingOutput> {
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let bucket = self.bucket(&input.bucket)?;
        let tags = checked(input.tagging.tag_set, OF_OBJECT)?;
        blocking(move || bucket.amend(input.key, Amendment::Tags(tags))).await?;
        Ok(PutObjectTaggingOutput::default())
    }

    pub(super) async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<DeleteObjectTaggingOutput> {
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let bucket = self.bucket(&input.bucket)?;
        blocking(move || bucket.amend(input.key, Amendment::Tags(Tags::new()))).await?;
        Ok(DeleteObjectTaggingOutput::default())
    }

    pub(super) fn get_bucket_tagging(
        &self,
        request: S3Request<GetBucketTaggingInput>,
    ) -> S3Result<GetBucketTaggingOutput> {
        let settings = self.bucket(&request.input.bucket)?.settings();
        if settings.tags.is_empty() {
            return Err(s3_error!(NoSuchTagSet, "The TagSet does not exist"));
        }
        Ok(GetBucketTaggingOutput {
            tag_set: told(&settings.tags),
        })
    }

    pub(super) async fn put_bucket_tagging(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<PutBucketTaggingOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let tags = checked(input.tagging.tag_set, OF_BUCKET)?;
        blocking(move || bucket.change_settings(|settings| settings.tags = tags)).await?;
        Ok(PutBucketTaggingOutput::default())
    }

    pub(super) async fn delete_bucket_tagging(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<DeleteBucketTaggingOutput> {
        let bucket = self.bucket(&request.input.bucket)?;
        blocking(move || bucket.change_settings(|settings| settings.tags.clear())).await?;
        Ok(DeleteBucketTaggingOutput::default())
    }
}

/// The tags of the header `x-amz-tagging`, which are encoded as a query is.
pub(super) fn of_header(text: &str) -> S3Result<Tags> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(text).map_err(|_| {
        s3_error!(
            InvalidArgument,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
        )
    })?;
    let tags = pairs.into_iter().map(|(key, value)| Tag {
        key: Some(key),
        value: Some(value),
    });
    checked(tags.collect(), OF_OBJECT)
}

fn checked(given: Vec<Tag>, most: usize) -> S3Result<Tags> {
    if given.len() > most {
        return Err(s3_error!(
            InvalidTag,
            "there are {} tags; at most {most} are allowed",
            given.len()
        ));
    }
    let mut tags = Tags::new();
    for Tag { key, value } in given {
        let (Some(key), Some(value)) = (key, value) else {
            return Err(s3_error!(MalformedXML, "a tag has a Key and a Value"));
        };
        let is_none = |character: char| character.is_control() || character == '\u{fffd}';
        if key.contains(is_none) || value.contains(is_none) {
            return Err(s3_error!(InvalidTag, "a tag holds a character that is none"));
        }
        if key.starts_with("aws:") {
            return Err(s3_error!(
                InvalidTag,
                "System tags cannot be added/updated by requester"
            ));
        }
        if key.is_empty() || key.chars().count() > MAX_KEY {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > MAX_VALUE {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        if tags.insert(key, value).is_some() {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(tags)
}

fn told(tags: &Tags) -> Vec<Tag> {
    let told = tags.iter().map(|(key, value)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    });
    told.collect()
}
