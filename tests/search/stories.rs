//! What no row of faults names, each as the shortest history that shows it: creates and ledgers that fail, where HEAD has to be
//! asked, what an upload costs, a batch of small files.

use std::time::Duration;

use broker::batch;
use broker::complete::{Asker, complete_here};
use broker::error::ApiError;
use broker::give_up;
use broker::sweep::sweep_once;
use shared::api::UploadState;
use store::fault::{complete, create, head, list_parts};
use store::{Fault, Garbled};

use crate::client::client;
use crate::faults::{COMPLETE, begun, fails, holds, kind, spawning, upload_of};
use crate::history::{Kind, Operation, Rows, Scenario, Trouble};
use crate::run::{Run, World};

/// A completion that the store does and that nobody hears of.
const UNHEARD: Operation = Operation::Silent {
    upload: 0,
    broker: 0,
    done: true,
};

fn begins(trouble: Trouble) -> Scenario {
    let mut scenario = upload_of(2, vec![COMPLETE]);
    scenario.uploads[0].begins = Some(trouble);
    scenario
}

#[tokio::test]
async fn whatever_comes_of_a_create_nothing_is_left_that_neither_the_ledger_nor_the_operators_sweep_knows() {
    let mut faults = vec![
        Fault::CutConnection,
        Fault::CutAfterEffect,
        Fault::InternalError,
        Fault::SlowDown { retry_after: None },
    ];
    for answer in [Garbled::Error, Garbled::Empty, Garbled::Html, Garbled::CutAt(100)] {
        faults.extend([true, false].map(|done| Fault::Garbled { answer, done }));
    }
    for fault in faults {
        for times in [1, 3] {
            holds(begins(Trouble::Store { fault, times })).await;
        }
    }
    for done in [false, true] {
        holds(begins(Trouble::Dies { done })).await;
    }

    // Such uploads are there to be found: the SDK has asked three times.
    let scenario = begins(Trouble::Store {
        fault: Fault::CutAfterEffect,
        times: 3,
    });
    let world = World::start().await;
    let mut run = begun(&world, &scenario).await;
    assert_eq!(run.store().attempts(create()), 4);
    assert_eq!(world.bucket.open_upload_ids().await.len(), 4);
    run.persist().await.unwrap();
    run.end().await.unwrap();
}

/// Where it can fail: at one of the rows of a change, or at its commit.
fn failures() -> impl Iterator<Item = Rows> {
    [false, true]
        .into_iter()
        .flat_map(|at_commit| (0..3).map(move |after| Rows { after, at_commit }))
}

#[tokio::test]
async fn what_a_ledger_does_not_take_is_told_with_503_and_not_half_recorded() {
    for rows in failures() {
        for kind_of in [Kind::Form, Kind::Sized, Kind::Stream, Kind::Small] {
            let mut scenario = kind(kind_of, 1, vec![Operation::LedgerFails(rows), COMPLETE]);
            scenario.uploads[0].begins = Some(Trouble::Ledger(rows));
            spawning(holds(scenario)).await;
        }
    }

    let (world, scenario) = (World::start().await, upload_of(2, Vec::new()));
    for at_commit in [false, true] {
        let mut run = begun(&world, &scenario).await;
        run.ledger.fail(Rows { after: 0, at_commit }).await;
        let session = run.find(0).await;
        let asker = Asker::Owner(client().by());
        let told = [
            run.sign(0, 0, 1).await.unwrap_err(),
            complete_here(run.brokers[0].clone(), session.clone(), None, asker)
                .await
                .unwrap_err(),
            give_up::give_up(run.brokers[0].clone(), session, client().by())
                .await
                .unwrap_err(),
        ];
        for error in told {
            assert!(
                error.status() == 503 && error.code() == "ledger_unavailable",
                "{error:?}"
            );
        }
        assert_eq!(run.find(0).await.state, UploadState::Open);
        run.clock.advance(Duration::from_secs(2 * 60 * 60 + 1));
        assert!(
            sweep_once(&run.brokers[0]).await.is_err(),
            "what cannot be recorded is not expired"
        );
        assert_eq!(run.find(0).await.state, UploadState::Open);
        run.ledger.mend().await;
        run.end().await.unwrap();
        assert_eq!(run.find(0).await.state, UploadState::Expired);
    }
}

