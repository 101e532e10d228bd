//! An upload as a program holds it: watched, awaited, cancelled, dropped.

// A test ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod double;

use std::path::PathBuf;
use std::sync::Arc;

use double::{Double, PART_SIZE, Reply, completed};
use tokio::sync::Notify;
use uploader::{Cancelled, Event, Events, Input, Link, PutOptions, UploadHandle, Uploader};

const SIZE: u64 = 3 * PART_SIZE;

fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.bin");
    std::fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
    (directory, path)
}

/// A store that takes all parts but this one, of which it never says whether it has it.
fn silent_about(part: Option<u64>) -> Double {
    Double::start(move |request| match request.part() {
        Some(number) if Some(number) == part => Reply::Silence,
        None if request.path.ends_with("/complete") => Reply::Answer(200, vec![], completed(SIZE)),
        _ => Reply::Normal,
    })
}

fn start(double: &Double, input: impl Into<Input>, options: &PutOptions) -> UploadHandle {
    let uploader = Uploader::builder().broker(&double.address).build().unwrap();
    uploader.start(input, options)
}

/// Reads events until so many parts are stored.
async fn until_stored(events: &mut Events, parts: usize) {
    let mut stored = 0;
    while stored < parts {
        stored += usize::from(matches!(events.next().await, Some(Event::PartStored { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_is_watched_to_its_end_and_awaited_for_its_object() {
    let (double, (_directory, path)) = (silent_about(None), file());
    let upload = start(&double, &path, &PutOptions::default());
    let mut events = upload.events();
    let watched = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(event) = events.next().await {
            all.push(event);
        }
        all
    });

    let uploaded = upload.await.unwrap();

    assert_eq!((uploaded.object.size, uploaded.sent_bytes), (SIZE, SIZE));
    let events = watched.await.unwrap();
    let sent = events.iter().map(|event| match event {
        Event::Sent { bytes } => *bytes,
        _ => 0,
    });
    assert_eq!(sent.sum::<u64>(), SIZE);
    assert!(
        matches!(&events[..2], [Event::Creating, Event::Started { size: Some(SIZE), .. }]),
        "{events:?}"
    );
    assert!(matches!(events.last(), Some(Event::Completed(object)) if object.upload_id == uploaded.upload_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_every_part_under_way_and_tells_what_is_kept() {
    let (double, (_directory, path)) = (silent_about(Some(3)), file());
    let upload = start(&double, &path, &PutOptions::default());
    let mut events = upload.events();
    until_stored(&mut events, 2).await;
    let id = upload.upload_id();

    let cancelled = upload.cancel().await.unwrap();

    let Cancelled::Kept { upload_id, kept_bytes } = cancelled else {
        panic!("{cancelled:?}");
    };
    assert_eq!((Some(upload_id), kept_bytes), (id, 2 * PART_SIZE));
    while events.next().await.is_some() {}
    assert_eq!((double.asked("POST", "/complete"), double.asked("DELETE", "")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_stream_is_given_up_since_nobody_could_continue_it() {
    let double = silent_about(None);
    let options = PutOptions {
        name: Some("endless".into()),
        part_size: Some(PART_SIZE),
        ..PutOptions::default()
    };
    let upload = start(&double, Input::reader(std::io::repeat(7)), &options);
    until_stored(&mut upload.events(), 1).await;

    let cancelled = upload.cancel().await.unwrap();

    assert!(matches!(cancelled, Cancelled::Nothing), "{cancelled:?}");
    assert_eq!((double.asked("POST", "/complete"), double.asked("DELETE", "")), (0, 1));
}

/// Broker, store and host of a link that never answer what has this path, and tell when they are asked.
fn silent_at(path: &'static str) -> (Double, Arc<Notify>) {
    let asked = Arc::<Notify>::default();
    let told = asked.clone();
    let double = Double::start(move |request| {
        if request.path.ends_with(path) {
            told.notify_one();
            return Reply::Silence;
        }
        Reply::Normal
    });
    (double, asked)
}

fn stream_options() -> PutOptions {
    PutOptions {
        name: Some("stream".into()),
        ..PutOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cancelled_while_it_is_completed_may_be_an_object_and_is_not_given_up() {
    let (double, asked) = silent_at("/complete");
    let upload = start(&double, Input::reader(&b"bytes"[..]), &stream_options());
    asked.notified().await;
    let id = upload.upload_id();

    let cancelled = upload.cancel().await.unwrap();

    let Cancelled::Completing { upload_id } = cancelled else {
        panic!("{cancelled:?}");
    };
    assert_eq!((Some(upload_id), double.asked("DELETE", "")), (id, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_before_the_broker_answers_may_be_open_there() {
    let (_directory, path) = file();
    for input in [Input::from(&path), Input::reader(&b"bytes"[..])] {
        let (double, asked) = silent_at("/v1/uploads");
        let upload = start(&double, input, &stream_options());
        asked.notified().await;
        let cancelled = upload.cancel().await.unwrap();
        assert!(matches!(cancelled, Cancelled::Unanswered), "{cancelled:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_before_the_broker_is_asked_leaves_nothing() {
    let (double, asked) = silent_at("/content");
    let link: Link = format!("{}/content", double.address).parse().unwrap();
    let upload = start(&double, link, &stream_options());
    asked.notified().await;
    let cancelled = upload.cancel().await.unwrap();
    assert!(matches!(cancelled, Cancelled::Nothing), "{cancelled:?}");
    assert_eq!(double.asked("POST", ""), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_before_it_was_cancelled_says_how() {
    let (double, (_directory, path)) = (silent_about(None), file());
    let upload = start(&double, &path, &PutOptions::default());
    let mut events = upload.events();
    while events.next().await.is_some() {}
    let cancelled = upload.cancel().await.unwrap();
    assert!(matches!(cancelled, Cancelled::Completed(_)), "{cancelled:?}");

    let upload = start(&double, "/no/such/file", &PutOptions::default());
    let mut events = upload.events();
    while events.next().await.is_some() {}
    let error = upload.cancel().await.unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_handle_stops_the_upload_and_ends_its_events() {
    let (double, (_directory, path)) = (silent_about(Some(3)), file());
    let upload = start(&double, &path, &PutOptions::default());
    let mut events = upload.events();
    until_stored(&mut events, 2).await;
    drop(upload);
    while events.next().await.is_some() {}
    assert_eq!(double.asked("POST", "/complete"), 0);
}
