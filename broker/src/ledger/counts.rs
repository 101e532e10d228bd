//! How much there is of what the operator watches. Only what an index finds by itself is counted: uploads that are over and done
//! with stay in the ledger for ever, and counting them takes longer every day.

use sqlx::Row;

use super::{Ledger, LedgerError};

/// How much there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Uploads that are open.
    pub open: i64,
    /// Uploads that are being completed, or whose completion has an unknown outcome.
    pub completing: i64,
    /// Uploads that ended without an object, of which the store may still hold parts.
    pub clearing: i64,
    /// Events that the webhook is still to be told of.
    pub pending: i64,
    /// Events that it never took.
    pub dead: i64,
}

impl Counts {
    pub(super) const STATEMENT: &str = "SELECT (SELECT COUNT(*) FROM uploads WHERE state = 'open') AS open, \
         (SELECT COUNT(*) FROM uploads WHERE state = 'completing') AS completing, \
         (SELECT COUNT(*) FROM uploads WHERE ended_at IS NOT NULL AND cleared_at IS NULL) AS clearing, \
         (SELECT COUNT(*) FROM deliveries WHERE dead_at IS NULL) AS pending, \
         (SELECT COUNT(*) FROM deliveries WHERE dead_at IS NOT NULL) AS dead";
}

impl Ledger {
    /// Counts.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn counts(&self) -> Result<Counts, LedgerError> {
        let row = sqlx::query(Counts::STATEMENT).fetch_one(&self.pool).await?;
        Ok(Counts {
            open: row.try_get("open")?,
            completing: row.try_get("completing")?,
            clearing: row.try_get("clearing")?,
            pending: row.try_get("pending")?,
            dead: row.try_get("dead")?,
        })
    }

    /// Connections that are idle, that are open, and that may be at most. SQLite's one writer is not among them.
    pub fn connections(&self) -> (u32, u32, u32) {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        (idle, self.pool.size(), self.pool.options().get_max_connections())
    }
}