#[tokio::test]
async fn an_object_whose_completion_was_not_heard_of_is_found_though_its_parts_cannot_be_listed() {
    let (world, scenario) = (World::start().await, upload_of(2, Vec::new()));
    let mut run = begun(&world, &scenario).await;
    run.operation(&UNHEARD).await.unwrap();
    assert_eq!(run.uploads[0].done, None);
    run.operation(&Operation::Pass { seconds: 61 }).await.unwrap();
    run.store().clear_faults();
    run.store().inject(Fault::InternalError, list_parts().always());
    run.operation(&COMPLETE).await.unwrap();
    assert!(run.uploads[0].done.is_some());
    run.store().clear_faults();
    run.end().await.unwrap();
}

#[tokio::test]
async fn an_object_that_head_was_refused_for_is_looked_for_again_once_its_upload_is_gone() {
    let (world, scenario) = (World::start().await, upload_of(2, Vec::new()));
    let mut run = begun(&world, &scenario).await;
    run.operation(&UNHEARD).await.unwrap();
    run.operation(&Operation::Pass { seconds: 61 }).await.unwrap();
    run.store().clear_faults();
    // As of a key that may not list, a moment before the object came to be.
    run.operation(&fails(Fault::AccessDenied, head())).await.unwrap();
    run.operation(&COMPLETE).await.unwrap();
    assert!(run.uploads[0].done.is_some());
    assert_eq!(run.store().attempts(complete()), 1);
    run.end().await.unwrap();
}

#[tokio::test]
async fn an_object_that_was_overwritten_before_anybody_heard_of_it_is_lost_and_is_not_asked_for_again() {
    let (world, scenario) = (World::start().await, upload_of(2, Vec::new()));
    let mut run = begun(&world, &scenario).await;
    run.operation(&UNHEARD).await.unwrap();
    run.operation(&Operation::TakeKey { upload: 0 }).await.unwrap();
    run.operation(&Operation::Pass { seconds: 61 }).await.unwrap();
    run.store().clear_faults();
    let session = run.find(0).await;
    let told = complete_here(run.brokers[0].clone(), session, None, Asker::Owner(client().by())).await;
    assert!(matches!(told, Err(ApiError::UploadLost)), "{told:?}");
    assert_eq!(run.find(0).await.state, UploadState::Aborted);
    assert_eq!(run.store().attempts(create()), 1, "it is not begun anew");
}

#[tokio::test]
async fn a_store_that_is_asked_again_is_left_in_peace_in_between() {
    let (world, scenario) = (World::start().await, upload_of(2, Vec::new()));
    let always_fails = fails(Fault::InternalError, list_parts().always());
    let list_is_late = fails(Fault::StaleList, list_parts().always());
    // Attempts, looks after silence, lists that lack what is said to be sent.
    for (operation, millis) in [(always_fails, 1_500), (UNHEARD, 15_500), (list_is_late, 3_500)] {
        let mut run = begun(&world, &scenario).await;
        let before = run.clock.now();
        run.operation(&operation).await.unwrap();
        if !matches!(operation, Operation::Silent { .. }) {
            run.operation(&COMPLETE).await.unwrap();
        }
        assert_eq!(run.uploads[0].done, None, "{operation:?}");
        let took = run.clock.now() - before;
        let expected = Duration::from_millis(millis)..Duration::from_millis(millis + 500);
        assert!(expected.contains(&took.unsigned_abs()), "{operation:?}: {took}");
        run.store().clear_faults();
    }
}

