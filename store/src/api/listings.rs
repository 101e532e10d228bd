//! Listings of objects and of open uploads, page by page.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, EncodingType, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput,
    ListObjectVersionsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output,
    MultipartUpload, Object as Listed, ObjectStorageClass, ObjectVersion, ObjectVersionStorageClass, StorageClass,
};
use s3s::{S3Request, S3Result, s3_error};

use crate::disk::{Bucket, Entry, Listing, Page, common_prefix};

use super::Api;
use super::access::owner;
use super::error::blocking;
use super::meta::{etag, signed, timestamp};
use super::uploads::page_size;

/// What `encoding-type=url` leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// How names are written in the answer: as they are, or percent-encoded so that XML can carry all of them.
#[derive(Clone, Copy)]
struct Encoding(bool);

impl Encoding {
    fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(other) => Err(s3_error!(InvalidArgument, "encoding-type {other:?} is not url")),
        }
    }

    fn text(self, name: impl Into<String>) -> String {
        let name = name.into();
        if self.0 {
            utf8_percent_encode(&name, PLAIN).to_string()
        } else {
            name
        }
    }

    fn prefixes(self, prefixes: Vec<String>) -> Vec<CommonPrefix> {
        let told = prefixes.into_iter().map(|prefix| CommonPrefix {
            prefix: Some(self.text(prefix)),
        });
        told.collect()
    }

    fn objects(self, entries: &[Entry], with_owner: bool) -> Vec<Listed> {
        let told = entries.iter().map(|entry| Listed {
            e_tag: Some(etag(&entry.etag)),
            key: Some(self.text(&entry.key)),
            last_modified: Some(timestamp(entry.modified)),
            owner: with_owner.then(owner),
            size: Some(signed(entry.size)),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Listed::default()
        });
        told.collect()
    }
}

impl Api {
    pub(super) async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<ListObjectsOutput> {
        let input = request.input;
        let bucket = self.listable(&input.bucket, request.credentials.is_none())?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_size(input.max_keys, "max-keys")?;
        let listing = Listing {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: input.marker.as_deref(),
            max: max.into(),
        };
        let delimited = input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty());
        let page = page_of(bucket, listing).await?;
        Ok(ListObjectsOutput {
            name: Some(input.bucket),
            is_truncated: Some(page.next.is_some()),
            max_keys: Some(max.into()),
            contents: Some(encoding.objects(&page.items, true)),
            common_prefixes: Some(encoding.prefixes(page.prefixes)),
            // Without a delimiter the last key is the marker (S3 API, ListObjects).
            next_marker: page.next.filter(|_| delimited).map(|next| encoding.text(next)),
            prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
            marker: Some(encoding.text(input.marker.unwrap_or_default())),
            delimiter: input.delimiter.map(|delimiter| encoding.text(delimiter)),
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        })
    }

    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<ListObjectsV2Output> {
        let input = request.input;
        let bucket = self.listable(&input.bucket, request.credentials.is_none())?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_size(input.max_keys, "max-keys")?;
        let token = input.continuation_token.as_deref().map(untoken).transpose()?;
        let listing = Listing {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after: token.as_deref().or(input.start_after.as_deref()),
            max: max.into(),
        };
        let page = page_of(bucket, listing).await?;
        let count = i32::try_from(page.items.len() + page.prefixes.len()).unwrap_or(i32::MAX);
        Ok(ListObjectsV2Output {
            name: Some(input.bucket),
            is_truncated: Some(page.next.is_some()),
            key_count: Some(count),
            max_keys: Some(max.into()),
            contents: Some(encoding.objects(&page.items, input.fetch_owner.unwrap_or_default())),
            common_prefixes: Some(encoding.prefixes(page.prefixes)),
            continuation_token: input.continuation_token,
            next_continuation_token: page.next.map(|next| URL_SAFE_NO_PAD.encode(next)),
            prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
            start_after: input.start_after.map(|after| encoding.text(after)),
            delimiter: input.delimiter.map(|delimiter| encoding.text(delimiter)),
            encoding_type: input.encoding_type,
            ..ListObjectsV2Output::default()
        })
    }

    /// Each object's one version, under the id that S3 gives to those of a bucket that was never versioned.
    pub(super) async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<ListObjectVersionsOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_size(input.max_keys, "max-keys")?;
        let after = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
        if input
            .version_id_marker
            .as_ref()
            .is_some_and(|marker| !marker.is_empty())
            && after.is_none()
        {
            return Err(s3_error!(
                InvalidArgument,
                "A version-id marker cannot be specified without a key marker."
            ));
        }
        let listing = Listing {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref(),
            after,
            max: max.into(),
        };
        let page = page_of(bucket, listing).await?;
        let versions = page.items.iter().map(|object| ObjectVersion {
            e_tag: Some(etag(&object.etag)),
            is_latest: Some(true),
            key: Some(encoding.text(&object.key)),
            last_modified: Some(timestamp(object.modified)),
            owner: Some(owner()),
            size: Some(signed(object.size)),
            storage_class: Some(ObjectVersionStorageClass::from_static(
                ObjectVersionStorageClass::STANDARD,
            )),
            version_id: Some("null".to_owned()),
            ..ObjectVersion::default()
        });
        Ok(ListObjectVersionsOutput {
            versions: Some(versions.collect()),
            common_prefixes: Some(encoding.prefixes(page.prefixes)),
            is_truncated: Some(page.next.is_some()),
            max_keys: Some(max.into()),
            name: Some(input.bucket),
            next_version_id_marker: page.next.as_ref().map(|_| "null".to_owned()),
            next_key_marker: page.next.map(|next| encoding.text(next)),
            prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
            key_marker: Some(encoding.text(input.key_marker.unwrap_or_default())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            delimiter: input.delimiter.map(|delimiter| encoding.text(delimiter)),
            encoding_type: input.encoding_type,
            ..ListObjectVersionsOutput::default()
        })
    }

    pub(super) fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let input = request.input;
        let bucket = self.bucket(&input.bucket)?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let max = page_size(input.max_uploads, "max-uploads")?;
        let uploads = bucket.uploads();
        let names = uploads.keys().map(|(key, id)| (key.as_str(), id.as_str()));
        let page = uploads_page(names, &input, max.into());
        let told = page.items.iter().map(|(key, id)| MultipartUpload {
            initiated: uploads
                .get(&(key.clone(), id.clone()))
                .map(|upload| timestamp(upload.record.initiated)),
            key: Some(encoding.text(key)),
            owner: Some(owner()),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(id.clone()),
            ..MultipartUpload::default()
        });
        let next_id = page.next.as_ref().map(|next| match page.items.last() {
            Some((key, id)) if key == next => id.clone(),
            Some(_) | None => String::new(),
        });
        Ok(ListMultipartUploadsOutput {
            uploads: Some(told.collect()),
            common_prefixes: Some(encoding.prefixes(page.prefixes)),
            is_truncated: Some(page.next.is_some()),
            max_uploads: Some(max.into()),
            next_key_marker: page.next.map(|next| encoding.text(next)),
            next_upload_id_marker: next_id,
            bucket: Some(input.bucket),
            prefix: Some(encoding.text(input.prefix.unwrap_or_default())),
            key_marker: Some(encoding.text(input.key_marker.unwrap_or_default())),
            upload_id_marker: input.upload_id_marker,
            delimiter: input.delimiter.map(|delimiter| encoding.text(delimiter)),
            encoding_type: input.encoding_type,
            ..ListMultipartUploadsOutput::default()
        })
    }
}

