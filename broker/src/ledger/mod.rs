//! The truth about sessions, in SQL: what was admitted, what was declared, who is completing, how it ended.
//!
//! Every change is one statement that names the state it expects, so that two brokers on one ledger cannot both make it.

mod counts;
mod credentials;
mod database;
mod declare;
mod digests;
mod duty;
mod events;
mod insert;
mod lease;
mod listings;
mod outbox;
mod placeholders;
mod puts;
mod quota;
mod recall;
mod resume;
mod session;
mod sweeping;
#[cfg(test)]
mod tests;
mod writing;

use std::path::PathBuf;
use std::sync::Arc;

use shared::UploadId;
use shared::api::{EventKind, UploadState};
use sqlx::{AnyConnection, AnyPool, Executor, Row};
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify};

pub use counts::Counts;
pub use credentials::{TOKENS_AT_ONCE, Ticket, Token};
pub use database::{check_url, sqlite_url};
pub use declare::Declared;
pub use digests::Digests;
pub use duty::Duty;
pub use events::By;
pub use lease::{GivenBack, Lease, LeaseOutcome};
pub use outbox::{Delivery, Due, Sent};
pub use quota::{Exceeded, Limit, Quota};
pub use session::{Plan, Session, StoredObject};

use self::database::Database;
use self::declare::Declaring;
use self::events::NewEvent;
use self::insert::{NewUpload, insert};
use self::quota::Meter;
use self::recall::Recall;
use self::writing::Group;
use crate::metrics::LedgerSeries;
use crate::policy::CreateGrant;

/// The ledger did not do as asked; nothing is half-recorded.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database refused or did not answer.
    #[error("the ledger did not answer")]
    Database(#[from] sqlx::Error),
    /// The tables could not be brought to this version.
    #[error("the ledger's tables could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row that this version cannot have written.
    #[error("the ledger's row of {id} is not readable: {what}")]
    Row {
        /// Which upload or event.
        id: String,
        /// Which field.
        what: String,
    },
    /// The write was given up together with others' in the same transaction; the log says why.
    #[error("the ledger did not record it")]
    GivenUp,
    /// The database's file cannot be made.
    #[error("the ledger's file {file} cannot be made or opened")]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The URL names a database that this version does not speak.
    #[error("{0:?} is not a ledger; expected sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE")]
    Url(String),
}

/// What came of recording a new upload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// It is open, with so many bytes set aside for it.
    Recorded(u64),
    /// One for the same content is open already.
    OpenAlready,
    /// It would go beyond a limit.
    Exceeded(Exceeded),
    /// The token or ticket by which it was asked for has been revoked meanwhile.
    Revoked,
}

impl Admission {
    /// Whether the upload is open now.
    pub fn is_recorded(self) -> bool {
        matches!(self, Self::Recorded(_))
    }
}

/// One database of sessions.
#[derive(Clone, Debug)]
pub struct Ledger {
    database: Database,
    pool: AnyPool,
    group: Arc<Mutex<Group>>,
    declaring: Arc<Declaring>,
    recall: Arc<Recall>,
    /// Rung when something has been put out to be sent, where that is done at all.
    outbox: Option<Arc<Notify>>,
    series: LedgerSeries,
}