#[tokio::test]
async fn i6_an_upload_costs_a_call_a_part_and_a_few_more_and_not_twice_that_where_three_in_ten_fail() {
    let world = World::start().await;
    let store = world.store();
    for (parts, page) in [(1, 0), (4, 2), (40, 0), (40, 10)] {
        store.pages_of(page);
        let scenario = upload_of(parts, Vec::new());
        let mut run = begun(&world, &scenario).await;
        run.operation(&COMPLETE).await.unwrap();
        assert!(run.uploads[0].done.is_some());
        let pages = if page == 0 { 1 } else { u64::from(parts) / page as u64 };
        // Create, Complete and HEAD; the last GET is this test's own.
        assert_eq!(
            store.requests() - run.began_at,
            u64::from(parts) + pages + 3 + 1,
            "{parts} {page}"
        );
        run.end().await.unwrap();
    }
    store.pages_of(0);
    for seed in 0..20 {
        let mut scenario = upload_of(40, Vec::new());
        scenario.storm = 300;
        scenario.uploads[0].sent = false;
        let mut run = Run::begin(&world, seed, &scenario).await;
        run.set_up().await.unwrap();
        run.storm();
        for part in 0..40 {
            run.put(0, part, 0).await;
        }
        run.persist().await.unwrap();
        assert!(run.uploads[0].done.is_some());
        let calls = store.requests() - run.began_at;
        assert!(calls <= 40 * 2 + 20, "seed {seed}: {calls}");
        store.clear_faults();
        run.end().await.unwrap();
    }
    let scenario = kind(Kind::Small, 1, Vec::new());
    spawning(async {
        let mut run = begun(&world, &scenario).await;
        run.operation(&COMPLETE).await.unwrap();
        assert_eq!(store.requests() - run.began_at, 3, "PUT, HEAD, and this test's own GET");
        run.end().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn of_a_batch_each_file_has_its_own_answer_and_a_ledger_that_fails_records_none_of_them() {
    for etags_are_md5s in [true, false] {
        let mut scenario = kind(Kind::Small, 1, Vec::new());
        scenario.etags_are_md5s = etags_are_md5s;
        scenario.uploads = vec![scenario.uploads[0].clone(); 40];
        // The first two wait; somebody takes the third's key; the fourth is given up.
        for shape in &mut scenario.uploads[..2] {
            shape.sent = false;
        }
        spawning(async {
            let world = World::start().await;
            let mut run = begun(&world, &scenario).await;
            run.operation(&Operation::TakeKey { upload: 2 }).await.unwrap();
            run.operation(&Operation::Abort { upload: 3, broker: 0 }).await.unwrap();
            let ids: Vec<_> = run.uploads.iter().map(|upload| upload.id.clone()).collect();
            let broker = run.brokers[0].clone();
            if run.uploads[0].whole {
                run.ledger
                    .fail(Rows {
                        after: 10,
                        at_commit: false,
                    })
                    .await;
                let told = batch::complete(&broker, &client(), &ids).await;
                assert_eq!(told.err().map(|error| error.status().as_u16()), Some(503));
                for place in 4..40 {
                    assert_eq!(run.find(place).await.state, UploadState::Open);
                }
                run.ledger.mend().await;
            }
            let told = batch::complete(&broker, &client(), &ids).await.unwrap();
            for (place, told) in told.iter().enumerate() {
                let right = match (place, told) {
                    (0 | 1, Err(ApiError::PartsMissing(_))) | (3, Err(ApiError::UploadEnded(UploadState::Aborted))) => {
                        true
                    }
                    // In parts it is joined over whatever stands at its key.
                    (2, Err(ApiError::PartsWrong(_))) => run.uploads[2].whole,
                    (2, Ok(_)) => !run.uploads[2].whole,
                    (4.., Ok((_, object))) => object.size == 10,
                    _ => false,
                };
                assert!(right, "{place}: {:?}", told.as_ref().err());
            }
            run.persist().await.unwrap();
            run.end().await.unwrap();
        })
        .await;
    }
}
