//! What the sweeper looks for: uploads that run out, that were left in the middle, that the store may still hold parts of.

use std::collections::HashSet;

use shared::api::{EventDetail, EventKind};
use shared::{ObjectKey, UploadId};
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;

use super::events::{By, NewEvent};
use super::insert::ROWS;
use super::{Ledger, LedgerError, Session, millis, placeholders};

impl Ledger {
    /// At most `limit` open uploads that run out before `until`, in the order of their ids, after this one.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn run_out_by(
        &self,
        until: OffsetDateTime,
        after: Option<&UploadId>,
        limit: u16,
    ) -> Result<Vec<Session>, LedgerError> {
        self.some(
            "SELECT * FROM uploads WHERE state = 'open' AND expires_at <= $1 AND id > $2 ORDER BY id LIMIT $3",
            until,
            after,
            limit,
        )
        .await
    }

    /// At most `limit` uploads whose completion was begun and is nobody's any more, after this one.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn stranded(
        &self,
        now: OffsetDateTime,
        after: Option<&UploadId>,
        limit: u16,
    ) -> Result<Vec<Session>, LedgerError> {
        let now = self.database.lease_time(&self.pool, now).await?;
        self.some(
            "SELECT * FROM uploads WHERE state = 'completing' AND lease_until <= $1 AND id > $2 ORDER BY id LIMIT $3",
            now,
            after,
            limit,
        )
        .await
    }

    /// At most `limit` uploads that have ended without an object and that the store may still hold parts of, after this one.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn to_clear(
        &self,
        now: OffsetDateTime,
        after: Option<&UploadId>,
        limit: u16,
    ) -> Result<Vec<Session>, LedgerError> {
        self.some(
            "SELECT * FROM uploads WHERE ended_at IS NOT NULL AND cleared_at IS NULL AND ended_at <= $1 AND id > $2 \
             ORDER BY id LIMIT $3",
            now,
            after,
            limit,
        )
        .await
    }

    /// At most `limit` uploads in parts that have not ended, whoever owns them, after this one.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn all_open(&self, after: Option<&UploadId>, limit: u16) -> Result<Vec<Session>, LedgerError> {
        let rows = sqlx::query(
            "SELECT * FROM uploads WHERE state IN ('open', 'completing') AND put_md5 IS NULL AND id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after.map_or("", UploadId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(Session::from_row).collect()
    }

    /// Which of these are the store's names of uploads that went to one of these keys of the bucket: all that this ledger
    /// knows, ended or not.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn known(&self, bucket: &str, keys: &[&ObjectKey]) -> Result<HashSet<String>, LedgerError> {
        let mut known = HashSet::new();
        for keys in keys.chunks(ROWS) {
            let statement = format!(
                "SELECT store_upload_id FROM uploads WHERE bucket = $1 AND object_key IN ({}) AND store_upload_id IS NOT NULL",
                placeholders::values(1, keys.len())
            );
            let mut select = sqlx::query(AssertSqlSafe(statement)).bind(bucket);
            for key in keys {
                select = select.bind(key.as_str());
            }
            for row in select.fetch_all(&self.pool).await? {
                known.insert(row.try_get(0)?);
            }
        }
        Ok(known)
    }

    async fn some(
        &self,
        select: &'static str,
        at: OffsetDateTime,
        after: Option<&UploadId>,
        limit: u16,
    ) -> Result<Vec<Session>, LedgerError> {
        let rows = sqlx::query(select)
            .bind(millis(at))
            .bind(after.map_or("", UploadId::as_str))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(Session::from_row).collect()
    }

    /// Records that an open upload has run out. Answers whether it did so just now.
    ///
    /// # Errors
    /// The database did not answer; the upload is as it was.
    pub async fn expire(&self, id: &UploadId, now: OffsetDateTime) -> Result<bool, LedgerError> {
        let by = By::sweeper();
        let event = NewEvent {
            upload: id,
            kind: EventKind::Expired,
            at: now,
            by: &by,
            detail: EventDetail::default(),
            declared: None,
        };
        self.end(
            "UPDATE uploads SET state = 'expired', resume_key = NULL, ended_at = $2, \
             cleared_at = CASE WHEN store_upload_id IS NULL THEN $2 END \
             WHERE id = $1 AND state = 'open' AND expires_at <= $2",
            event,
        )
        .await
    }

    /// Records that the store holds nothing any more of an upload that ended without an object. What was declared for its
    /// parts is no longer needed.
    ///
    /// # Errors
    /// The database did not answer; the upload is looked at again.
    pub async fn cleared(&self, id: &UploadId, now: OffsetDateTime) -> Result<(), LedgerError> {
        let mut writing = self.begin().await?;
        sqlx::query("UPDATE uploads SET cleared_at = $2 WHERE id = $1 AND ended_at IS NOT NULL")
            .bind(id.as_str())
            .bind(millis(now))
            .execute(&mut *writing)
            .await?;
        sqlx::query("UPDATE events SET digests = NULL WHERE upload_id = $1 AND digests IS NOT NULL")
            .bind(id.as_str())
            .execute(&mut *writing)
            .await?;
        writing.commit().await?;
        Ok(())
    }
}
