//! The multipart uploads that the store holds open, whoever began them.

use shared::ObjectKey;
use time::OffsetDateTime;

use super::{StoreClient, StoreError, StoreErrorKind};

/// An upload as ListMultipartUploads tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenAtStore {
    /// Where its object would be.
    pub key: ObjectKey,
    /// The store's name for it.
    pub store_upload_id: String,
    /// When it was begun, by the store's clock.
    pub initiated: OffsetDateTime,
}

/// Where the next page begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UploadMarker {
    key: String,
    store_upload_id: String,
}

impl StoreClient {
    /// One page, of at most 1,000, of the uploads that are open in a bucket, and where the next one begins if there is one.
    /// Those whose key no request of ours could name are left out.
    ///
    /// # Errors
    /// The store does not answer, refuses, or answers with what makes no sense.
    pub async fn open_uploads(
        &self,
        bucket: &str,
        after: Option<UploadMarker>,
    ) -> Result<(Vec<OpenAtStore>, Option<UploadMarker>), StoreError> {
        const OPERATION: &str = "ListMultipartUploads";
        let nonsense = |what: &str| StoreError {
            operation: OPERATION,
            kind: StoreErrorKind::Unknown(what.to_owned()),
        };
        let (key, store_upload_id) = after.clone().map(|at| (at.key, at.store_upload_id)).unzip();
        let page = self
            .client
            .list_multipart_uploads()
            .bucket(bucket)
            .set_key_marker(key)
            .set_upload_id_marker(store_upload_id)
            .send()
            .await
            .map_err(|error| StoreError::new(OPERATION, &error))?;
        let mut uploads = Vec::with_capacity(page.uploads().len());
        for upload in page.uploads() {
            let initiated = upload
                .initiated()
                .and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok());
            let (Some(key), Some(id), Some(initiated)) = (upload.key(), upload.upload_id(), initiated) else {
                return Err(nonsense("an upload without key, id or date"));
            };
            if let Ok(key) = ObjectKey::try_from(key.to_owned()) {
                uploads.push(OpenAtStore {
                    key,
                    store_upload_id: id.to_owned(),
                    initiated,
                });
            }
        }
        if !page.is_truncated().unwrap_or(false) {
            return Ok((uploads, None));
        }
        let next = UploadMarker {
            key: page.next_key_marker().unwrap_or_default().to_owned(),
            store_upload_id: page.next_upload_id_marker().unwrap_or_default().to_owned(),
        };
        if next.key.is_empty() || after.as_ref() == Some(&next) {
            return Err(nonsense("the next page's marker is missing or the same again"));
        }
        Ok((uploads, Some(next)))
    }
}
