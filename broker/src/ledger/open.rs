//! A principal's uploads that have not ended.

use shared::UploadId;
use time::OffsetDateTime;

use super::{Ledger, LedgerError, Session, millis};
use crate::principal::Principal;

impl Ledger {
    /// At most `limit` of this principal's uploads that are open or being completed, in the order of their ids, after this one.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn open_uploads(
        &self,
        owner: &Principal,
        after: Option<&UploadId>,
        limit: u16,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, LedgerError> {
        let rows = sqlx::query(
            "SELECT * FROM uploads WHERE owner = $1 AND state IN ('open', 'completing') AND id > $2 \
             AND (state = 'completing' OR expires_at > $3) ORDER BY id LIMIT $4",
        )
        .bind(owner.name())
        .bind(after.map_or("", UploadId::as_str))
        .bind(millis(now))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(Session::from_row).collect()
    }
}
