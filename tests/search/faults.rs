//! The faults by their rows, each as the shortest history that shows it: what the search finds by chance is here on purpose.

use std::collections::HashSet;

use broker::complete::{Asker, Completion, complete_here};
use broker::error::ApiError;
use shared::PartNumber;
use store::fault::{complete, head, list_parts};
use store::{Fault, Garbled, When};

use crate::client::client;
use crate::history::{Call, Kind, Operation, Scenario, Shape};
use crate::run::{Run, World};

pub(crate) const COMPLETE: Operation = Operation::Complete { upload: 0, broker: 0 };

/// One upload of so many parts, all sent, whose client asks again for as long as it is told to.
pub(crate) fn upload_of(parts: u16, operations: Vec<Operation>) -> Scenario {
    Scenario {
        etags_are_md5s: true,
        page: 0,
        uploads: vec![Shape {
            kind: Kind::Form,
            parts,
            declares: true,
            same_key: false,
            sent: true,
            persists: true,
            begins: None,
        }],
        storm: 0,
        operations,
    }
}

pub(crate) fn fails(fault: Fault, when: When) -> Operation {
    let at = Call { when };
    Operation::Fails { fault, at }
}

/// Runs one history in a world of its own; fails the test if the model objects.
pub(crate) async fn holds(scenario: Scenario) {
    let told = format!("{scenario:?}");
    let outcome = World::start().await.run(0, &scenario).await;
    assert_eq!(outcome, Ok(()), "{told}");
}

/// The same up to where its uploads have been sent.
pub(crate) async fn begun<'a>(world: &'a World, scenario: &'a Scenario) -> Run<'a> {
    let mut run = Run::begin(world, 0, scenario).await;
    run.set_up().await.unwrap();
    run
}

#[tokio::test]
async fn f01_f02_whatever_comes_for_an_answer_to_complete_success_is_told_of_the_object_alone() {
    let bodies = [
        Garbled::Error,
        Garbled::Empty,
        Garbled::Html,
        Garbled::SpaceBefore,
        Garbled::CutAt(0),
        Garbled::CutAt(1),
        Garbled::CutAt(150),
    ];
    let mut faults = vec![Fault::CutConnection, Fault::CutAfterEffect];
    faults.extend(bodies.map(|answer| Fault::Garbled { answer, done: false }));
    faults.extend(bodies.map(|answer| Fault::Garbled { answer, done: true }));
    assert_eq!(faults.len(), 16);
    for fault in faults {
        holds(upload_of(2, vec![fails(fault, complete()), COMPLETE])).await;
    }
}

#[tokio::test]
async fn f08_f22_a_broker_may_die_before_and_after_each_call_of_a_completion() {
    for when in [list_parts(), complete(), head()] {
        for done in [false, true] {
            let dies = Operation::HeldUp {
                upload: 0,
                broker: 0,
                at: Call { when },
                done,
                meanwhile: Vec::new(),
                dies: true,
            };
            let other = Operation::Complete { upload: 0, broker: 1 };
            holds(upload_of(
                2,
                vec![dies, other.clone(), Operation::Pass { seconds: 31 }, other],
            ))
            .await;
        }
    }
}

#[tokio::test]
async fn f10_fifty_completions_over_two_brokers_make_one_object_and_are_told_the_same() {
    let (world, scenario) = (World::start().await, upload_of(3, Vec::new()));
    let run = begun(&world, &scenario).await;
    let session = run.find(0).await;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (broker, session) = (run.brokers[number % 2].clone(), session.clone());
        asking.spawn(async move {
            // As clients do that are told to come back; the one that completes is at it meanwhile.
            for _ in 0..10_000 {
                match complete_here(broker.clone(), session.clone(), None, Asker::Owner(client().by()))
                    .await
                    .unwrap()
                {
                    Completion::Done(object) => return (object.etag.as_str().to_owned(), object.size),
                    Completion::Busy => tokio::task::yield_now().await,
                }
            }
            panic!("busy without end");
        });
    }
    let told: HashSet<_> = asking.join_all().await.into_iter().collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(run.store().attempts(complete()), 1);
}

