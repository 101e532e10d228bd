//! Limits that count, and credentials that end.

use super::*;
use crate::auth::bearer::{Bearer, Kind};
use crate::auth::scope::Scope;
use crate::auth::ticket::Terms;
use crate::ledger::{Admission, Exceeded, Limit, Quota};
use crate::random::Random;

const DAY: Duration = Duration::from_hours(24);

on_both_databases! {
    open_uploads_are_counted_exactly_however_many_ask_at_once
    bytes_of_a_day_are_set_aside_settled_and_given_back
    an_upload_of_unknown_size_takes_what_is_left
    a_limit_of_the_day_says_how_long_the_day_still_is
    a_ticket_is_good_for_so_many_files_and_bytes_in_all
    small_files_count_with_what_they_came_to
    a_ticket_may_be_limited_in_files_or_in_bytes_alone
    small_files_are_admitted_up_to_the_limit_and_no_further
    a_principal_has_two_tokens_at_once_and_no_more
    t31_what_was_revoked_is_not_found_and_admits_nothing_even_if_it_was_looked_up_before
    a_ticket_is_listed_with_what_it_was_used_for
}

fn grant_with(quota: Quota, size: u64) -> CreateGrant {
    with(grant(), |grant| {
        grant.quota = quota;
        grant.plan = Plan::Sized(shared::PartPlan::for_size(size, None, u64::MAX).unwrap());
        grant.reserved = size;
        grant.fingerprint = None;
    })
}

fn with(mut grant: CreateGrant, change: impl FnOnce(&mut CreateGrant)) -> CreateGrant {
    change(&mut grant);
    grant
}

fn id(number: u8) -> UploadId {
    UploadId::from_random([number; 24])
}

async fn admit(ledger: &Ledger, id: &UploadId, grant: &CreateGrant) -> Admission {
    ledger
        .admit(id, grant, Some("s"), &Digests::default(), &by())
        .await
        .unwrap()
}

async fn open_uploads_are_counted_exactly_however_many_ask_at_once(fresh: Fresh) {
    let quota = Quota {
        open_uploads: Some(5),
        ..Quota::default()
    };
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..24 {
        let (ledger, grant) = (fresh.ledger.clone(), grant_with(quota.clone(), MIB));
        asking.spawn(async move { (number, admit(&ledger, &id(number), &grant).await) });
    }
    let answers = asking.join_all().await;
    let recorded: Vec<_> = answers.iter().filter(|(_, answer)| answer.is_recorded()).collect();
    assert_eq!(recorded.len(), 5);
    let over = Admission::Exceeded(Exceeded {
        limit: Limit::OpenUploads,
        max: 5,
        taken: 5,
        again_in: None,
    });
    assert_eq!(answers.iter().filter(|(_, answer)| *answer == over).count(), 19);

    let first = id(recorded[0].0);
    fresh.ledger.abort(&first, &by(), None, NOW).await.unwrap();
    assert!(
        admit(&fresh.ledger, &id(30), &grant_with(quota.clone(), MIB))
            .await
            .is_recorded()
    );
    // One that has run out holds nothing, recorded or not; another's, and another place's, never did.
    let later = with(grant_with(quota.clone(), MIB), |grant| {
        grant.created_at = NOW + 2 * DAY;
    });
    assert!(admit(&fresh.ledger, &id(31), &later).await.is_recorded());
    let bob = with(grant_with(quota.clone(), MIB), |grant| {
        grant.grantee = "bob".into();
    });
    assert!(admit(&fresh.ledger, &id(32), &bob).await.is_recorded());
    let elsewhere = with(grant_with(quota, MIB), |grant| {
        grant.destination = "elsewhere".into();
    });
    assert!(admit(&fresh.ledger, &id(33), &elsewhere).await.is_recorded());
}