impl Ledger {
    /// Opens the database, `sqlite:FILE` or `postgres://…`, and brings its tables up to date. A SQLite file is made if there
    /// is none; a PostgreSQL database has to be there.
    ///
    /// # Errors
    /// The database cannot be opened, or belongs to a newer broker.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        let (database, url) = Database::of(url)?;
        let pool = database.open(&url).await?;
        Ok(Self {
            database,
            pool,
            group: Arc::default(),
            declaring: Arc::default(),
            recall: Arc::default(),
            outbox: None,
            series: LedgerSeries::default(),
        })
    }

    /// What is counted here.
    pub fn series(&self) -> &LedgerSeries {
        &self.series
    }

    /// Waits for statements in flight and closes the database.
    pub async fn close(&self) {
        self.group.lock().await.close().await;
        self.pool.close().await;
    }

    /// Answers if the database does.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        self.pool.execute("SELECT 1").await?;
        Ok(())
    }

    /// Records a new upload as open, and its parts as signed if they are declared already.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub async fn admit(
        &self,
        id: &UploadId,
        grant: &CreateGrant,
        store_upload_id: Option<&str>,
        declared: &Digests,
        by: &By,
    ) -> Result<Admission, LedgerError> {
        let mut writing = self.begin().await?;
        if !self.holds(&mut writing, grant.credential.as_deref()).await? {
            writing.commit().await?;
            return Ok(Admission::Revoked);
        }
        let resume_key = resume::resume_key(grant);
        if let Some(key) = &resume_key {
            // Makes room for this one where nobody has recorded yet that the last one ran out.
            sqlx::query(
                "UPDATE uploads SET resume_key = NULL WHERE resume_key = $1 AND state = 'open' AND expires_at <= $2",
            )
            .bind(key)
            .bind(millis(grant.created_at))
            .execute(&mut *writing)
            .await?;
        }
        let reserved = match Meter::default().take(&mut writing, grant).await? {
            Ok(reserved) => reserved,
            Err(exceeded) => {
                writing.commit().await?;
                return Ok(Admission::Exceeded(exceeded));
            }
        };
        let upload = NewUpload {
            id,
            grant,
            reserved,
            store_upload_id,
            resume_key: resume_key.as_deref(),
            put_md5: None,
        };
        if insert(&mut writing, &[upload]).await? == 0 {
            writing.commit().await?;
            return Ok(Admission::OpenAlready);
        }
        let windows = declared.windows();
        let mut events = vec![events::created(id, grant, by)];
        events.extend(
            windows
                .iter()
                .map(|window| events::signed(id, window, grant.created_at, by)),
        );
        self.add_events(&mut writing, &events).await?;
        writing.commit().await?;
        Ok(Admission::Recorded(reserved))
    }

    /// The upload of this id, whoever owns it.
    ///
    /// # Errors
    /// The database did not answer, or the row is not readable.
    pub async fn find(&self, id: &UploadId) -> Result<Option<Session>, LedgerError> {
        let row = sqlx::query("SELECT * FROM uploads WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(Session::from_row).transpose()
    }

    /// Ends an open upload without an object. Answers the state it is in afterwards, or nothing if there is no such upload.
    /// `reason` is the code of the problem for which the broker does so, where nobody asked for it.
    ///
    /// An upload that is being completed, or whose completion has an unknown outcome, stays as it is.
    ///
    /// # Errors
    /// The database did not answer; the upload is as it was.
    pub async fn abort(
        &self,
        id: &UploadId,
        by: &By,
        reason: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Option<UploadState>, LedgerError> {
        self.end(ABORT, events::aborted(id, by, reason, now)).await?;
        self.forget(id);
        let row = sqlx::query("SELECT state FROM uploads WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| session::state(id.as_str(), row.try_get("state")?))
            .transpose()
    }

    /// Ends an upload by this statement of id and time. Answers whether it did, and only then writes the event.
    async fn end(&self, update: &'static str, event: NewEvent<'_>) -> Result<bool, LedgerError> {
        let mut writing = self.begin().await?;
        let kind = event.kind;
        let ended = self.end_within(&mut writing, update, event).await?;
        writing.commit().await?;
        if ended {
            self.has_ended(kind);
        }
        Ok(ended)
    }

    /// The same in a transaction; whoever commits it then calls [`Ledger::has_ended`].
    async fn end_within(
        &self,
        connection: &mut AnyConnection,
        update: &'static str,
        event: NewEvent<'_>,
    ) -> Result<bool, sqlx::Error> {
        let ended = sqlx::query(update)
            .bind(event.upload.as_str())
            .bind(millis(event.at))
            .execute(&mut *connection)
            .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        self.add_events(connection, &[event]).await?;
        Ok(true)
    }

    fn has_ended(&self, kind: EventKind) {
        self.series.ended(kind, 1, 0);
        self.ring();
    }
}

/// Ends an open upload of this id at this time, without an object.
const ABORT: &str = "UPDATE uploads SET state = 'aborted', resume_key = NULL, ended_at = $2, \
    cleared_at = CASE WHEN store_upload_id IS NULL THEN $2 END WHERE id = $1 AND state = 'open'";
/// Why an upload was aborted whose token or ticket does not hold any more, as its trail tells it.
pub(crate) const REVOKED: &str = "credential_revoked";

/// As the ledger keeps instants.
fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// What [`millis`] has made of an instant.
fn instant(millis: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}
