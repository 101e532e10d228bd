//! What the webhook has still to be told: a row comes in with its event, in one transaction, and goes once it has been taken.
//!
//! ```text
//! event ─▶ waiting ──taken──▶ gone
//!            │  ▲ └─not taken─▶ waiting, for longer each time
//!            │  └────replay─────┐
//!            └──not taken for the last time─▶ dead
//! ```

use shared::api::EventKind;
use shared::{EventId, UploadId};
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use time::OffsetDateTime;

use super::events::{event_kind, unreadable};
use super::{Ledger, LedgerError, instant, millis, placeholders};

/// An event that is to be sent now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Due {
    /// Which.
    pub id: EventId,
    /// How often it was sent and not taken.
    pub attempts: u32,
}

/// What came of sending an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sent {
    /// The receiver has it.
    Taken,
    /// It is to be sent again.
    Later {
        /// Not before.
        next_at: OffsetDateTime,
        /// Why it was not taken.
        error: String,
    },
    /// It is not sent again unless an operator says so.
    Dead {
        /// Since when.
        at: OffsetDateTime,
        /// Why it was not taken the last time.
        error: String,
    },
}

/// An event in the outbox, as an operator sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// Which event.
    pub event_id: EventId,
    /// Of which upload.
    pub upload_id: UploadId,
    /// What happened to that.
    pub kind: EventKind,
    /// When.
    pub at: OffsetDateTime,
    /// How often it was sent.
    pub attempts: u32,
    /// When it is sent again, unless it is dead.
    pub next_at: OffsetDateTime,
    /// Since when it is dead.
    pub dead_at: Option<OffsetDateTime>,
    /// Why it was not taken the last time.
    pub last_error: Option<String>,
}

impl Ledger {
    /// The same ledger, where events that end an upload are also put out to be sent.
    #[must_use]
    pub fn with_outbox(self) -> Self {
        Self {
            outbox: Some(std::sync::Arc::default()),
            ..self
        }
    }

