//! Changes that share a commit.

use super::*;

on_both_databases! {
    a_change_that_is_not_ended_is_undone_alone
    a_change_dropped_at_any_moment_leaves_its_neighbours_whole
}

async fn count(fresh: &Fresh) -> i64 {
    let row = sqlx::query("SELECT COUNT(*) FROM duties").fetch_one(&fresh.ledger.pool);
    sqlx::Row::get(&row.await.unwrap(), 0)
}

async fn add(ledger: &Ledger, name: String, ended: bool) {
    let mut writing = ledger.begin().await.unwrap();
    for half in ["one", "two"] {
        sqlx::query("INSERT INTO duties (name, holder, until) VALUES ($1, 'h', 0)")
            .bind(format!("{name} {half}"))
            .execute(&mut *writing)
            .await
            .unwrap();
    }
    if ended {
        writing.commit().await.unwrap();
    }
}

async fn a_change_that_is_not_ended_is_undone_alone(fresh: Fresh) {
    let mut adding = tokio::task::JoinSet::new();
    for number in 0..30 {
        let ledger = fresh.ledger.clone();
        adding.spawn(async move { add(&ledger, number.to_string(), number % 3 != 0).await });
    }
    adding.join_all().await;
    assert_eq!(count(&fresh).await, 2 * 20);
    let fresh = fresh.reopened().await;
    assert_eq!(count(&fresh).await, 2 * 20);
}

async fn a_change_dropped_at_any_moment_leaves_its_neighbours_whole(fresh: Fresh) {
    let mut adding = tokio::task::JoinSet::new();
    for number in 0..300_u64 {
        let ledger = fresh.ledger.clone();
        adding.spawn(async move {
            let adding = add(&ledger, number.to_string(), true);
            if number % 2 == 0 {
                adding.await;
            } else {
                // Wherever that is: waiting for its turn, in a statement, waiting for the commit.
                _ = tokio::time::timeout(Duration::from_micros(number * 37 % 20_000), adding).await;
            }
        });
    }
    adding.join_all().await;
    let fresh = fresh.reopened().await;
    let halves = count(&fresh).await;
    assert!(halves >= 2 * 150 && halves % 2 == 0, "{halves}");
    for number in (0..300_u64).step_by(2) {
        let row = sqlx::query("SELECT COUNT(*) FROM duties WHERE name LIKE $1").bind(format!("{number} %"));
        let there: i64 = sqlx::Row::get(&row.fetch_one(&fresh.ledger.pool).await.unwrap(), 0);
        assert_eq!(there, 2, "{number} was answered");
    }
}