async fn bytes_of_a_day_are_set_aside_settled_and_given_back(fresh: Fresh) {
    let quota = Quota {
        bytes_per_day: Some(10 * MIB),
        ..Quota::default()
    };
    let asked = |size| grant_with(quota.clone(), size);
    assert_eq!(
        admit(&fresh.ledger, &id(1), &asked(6 * MIB)).await,
        Admission::Recorded(6 * MIB)
    );
    let over = Exceeded {
        limit: Limit::BytesPerDay,
        max: 10 * MIB,
        taken: 6 * MIB,
        again_in: Some(86_400),
    };
    assert_eq!(
        admit(&fresh.ledger, &id(2), &asked(5 * MIB)).await,
        Admission::Exceeded(over)
    );
    assert_eq!(fresh.ledger.within_quota(&asked(5 * MIB)).await.unwrap(), Err(over));
    assert!(
        fresh.ledger.find(&id(2)).await.unwrap().is_none(),
        "nothing is recorded"
    );

    // Settled with what it came to.
    let lease = fresh.lease(&id(1), "holder", NOW).await;
    let object = StoredObject {
        size: 4 * MIB,
        ..object()
    };
    fresh.ledger.finish(&lease, &object, &by(), NOW).await.unwrap();
    // Once, however often it is said.
    fresh.ledger.finish(&lease, &object, &by(), NOW).await.unwrap();
    assert!(admit(&fresh.ledger, &id(3), &asked(6 * MIB)).await.is_recorded());
    assert!(!admit(&fresh.ledger, &id(4), &asked(1)).await.is_recorded());
    // Given back.
    fresh.ledger.abort(&id(3), &by(), None, NOW).await.unwrap();
    assert!(admit(&fresh.ledger, &id(5), &asked(6 * MIB)).await.is_recorded());
    let tomorrow = with(asked(10 * MIB), |grant| {
        grant.created_at = NOW + DAY;
    });
    assert!(admit(&fresh.ledger, &id(6), &tomorrow).await.is_recorded());
}

async fn small_files_count_with_what_they_came_to(fresh: Fresh) {
    let quota = Quota {
        bytes_per_day: Some(100),
        ..Quota::default()
    };
    let puts: Vec<_> = (0..4)
        .map(|number| (id(number), small(grant_with(quota.clone(), 30))))
        .collect();
    let answers = fresh.ledger.admit_puts(&puts, &by()).await.unwrap();
    let recorded: Vec<_> = answers.iter().map(|answer| answer.is_recorded()).collect();
    assert_eq!(recorded, [true, true, true, false]);
    let object = StoredObject { size: 30, ..object() };
    let finished = [(&puts[0].0, &object), (&puts[1].0, &object)];
    for _ in 0..2 {
        fresh.ledger.finish_puts(&finished, &by(), NOW).await.unwrap();
    }
    fresh.ledger.abort(&puts[2].0, &by(), None, NOW).await.unwrap();
    let asked = |size| grant_with(quota.clone(), size);
    assert!(!admit(&fresh.ledger, &id(5), &asked(41)).await.is_recorded());
    assert!(admit(&fresh.ledger, &id(6), &asked(40)).await.is_recorded());
}

fn small(upload: CreateGrant) -> SmallGrant {
    SmallGrant {
        upload,
        md5: Md5Digest::EMPTY,
        headers: None,
        url_life: Duration::from_mins(1),
    }
}

async fn a_limit_of_the_day_says_how_long_the_day_still_is(fresh: Fresh) {
    let quota = Quota {
        bytes_per_day: Some(1),
        ..Quota::default()
    };
    let asked = with(grant_with(quota, 2), |grant| {
        grant.created_at = NOW + Duration::from_secs(13 * 3600 + 37 * 60 + 11);
    });
    let Admission::Exceeded(exceeded) = admit(&fresh.ledger, &id(1), &asked).await else {
        panic!("two bytes are more than one");
    };
    assert_eq!(exceeded.again_in, Some(10 * 3600 + 22 * 60 + 49));
}

