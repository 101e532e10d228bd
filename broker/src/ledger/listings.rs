//! What is looked up otherwise than by an upload's id: a principal's uploads that have not ended, the upload of an object.

use shared::{ETag, ObjectKey, PartSizes, UploadId};
use sqlx::Row;
use time::OffsetDateTime;

use super::session::sizes_in;
use super::{Ledger, LedgerError, Session, millis};

impl Ledger {
    /// At most `limit` of this principal's uploads in parts that are open or being completed, in the order of their ids, after this one.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn open_uploads(
        &self,
        owner: &str,
        after: Option<&UploadId>,
        limit: u16,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, LedgerError> {
        let rows = sqlx::query(
            // Of those that go up whole nothing is at the store before they are done: there is nothing to continue or abort.
            "SELECT * FROM uploads WHERE owner = $1 AND state IN ('open', 'completing') AND id > $2 AND put_md5 IS NULL \
             AND (state = 'completing' OR expires_at > $3) ORDER BY id LIMIT $4",
        )
        .bind(owner)
        .bind(after.map_or("", UploadId::as_str))
        .bind(millis(now))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(Session::from_row).collect()
    }

    /// How large the parts are of the object that has this ETag at this key, if it came through this broker.
    ///
    /// # Errors
    /// The database did not answer, or the row is not readable.
    pub async fn part_sizes(
        &self,
        bucket: &str,
        key: &ObjectKey,
        etag: &ETag,
    ) -> Result<Option<PartSizes>, LedgerError> {
        let row = sqlx::query(
            "SELECT part_size FROM uploads WHERE bucket = $1 AND object_key = $2 AND etag = $3 AND part_size IS NOT NULL LIMIT 1",
        )
        .bind(bucket)
        .bind(key.as_str())
        .bind(etag.as_str())
        .fetch_optional(&self.pool)
        .await?;
        let size: Option<i64> = row.map(|row| row.try_get("part_size")).transpose()?;
        Ok(size.and_then(|size| u64::try_from(size).ok()).map(sizes_in))
    }
}
