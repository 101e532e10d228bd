//! What one broker does while another one on the same ledger is at it.

use super::*;
use crate::auth::bearer::{Bearer, Kind};
use crate::auth::scope::Scope;
use crate::ledger::GivenBack;
use crate::random::Random;

on_both_databases! {
    what_another_broker_has_changed_is_recalled_once_declaring_has_told_of_it
    what_is_open_is_recalled_from_memory_and_what_is_being_completed_is_not
    whoever_revokes_a_credential_waits_for_the_upload_that_it_is_admitting
    an_upload_is_not_ended_between_the_look_at_it_and_the_record_of_what_is_declared
    a_lease_lasts_as_long_as_it_says
}

impl Fresh {
    /// Another broker's.
    async fn beside(&self) -> Ledger {
        Ledger::open(&self.url).await.unwrap()
    }
}

/// Whether this is not done before something else is.
async fn waits<T>(task: &mut tokio::task::JoinHandle<T>) -> bool {
    tokio::time::timeout(Duration::from_millis(300), task).await.is_err()
}

async fn what_another_broker_has_changed_is_recalled_once_declaring_has_told_of_it(fresh: Fresh) {
    let (id, ledger) = (fresh.admit().await, &fresh.ledger);
    let recalled = ledger.recall(&id).await.unwrap().unwrap();
    let other = fresh.beside().await;
    other.abort(&id, &by(), None, NOW).await.unwrap();
    let told = ledger.declare(&recalled, vec![(part(1), None)], by(), NOW).await;
    assert_eq!(told.unwrap(), Declared::NotOpen(UploadState::Aborted));
    let recalled = ledger.recall(&id).await.unwrap().unwrap();
    assert_eq!(recalled.state, UploadState::Aborted);
}

async fn what_is_open_is_recalled_from_memory_and_what_is_being_completed_is_not(fresh: Fresh) {
    let (id, ledger) = (fresh.admit().await, &fresh.ledger);
    let other = fresh.beside().await;
    let recall = async || ledger.recall(&id).await.unwrap().map(|session| session.state);
    let LeaseOutcome::Taken(lease) = other.take_lease(&id, "other", None, NOW).await.unwrap() else {
        panic!("nobody else is at it");
    };
    assert_eq!(recall().await, Some(UploadState::Completing));
    assert_eq!(other.give_back(&lease, NOW).await.unwrap(), GivenBack::Open);
    assert_eq!(recall().await, Some(UploadState::Open));
    ledger.close().await;
    assert_eq!(recall().await, Some(UploadState::Open), "without asking the database");
}

async fn whoever_revokes_a_credential_waits_for_the_upload_that_it_is_admitting(fresh: Fresh) {
    let (token, _) = Bearer::make(Kind::Token, &Random::default());
    let scope = Scope::default();
    assert!(
        fresh
            .ledger
            .add_token(&token, "alice", &scope, None, NOW)
            .await
            .unwrap()
    );
    let mut asked = grant();
    asked.credential = Some(format!("token:{}", token.id));
    // As far as an admission is when it has seen that the token holds.
    let mut admitting = fresh.ledger.begin().await.unwrap();
    assert!(
        fresh
            .ledger
            .holds(&mut admitting, asked.credential.as_deref())
            .await
            .unwrap()
    );
    let other = fresh.beside().await;
    let mut revoking = tokio::spawn(async move { other.revoke_token(&token.id, NOW).await.unwrap() });
    assert!(waits(&mut revoking).await, "and then finds the upload");
    admitting.commit().await.unwrap();
    assert!(revoking.await.unwrap());
}

async fn an_upload_is_not_ended_between_the_look_at_it_and_the_record_of_what_is_declared(fresh: Fresh) {
    let id = fresh.admit().await;
    let mut declaring = fresh.ledger.begin().await.unwrap();
    let named = [(id.as_str(), NOW)].into_iter().collect();
    let standing = fresh.ledger.states(&mut declaring, &named).await.unwrap();
    assert_eq!(standing.len(), 1);
    let (other, ended) = (fresh.beside().await, id.clone());
    let mut ending = tokio::spawn(async move { other.abort(&ended, &by(), None, NOW).await.unwrap() });
    assert!(waits(&mut ending).await);
    declaring.commit().await.unwrap();
    assert_eq!(ending.await.unwrap(), Some(UploadState::Aborted));
}

async fn a_lease_lasts_as_long_as_it_says(fresh: Fresh) {
    let (id, now) = (UploadId::from_random([7; 24]), OffsetDateTime::now_utc());
    let mut asked = grant();
    asked.expires_at = now + Duration::from_hours(1);
    assert!(fresh.admits(&id, &asked).await);
    fresh.lease(&id, "holder", now).await;
    let row = sqlx::query("SELECT lease_until FROM uploads WHERE id = $1")
        .bind(id.as_str())
        .fetch_one(&fresh.ledger.pool)
        .await
        .unwrap();
    // The server goes by the clock of this machine.
    let left = crate::ledger::instant(sqlx::Row::get(&row, 0)).unwrap() - now;
    let expected = Lease::LIFE * 9 / 10..Lease::LIFE * 3 / 2;
    assert!(expected.contains(&left.unsigned_abs()), "{left}");
}
