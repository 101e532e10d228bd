//! The uploader as a library, through a real broker to a real store: what a program can do that the command line does not.

use store::fault::{Fault, part};
use tests::{Stack, in_time, random_bytes};
use uploader::{Cancelled, Event, PutOptions, Uploader};

use crate::uploader::PART;

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_is_continued_from_what_it_said_was_kept() {
    let stack = Stack::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (path, bytes) = (directory.path().join("a"), random_bytes(3 * PART));
    std::fs::write(&path, &bytes).unwrap();
    stack
        .store
        .faulty()
        .inject(Fault::Delay(std::time::Duration::from_mins(10)), part(3));
    let uploader = Uploader::builder().broker(stack.broker.base()).build().unwrap();
    let options = PutOptions {
        part_size: Some(PART),
        ..PutOptions::default()
    };
    let upload = uploader.start(&path, &options);
    let mut events = upload.events();
    let two_stored = async {
        let mut stored = 0;
        while stored < 2 {
            stored += u32::from(matches!(events.next().await, Some(Event::PartStored { .. })));
        }
    };
    in_time(two_stored).await;

    let cancelled = in_time(upload.cancel()).await.unwrap();
    let Cancelled::Kept { upload_id, kept_bytes } = cancelled else {
        panic!("{cancelled:?}");
    };
    let continued = uploader.start(&path, &options).await.unwrap();

    assert_eq!(
        (&continued.upload_id, continued.kept_bytes, kept_bytes),
        (&upload_id, 2 * PART, 2 * PART)
    );
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}
