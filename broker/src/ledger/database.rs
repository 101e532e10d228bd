//! Opening the two databases that a ledger can be in: a SQLite file for one machine, PostgreSQL for brokers on many.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AnyConnection, AnyPool, Connection, Executor, Row};
use time::OffsetDateTime;

use super::LedgerError;

/// Connections of one broker. Ten brokers stay below the 100 that a PostgreSQL takes by default.
const CONNECTIONS: u32 = 8;
/// How long a request waits for one of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which of the two, as far as they differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Database {
    /// One file. Whoever shares it shares this machine's clock.
    Sqlite,
    /// A server, for brokers whose clocks may differ.
    Postgres,
}

/// `sqlite:` URL of a database file.
pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

/// Whether a URL names a database that a ledger can be in. Nothing is opened or made.
///
/// # Errors
/// [`LedgerError::Url`]
pub fn check_url(url: &str) -> Result<(), LedgerError> {
    Database::named(url).map(|_| ())
}

impl Database {
    /// Which one a URL names, and what it says after the scheme of a SQLite file.
    fn named(url: &str) -> Result<(Self, &str), LedgerError> {
        // Without what follows the scheme: it may hold a password.
        let scheme = url.split("://").next().unwrap_or_default();
        let scheme: String = scheme.chars().take(32).collect();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return match PgConnectOptions::from_str(url) {
                Ok(_) => Ok((Self::Postgres, "")),
                Err(_) => Err(LedgerError::Url(format!("{scheme}://…"))),
            };
        }
        match url.strip_prefix("sqlite:") {
            Some(file) if !file.is_empty() && !file.starts_with('?') && !file.contains(":memory:") => {
                Ok((Self::Sqlite, file))
            }
            Some(_) => Err(LedgerError::Url(url.to_owned())),
            None => Err(LedgerError::Url(scheme)),
        }
    }

    /// Which one a URL names, and the URL as the driver takes it. A SQLite file is made, for its owner alone.
    pub(super) fn of(url: &str) -> Result<(Self, String), LedgerError> {
        let (database, file) = Self::named(url)?;
        if database == Self::Postgres {
            return Ok((database, url.to_owned()));
        }
        // Write tokens are in there.
        make_private(Path::new(file.split('?').next().unwrap_or_default()))?;
        let separator = if file.contains('?') { '&' } else { '?' };
        Ok((Self::Sqlite, format!("sqlite:{file}{separator}mode=rwc")))
    }

    /// Connects, and brings the tables up to date.
    pub(super) async fn open(self, url: &str) -> Result<AnyPool, LedgerError> {
        sqlx::any::install_default_drivers();
        // The pool would try for seconds and then say only that it waited; one connection says what is wrong.
        let mut first = AnyConnection::connect(url).await?;
        first.execute(self.first()).await?;
        first.close().await?;
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    connection.execute(self.settings()).await?;
                    Ok(())
                })
            })
            .connect(url)
            .await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        Ok(pool)
    }

    /// What comes before all else: whether this is a database at all, and what the migrations take for granted.
    fn first(self) -> &'static str {
        match self {
            Self::Sqlite => "PRAGMA schema_version",
            // The migrations call bytes by their SQL name, which PostgreSQL does not know. Two brokers may start at once.
            Self::Postgres => {
                "DO $$ BEGIN CREATE DOMAIN blob AS bytea; \
                 EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            }
        }
    }

    /// What each connection is told.
    fn settings(self) -> &'static str {
        match self {
            // What a 2xx answered has to survive a power cut: FULL syncs the log at every commit.
            Self::Sqlite => {
                "PRAGMA busy_timeout = 8000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA foreign_keys = ON;"
            }
            // A broker that is gone must not leave a row locked, nor a server that hangs keep a request for ever.
            Self::Postgres => {
                "SET statement_timeout = '8s'; SET lock_timeout = '8s'; \
                 SET idle_in_transaction_session_timeout = '15s'; SET application_name = 'upload-broker';"
            }
        }
    }

    /// Ends a SELECT of rows that nobody else may change before the transaction ends: where there is one writer, nobody can.
    pub(super) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// Ends a SELECT of rows that nobody may change before the transaction ends, though others may read them for the same.
    pub(super) fn for_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR SHARE",
        }
    }

    /// The time that leases go by, which all who share the ledger have to agree on: PostgreSQL's own, whatever the brokers'
    /// clocks say; the asking broker's, `now`, where all are on one machine.
    pub(super) async fn lease_time(self, pool: &AnyPool, now: OffsetDateTime) -> Result<OffsetDateTime, LedgerError> {
        if self == Self::Sqlite {
            return Ok(now);
        }
        let row = sqlx::query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
            .fetch_one(pool)
            .await?;
        let millis: i64 = row.try_get(0)?;
        Ok(OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap_or(now))
    }
}

/// Makes an empty file for its owner alone, unless there is one; SQLite gives its other files the same rights.
fn make_private(file: &Path) -> Result<(), LedgerError> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file);
    opened.map(|_| ()).map_err(|source| LedgerError::File {
        file: PathBuf::from(file),
        source,
    })
}
