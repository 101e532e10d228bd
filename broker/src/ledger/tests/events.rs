//! The trail of what happened, and the outbox that is filled with it.

use shared::EventId;
use shared::api::{EventKind, UploadEvent};

use super::*;
use crate::ledger::{Due, Sent};

on_both_databases! {
    an_uploads_whole_life_is_told_in_order_by_whom_and_from_where
    what_does_not_happen_leaves_no_event
    of_many_who_end_an_upload_at_once_one_is_told
    small_files_have_their_events_by_the_hundred
    what_ends_an_upload_is_in_the_outbox_with_its_event_and_gone_once_taken
    without_a_receiver_nothing_is_put_out
    what_is_dead_is_sent_again_when_an_operator_says_so
}

const SECOND: Duration = Duration::from_secs(1);

impl Fresh {
    /// With a receiver that wants to know.
    fn told(mut self) -> Self {
        self.ledger = self.ledger.with_outbox();
        self
    }

    async fn trail(&self, id: &UploadId) -> Vec<UploadEvent> {
        self.ledger.events(id, None, 1000).await.unwrap()
    }

    async fn kinds(&self, id: &UploadId) -> Vec<EventKind> {
        self.trail(id).await.into_iter().map(|event| event.kind).collect()
    }

    async fn due(&self, now: OffsetDateTime) -> Vec<EventId> {
        let due = self.ledger.due(now, 1000).await.unwrap();
        due.into_iter().map(|due| due.id).collect()
    }

    /// An upload of its own.
    async fn another(&self, number: u8) -> UploadId {
        let id = UploadId::from_random([number; 24]);
        let mut asked = grant();
        asked.fingerprint = None;
        assert!(self.admits(&id, &asked).await);
        id
    }
}

async fn an_uploads_whole_life_is_told_in_order_by_whom_and_from_where(fresh: Fresh) {
    let id = UploadId::from_random([7; 24]);
    let declared: Digests = [(part(3), Md5Digest::EMPTY), (part(300), Md5Digest::EMPTY)]
        .into_iter()
        .collect();
    let (ledger, here) = (&fresh.ledger, by());
    let admission = ledger.admit(&id, &grant(), Some("s"), &declared, &here).await.unwrap();
    assert!(admission.is_recorded());
    let session = ledger.find(&id).await.unwrap().unwrap();
    let signed = [2, 1, 3].map(|number| (part(number), None)).into();
    // By a broker whose clock is behind.
    ledger
        .declare(&session, signed, here.clone(), NOW - SECOND)
        .await
        .unwrap();
    let lease = fresh.lease(&id, "first", NOW + SECOND).await;
    let by_address = "2001:db8::1".parse().ok();
    let other = By {
        actor: "bob".to_owned(),
        address: by_address,
    };
    ledger
        .finish(&lease, &object(), &other, NOW + 2 * SECOND)
        .await
        .unwrap();

    let trail = fresh.trail(&id).await;
    let told: Vec<_> = trail.iter().map(|event| (event.kind, event.at - NOW)).collect();
    assert_eq!(
        told,
        [
            (EventKind::Created, time::Duration::ZERO),
            (EventKind::PartsSigned, time::Duration::ZERO),
            (EventKind::PartsSigned, time::Duration::ZERO),
            (EventKind::PartsSigned, -time::Duration::SECOND),
            (EventKind::Completed, 2 * time::Duration::SECOND)
        ]
    );
    let parts = |event: &UploadEvent| (event.detail.parts, event.detail.first_part, event.detail.last_part);
    assert_eq!(trail[0].detail.size, Some(20 * MIB));
    assert_eq!(parts(&trail[1]), (Some(1), Some(part(3)), Some(part(3))));
    assert_eq!(parts(&trail[2]), (Some(1), Some(part(300)), Some(part(300))));
    assert_eq!(parts(&trail[3]), (Some(3), Some(part(1)), Some(part(3))));
    assert_eq!((trail[3].actor.as_str(), trail[3].address), ("alice", here.address));
    assert_eq!((trail[4].actor.as_str(), trail[4].address), ("bob", by_address));
    let told = &trail[4].detail;
    assert_eq!(
        (told.size, told.etag.clone(), told.version_id.clone()),
        (Some(20 * MIB), Some(object().etag), object().version_id)
    );
    let after = ledger.events(&id, Some(&trail[2].id), 1).await.unwrap();
    assert_eq!(after, trail[3..4]);
    assert_eq!(ledger.event(&trail[4].id).await.unwrap(), Some((id, trail[4].clone())));
    assert!(fresh.trail(&UploadId::from_random([8; 24])).await.is_empty());
}

