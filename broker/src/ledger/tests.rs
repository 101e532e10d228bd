//! What every ledger has to do, whatever database is behind it.

#[path = "../../../tests/harness/postgres.rs"]
mod postgres;

use std::time::Duration;

use shared::api::{CreateUpload, UploadState};
use shared::{ETag, MIB, Md5Digest, PartNumber, PartSizes, UploadId};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::{
    By, Declared, Digests, Duty, GivenBack, Lease, LeaseOutcome, Ledger, Plan, Session, StoredObject, sqlite_url,
};
use crate::policy::{CreateGrant, Destination, Grantee, Policy, Right, Rule, RuleLimits, SmallGrant, UploadRandom};
use crate::principal::Principal;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// Makes each of these a test on either database.
macro_rules! on_both_databases {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::on_sqlite().await).await; })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Fresh::on_postgres().await).await; })*
        }
    };
}

mod beside;
mod counts;
mod events;
mod limits;
mod migrating;
mod opening;
mod writing;

on_both_databases! {
    what_was_admitted_is_found_again_after_a_restart
    every_kind_of_plan_is_found_as_it_was_recorded
    an_upload_is_resumed_only_by_its_owner_for_the_same_content_and_in_time
    of_many_who_begin_one_upload_at_once_one_does_and_the_next_can_once_it_has_ended
    one_lease_at_a_time_until_it_runs_out
    of_many_who_ask_at_once_one_gets_the_lease
    a_lease_given_back_leaves_the_upload_open_and_one_left_unknown_does_not
    a_finished_upload_stays_finished
    an_aborted_or_expired_upload_is_not_completed
    windows_declared_at_once_lose_nothing
    a_turn_is_one_brokers_until_it_runs_out_or_is_ended
    what_ended_is_to_be_cleared_until_it_is
    nothing_is_declared_for_an_upload_that_is_not_open
    what_is_recalled_is_as_admitted
    small_files_are_admitted_and_finished_by_the_hundred
    what_is_declared_at_once_with_an_upload_is_all_there
    a_principal_sees_its_own_open_uploads
}

/// A new ledger.
struct Fresh {
    ledger: Ledger,
    url: String,
    /// Where a SQLite file is, until it goes with this.
    dir: Option<TempDir>,
}

impl Fresh {
    async fn on_sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = sqlite_url(&dir.path().join("ledger.db"));
        Self::at(url, Some(dir)).await
    }

    async fn on_postgres() -> Self {
        Self::at(postgres::postgres_database().await, None).await
    }

    async fn at(url: String, dir: Option<TempDir>) -> Self {
        let ledger = Ledger::open(&url).await.unwrap();
        Self { ledger, url, dir }
    }

    /// As after a restart of the broker.
    async fn reopened(self) -> Self {
        self.ledger.close().await;
        Self::at(self.url, self.dir).await
    }

    /// As when the time of the upload's lease has passed.
    async fn run_out(&self, id: &UploadId) {
        sqlx::query("UPDATE uploads SET lease_until = 0 WHERE id = $1 AND lease_until IS NOT NULL")
            .bind(id.as_str())
            .execute(&self.ledger.pool)
            .await
            .unwrap();
    }

    async fn admit(&self) -> UploadId {
        let id = UploadId::from_random([7; 24]);
        assert!(self.admits(&id, &grant()).await);
        id
    }

    async fn admits(&self, id: &UploadId, grant: &CreateGrant) -> bool {
        let none = Digests::default();
        self.ledger
            .admit(id, grant, Some("store-id"), &none, &by())
            .await
            .unwrap()
            .is_recorded()
    }

    async fn lease(&self, id: &UploadId, holder: &str, now: OffsetDateTime) -> Lease {
        match self.ledger.take_lease(id, holder, None, now).await.unwrap() {
            LeaseOutcome::Taken(lease) => lease,
            other => panic!("no lease for {holder}: {other:?}"),
        }
    }
}

