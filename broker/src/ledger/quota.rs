//! Limits that count: what a principal has open and has uploaded today, and what a ticket has been used for.
//!
//! What there is follows from the uploads' rows, in the transaction that adds one: an upload that was given up or has expired
//! gives back what it held, one that is completed counts with what it came to. Only the bytes of completed ones are summed apart,
//! in the transaction that completes them: there are as many as there are files.

use std::collections::HashMap;

use shared::UploadId;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use time::OffsetDateTime;

use super::insert::ROWS;
use super::{Ledger, LedgerError, millis, placeholders};
use crate::policy::CreateGrant;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Limits of an upload that is to be created.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// Most uploads that its grantee has open at the destination.
    pub open_uploads: Option<u32>,
    /// Most bytes of its grantee at the destination since the day began (UTC).
    pub bytes_per_day: Option<u64>,
    /// Most files of its ticket in all.
    pub ticket_files: Option<u32>,
    /// Most bytes of its ticket in all.
    pub ticket_bytes: Option<u64>,
}

/// A limit that an upload would go beyond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exceeded {
    /// Which.
    pub limit: Limit,
    /// What it is.
    pub max: u64,
    /// How much of it is taken.
    pub taken: u64,
    /// Seconds until it is sure to be given back, where that is known.
    pub again_in: Option<u64>,
}

/// A limit that counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// Of `open_uploads`.
    OpenUploads,
    /// Of `bytes_per_day`.
    BytesPerDay,
    /// Of a ticket's files.
    TicketFiles,
    /// Of a ticket's bytes.
    TicketBytes,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Taken {
    uploads: u64,
    pub(super) bytes: u64,
}

/// What is taken already, looked up once for all uploads of one request.
#[derive(Default)]
pub(super) struct Meter {
    open: HashMap<(String, String), Taken>,
    day: HashMap<(String, String), Taken>,
    ticket: HashMap<String, Taken>,
}

impl Meter {
    /// Counts one more upload, if its limits allow it. Answers the bytes set aside for it: for one of unknown size what is left,
    /// up to what it may come to.
    ///
    /// In the transaction that then records it, this holds up every other one for the same grantee or ticket.
    pub(super) async fn take(
        &mut self,
        connection: &mut AnyConnection,
        grant: &CreateGrant,
    ) -> Result<Result<u64, Exceeded>, sqlx::Error> {
        let Quota {
            open_uploads,
            bytes_per_day,
            ticket_files,
            ticket_bytes,
        } = grant.quota;
        let now = grant.created_at;
        let place = (grant.grantee.clone(), grant.destination.clone());
        let mut reserved = grant.reserved;
        let sized = grant.plan.size().is_some();
        let count = |limit, max: u32, taken: u64| {
            let max = u64::from(max);
            let exceeded = Exceeded {
                limit,
                max,
                taken,
                again_in: None,
            };
            if taken < max { Ok(()) } else { Err(exceeded) }
        };
        let mut bytes = |limit, max: u64, taken: u64, again_in| {
            let left = max.saturating_sub(taken);
            if reserved > left && (sized || left == 0) {
                return Err(Exceeded {
                    limit,
                    max,
                    taken,
                    again_in,
                });
            }
            reserved = reserved.min(left);
            Ok(())
        };
        if let Some(max) = open_uploads {
            if !self.open.contains_key(&place) {
                lock(connection, &place.0).await?;
                let taken = open_of(connection, &place, now).await?;
                self.open.insert(place.clone(), taken);
            }
            let taken = self.open.get(&place).copied().unwrap_or_default();
            if let Err(exceeded) = count(Limit::OpenUploads, max, taken.uploads) {
                return Ok(Err(exceeded));
            }
        }
        if let Some(max) = bytes_per_day {
            if !self.day.contains_key(&place) {
                lock(connection, &place.0).await?;
                let taken = day_of(connection, &place, now).await?;
                self.day.insert(place.clone(), taken);
            }
            let taken = self.day.get(&place).copied().unwrap_or_default();
            if let Err(exceeded) = bytes(Limit::BytesPerDay, max, taken.bytes, Some(until_midnight(now))) {
                return Ok(Err(exceeded));
            }
        }
        if ticket_files.is_some() || ticket_bytes.is_some() {
            if !self.ticket.contains_key(&grant.owner) {
                lock(connection, &grant.owner).await?;
                let taken = ticket_of(connection, &grant.owner, now).await?;
                self.ticket.insert(grant.owner.clone(), taken);
            }
            let taken = self.ticket.get(&grant.owner).copied().unwrap_or_default();
            if let Some(max) = ticket_files
                && let Err(exceeded) = count(Limit::TicketFiles, max, taken.uploads)
            {
                return Ok(Err(exceeded));
            }
            if let Some(max) = ticket_bytes
                && let Err(exceeded) = bytes(Limit::TicketBytes, max, taken.bytes, None)
            {
                return Ok(Err(exceeded));
            }
        }
        for taken in [
            self.open.get_mut(&place),
            self.day.get_mut(&place),
            self.ticket.get_mut(&grant.owner),
        ]
        .into_iter()
        .flatten()
        {
            taken.uploads += 1;
            taken.bytes = taken.bytes.saturating_add(reserved);
        }
        Ok(Ok(reserved))
    }
}

