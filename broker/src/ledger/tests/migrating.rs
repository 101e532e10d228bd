//! What an older broker has left in the ledger.

use sqlx::AnyPool;
use sqlx::Executor as _;

use super::*;
use crate::ledger::database::Database;

/// A database as migrations up to this one leave it.
async fn migrated_to(version: i64, url: &str) -> AnyPool {
    let (database, url) = Database::of(url).unwrap();
    let pool = database.open(&url).await.unwrap();
    let newer = sqlx::migrate!("./migrations")
        .iter()
        .any(|migration| migration.version > version);
    assert!(newer, "there is something to migrate");
    let mut older = sqlx::migrate!("./migrations");
    older.migrations = older
        .migrations
        .iter()
        .filter(|migration| migration.version <= version)
        .cloned()
        .collect();
    for table in [
        "deliveries",
        "events",
        "uploads",
        "duties",
        "tokens",
        "tickets",
        "quotas",
        "usage",
        "_sqlx_migrations",
    ] {
        pool.execute(sqlx::AssertSqlSafe(format!("DROP TABLE {table}")))
            .await
            .unwrap();
    }
    older.run(&pool).await.unwrap();
    pool
}

on_both_databases! {
    what_was_declared_in_pages_still_counts
    what_was_uploaded_before_the_sums_were_kept_counts
}

async fn what_was_declared_in_pages_still_counts(fresh: Fresh) {
    fresh.ledger.close().await;
    let pool = migrated_to(7, &fresh.url).await;
    let (open, done) = (UploadId::from_random([7; 24]), UploadId::from_random([8; 24]));
    for (id, state) in [(&open, "open"), (&done, "completed")] {
        let statements = [
            format!(
                "INSERT INTO uploads (id, owner, destination, bucket, name, object_key, part_count, metadata, write_token, \
                 state, created_at, expires_at) VALUES ('{id}', 'alice', 'd', 'b', 'n', 'k', 300, '{{}}', 't', '{state}', 0, 1)"
            ),
            format!(
                "INSERT INTO events (id, upload_id, at, kind, actor, detail) VALUES \
                 ('00000000000{0}0000000000000002', '{id}', 5, 'aborted', 'bob', '{{}}'), \
                 ('00000000000{0}0000000000000001', '{id}', 4, 'created', 'alice', '{{}}')",
                state.len()
            ),
        ];
        for statement in statements {
            pool.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
        }
        for page in [0_u8, 1] {
            let mut digests = vec![0; 256 * 16];
            digests[16 * 9..16 * 10].fill(page + 1);
            sqlx::query("INSERT INTO part_digests (upload_id, page, digests) VALUES ($1, $2, $3)")
                .bind(id.as_str())
                .bind(i64::from(page))
                .bind(digests)
                .execute(&pool)
                .await
                .unwrap();
        }
    }
    pool.close().await;

    let fresh = fresh.reopened().await;
    let declared = [10, 266].map(|number| {
        (
            part(number),
            Md5Digest::from_bytes([u8::try_from(number / 256).unwrap() + 1; 16]),
        )
    });
    assert_eq!(
        fresh.ledger.digests(&open).await.unwrap(),
        declared.into_iter().collect()
    );
    assert_eq!(fresh.ledger.digests(&done).await.unwrap(), Digests::default());
    let trail = fresh.ledger.events(&done, None, 9).await.unwrap();
    let at: Vec<_> = trail
        .iter()
        .map(|event| event.at.unix_timestamp_nanos() / 1_000_000)
        .collect();
    assert_eq!(at, [4, 5]);
    let trail = fresh.ledger.events(&open, None, 9).await.unwrap();
    assert_eq!(trail.len(), 4);
    let after = fresh.ledger.events(&open, Some(&trail[1].id), 9).await.unwrap();
    assert_eq!(after, trail[2..]);
}

async fn what_was_uploaded_before_the_sums_were_kept_counts(fresh: Fresh) {
    fresh.ledger.close().await;
    let pool = migrated_to(9, &fresh.url).await;
    let now = NOW.unix_timestamp() * 1000;
    for (number, state, size, at) in [
        (1, "completed", "30", now),
        (2, "completed", "20", now),
        (3, "completed", "1000", now - 86_400_000),
        (4, "aborted", "NULL", now),
        (5, "open", "NULL", now),
    ] {
        let statement = format!(
            "INSERT INTO uploads (id, owner, grantee, destination, bucket, name, object_key, metadata, write_token, state, \
             created_at, expires_at, object_size, reserved) VALUES ('{}', 'alice', 'alice', 'default', 'b', 'n', 'k', '{{}}', 't', \
             '{state}', {at}, {now} + 1000, {size}, 7)",
            UploadId::from_random([number; 24])
        );
        pool.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    pool.close().await;

    let fresh = fresh.reopened().await;
    let mut connection = fresh.ledger.pool.acquire().await.unwrap();
    let place = ("alice".to_owned(), "default".to_owned());
    let taken = crate::ledger::quota::day_of(&mut connection, &place, NOW)
        .await
        .unwrap();
    assert_eq!(taken.bytes, 30 + 20 + 7);
}