/// One page of objects, read from the disk.
async fn page_of(bucket: Arc<Bucket>, listing: Listing<'_>) -> S3Result<Page<Entry>> {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let (prefix, delimiter) = (listing.prefix.to_owned(), owned(listing.delimiter));
    let (after, max) = (owned(listing.after), listing.max);
    blocking(move || {
        bucket.page(&Listing {
            prefix: &prefix,
            delimiter: delimiter.as_deref(),
            after: after.as_deref(),
            max,
        })
    })
    .await
}

/// One page of uploads. Several may be of one key: the marker is a key and an id (S3 API, ListMultipartUploads).
fn uploads_page<'a>(
    names: impl Iterator<Item = (&'a str, &'a str)>,
    input: &ListMultipartUploadsInput,
    max: usize,
) -> Page<(String, String)> {
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let key_marker = input.key_marker.as_deref().unwrap_or_default();
    let id_marker = input.upload_id_marker.as_deref().unwrap_or_default();
    let mut page = Page {
        items: Vec::new(),
        prefixes: Vec::<String>::new(),
        next: None,
    };
    let mut last = None;
    for (key, id) in names.filter(|(key, _)| key.starts_with(prefix)) {
        let group = common_prefix(key, prefix, input.delimiter.as_deref());
        let told = match group {
            Some(group) => group <= key_marker || page.prefixes.last().is_some_and(|last| last == group),
            None => key < key_marker || (key == key_marker && (id_marker.is_empty() || id <= id_marker)),
        };
        if told {
            continue;
        }
        if page.items.len() + page.prefixes.len() == max {
            page.next = last;
            break;
        }
        last = Some(group.unwrap_or(key).to_owned());
        match group {
            Some(group) => page.prefixes.push(group.to_owned()),
            None => page.items.push((key.to_owned(), id.to_owned())),
        }
    }
    page
}

fn untoken(token: &str) -> S3Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of this store"))
}
