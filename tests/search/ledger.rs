//! The ledger from outside: makes it fail where a history says so, and looks whether anything is half-recorded.
//!
//! By triggers in its own database: the broker's code runs as it is, and what SQLite does then is what it does on a full disk.

use std::path::Path;

use broker::ledger::sqlite_url;
use sqlx::{AnyConnection, Connection as _, Executor as _, Row as _};

use crate::history::Rows;
use crate::model::Upload;

/// A connection of our own to the brokers' ledger.
pub(crate) struct Outside {
    connection: AnyConnection,
    rigged: bool,
}

/// Rows of `fault` make every change fail that comes after so many; `doomed` is a row that no commit lets through.
const RIG: &str = "PRAGMA busy_timeout = 8000; PRAGMA foreign_keys = ON; \
     CREATE TABLE fault (rows_left INTEGER NOT NULL, at_commit INTEGER NOT NULL); \
     CREATE TABLE no_rows (id INTEGER PRIMARY KEY); \
     CREATE TABLE doomed (id INTEGER REFERENCES no_rows (id) DEFERRABLE INITIALLY DEFERRED);";

fn trigger(name: &str, change: &str) -> String {
    format!(
        "CREATE TRIGGER {name} BEFORE {change} WHEN EXISTS (SELECT 1 FROM fault) BEGIN \
         SELECT RAISE(ABORT, 'told to fail') FROM fault WHERE rows_left <= 0 AND at_commit = 0; \
         INSERT INTO doomed SELECT 1 FROM fault WHERE rows_left <= 0 AND at_commit = 1; \
         UPDATE fault SET rows_left = rows_left - 1; END;"
    )
}

impl Outside {
    /// Of a ledger that a broker has opened.
    pub(crate) async fn of(file: &Path) -> Self {
        Self {
            connection: AnyConnection::connect(&sqlite_url(file)).await.unwrap(),
            rigged: false,
        }
    }

    /// From this row on nothing is recorded.
    pub(crate) async fn fail(&mut self, rows: Rows) {
        if !self.rigged {
            self.connection.execute(RIG).await.unwrap();
            for (name, change) in [
                ("fails_insert", "INSERT ON uploads"),
                ("fails_update", "UPDATE ON uploads"),
                ("fails_event", "INSERT ON events"),
            ] {
                let trigger = sqlx::AssertSqlSafe(trigger(name, change));
                sqlx::raw_sql(trigger).execute(&mut self.connection).await.unwrap();
            }
            self.rigged = true;
        }
        self.mend().await;
        sqlx::query("INSERT INTO fault VALUES ($1, $2)")
            .bind(i64::from(rows.after))
            .bind(i64::from(rows.at_commit))
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    /// From here on everything is.
    pub(crate) async fn mend(&mut self) {
        if self.rigged {
            self.connection.execute("DELETE FROM fault").await.unwrap();
        }
    }

    async fn count(&mut self, what: &'static str, id: &str) -> i64 {
        let row = sqlx::query(what)
            .bind(id)
            .fetch_one(&mut self.connection)
            .await
            .unwrap();
        row.try_get(0).unwrap()
    }

    /// Whether every upload is recorded with the events that made it what it is, each once; and no upload but those that the
    /// clients know, and as many as `unheard` of which none of them heard.
    pub(crate) async fn audit(&mut self, uploads: &[Upload], unheard: i64) -> Result<(), String> {
        let recorded = self.count("SELECT COUNT(*) FROM uploads WHERE id <> $1", "").await;
        let known = i64::try_from(uploads.len()).unwrap();
        if recorded != known + unheard {
            return Err(format!(
                "half-recorded: {recorded} uploads where clients know {known} and did not hear of {unheard}"
            ));
        }
        let untold = self
            .count(
                "SELECT COUNT(*) FROM uploads WHERE id <> $1 AND \
                 ((SELECT COUNT(*) FROM events WHERE upload_id = uploads.id AND kind = 'created') <> 1 OR \
                 (SELECT COUNT(*) FROM events WHERE upload_id = uploads.id AND kind IN ('completed', 'aborted', 'expired')) <> \
                 (state IN ('completed', 'aborted', 'expired')) OR \
                 state IN ('completed', 'aborted', 'expired') AND NOT EXISTS (SELECT 1 FROM events WHERE upload_id = uploads.id AND kind = state))",
                "",
            )
            .await;
        if untold != 0 {
            return Err(format!(
                "half-recorded: {untold} uploads whose trail does not tell their state"
            ));
        }
        for upload in uploads {
            let signed = "SELECT COUNT(*) FROM events WHERE upload_id = $1 AND kind = 'parts_signed'";
            let signed = self.count(signed, upload.id.as_str()).await;
            if signed > upload.signed {
                return Err(format!(
                    "half-recorded: {signed} signings of {} where {} were granted",
                    upload.key, upload.signed
                ));
            }
        }
        Ok(())
    }
}