fn grant() -> CreateGrant {
    let policy = Policy {
        destinations: vec![Destination {
            name: "default".into(),
            bucket: "uploads".into(),
            bucket_id: "0".repeat(16),
            key_template: "{name}".parse().unwrap(),
            acls: Vec::new(),
            content_types: Vec::new(),
            serve_active_content: false,
            max_size: shared::plan::MAX_OBJECT_SIZE,
            max_parts: shared::PartNumber::MAX,
            max_metadata: 2000,
            url_life: Duration::from_mins(15),
            max_url_life: Duration::from_hours(1),
            upload_life: Duration::from_hours(1),
            overwrite: None,
            finish_abandoned: false,
        }],
        rules: vec![Rule {
            to: vec![Grantee::Everybody],
            destinations: Vec::new(),
            may: vec![Right::Upload],
            limits: RuleLimits::default(),
        }],
        zero_byte_part: true,
        single_put: true,
        equal_parts: false,
    };
    let request = CreateUpload {
        name: "a/b.bin".into(),
        size: Some(20 * MIB),
        content_type: Some("text/plain".into()),
        metadata: [("colour".to_owned(), "blue".to_owned())].into_iter().collect(),
        fingerprint: Some("print".into()),
        ..CreateUpload::default()
    };
    policy
        .admit_create(
            &alice(),
            request,
            NOW,
            UploadRandom {
                uuid: [1; 16],
                token: [2; 16],
            },
        )
        .unwrap()
}

fn by() -> By {
    By {
        actor: "alice".to_owned(),
        address: Some([192, 0, 2, 7].into()),
    }
}

fn alice() -> Principal {
    Principal::named("alice")
}

fn object() -> StoredObject {
    StoredObject {
        etag: ETag::new("\"e-3\""),
        size: 20 * MIB,
        version_id: Some("v1".into()),
    }
}

fn part(number: u64) -> PartNumber {
    number.try_into().unwrap()
}

async fn what_was_admitted_is_found_again_after_a_restart(fresh: Fresh) {
    let id = fresh.admit().await;
    let fresh = fresh.reopened().await;
    let session = fresh.ledger.find(&id).await.unwrap().unwrap();
    assert_eq!(
        session,
        Session::admitted(id.clone(), &grant(), 20 * MIB, Some("store-id".into())),
        "as it was recorded"
    );
    assert_eq!(session.owner, alice().name());
    assert_eq!((session.name.as_str(), session.key.as_str()), ("a/b.bin", "a/b.bin"));
    assert_eq!(session.store_upload_id.as_deref(), Some("store-id"));
    assert_eq!(session.plan, grant().plan);
    assert_eq!(session.metadata, grant().metadata);
    assert_eq!(session.write_token, "02".repeat(16));
    assert_eq!(session.state, UploadState::Open);
    assert_eq!(session.expires_at, NOW + Duration::from_hours(1));
    assert!(
        fresh
            .ledger
            .find(&UploadId::from_random([8; 24]))
            .await
            .unwrap()
            .is_none()
    );
}

async fn every_kind_of_plan_is_found_as_it_was_recorded(fresh: Fresh) {
    for (at, plan) in [
        grant().plan,
        Plan::Stream(PartSizes::Equal(5 * MIB)),
        Plan::Stream(PartSizes::Growing),
        Plan::Counted { part_count: 7 },
    ]
    .into_iter()
    .enumerate()
    {
        let id = UploadId::from_random([u8::try_from(at).unwrap(); 24]);
        let mut asked = grant();
        (asked.plan, asked.fingerprint) = (plan, None);
        assert!(fresh.admits(&id, &asked).await);
        assert_eq!(fresh.ledger.find(&id).await.unwrap().unwrap().plan, plan);
    }
}

async fn an_upload_is_resumed_only_by_its_owner_for_the_same_content_and_in_time(fresh: Fresh) {
    let id = fresh.admit().await;
    let find = async |asked: &CreateGrant, now| {
        let found = fresh.ledger.find_resumable(asked, now).await.unwrap();
        found.map(|session| session.id)
    };
    assert_eq!(find(&grant(), NOW).await, Some(id));
    assert_eq!(find(&grant(), NOW + Duration::from_hours(1)).await, None);
    let change: [fn(&mut CreateGrant); 6] = [
        |grant| grant.owner = "bob".to_owned(),
        |grant| grant.fingerprint = Some("other".into()),
        |grant| grant.fingerprint = None,
        |grant| grant.content_type = None,
        |grant| grant.metadata.clear(),
        |grant| grant.plan = Plan::Stream(PartSizes::Equal(5 * MIB)),
    ];
    for (at, change) in change.iter().enumerate() {
        let mut asked = grant();
        change(&mut asked);
        assert_eq!(find(&asked, NOW).await, None, "change {at}");
    }
}

