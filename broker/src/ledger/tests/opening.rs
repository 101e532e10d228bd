//! How a ledger is opened, and what is left of it when it is closed.

use super::*;

on_both_databases! {
    a_ledger_that_was_closed_takes_and_answers_nothing
}

async fn a_ledger_that_was_closed_takes_and_answers_nothing(fresh: Fresh) {
    fresh.admit().await;
    fresh.ledger.close().await;
    assert!(fresh.ledger.ping().await.is_err());
    assert!(fresh.ledger.begin().await.is_err());
}

#[tokio::test]
async fn a_closed_ledger_on_sqlite_is_one_whole_file_of_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let fresh = Fresh::on_sqlite().await;
    fresh.admit().await;
    let files = || {
        let directory = std::fs::read_dir(fresh.dir.as_ref().unwrap().path()).unwrap();
        let mut files: Vec<_> = directory.map(|file| file.unwrap()).collect();
        for file in &files {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file:?}");
        }
        files.sort_by_key(std::fs::DirEntry::file_name);
        files
            .iter()
            .map(|file| file.file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(files(), ["ledger.db", "ledger.db-shm", "ledger.db-wal"]);
    fresh.ledger.close().await;
    assert_eq!(files(), ["ledger.db"]);
}

async fn settings<const N: usize>(fresh: &Fresh, names: [&'static str; N]) -> Vec<String> {
    let mut told = Vec::new();
    // Every connection, not just the first.
    let mut connections = Vec::new();
    for name in names {
        connections.push(fresh.ledger.pool.acquire().await.unwrap());
        let row = sqlx::query(name)
            .fetch_one(&mut **connections.last_mut().unwrap())
            .await;
        let row = row.unwrap();
        let text = sqlx::Row::try_get::<String, _>(&row, 0);
        told.push(text.unwrap_or_else(|_| sqlx::Row::get::<i64, _>(&row, 0).to_string()));
    }
    told
}

#[tokio::test]
async fn sqlite_syncs_at_every_commit_and_waits_for_another_broker() {
    let fresh = Fresh::on_sqlite().await;
    let names = [
        "PRAGMA synchronous",
        "PRAGMA journal_mode",
        "PRAGMA busy_timeout",
        "PRAGMA foreign_keys",
    ];
    assert_eq!(settings(&fresh, names).await, ["2", "wal", "8000", "1"]);
}

#[tokio::test]
async fn postgres_is_told_to_give_up_what_hangs() {
    let fresh = Fresh::on_postgres().await;
    let names = [
        "SHOW statement_timeout",
        "SHOW lock_timeout",
        "SHOW idle_in_transaction_session_timeout",
        "SHOW application_name",
    ];
    assert_eq!(settings(&fresh, names).await, ["8s", "8s", "15s", "upload-broker"]);
}