async fn what_does_not_happen_leaves_no_event(fresh: Fresh) {
    use EventKind::{Aborted, Completed, Created, Expired};
    let (ledger, end) = (&fresh.ledger, NOW + Duration::from_hours(1));
    let id = fresh.admit().await;
    let twice = UploadId::from_random([8; 24]);
    assert!(!fresh.admits(&twice, &grant()).await, "there is one for this content");
    assert_eq!(fresh.kinds(&twice).await, []);
    for _ in 0..2 {
        ledger
            .abort(&id, &by(), Some("upload_lost"), NOW + SECOND)
            .await
            .unwrap();
    }
    let session = ledger.find(&id).await.unwrap().unwrap();
    let declared = ledger.declare(&session, vec![(part(1), None)], by(), NOW);
    assert_eq!(declared.await.unwrap(), Declared::NotOpen(UploadState::Aborted));
    assert!(!ledger.expire(&id, end).await.unwrap());
    assert_eq!(fresh.kinds(&id).await, [Created, Aborted]);
    assert_eq!(fresh.trail(&id).await[1].detail.reason.as_deref(), Some("upload_lost"));

    let done = fresh.another(9).await;
    let lease = fresh.lease(&done, "first", NOW).await;
    for _ in 0..2 {
        ledger.finish(&lease, &object(), &by(), NOW + SECOND).await.unwrap();
    }
    ledger.abort(&done, &by(), None, NOW + SECOND).await.unwrap();
    assert_eq!(fresh.kinds(&done).await, [Created, Completed]);

    let late = fresh.another(10).await;
    assert!(!ledger.expire(&late, NOW).await.unwrap(), "not yet");
    assert!(ledger.expire(&late, end).await.unwrap());
    assert!(!ledger.expire(&late, end).await.unwrap(), "once");
    assert_eq!(fresh.kinds(&late).await, [Created, Expired]);
    let event = &fresh.trail(&late).await[1];
    assert_eq!((event.actor.as_str(), event.address), ("sweeper", None));
}

async fn of_many_who_end_an_upload_at_once_one_is_told(fresh: Fresh) {
    let fresh = fresh.told();
    let (id, mut ending) = (fresh.admit().await, tokio::task::JoinSet::new());
    for _ in 0..16 {
        let (ledger, id) = (fresh.ledger.clone(), id.clone());
        ending.spawn(async move { ledger.abort(&id, &by(), None, NOW + SECOND).await.unwrap() });
    }
    let answers = ending.join_all().await;
    assert_eq!(answers, [Some(UploadState::Aborted); 16]);
    assert_eq!(fresh.kinds(&id).await, [EventKind::Created, EventKind::Aborted]);
    assert_eq!(fresh.due(NOW + SECOND).await.len(), 1);
}

async fn small_files_have_their_events_by_the_hundred(fresh: Fresh) {
    use EventKind::{Aborted, Completed, Created};
    let fresh = fresh.told();
    let puts: Vec<_> = (0..1_100_u16)
        .map(|number| {
            let mut upload = grant();
            upload.fingerprint = None;
            let mut random = [0; 24];
            random[..2].copy_from_slice(&number.to_be_bytes());
            let small = SmallGrant {
                upload,
                md5: Md5Digest::EMPTY,
                headers: None,
                url_life: Duration::from_mins(15),
            };
            (UploadId::from_random(random), small)
        })
        .collect();
    fresh.ledger.admit_puts(&puts, &by()).await.unwrap();
    fresh.ledger.abort(&puts[0].0, &by(), None, NOW + SECOND).await.unwrap();
    let object = object();
    let finished: Vec<_> = puts[..700].iter().map(|(id, _)| (id, &object)).collect();
    for _ in 0..2 {
        fresh
            .ledger
            .finish_puts(&finished, &by(), NOW + 2 * SECOND)
            .await
            .unwrap();
    }
    assert_eq!(fresh.kinds(&puts[0].0).await, [Created, Aborted], "it stays aborted");
    assert_eq!(fresh.kinds(&puts[699].0).await, [Created, Completed]);
    assert_eq!(fresh.kinds(&puts[1_099].0).await, [Created]);
    assert_eq!(fresh.due(NOW + 2 * SECOND).await.len(), 700);
}