async fn of_many_who_begin_one_upload_at_once_one_does_and_the_next_can_once_it_has_ended(fresh: Fresh) {
    let mut beginning = tokio::task::JoinSet::new();
    for number in 0..16 {
        let ledger = fresh.ledger.clone();
        beginning.spawn(async move {
            let id = UploadId::from_random([number; 24]);
            let recorded = ledger
                .admit(&id, &grant(), None, &Digests::default(), &by())
                .await
                .unwrap();
            recorded.is_recorded().then_some(id)
        });
    }
    let recorded: Vec<_> = beginning.join_all().await.into_iter().flatten().collect();
    let [first] = recorded.as_slice() else {
        panic!("recorded: {recorded:?}");
    };
    assert_eq!(
        fresh.ledger.find_resumable(&grant(), NOW).await.unwrap().unwrap().id,
        *first
    );

    let (second, third) = (UploadId::from_random([20; 24]), UploadId::from_random([21; 24]));
    fresh.ledger.abort(first, &by(), None, NOW).await.unwrap();
    assert!(fresh.admits(&second, &grant()).await, "after an abort");
    let mut later = grant();
    later.created_at = NOW + Duration::from_hours(1);
    assert!(fresh.admits(&third, &later).await, "after the end of its life");
}

async fn one_lease_at_a_time_until_it_runs_out(fresh: Fresh) {
    let id = fresh.admit().await;
    let first = fresh.lease(&id, "first", NOW).await;
    assert!(!first.outcome_unknown);
    assert!(matches!(
        fresh.ledger.take_lease(&id, "second", None, NOW).await.unwrap(),
        LeaseOutcome::Busy
    ));

    fresh.run_out(&id).await;
    assert!(fresh.ledger.renew_lease(&first, NOW).await.unwrap());
    assert!(matches!(
        fresh.ledger.take_lease(&id, "second", None, NOW).await.unwrap(),
        LeaseOutcome::Busy
    ));

    fresh.run_out(&id).await;
    let second = fresh.lease(&id, "second", NOW).await;
    assert!(second.outcome_unknown, "the first holder may have had the parts joined");
    assert!(!fresh.ledger.renew_lease(&first, NOW).await.unwrap());
    assert!(
        fresh.ledger.give_back(&first, NOW).await.unwrap() == GivenBack::NotHeld,
        "what was taken over cannot be given back"
    );
}

async fn of_many_who_ask_at_once_one_gets_the_lease(fresh: Fresh) {
    let id = fresh.admit().await;
    let mut asking = tokio::task::JoinSet::new();
    for holder in 0..32 {
        let (ledger, id) = (fresh.ledger.clone(), id.clone());
        asking.spawn(async move { ledger.take_lease(&id, &holder.to_string(), None, NOW).await.unwrap() });
    }
    let outcomes = asking.join_all().await;
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, LeaseOutcome::Taken(_)))
            .count(),
        1
    );
}

async fn a_lease_given_back_leaves_the_upload_open_and_one_left_unknown_does_not(fresh: Fresh) {
    let id = fresh.admit().await;
    let lease = fresh.lease(&id, "first", NOW).await;
    assert_eq!(fresh.ledger.give_back(&lease, NOW).await.unwrap(), GivenBack::Open);
    assert_eq!(fresh.ledger.find(&id).await.unwrap().unwrap().state, UploadState::Open);

    let lease = fresh.lease(&id, "second", NOW).await;
    assert!(!lease.outcome_unknown);
    fresh.run_out(&id).await;
    assert!(fresh.ledger.leave_unknown(&lease, NOW).await.unwrap());
    assert_eq!(
        fresh.ledger.abort(&id, &by(), None, NOW).await.unwrap(),
        Some(UploadState::Completing),
        "no abort while unknown"
    );
    assert!(
        matches!(
            fresh.ledger.take_lease(&id, "third", None, NOW).await.unwrap(),
            LeaseOutcome::Busy
        ),
        "quiet first"
    );
    fresh.run_out(&id).await;
    assert!(fresh.lease(&id, "third", NOW).await.outcome_unknown);
}