#[tokio::test]
async fn f11_an_abort_while_completing_is_refused_and_takes_nothing_away() {
    for when in [list_parts(), complete(), head()] {
        for done in [false, true] {
            let (world, scenario) = (World::start().await, upload_of(2, Vec::new()));
            let mut run = begun(&world, &scenario).await;
            let held_up = Operation::HeldUp {
                upload: 0,
                broker: 0,
                at: Call { when },
                done,
                meanwhile: vec![Operation::Abort { upload: 0, broker: 1 }],
                dies: false,
            };
            run.operation(&held_up).await.unwrap();
            assert!(run.uploads[0].done.is_some(), "{when:?} {done}");
            run.end().await.unwrap();
        }
    }
}

#[tokio::test]
async fn f12_more_parts_than_a_page_are_all_joined_and_pages_in_circles_are_an_error() {
    let (world, scenario) = (World::start().await, upload_of(1_003, Vec::new()));
    let mut run = begun(&world, &scenario).await;
    let before = run.store().attempts(list_parts());
    run.store().inject(Fault::RepeatMarker, list_parts().always());
    run.operation(&COMPLETE).await.unwrap();
    assert_eq!(run.uploads[0].done, None);
    assert_eq!(
        run.store().attempts(list_parts()) - before,
        6,
        "three attempts of two pages"
    );
    run.store().clear_faults();
    run.operation(&COMPLETE).await.unwrap();
    assert!(run.uploads[0].done.is_some());
    assert_eq!(run.store().attempts(list_parts()) - before, 8);
    run.end().await.unwrap();
}

#[tokio::test]
async fn f13_an_upload_that_the_store_lost_is_asked_for_again_under_its_id_but_not_without_end() {
    let (world, scenario) = (World::start().await, upload_of(3, Vec::new()));
    let mut run = begun(&world, &scenario).await;
    let all: Vec<_> = PartNumber::up_to(3).collect();
    for _ in 0..3 {
        run.operation(&Operation::Forget { upload: 0 }).await.unwrap();
        assert_eq!(run.complete(0, 0).await.unwrap(), all);
    }
    run.persist().await.unwrap();
    assert!(run.uploads[0].done.is_some());
    run.end().await.unwrap();

    let mut run = begun(&world, &scenario).await;
    for _ in 0..4 {
        run.operation(&Operation::Forget { upload: 0 }).await.unwrap();
        run.complete(0, 0).await.unwrap();
    }
    assert_eq!(run.uploads[0].ended, Some("lost"));
    run.end().await.unwrap();
}

#[tokio::test]
async fn f14_somebody_elses_object_at_the_key_is_not_taken_for_the_uploads_own() {
    for fault in [Fault::CutConnection, Fault::CutAfterEffect] {
        let taken = Operation::TakeKey { upload: 0 };
        holds(upload_of(2, vec![taken.clone(), fails(fault, complete()), COMPLETE])).await;
        let held_up = Operation::HeldUp {
            upload: 0,
            broker: 0,
            at: Call { when: complete() },
            done: true,
            meanwhile: vec![taken],
            dies: true,
        };
        holds(upload_of(2, vec![held_up, COMPLETE])).await;
    }
}

#[tokio::test]
async fn f16_an_etag_that_is_no_md5_decides_nothing() {
    let etags = |operations| Scenario {
        etags_are_md5s: false,
        ..upload_of(2, operations)
    };
    let other = fails(Fault::OtherEtags, head().always());
    holds(etags(vec![other.clone(), COMPLETE])).await;
    holds(etags(vec![other, fails(Fault::CutAfterEffect, complete()), COMPLETE])).await;
}

