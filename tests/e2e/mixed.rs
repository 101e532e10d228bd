//! Two machines send to one upload at once, each its own bytes: whoever did not make the object is not told that it did.

use std::sync::Mutex;

use serde_json::json;
use shared::UploadId;
use shared::api::SignedParts;
use tests::{Api, Stack, cut, md5, put, random_bytes};
use tokio::runtime::Handle;
use uploader::{ErrorKind, Event, Progress, PutOptions, Silent, UploadError, Uploaded, Uploader};

use crate::uploader::PART;

/// Another machine, which replaces one part by its own just before the object is made.
struct Another {
    api: Api,
    number: u16,
    bytes: Vec<u8>,
    upload: Mutex<Option<UploadId>>,
}

impl Another {
    fn with(stack: &Stack, number: u16, bytes: Vec<u8>) -> Self {
        Self {
            api: stack.api.clone(),
            number,
            bytes,
            upload: Mutex::default(),
        }
    }

    async fn send(&self, upload: &UploadId) {
        let part = json!({"number": self.number, "md5": md5(&self.bytes), "size": self.bytes.len()});
        let asked = json!({"parts": [part]});
        let signed = self.api.post(&format!("/v1/uploads/{upload}/parts"), &asked).await;
        let signed = signed.expect::<SignedParts>(200).parts.remove(0);
        let answer = put(&signed.url, &signed.headers, self.bytes.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

impl Progress for Another {
    fn event(&self, event: &Event) {
        match event {
            Event::Started { upload_id, .. } => *self.upload.lock().unwrap() = Some(upload_id.clone()),
            Event::Completing => {
                if let Some(id) = self.upload.lock().unwrap().take() {
                    tokio::task::block_in_place(|| Handle::current().block_on(self.send(&id)));
                }
            }
            _ => {}
        }
    }
}

fn options(name: &str) -> PutOptions {
    PutOptions {
        name: Some(name.into()),
        part_size: Some(PART),
        ..PutOptions::default()
    }
}

fn is_refused(outcome: Result<Uploaded, UploadError>) -> bool {
    let error = outcome.expect_err("told as if it had been made of this file");
    error.code() == "other_bytes" && error.kind() == ErrorKind::Temporary && error.to_string().starts_with("a: ")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_another_machines_part_in_it_is_told_and_the_next_run_makes_the_right_one() {
    let stack = Stack::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (path, bytes) = (directory.path().join("a"), random_bytes(3 * PART));
    std::fs::write(&path, &bytes).unwrap();
    let uploader = Uploader::builder()
        .broker(stack.broker.base())
        .journal_dir(directory.path().join("journals"))
        .build()
        .unwrap();
    let another = Another::with(&stack, 2, random_bytes(PART));
    let theirs = another.bytes.clone();

    assert!(is_refused(uploader.put(&path, &options("a"), another).await));
    let mixed = stack.bucket.get("a").await.unwrap().bytes;
    assert!(cut(&mixed, PART).nth(1) == Some(&*theirs), "the parts were not mixed");

    let again = uploader.put(&path, &options("a"), Silent).await.unwrap();
    assert_eq!(again.sent_bytes, 3 * PART);
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_held_to_what_was_read_of_it() {
    let stack = Stack::start().await;
    let uploader = Uploader::builder().broker(stack.broker.base()).build().unwrap();
    let bytes = random_bytes(2 * PART);
    let another = Another::with(&stack, 1, random_bytes(PART));
    let read = std::io::Cursor::new(bytes.clone());
    assert!(is_refused(uploader.put_reader(read, &options("a"), another).await));

    let read = std::io::Cursor::new(bytes.clone());
    uploader.put_reader(read, &options("a"), Silent).await.unwrap();
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}