    /// Returns once this process has put something out; at once if it has since the last time.
    pub async fn put_out_here(&self) {
        match &self.outbox {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Says that what was put out has been committed.
    pub(super) fn ring(&self) {
        if let Some(bell) = &self.outbox {
            bell.notify_one();
        }
    }

    pub(super) async fn put_out(
        &self,
        connection: &mut AnyConnection,
        events: &[(EventId, i64)],
    ) -> Result<(), sqlx::Error> {
        if events.is_empty() {
            return Ok(());
        }
        let statement = format!(
            "INSERT INTO deliveries (event_id, attempts, next_at) VALUES {}",
            placeholders::rows(events.len(), 3)
        );
        let mut insert = sqlx::query(AssertSqlSafe(statement));
        for (id, at) in events {
            insert = insert.bind(id.as_str()).bind(0_i64).bind(*at);
        }
        insert.execute(connection).await?;
        Ok(())
    }

    /// At most `limit` events that are to be sent by now, those first that have waited longest.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn due(&self, now: OffsetDateTime, limit: u16) -> Result<Vec<Due>, LedgerError> {
        let rows = sqlx::query(
            "SELECT event_id, attempts FROM deliveries WHERE dead_at IS NULL AND next_at <= $1 \
             ORDER BY next_at, event_id LIMIT $2",
        )
        .bind(millis(now))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let (id, attempts): (String, i64) = (row.try_get("event_id")?, row.try_get("attempts")?);
                Ok(Due {
                    attempts: u32::try_from(attempts).map_err(|_| unreadable(&id, "attempts"))?,
                    id: id.clone().try_into().map_err(|_| unreadable(&id, "event_id"))?,
                })
            })
            .collect()
    }

    /// Records what came of sending these: all or none. Of two who have sent the same event at once, the first counts.
    ///
    /// # Errors
    /// Nothing was recorded: they are sent again.
    pub async fn settle(&self, sent: &[(Due, Sent)]) -> Result<(), LedgerError> {
        let mut writing = self.begin().await?;
        for (due, sent) in sent {
            let id = due.id.as_str();
            let (next_at, dead_at, error) = match sent {
                Sent::Taken => {
                    sqlx::query("DELETE FROM deliveries WHERE event_id = $1")
                        .bind(id)
                        .execute(&mut *writing)
                        .await?;
                    continue;
                }
                Sent::Later { next_at, error } => (millis(*next_at), None, error),
                Sent::Dead { at, error } => (millis(*at), Some(millis(*at)), error),
            };
            sqlx::query(
                "UPDATE deliveries SET attempts = attempts + 1, next_at = $3, dead_at = $4, last_error = $5 \
                 WHERE event_id = $1 AND attempts = $2",
            )
            .bind(id)
            .bind(i64::from(due.attempts))
            .bind(next_at)
            .bind(dead_at)
            .bind(error.as_str())
            .execute(&mut *writing)
            .await?;
        }
        writing.commit().await?;
        Ok(())
    }

    /// At most `limit` events in the outbox, waiting or dead, in the order of time, after this one.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn deliveries(&self, after: Option<&EventId>, limit: u16) -> Result<Vec<Delivery>, LedgerError> {
        let rows = sqlx::query(
            "SELECT event_id, upload_id, kind, at, attempts, next_at, dead_at, last_error \
             FROM deliveries JOIN events ON events.id = event_id AND kind IN ('completed', 'aborted', 'expired') \
             WHERE event_id > $1 ORDER BY event_id LIMIT $2",
        )
        .bind(after.map_or("", EventId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let id: String = row.try_get("event_id")?;
                let unreadable = |what| unreadable(&id, what);
                let (upload, kind): (String, String) = (row.try_get("upload_id")?, row.try_get("kind")?);
                let (attempts, dead_at): (i64, Option<i64>) = (row.try_get("attempts")?, row.try_get("dead_at")?);
                Ok(Delivery {
                    upload_id: upload.try_into().map_err(|_| unreadable("upload_id"))?,
                    kind: event_kind(&kind).ok_or_else(|| unreadable("kind"))?,
                    at: instant(row.try_get("at")?).ok_or_else(|| unreadable("at"))?,
                    attempts: u32::try_from(attempts).map_err(|_| unreadable("attempts"))?,
                    next_at: instant(row.try_get("next_at")?).ok_or_else(|| unreadable("next_at"))?,
                    dead_at: dead_at.and_then(instant),
                    last_error: row.try_get("last_error")?,
                    event_id: id.clone().try_into().map_err(|_| unreadable("event_id"))?,
                })
            })
            .collect()
    }

    /// Has an event sent now, as if for the first time, be it waiting, dead or long taken. Answers whether there is one of this
    /// id that is sent at all.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn replay(&self, id: &EventId, now: OffsetDateTime) -> Result<bool, LedgerError> {
        let mut writing = self.begin().await?;
        let replayed = sqlx::query(
            "INSERT INTO deliveries (event_id, attempts, next_at) \
             SELECT id, 0, CAST($2 AS BIGINT) FROM events WHERE id = $1 AND kind IN ('completed', 'aborted', 'expired') \
             ON CONFLICT (event_id) DO UPDATE SET attempts = 0, next_at = excluded.next_at, dead_at = NULL, last_error = NULL",
        )
        .bind(id.as_str())
        .bind(millis(now))
        .execute(&mut *writing)
        .await?;
        writing.commit().await?;
        self.ring();
        Ok(replayed.rows_affected() == 1)
    }

    /// Has all dead events sent now, as if for the first time. Answers how many.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn replay_dead(&self, now: OffsetDateTime) -> Result<u64, LedgerError> {
        let mut writing = self.begin().await?;
        let replayed = sqlx::query(
            "UPDATE deliveries SET attempts = 0, next_at = $1, dead_at = NULL, last_error = NULL WHERE dead_at IS NOT NULL",
        )
        .bind(millis(now))
        .execute(&mut *writing)
        .await?;
        writing.commit().await?;
        self.ring();
        Ok(replayed.rows_affected())
    }
}
