//! Objects by prefix, page by page, as the store lists them.

use shared::ETag;
use shared::api::{ListedObject, ObjectList};
use time::OffsetDateTime;

use super::{StoreClient, StoreError, StoreErrorKind};
use crate::policy::ListGrant;

/// Which page of a listing.
#[derive(Clone, Debug)]
pub struct Page {
    /// Sums up the keys that have it after the prefix.
    pub delimiter: Option<String>,
    /// As the page before gave it.
    pub cursor: Option<String>,
    /// Most entries, 1 to 1000.
    pub limit: u16,
}

impl StoreClient {
    /// One page of what begins with the granted prefix (ListObjectsV2).
    ///
    /// # Errors
    /// The store does not answer, refuses, or answers with what makes no sense.
    pub async fn list(&self, grant: &ListGrant, page: Page) -> Result<ObjectList, StoreError> {
        let listed = self
            .client
            .list_objects_v2()
            .bucket(&grant.bucket)
            .prefix(&grant.prefix)
            .set_delimiter(page.delimiter)
            .set_continuation_token(page.cursor)
            .max_keys(page.limit.into())
            .send()
            .await
            .map_err(|error| StoreError::new("ListObjectsV2", &error))?;
        let mut objects = Vec::with_capacity(listed.contents().len());
        for object in listed.contents() {
            let size = object.size().and_then(|size| u64::try_from(size).ok());
            let modified = object
                .last_modified()
                .and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok());
            let (Some(key), Some(size), Some(last_modified)) = (object.key(), size, modified) else {
                return Err(StoreError {
                    operation: "ListObjectsV2",
                    kind: StoreErrorKind::Unknown("an object without key, size or date".into()),
                });
            };
            // A store that is asked by another's cursor may list what was not asked for.
            if !key.starts_with(&grant.prefix) {
                continue;
            }
            objects.push(ListedObject {
                key: key.to_owned(),
                size,
                etag: ETag::new(object.e_tag().unwrap_or_default()),
                last_modified,
            });
        }
        let prefixes = listed.common_prefixes().iter().filter_map(|summed| summed.prefix());
        Ok(ObjectList {
            prefix: grant.prefix.clone(),
            objects,
            prefixes: prefixes
                .filter(|prefix| prefix.starts_with(&grant.prefix))
                .map(str::to_owned)
                .collect(),
            next_cursor: listed.next_continuation_token().map(str::to_owned),
        })
    }
}