fn object() -> StoredObject {
    StoredObject {
        etag: ETag::new("\"etag\""),
        size: 1,
        version_id: None,
    }
}

async fn an_upload_of_unknown_size_takes_what_is_left(fresh: Fresh) {
    let quota = Quota {
        bytes_per_day: Some(10 * MIB),
        ..Quota::default()
    };
    admit(&fresh.ledger, &id(1), &grant_with(quota.clone(), 6 * MIB)).await;
    let stream = with(grant_with(quota, MIB), |grant| {
        grant.plan = Plan::Stream(PartSizes::Equal(8 * MIB));
        grant.reserved = 1 << 40;
    });
    assert_eq!(
        admit(&fresh.ledger, &id(2), &stream).await,
        Admission::Recorded(4 * MIB)
    );
    assert_eq!(fresh.ledger.find(&id(2)).await.unwrap().unwrap().reserved, 4 * MIB);
    assert!(
        !admit(&fresh.ledger, &id(3), &stream).await.is_recorded(),
        "nothing is left"
    );
}

async fn a_ticket_is_good_for_so_many_files_and_bytes_in_all(fresh: Fresh) {
    let quota = Quota {
        ticket_files: Some(2),
        ticket_bytes: Some(10),
        ..Quota::default()
    };
    let asked = |size| {
        with(grant_with(quota.clone(), size), |grant| {
            grant.owner = "ticket:1".into();
        })
    };
    let limit = |answer| match answer {
        Admission::Exceeded(exceeded) => exceeded.limit,
        other => panic!("{other:?}"),
    };
    assert!(admit(&fresh.ledger, &id(1), &asked(6)).await.is_recorded());
    assert_eq!(limit(admit(&fresh.ledger, &id(2), &asked(5)).await), Limit::TicketBytes);
    assert!(admit(&fresh.ledger, &id(3), &asked(4)).await.is_recorded());
    assert_eq!(limit(admit(&fresh.ledger, &id(4), &asked(0)).await), Limit::TicketFiles);
    fresh.ledger.abort(&id(1), &by(), None, NOW).await.unwrap();
    let years_later = with(asked(10), |grant| {
        grant.created_at = NOW + 1000 * DAY;
    });
    // The one that was admitted last has run out since, and was never completed.
    assert!(admit(&fresh.ledger, &id(5), &years_later).await.is_recorded());
}

async fn a_ticket_may_be_limited_in_files_or_in_bytes_alone(fresh: Fresh) {
    let files = Quota {
        ticket_files: Some(1),
        ..Quota::default()
    };
    let bytes = Quota {
        ticket_bytes: Some(10),
        ..Quota::default()
    };
    for (number, quota) in [(0, files), (10, bytes)] {
        let asked = with(grant_with(quota, 10), |grant| grant.owner = format!("ticket:{number}"));
        assert!(admit(&fresh.ledger, &id(number), &asked).await.is_recorded());
        assert!(!admit(&fresh.ledger, &id(number + 1), &asked).await.is_recorded());
    }
}

async fn small_files_are_admitted_up_to_the_limit_and_no_further(fresh: Fresh) {
    let quota = Quota {
        open_uploads: Some(3),
        ..Quota::default()
    };
    let puts: Vec<_> = (0..5)
        .map(|number| (id(number), small(grant_with(quota.clone(), 1))))
        .collect();
    let answers = fresh.ledger.admit_puts(&puts, &by()).await.unwrap();
    let recorded: Vec<_> = answers.iter().map(|answer| answer.is_recorded()).collect();
    assert_eq!(recorded, [true, true, true, false, false]);
    assert!(fresh.ledger.find(&id(2)).await.unwrap().is_some());
    assert!(fresh.ledger.find(&id(3)).await.unwrap().is_none());
}