impl Ledger {
    /// Whether the limits of an upload allow it at this moment: spares the store an upload that will not be recorded.
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn within_quota(&self, grant: &CreateGrant) -> Result<Result<(), Exceeded>, LedgerError> {
        if grant.quota == Quota::default() {
            return Ok(Ok(()));
        }
        let mut connection = self.pool.acquire().await?;
        let answer = Meter::default().take(&mut connection, grant).await?;
        Ok(answer.map(|_| ()))
    }
}

/// Holds up other transactions that count against the same name until this one ends.
pub(super) async fn lock(connection: &mut AnyConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO quotas (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name")
        .bind(name)
        .execute(connection)
        .await?;
    Ok(())
}

async fn open_of(
    connection: &mut AnyConnection,
    (grantee, destination): &(String, String),
    now: OffsetDateTime,
) -> Result<Taken, sqlx::Error> {
    let row = sqlx::query(
        "SELECT COUNT(*), CAST(0 AS BIGINT) FROM uploads WHERE grantee = $1 AND destination = $2 \
         AND state IN ('open', 'completing') AND (state = 'completing' OR expires_at > $3)",
    )
    .bind(grantee.as_str())
    .bind(destination.as_str())
    .bind(millis(now))
    .fetch_one(connection)
    .await?;
    taken(&row)
}

pub(super) async fn day_of(
    connection: &mut AnyConnection,
    (grantee, destination): &(String, String),
    now: OffsetDateTime,
) -> Result<Taken, sqlx::Error> {
    // One statement, which sees an upload that is being completed on one side or on the other.
    let row = sqlx::query(
        "SELECT CAST(0 AS BIGINT), CAST(COALESCE((SELECT SUM(reserved) FROM uploads \
         WHERE grantee = $1 AND destination = $2 AND created_at >= $3 AND state IN ('open', 'completing') \
         AND (state = 'completing' OR expires_at > $4)), 0) \
         + COALESCE((SELECT bytes FROM usage WHERE grantee = $1 AND destination = $2 AND day = $5), 0) AS BIGINT)",
    )
    .bind(grantee.as_str())
    .bind(destination.as_str())
    .bind(millis(now.replace_time(time::Time::MIDNIGHT)))
    .bind(millis(now))
    .bind(millis(now) / DAY)
    .fetch_one(connection)
    .await?;
    taken(&row)
}

/// Sums up what these uploads, which have just been completed, came to.
pub(super) async fn settle(connection: &mut AnyConnection, completed: &[&UploadId]) -> Result<(), sqlx::Error> {
    for ids in completed.chunks(ROWS) {
        // In order, so that two of these cannot wait for one another.
        let statement = format!(
            "INSERT INTO usage (grantee, destination, day, bytes) \
             SELECT COALESCE(grantee, owner), destination, created_at / {DAY}, CAST(SUM(object_size) AS BIGINT) \
             FROM uploads WHERE id IN ({}) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 \
             ON CONFLICT (grantee, destination, day) DO UPDATE SET bytes = usage.bytes + excluded.bytes",
            placeholders::values(0, ids.len())
        );
        let mut insert = sqlx::query(AssertSqlSafe(statement));
        for id in ids {
            insert = insert.bind(id.as_str());
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn ticket_of(connection: &mut AnyConnection, owner: &str, now: OffsetDateTime) -> Result<Taken, sqlx::Error> {
    let row = sqlx::query(
        "SELECT COUNT(*), CAST(COALESCE(SUM(COALESCE(object_size, reserved)), 0) AS BIGINT) FROM uploads \
         WHERE owner = $1 AND state IN ('open', 'completing', 'completed') AND (state <> 'open' OR expires_at > $2)",
    )
    .bind(owner)
    .bind(millis(now))
    .fetch_one(connection)
    .await?;
    taken(&row)
}

fn taken(row: &sqlx::any::AnyRow) -> Result<Taken, sqlx::Error> {
    let number = |column: usize| -> Result<u64, sqlx::Error> {
        Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
    };
    Ok(Taken {
        uploads: number(0)?,
        bytes: number(1)?,
    })
}

fn until_midnight(now: OffsetDateTime) -> u64 {
    let (hours, minutes, seconds) = now.to_offset(time::UtcOffset::UTC).to_hms();
    86_400 - (u64::from(hours) * 3600 + u64::from(minutes) * 60 + u64::from(seconds))
}
