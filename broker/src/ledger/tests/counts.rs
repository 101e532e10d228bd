//! What the operator watches is counted, and by indexes alone.

use super::*;
use crate::ledger::{Counts, Sent};

on_both_databases! {
    what_needs_something_yet_is_counted_and_what_is_over_is_not
}

async fn what_needs_something_yet_is_counted_and_what_is_over_is_not(fresh: Fresh) {
    let ledger = fresh.ledger.clone().with_outbox();
    let mut ids = Vec::new();
    for number in 0..7 {
        let id = UploadId::from_random([number; 24]);
        let mut asked = grant();
        asked.fingerprint = None;
        assert!(fresh.admits(&id, &asked).await);
        ids.push(id);
    }
    // Two stay open, one is being completed, one is completed, three are aborted; of those one is cleared.
    fresh.lease(&ids[2], "one", NOW).await;
    let lease = fresh.lease(&ids[3], "two", NOW).await;
    ledger.finish(&lease, &object(), &by(), NOW).await.unwrap();
    for id in &ids[4..] {
        ledger.abort(id, &by(), None, NOW).await.unwrap();
    }
    ledger.cleared(&ids[4], NOW).await.unwrap();
    // Of four endings to be told, one is taken and one given up.
    let due = ledger.due(NOW, 9).await.unwrap();
    let error = String::new();
    let settled = [
        (due[0].clone(), Sent::Taken),
        (due[1].clone(), Sent::Dead { at: NOW, error }),
    ];
    ledger.settle(&settled).await.unwrap();

    let counts = ledger.counts().await.unwrap();

    let expected = Counts {
        open: 2,
        completing: 1,
        clearing: 2,
        pending: 2,
        dead: 1,
    };
    assert_eq!(counts, expected);
}

#[tokio::test]
async fn connections_in_use_are_told_from_idle_ones() {
    let fresh = Fresh::on_sqlite().await;
    let mut in_use = Vec::new();
    for count in 1..=3 {
        in_use.push(fresh.ledger.pool.acquire().await.unwrap());
        let (idle, open, max) = fresh.ledger.connections();
        assert!(idle + count <= open && open <= max, "{count}: {idle} {open} {max}");
    }
}

#[tokio::test]
async fn no_count_reads_all_uploads() {
    let fresh = Fresh::on_sqlite().await;
    let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", Counts::STATEMENT)))
        .fetch_all(&fresh.ledger.pool)
        .await
        .unwrap();
    let steps: Vec<String> = plan.iter().map(|row| sqlx::Row::get(row, "detail")).collect();
    let of_uploads: Vec<_> = steps.iter().filter(|step| step.contains("uploads")).collect();
    assert_eq!(of_uploads.len(), 3, "{steps:?}");
    for step in of_uploads {
        assert!(
            step.contains("(state=?)") || step.contains("uploads_to_clear"),
            "{steps:?}"
        );
    }
}