async fn a_principal_has_two_tokens_at_once_and_no_more(fresh: Fresh) {
    let make = || Bearer::make(Kind::Token, &Random::default()).0;
    let (scope, mut asking) = (Scope::default(), tokio::task::JoinSet::new());
    for _ in 0..6 {
        let (ledger, scope, bearer) = (fresh.ledger.clone(), scope.clone(), make());
        asking.spawn(async move {
            let end = Some(NOW + DAY);
            ledger.add_token(&bearer, "alice", &scope, end, NOW).await.unwrap()
        });
    }
    let count = asking.join_all().await.into_iter().filter(|made| *made).count();
    assert_eq!(count, 2);
    assert!(fresh.ledger.add_token(&make(), "bob", &scope, None, NOW).await.unwrap());
    let later = NOW + DAY;
    assert!(
        fresh
            .ledger
            .add_token(&make(), "alice", &scope, None, later)
            .await
            .unwrap(),
        "both have ended"
    );
}

async fn t31_what_was_revoked_is_not_found_and_admits_nothing_even_if_it_was_looked_up_before(fresh: Fresh) {
    let ledger = &fresh.ledger;
    let (token, _) = Bearer::make(Kind::Token, &Random::default());
    assert!(
        ledger
            .add_token(&token, "alice", &Scope::default(), None, NOW)
            .await
            .unwrap()
    );
    let found = ledger.find_token(&token.id).await.unwrap().unwrap();
    assert!(token.is(&found.digest) && found.principal == "alice");
    let credential = format!("token:{}", token.id);
    let asked = with(grant_with(Quota::default(), 1), |grant| {
        grant.credential = Some(credential.clone());
    });
    assert!(admit(ledger, &id(1), &asked).await.is_recorded());

    assert!(ledger.revoke_token(&token.id, NOW).await.unwrap());
    assert!(!ledger.revoke_token(&token.id, NOW).await.unwrap(), "once");
    assert!(ledger.find_token(&token.id).await.unwrap().is_none());
    assert_eq!(admit(ledger, &id(2), &asked).await, Admission::Revoked);
    let opened: Vec<_> = ledger.opened_by(&credential).await.unwrap();
    assert_eq!(opened.iter().map(|session| &session.id).collect::<Vec<_>>(), [&id(1)]);
    assert!(ledger.tokens().await.unwrap()[0].revoked_at.is_some());
}

async fn a_ticket_is_listed_with_what_it_was_used_for(fresh: Fresh) {
    let ledger = &fresh.ledger;
    let (ticket, _) = Bearer::make(Kind::Ticket, &Random::default());
    let terms = Terms {
        id: ticket.id.clone(),
        minted_by: "alice".into(),
        made_with: None,
        roles: vec!["ci".into()],
        destination: "photos".into(),
        max_files: Some(3),
        max_bytes: None,
        max_size: Some(9),
        content_types: vec!["image/*".into()],
        note: Some("for \"bob\"".into()),
        created_at: NOW,
        expires_at: NOW + DAY,
    };
    ledger.add_ticket(&ticket, &terms).await.unwrap();
    let (digest, found) = ledger.find_ticket(&ticket.id).await.unwrap().unwrap();
    assert!(ticket.is(&digest));
    assert_eq!(found, terms);
    let asked = with(grant_with(Quota::default(), 7), |grant| {
        grant.owner = format!("ticket:{}", ticket.id);
        grant.credential = Some(format!("ticket:{}", ticket.id));
    });
    admit(ledger, &id(1), &asked).await;
    let listed = ledger.tickets(Some("alice"), None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].files, listed[0].bytes), (1, 1, 7));
    assert_eq!(ledger.tickets(Some("bob"), None, 10).await.unwrap().len(), 0);
    assert_eq!(ledger.tickets(None, Some(&ticket.id), 10).await.unwrap().len(), 0);
    assert!(ledger.revoke_ticket(&ticket.id, NOW).await.unwrap());
    assert!(ledger.find_ticket(&ticket.id).await.unwrap().is_none());
    assert_eq!(admit(ledger, &id(2), &asked).await, Admission::Revoked);
}