#[tokio::test]
async fn f19_a_late_list_is_asked_for_again_and_nothing_has_to_be_sent() {
    let (world, scenario) = (World::start().await, upload_of(3, Vec::new()));
    let mut run = begun(&world, &scenario).await;
    let before = run.clock.now();
    run.store().inject(Fault::StaleList, list_parts().times(3));
    assert_eq!(run.complete(0, 0).await.unwrap(), []);
    assert!(run.uploads[0].done.is_some());
    assert!((run.clock.now() - before).whole_seconds() <= 5);

    let mut run = begun(&world, &scenario).await;
    run.store().inject(Fault::StaleList, list_parts().times(4));
    assert_eq!(
        run.complete(0, 0).await.unwrap(),
        PartNumber::up_to(3).skip(2).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn f19_a_list_is_asked_for_once_where_nobody_says_that_its_parts_were_sent() {
    let world = World::start().await;
    let [mut declared, mut undeclared] = [Kind::Form, Kind::Sized].map(|kind_of| kind(kind_of, 1, Vec::new()));
    for scenario in [&mut declared, &mut undeclared] {
        scenario.uploads[0].sent = false;
        scenario.uploads[0].declares = false;
    }
    // The sweeper knows of no client that has sent anything; of a part that was never signed no client can say so.
    for (scenario, asker) in [(&declared, Asker::Sweeper), (&undeclared, Asker::Owner(client().by()))] {
        let run = begun(&world, scenario).await;
        let before = run.store().attempts(list_parts());
        let told = complete_here(run.brokers[0].clone(), run.find(0).await, None, asker.clone()).await;
        assert!(
            matches!(&told, Err(ApiError::PartsMissing(parts)) if parts.len() == 1),
            "{told:?}"
        );
        assert_eq!(run.store().attempts(list_parts()) - before, 1, "{asker:?}");
    }
}

#[tokio::test]
async fn f28_parts_that_are_listed_and_not_taken_are_asked_for_and_then_joined() {
    let (world, scenario) = (World::start().await, upload_of(2, Vec::new()));
    let mut run = begun(&world, &scenario).await;
    run.store().inject(Fault::InvalidPart, complete().times(2));
    let session = run.find(0).await;
    let told = complete_here(run.brokers[0].clone(), session, None, Asker::Owner(client().by())).await;
    let all: Vec<_> = PartNumber::up_to(2).collect();
    assert!(
        matches!(&told, Err(ApiError::PartsWrong(parts)) if *parts == all),
        "{told:?}"
    );
    assert_eq!(run.store().attempts(complete()), 2);
    run.persist().await.unwrap();
    assert!(run.uploads[0].done.is_some());

    // Once is a part that was sent again meanwhile: nobody is asked for anything.
    holds(upload_of(2, vec![fails(Fault::InvalidPart, complete()), COMPLETE])).await;
}

/// Small files and streams, whose brokers' own tasks need a place, as in their server.
pub(crate) fn spawning<'a, T>(work: impl Future<Output = T> + 'a) -> impl Future<Output = T> + 'a {
    let work = Box::pin(work);
    async move { tokio::task::LocalSet::new().run_until(work).await }
}

pub(crate) fn kind(kind: Kind, parts: u16, operations: Vec<Operation>) -> Scenario {
    let mut scenario = upload_of(parts, operations);
    scenario.uploads[0].kind = kind;
    scenario
}

#[tokio::test]
async fn f11_a_small_file_that_is_given_up_while_it_is_looked_for_is_not_told_as_completed() {
    for done in [false, true] {
        let held_up = Operation::HeldUp {
            upload: 0,
            broker: 0,
            at: Call { when: head() },
            done,
            meanwhile: vec![Operation::Abort { upload: 0, broker: 1 }],
            dies: false,
        };
        spawning(holds(kind(Kind::Small, 1, vec![held_up]))).await;
    }
}