async fn a_finished_upload_stays_finished(fresh: Fresh) {
    let id = fresh.admit().await;
    let lease = fresh.lease(&id, "first", NOW).await;
    fresh.ledger.finish(&lease, &object(), &by(), NOW).await.unwrap();
    let session = fresh.ledger.find(&id).await.unwrap().unwrap();
    assert_eq!(
        (session.state, session.object),
        (UploadState::Completed, Some(object()))
    );
    assert_eq!(
        fresh.ledger.abort(&id, &by(), None, NOW).await.unwrap(),
        Some(UploadState::Completed)
    );
    let again = fresh.ledger.take_lease(&id, "second", None, NOW).await.unwrap();
    assert!(matches!(again, LeaseOutcome::Ended(UploadState::Completed)));
}

async fn an_aborted_or_expired_upload_is_not_completed(fresh: Fresh) {
    let id = fresh.admit().await;
    let late = fresh
        .ledger
        .take_lease(&id, "late", None, NOW + Duration::from_hours(1))
        .await
        .unwrap();
    assert!(matches!(late, LeaseOutcome::Ended(UploadState::Expired)));
    assert_eq!(
        fresh.ledger.abort(&id, &by(), None, NOW).await.unwrap(),
        Some(UploadState::Aborted)
    );
    assert_eq!(
        fresh.ledger.abort(&id, &by(), None, NOW).await.unwrap(),
        Some(UploadState::Aborted)
    );
    let lease = fresh.ledger.take_lease(&id, "first", None, NOW).await.unwrap();
    assert!(matches!(lease, LeaseOutcome::Ended(UploadState::Aborted)));
}

async fn windows_declared_at_once_lose_nothing(fresh: Fresh) {
    let id = fresh.admit().await;
    let digest = |number: u64| Md5Digest::from_bytes([u8::try_from(number % 255).unwrap() + 1; 16]);
    let session = fresh.ledger.find(&id).await.unwrap().unwrap();
    let mut declaring = tokio::task::JoinSet::new();
    for window in 0..40_u64 {
        let (ledger, session) = (fresh.ledger.clone(), session.clone());
        let window = (window * 16 + 1..=window * 16 + 16)
            .map(|number| (part(number), Some(digest(number))))
            .collect();
        declaring.spawn(async move { ledger.declare(&session, window, by(), NOW).await.unwrap() });
    }
    declaring.join_all().await;
    fresh
        .ledger
        .declare(&session, vec![(part(5), Some(Md5Digest::EMPTY))], by(), NOW)
        .await
        .unwrap();

    let declared = fresh.ledger.digests(&id).await.unwrap();
    assert_eq!(declared.get(part(5)), Some(Md5Digest::EMPTY), "the last word counts");
    for number in (1..=640).filter(|number| *number != 5) {
        assert_eq!(declared.get(part(number)), Some(digest(number)), "part {number}");
    }
    assert_eq!(declared.get(part(641)), None);
}

async fn a_turn_is_one_brokers_until_it_runs_out_or_is_ended(fresh: Fresh) {
    let take = async |holder, now| fresh.ledger.take_turn(Duty::Sweep, holder, now).await.unwrap();
    assert!(take("first", NOW).await);
    assert!(!take("second", NOW).await);
    let other = fresh.ledger.take_turn(Duty::Deliver, "second", NOW).await;
    assert!(other.unwrap(), "each duty has its own");
    assert!(take("first", NOW).await, "it may go on");
    sqlx::query("UPDATE duties SET until = 0")
        .execute(&fresh.ledger.pool)
        .await
        .unwrap();
    assert!(take("second", NOW).await);
    fresh.ledger.end_turn(Duty::Sweep, "first").await.unwrap();
    assert!(!take("first", NOW).await, "another's turn is not ended");
    fresh.ledger.end_turn(Duty::Sweep, "second").await.unwrap();
    assert!(take("first", NOW).await);
}