async fn what_ends_an_upload_is_in_the_outbox_with_its_event_and_gone_once_taken(fresh: Fresh) {
    let fresh = fresh.told();
    let ids = [fresh.another(1).await, fresh.another(2).await, fresh.another(3).await];
    let (ledger, end) = (&fresh.ledger, NOW + Duration::from_hours(1));
    assert_eq!(fresh.due(end).await, [], "nobody is told of what has not ended");
    let lease = fresh.lease(&ids[0], "first", NOW).await;
    ledger.finish(&lease, &object(), &by(), NOW + SECOND).await.unwrap();
    ledger.abort(&ids[1], &by(), None, NOW + 2 * SECOND).await.unwrap();
    ledger.expire(&ids[2], end).await.unwrap();
    tokio::time::timeout(SECOND, ledger.put_out_here())
        .await
        .expect("the bell");

    let fresh = fresh.reopened().await;
    let mut last = Vec::new();
    for id in &ids {
        last.push(fresh.trail(id).await.pop().unwrap().id);
    }
    assert_eq!(fresh.due(end).await, last);
    assert_eq!(fresh.due(NOW + SECOND).await, last[..1], "each in its time");
    let sent = |id: &EventId, sent| {
        let due = Due {
            id: id.clone(),
            attempts: 0,
        };
        (due, sent)
    };
    let later = Sent::Later {
        next_at: end + SECOND,
        error: "answered 500".to_owned(),
    };
    let settled = [sent(&last[0], Sent::Taken), sent(&last[1], later.clone())];
    fresh.ledger.settle(&settled).await.unwrap();
    fresh.ledger.settle(&[sent(&last[1], later)]).await.unwrap();
    assert_eq!(fresh.due(end).await, last[2..]);
    let due = fresh.ledger.due(end + SECOND, 9).await.unwrap();
    let again = Due {
        id: last[1].clone(),
        attempts: 1,
    };
    assert!(due.contains(&again), "two who sent it at once count once: {due:?}");
}

async fn without_a_receiver_nothing_is_put_out(fresh: Fresh) {
    let id = fresh.admit().await;
    fresh.ledger.abort(&id, &by(), None, NOW).await.unwrap();
    assert_eq!(fresh.kinds(&id).await.len(), 2);
    assert_eq!(fresh.due(NOW + Duration::from_hours(99)).await, []);
    assert_eq!(fresh.ledger.deliveries(None, 9).await.unwrap(), []);
}

async fn what_is_dead_is_sent_again_when_an_operator_says_so(fresh: Fresh) {
    let fresh = fresh.told();
    let (ledger, ids) = (&fresh.ledger, [fresh.another(1).await, fresh.another(2).await]);
    for (id, seconds) in ids.iter().zip([1, 2]) {
        ledger.abort(id, &by(), None, NOW + seconds * SECOND).await.unwrap();
    }
    let events = fresh.due(NOW + 2 * SECOND).await;
    let give_up = async || {
        for due in ledger.due(NOW + 2 * SECOND, 9).await.unwrap() {
            let dead = Sent::Dead {
                at: NOW + SECOND,
                error: "answered 410".to_owned(),
            };
            ledger.settle(&[(due, dead)]).await.unwrap();
        }
    };
    give_up().await;
    assert_eq!(fresh.due(NOW + Duration::from_hours(99)).await, []);
    let listed = ledger.deliveries(None, 9).await.unwrap();
    assert_eq!(
        listed.iter().map(|dead| &dead.event_id).collect::<Vec<_>>(),
        events.iter().collect::<Vec<_>>()
    );
    assert_eq!((&listed[0].upload_id, listed[0].kind), (&ids[0], EventKind::Aborted));
    assert_eq!((listed[0].attempts, listed[0].dead_at), (1, Some(NOW + SECOND)));
    assert_eq!(listed[0].last_error.as_deref(), Some("answered 410"));
    assert_eq!(ledger.deliveries(Some(&events[0]), 9).await.unwrap(), listed[1..]);

    assert!(ledger.replay(&events[1], NOW).await.unwrap());
    assert_eq!(ledger.due(NOW, 9).await.unwrap()[0].attempts, 0);
    assert_eq!(fresh.due(NOW).await, events[1..]);
    give_up().await;
    assert_eq!(ledger.replay_dead(NOW).await.unwrap(), 2);
    assert_eq!(fresh.due(NOW).await.len(), 2);

    let taken = Due {
        id: events[0].clone(),
        attempts: 0,
    };
    ledger.settle(&[(taken, Sent::Taken)]).await.unwrap();
    assert!(ledger.replay(&events[0], NOW).await.unwrap(), "also what was taken");
    let created = fresh.trail(&ids[0]).await[0].id.clone();
    assert!(!ledger.replay(&created, NOW).await.unwrap(), "nobody is told of that");
    assert!(!ledger.replay(&EventId::new(1, 1), NOW).await.unwrap());
    assert_eq!(fresh.due(NOW).await.len(), 2);
}

#[tokio::test]
async fn whoever_sends_waits_until_something_is_put_out() {
    let fresh = Fresh::on_sqlite().await.told();
    let put_out = async || tokio::time::timeout(Duration::ZERO, fresh.ledger.put_out_here()).await;
    assert!(put_out().await.is_err());
    let id = fresh.another(1).await;
    assert!(put_out().await.is_err(), "an upload that begins is not told");
    fresh.ledger.abort(&id, &by(), None, NOW).await.unwrap();
    assert!(put_out().await.is_ok());
    assert!(put_out().await.is_err(), "once");
}