async fn small_files_are_admitted_and_finished_by_the_hundred(fresh: Fresh) {
    let puts: Vec<_> = (0..1_200_u16)
        .map(|number| {
            let mut upload = grant();
            (upload.fingerprint, upload.write_token) = (None, number.to_string());
            let mut random = [0; 24];
            random[..2].copy_from_slice(&number.to_be_bytes());
            let md5 = Md5Digest::from_bytes([u8::try_from(number % 251).unwrap(); 16]);
            let headers = None;
            let small = SmallGrant {
                upload,
                md5,
                headers,
                url_life: Duration::from_mins(15),
            };
            (UploadId::from_random(random), small)
        })
        .collect();
    fresh.ledger.admit_puts(&puts, &by()).await.unwrap();
    let ids: Vec<_> = puts.iter().map(|(id, _)| id.clone()).collect();
    let object = object();
    let finished: Vec<_> = ids.iter().take(700).map(|id| (id, &object)).collect();
    fresh.ledger.finish_puts(&finished, &by(), NOW).await.unwrap();

    let found = fresh.ledger.find_all(&ids).await.unwrap();
    assert_eq!(found.len(), ids.len());
    for session in found {
        let place = ids.iter().position(|id| *id == session.id).unwrap();
        assert_eq!(session.write_token, place.to_string());
        assert_eq!(session.put_md5, Some(puts[place].1.md5));
        let done = (UploadState::Completed, Some(object.clone()));
        let expected = if place < 700 { done } else { (UploadState::Open, None) };
        assert_eq!((session.state, session.object), expected, "{place}");
    }
}

async fn what_is_declared_at_once_with_an_upload_is_all_there(fresh: Fresh) {
    let id = UploadId::from_random([7; 24]);
    let declared: Digests = (1..=10_000)
        .map(|number| {
            (
                part(number),
                Md5Digest::from_bytes([u8::try_from(number % 250).unwrap() + 1; 16]),
            )
        })
        .collect();
    let admission = fresh.ledger.admit(&id, &grant(), None, &declared, &by()).await.unwrap();
    assert!(admission.is_recorded());
    assert_eq!(fresh.ledger.digests(&id).await.unwrap(), declared);
}

async fn a_principal_sees_its_own_open_uploads(fresh: Fresh) {
    let id = fresh.admit().await;
    let see = async |who: &str, now| fresh.ledger.open_uploads(who, None, 9, now).await.unwrap();
    assert_eq!(see("alice", NOW).await.len(), 1);
    assert_eq!(see("bob", NOW).await.len(), 0);
    assert_eq!(see("alice", NOW + Duration::from_hours(1)).await.len(), 0);
    let lease = fresh.lease(&id, "first", NOW).await;
    fresh.ledger.finish(&lease, &object(), &by(), NOW).await.unwrap();
    let sizes = fresh
        .ledger
        .part_sizes("uploads", &grant().key, &object().etag)
        .await
        .unwrap();
    assert_eq!(sizes, grant().plan.part_size().map(PartSizes::Equal));
}

async fn nothing_is_declared_for_an_upload_that_is_not_open(fresh: Fresh) {
    let id = fresh.admit().await;
    let (ledger, session) = (&fresh.ledger, fresh.ledger.find(&id).await.unwrap().unwrap());
    let declare = async |session: &Session, now| {
        let parts = vec![(part(1), Some(Md5Digest::EMPTY))];
        ledger.declare(session, parts, by(), now).await.unwrap()
    };
    let mut other = session.clone();
    other.id = UploadId::from_random([8; 24]);
    assert_eq!(declare(&other, NOW).await, Declared::Unknown);
    let end = NOW + Duration::from_hours(1);
    assert_eq!(declare(&session, end).await, Declared::NotOpen(UploadState::Expired));
    let lease = fresh.lease(&id, "first", NOW).await;
    assert_eq!(declare(&session, NOW).await, Declared::NotOpen(UploadState::Completing));
    assert!(ledger.begin_again(&lease, "store-id", "another").await.unwrap());
    assert!(
        !ledger.begin_again(&lease, "store-id", "a third").await.unwrap(),
        "once for one loss"
    );
    assert_eq!(ledger.give_back(&lease, NOW).await.unwrap(), GivenBack::Open);
    assert_eq!(declare(&session, NOW).await, Declared::BegunAgain);
    assert_eq!(ledger.digests(&id).await.unwrap(), Digests::default());
    let session = ledger.recall(&id).await.unwrap().unwrap();
    assert_eq!(session.store_upload_id.as_deref(), Some("another"));
    assert_eq!(declare(&session, NOW).await, Declared::Recorded);
    assert_eq!(ledger.digests(&id).await.unwrap().get(part(1)), Some(Md5Digest::EMPTY));
}

async fn what_is_recalled_is_as_admitted(fresh: Fresh) {
    let id = fresh.admit().await;
    for _ in 0..2 {
        let recalled = fresh.ledger.recall(&id).await.unwrap().unwrap();
        assert_eq!(*recalled, fresh.ledger.find(&id).await.unwrap().unwrap());
    }
    fresh.ledger.abort(&id, &by(), None, NOW).await.unwrap();
    let recalled = fresh.ledger.recall(&id).await.unwrap().unwrap();
    assert_eq!(
        recalled.state,
        UploadState::Aborted,
        "what this broker ended it no longer takes for open"
    );
    assert!(
        fresh
            .ledger
            .recall(&UploadId::from_random([8; 24]))
            .await
            .unwrap()
            .is_none()
    );
}

async fn what_ended_is_to_be_cleared_until_it_is(fresh: Fresh) {
    let ledger = &fresh.ledger;
    let (mut ids, end) = (Vec::new(), NOW + Duration::from_hours(1));
    // Ids whose order is the same in every collation.
    for number in [0, 8, 16] {
        let id = UploadId::from_random([number; 24]);
        let mut asked = grant();
        asked.fingerprint = None;
        assert!(fresh.admits(&id, &asked).await);
        ids.push(id);
    }
    let on = async |sessions: Result<Vec<Session>, _>| {
        let sessions: Vec<Session> = sessions.unwrap();
        sessions.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    ledger.abort(&ids[0], &by(), None, NOW).await.unwrap();
    assert_eq!(on(ledger.run_out_by(end, None, 9).await).await, ids[1..]);
    assert_eq!(on(ledger.run_out_by(end, Some(&ids[1]), 9).await).await, ids[2..]);
    assert!(!ledger.expire(&ids[1], NOW).await.unwrap(), "not yet");
    assert!(ledger.expire(&ids[1], end).await.unwrap());
    assert!(!ledger.expire(&ids[1], end).await.unwrap(), "once");
    assert_eq!(ledger.find(&ids[1]).await.unwrap().unwrap().state, UploadState::Expired);

    assert_eq!(on(ledger.to_clear(NOW, None, 9).await).await, ids[..1]);
    assert_eq!(on(ledger.to_clear(end, None, 9).await).await, ids[..2]);
    ledger.cleared(&ids[0], end).await.unwrap();
    assert_eq!(on(ledger.to_clear(end, None, 9).await).await, ids[1..2]);
    assert_eq!(on(ledger.all_open(None, 9).await).await, ids[2..]);
    let known = ledger.known("uploads", &[&grant().key]).await.unwrap();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), ["store-id"]);
}

#[tokio::test]
async fn brokers_whose_clocks_differ_agree_when_a_lease_runs_out() {
    let fresh = Fresh::on_postgres().await;
    let id = fresh.admit().await;
    let lease = fresh.lease(&id, "slow clock", NOW).await;
    let years = Duration::from_hours(90 * 366 * 24);
    let fast = fresh.ledger.take_lease(&id, "fast clock", None, NOW + years).await;
    assert!(matches!(fast.unwrap(), LeaseOutcome::Busy));
    assert!(fresh.ledger.stranded(NOW + years, None, 9).await.unwrap().is_empty());
    assert!(fresh.ledger.take_turn(Duty::Sweep, "slow clock", NOW).await.unwrap());
    assert!(
        !fresh
            .ledger
            .take_turn(Duty::Sweep, "fast clock", NOW + years)
            .await
            .unwrap()
    );
    assert!(fresh.ledger.renew_lease(&lease, NOW).await.unwrap());
    fresh.run_out(&id).await;
    assert_eq!(fresh.ledger.stranded(NOW, None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_url_that_is_no_ledger_is_refused_without_its_password() {
    let error = Ledger::open("mysql://user:hunter2@host/db")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("mysql") && !error.contains("hunter2"), "{error}");
}
