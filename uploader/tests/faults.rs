//! What the uploader does when broker, store, network or the file itself misbehave at an exact place.

// A test ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod double;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use double::{Double, PART_SIZE, Reply, Request, STORE_SECRET, completed, created, problem, s3_error};
use serde_json::json;
use uploader::{
    Change, ErrorKind, Event, Progress, PutOptions, RetryPolicy, Silent, SmallFile, UploadError, Uploaded, Uploader,
};

const SIZE: u64 = 2 * PART_SIZE + 1000;

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

/// A file of three parts.
fn file() -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.bin");
    // No two parts alike: the pattern's length divides no part's.
    let pattern: Vec<u8> = (0..1009_u32).map(|place| (place * place).to_le_bytes()[1]).collect();
    let mut bytes = pattern.repeat(usize::try_from(SIZE).unwrap() / pattern.len() + 1);
    bytes.truncate(usize::try_from(SIZE).unwrap());
    std::fs::write(&path, bytes).unwrap();
    File {
        _directory: directory,
        path,
    }
}

fn uploader(double: &Double) -> Uploader {
    uploader_of(double, 8)
}

fn uploader_of(double: &Double, concurrency: usize) -> Uploader {
    let retry = RetryPolicy {
        tries: 4,
        base: Duration::from_millis(1),
        cap: Duration::from_millis(5),
    };
    Uploader::builder()
        .broker(&double.address)
        .token("very-secret-token")
        .retry(retry)
        .concurrency(concurrency)
        .build()
        .unwrap()
}

async fn put(double: &Double, path: &Path) -> Result<Uploaded, UploadError> {
    uploader(double).put(path, &PutOptions::default(), Silent).await
}

/// A script in which completing answers with the right size and everything else is up to `fault`.
fn with(mut fault: impl FnMut(&Request) -> Option<Reply> + Send + 'static) -> Double {
    Double::start(move |request| match fault(request) {
        Some(reply) => reply,
        None if request.path.ends_with("/complete") => Reply::Answer(200, vec![], completed(SIZE)),
        None => Reply::Normal,
    })
}

/// The first sending of part 2 meets `reply`.
fn first_of_part_2(reply: Reply) -> Double {
    let mut reply = Some(reply);
    with(move |request| (request.part() == Some(2)).then(|| reply.take()).flatten())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_sent_with_its_length_and_the_signed_headers_only() {
    let (double, file) = (with(|_| None), file());
    let uploaded = put(&double, &file.path).await.unwrap();
    assert_eq!((uploaded.sent_bytes, uploaded.kept_bytes), (SIZE, 0));
    let bytes = std::fs::read(&file.path).unwrap();
    for number in 1..=3 {
        let seen = double.seen();
        let part = seen.iter().find(|request| request.part() == Some(number)).unwrap();
        let start = usize::try_from((number - 1) * PART_SIZE).unwrap();
        let end = bytes.len().min(usize::try_from(number * PART_SIZE).unwrap());
        assert_eq!(part.body, bytes[start..end]);
        assert_eq!(part.headers["content-length"], (end - start).to_string());
        let mut names: Vec<_> = part.headers.keys().map(String::as_str).collect();
        names.retain(|name| {
            !matches!(
                *name,
                "host" | "content-length" | "content-md5" | "user-agent" | "accept"
            )
        });
        assert!(names.is_empty(), "also sent: {names:?}");
    }
    assert_eq!(double.asked("POST", "/parts"), 1, "one request signs the whole window");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_connection_is_cut_is_sent_again() {
    let (double, file) = (first_of_part_2(Reply::Cut), file());
    put(&double, &file.path).await.unwrap();
    assert_eq!([1, 2, 3].map(|number| double.sendings(number)), [1, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_never_answered_is_sent_again() {
    let (double, file) = (first_of_part_2(Reply::Silence), file());
    let uploader = Uploader::builder()
        .broker(&double.address)
        .stall_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    uploader.put(&file.path, &PutOptions::default(), Silent).await.unwrap();
    assert!(double.sendings(2) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_too_much_to_do_is_asked_again() {
    let slow_down = Reply::Answer(503, vec![("Retry-After", "0".into())], s3_error("SlowDown"));
    let (double, file) = (first_of_part_2(slow_down), file());
    put(&double, &file.path).await.unwrap();
    assert_eq!(double.sendings(2), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_refused_before_the_body_is_read_gets_one_fresh_url() {
    let (double, file) = (first_of_part_2(Reply::Early(403, s3_error("AccessDenied"))), file());
    put(&double, &file.path).await.unwrap();
    assert!(double.sendings(2) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_refused_by_every_url_is_a_refusal_and_not_a_network_fault() {
    let double = with(|request| (request.part() == Some(2)).then(|| Reply::Early(403, s3_error("AccessDenied"))));
    let error = put(&double, &file().path).await.unwrap_err();
    assert!(matches!(error, UploadError::StoreRefused { .. }), "{error}");
    assert!(error.to_string().contains("403"), "{error}");
    assert_eq!(double.asked("POST", "/complete"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_damaged_on_the_way_is_sent_again_but_not_for_ever() {
    let bad_digest = || Reply::Answer(400, vec![], s3_error("BadDigest"));
    let (double, file) = (first_of_part_2(bad_digest()), file());
    put(&double, &file.path).await.unwrap();
    assert_eq!(double.sendings(2), 2);

    let double = with(move |request| (request.part() == Some(2)).then(bad_digest));
    let error = put(&double, &file.path).await.unwrap_err();
    assert!(matches!(error, UploadError::Damaged { times: 4, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_bytes_change_unseen_is_a_changed_source() {
    let file = file();
    let path = file.path.clone();
    let double = with(move |request| {
        let path = path.clone();
        let overwrite = move || {
            // Other bytes under the old modification time: only reading again can tell.
            let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
            let opened = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&opened, b"other", PART_SIZE).unwrap();
            opened.set_modified(modified).unwrap();
        };
        // With the part's body read and no other part begun, nobody looks at the file between write and old time.
        (request.part() == Some(2)).then(|| Reply::After(Box::new(overwrite), 400, s3_error("BadDigest")))
    });
    let one = uploader_of(&double, 1);
    let error = one.put(&file.path, &PutOptions::default(), Silent).await.unwrap_err();
    let changed = matches!(
        &error,
        UploadError::SourceChanged {
            change: Change::Content,
            aborted: true,
            ..
        }
    );
    assert!(changed, "{error}");
    assert_eq!((double.asked("POST", "/complete"), double.asked("DELETE", "")), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_shrinks_while_it_is_sent_ends_in_no_object_and_an_aborted_upload() {
    let file = file();
    let path = file.path.clone();
    let double = with(move |request| {
        if request.part().is_some() {
            std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(SIZE - PART_SIZE)
                .unwrap();
        }
        None
    });
    let error = put(&double, &file.path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceChanged, "{error}");
    assert!(error.to_string().contains("shrank from"), "{error}");
    assert_eq!(double.asked("POST", "/complete"), 0);
    assert_eq!(double.asked("DELETE", ""), 1);
}

/// Remembers which parts were kept.
#[derive(Default)]
struct Kept(Mutex<Vec<u16>>);

impl Progress for Kept {
    fn event(&self, event: &Event) {
        if let Event::PartKept { number, .. } = event {
            self.0.lock().unwrap().push(number.get());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_the_store_holds_are_compared_and_only_the_right_ones_kept() {
    use md5::Digest as _;
    let file = file();
    let bytes = std::fs::read(&file.path).unwrap();
    let part_size = usize::try_from(PART_SIZE).unwrap();
    let first = shared::Md5Digest::from_bytes(md5::Md5::digest(&bytes[..part_size]).into()).to_hex();
    let stored = json!([
        {"number": 1, "size": PART_SIZE, "etag": format!("\"{first}\"")},
        {"number": 2, "size": PART_SIZE, "etag": format!("\"{first}\"")},
    ]);
    let double = with(move |request| {
        let create = request.path.ends_with("/uploads");
        create.then(|| Reply::Answer(200, vec![], created(SIZE, &stored)))
    });
    let kept = Arc::new(Kept::default());
    let uploaded = uploader(&double)
        .put(&file.path, &PutOptions::default(), kept.clone())
        .await
        .unwrap();
    assert_eq!(*kept.0.lock().unwrap(), [1]);
    assert_eq!(
        (uploaded.kept_bytes, uploaded.sent_bytes),
        (PART_SIZE, SIZE - PART_SIZE)
    );
    assert_eq!([1, 2, 3].map(|number| double.sendings(number)), [0, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_the_broker_misses_are_sent_again_before_it_completes() {
    let mut missing = Some(Reply::Answer(409, vec![], problem(409, "parts_missing", &[3])));
    let double = with(move |request| request.path.ends_with("/complete").then(|| missing.take()).flatten());
    put(&double, &file().path).await.unwrap();
    assert_eq!([1, 2, 3].map(|number| double.sendings(number)), [1, 1, 2]);

    let double = with(|request| {
        let complete = request.path.ends_with("/complete");
        complete.then(|| Reply::Answer(409, vec![], problem(409, "parts_missing", &[3])))
    });
    let error = put(&double, &file().path).await.unwrap_err();
    assert!(matches!(error, UploadError::PartsMissing(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_another_request_is_at_is_waited_for() {
    let mut waiting = Some(Reply::Answer(
        202,
        vec![],
        r#"{"state": "completing", "retry_after": 0}"#.into(),
    ));
    let double = with(move |request| request.path.ends_with("/complete").then(|| waiting.take()).flatten());
    put(&double, &file().path).await.unwrap();
    assert_eq!(double.asked("POST", "/complete"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_says_no_is_quoted_and_not_asked_again() {
    let statuses = [
        (401, ErrorKind::Auth),
        (403, ErrorKind::Auth),
        (422, ErrorKind::Failed),
        (502, ErrorKind::Failed),
    ];
    for (status, kind) in statuses {
        let double = with(move |_| Some(Reply::Answer(status, vec![], problem(status, "not_so", &[]))));
        let error = put(&double, &file().path).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, "not_so"));
        assert!(error.to_string().contains("it is not_so"), "{error}");
        assert_eq!(double.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_for_a_moment_is_asked_again() {
    let unavailable = || Reply::Answer(503, vec![], problem(503, "store_unavailable", &[]));
    let mut away = vec![
        unavailable(),
        Reply::Answer(502, vec![], "<html>Bad gateway</html>".into()),
        Reply::Cut,
    ];
    let double = with(move |request| request.path.ends_with("/parts").then(|| away.pop()).flatten());
    put(&double, &file().path).await.unwrap();
    assert_eq!(double.asked("POST", "/parts"), 4);

    let double = with(move |_| Some(unavailable()));
    let error = put(&double, &file().path).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Temporary, "store_unavailable")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_completion_was_cut_short_is_completed_without_sending() {
    let double = with(|request| {
        let completing = created(SIZE, &json!([])).replace(r#""state":"open""#, r#""state":"completing""#);
        request
            .path
            .ends_with("/uploads")
            .then(|| Reply::Answer(200, vec![], completing))
    });
    let uploaded = put(&double, &file().path).await.unwrap();
    assert_eq!((uploaded.kept_bytes, uploaded.sent_bytes), (SIZE, 0));
    assert_eq!(double.asked("POST", "/parts"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_ended_behind_our_back_is_told_as_such() {
    let double = with(|request| match request.method.as_str() {
        "PUT" => Some(Reply::Answer(404, vec![], s3_error("NoSuchUpload"))),
        "GET" => {
            let time = "2026-01-01T00:00:00Z";
            let status = json!({"upload_id": "A".repeat(32), "state": "aborted", "name": "n", "key": "k",
                "expires_at": time, "server_time": time, "parts": []});
            Some(Reply::Answer(200, vec![], status.to_string()))
        }
        _ => None,
    });
    let error = put(&double, &file().path).await.unwrap_err();
    assert!(matches!(error, UploadError::Gone(_)), "{error}");
    assert!(error.to_string().contains("was aborted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_that_is_no_broker_is_called_that() {
    let double = with(|_| Some(Reply::Answer(404, vec![], "<html>no such page</html>".into())));
    let error = put(&double, &file().path).await.unwrap_err();
    assert!(matches!(error, UploadError::NotABroker { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_shows_a_token_or_a_signature() {
    let file = file();
    let mut errors = Vec::new();
    // The store's answer never comes; its text is hostile; the broker's is cut short; nobody listens.
    let double = with(|request| request.part().map(|_| Reply::Cut));
    errors.push(put(&double, &file.path).await.unwrap_err());
    let double = with(|request| request.part().map(|_| Reply::Early(403, s3_error("AccessDenied"))));
    errors.push(put(&double, &file.path).await.unwrap_err());
    let double = with(|request| {
        let url = format!(r#"{{"parts": "http://store/?{STORE_SECRET}"}}"#);
        request
            .path
            .ends_with("/parts")
            .then(|| Reply::Answer(200, vec![], url))
    });
    errors.push(put(&double, &file.path).await.unwrap_err());
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let double = with(move |request| {
        let part = json!({"number": 1, "method": "PUT", "url": format!("http://{closed}/key?sig={STORE_SECRET}"),
            "headers": {}, "expires_at": "2026-01-01T00:00:00Z", "expires_in": 900});
        let parts: Vec<_> = (1..=3)
            .map(|number| {
                let mut part = part.clone();
                part["number"] = json!(number);
                part
            })
            .collect();
        let answer = json!({"server_time": "2026-01-01T00:00:00Z", "parts": parts}).to_string();
        request
            .path
            .ends_with("/parts")
            .then(|| Reply::Answer(200, vec![], answer))
    });
    errors.push(put(&double, &file.path).await.unwrap_err());
    for error in errors {
        let mut texts = vec![format!("{error} {error:?}")];
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            texts.push(format!("{source} {source:?}"));
            cause = source.source();
        }
        for text in texts {
            assert!(
                !text.contains(STORE_SECRET) && !text.contains("very-secret-token"),
                "{text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_held_to_their_objects_too() {
    let file = file();
    let path = file.path.with_file_name("small");
    std::fs::write(&path, "hello").unwrap();
    let id = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let double = Double::start(move |request| match request.path.as_str() {
        "/v1/batches" => {
            let admitted = json!({"upload_id": id, "key": "small"});
            Reply::Answer(
                201,
                vec![],
                json!({"files": [admitted], "server_time": "2026-01-01T00:00:00Z"}).to_string(),
            )
        }
        "/v1/batches/complete" => {
            let object =
                json!({"key": "small", "etag": "0".repeat(32), "etag_is_md5": true, "size": 5, "location": "x"});
            let uploads = json!({"uploads": [{"upload_id": id, "object": object}]});
            Reply::Answer(200, vec![], uploads.to_string())
        }
        _ => Reply::Normal,
    });
    let small = SmallFile {
        path,
        options: PutOptions::default(),
        progress: Arc::new(Silent),
    };
    let outcome = uploader(&double).put_together(&[small]).await.unwrap().remove(0);
    let error = outcome.expect_err("another file's object passes for this one's");
    assert_eq!((error.code(), error.kind()), ("other_bytes", ErrorKind::Temporary));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_rate_holds_for_all_files_together_and_does_not_look_like_a_stall() {
    let directory = tempfile::tempdir().unwrap();
    let double = Double::start(|request| {
        let complete = request.path.ends_with("/complete");
        if complete {
            Reply::Answer(200, vec![], completed(20))
        } else {
            Reply::Normal
        }
    });
    // Ten bodies of 20 bytes, each given 5 at a time in its turn: every 500 ms, long after the stall time.
    let uploader = Uploader::builder()
        .broker(&double.address)
        .concurrency(10)
        .limit_rate(std::num::NonZeroU64::new(100).unwrap())
        .stall_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let started = Instant::now();
    let mut files = tokio::task::JoinSet::new();
    for number in 0..10 {
        let path = directory.path().join(number.to_string());
        std::fs::write(&path, [7; 20]).unwrap();
        let uploader = uploader.clone();
        files.spawn(async move { uploader.put(path, &PutOptions::default(), Silent).await.map(drop) });
    }
    while let Some(file) = files.join_next().await {
        file.unwrap().unwrap();
    }
    assert!(
        started.elapsed() >= Duration::from_millis(1800),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(double.sendings(1), 10, "a part that waited was taken for stalled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_everything_gets_little_more_than_what_succeeds_and_the_uploads_recover_by_themselves() {
    const FILES: u64 = 60;
    /// Uploads that have all gone well when the storm begins, at their end.
    const BEFORE: usize = 30;
    let storm = Duration::from_secs(3);
    let directory = tempfile::tempdir().unwrap();
    let (mut stored, mut began) = (0, None::<Instant>);
    let refused = Arc::<AtomicU64>::default();
    let count = refused.clone();
    let double = Double::start(move |request| {
        if request.path.ends_with("/complete") {
            return Reply::Answer(200, vec![], completed(5));
        }
        if request.part().is_none() {
            return Reply::Normal;
        }
        if stored == BEFORE && began.get_or_insert_with(Instant::now).elapsed() < storm {
            count.fetch_add(1, Ordering::Relaxed);
            return Reply::Answer(503, vec![], s3_error("SlowDown"));
        }
        stored += 1;
        Reply::Normal
    });
    // So eager that only the budget can hold it back.
    let retry = RetryPolicy {
        tries: u32::MAX,
        base: Duration::from_millis(1),
        cap: Duration::from_millis(2),
    };
    let uploader = Uploader::builder()
        .broker(&double.address)
        .retry(retry)
        .concurrency(8)
        .build()
        .unwrap();
    let mut files = tokio::task::JoinSet::new();
    for number in 0..FILES {
        let path = directory.path().join(number.to_string());
        std::fs::write(&path, "hello").unwrap();
        let uploader = uploader.clone();
        files.spawn(async move { uploader.put(path, &PutOptions::default(), Silent).await.map(drop) });
    }
    while let Some(file) = files.join_next().await {
        file.unwrap().unwrap();
    }
    // At most 8 first tries; fifty retries to begin with; a tenth of what has succeeded, 4 requests a file; and one retry
    // for each 10 seconds.
    let (refused, most) = (refused.load(Ordering::Relaxed), 8 + 50 + 4 * FILES / 10 + 1);
    assert!(
        (8..=most).contains(&refused),
        "{refused} requests were refused, {most} at most"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_in_mid_upload_is_an_auth_failure_that_says_what_is_kept() {
    for path_end in ["/parts", "/complete"] {
        let double = with(move |request| {
            let refused = request.path.ends_with(path_end);
            refused.then(|| Reply::Answer(401, vec![], problem(401, "unauthenticated", &[])))
        });
        let error = put(&double, &file().path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth);
        for words in ["UPLOADER_TOKEN", "is kept", "the same command continues"] {
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(double.asked("DELETE", ""), 0, "it cannot be continued");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_is_told_as_that_and_what_arrived_is_kept() {
    // The broker's, which may pass by itself.
    let double = with(|request| {
        let parts = request.path.ends_with("/parts");
        parts.then(|| Reply::Answer(429, vec![], problem(429, "quota_exceeded", &[])))
    });
    let error = put(&double, &file().path).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Temporary, "quota_exceeded"));
    assert!(error.to_string().contains("the same command continues"), "{error}");
    assert_eq!(double.asked("POST", "/parts"), 4, "as often as the policy says");
    let double = with(|request| {
        let tomorrow = vec![("retry-after", "64482".to_owned())];
        let parts = request.path.ends_with("/parts");
        parts.then(|| Reply::Answer(429, tomorrow, problem(429, "quota_exceeded", &[])))
    });
    put(&double, &file().path).await.unwrap_err();
    assert_eq!(double.asked("POST", "/parts"), 1, "nobody sits out a limit of the day");

    // The store's, which does not.
    for (status, code) in [(403, "QuotaExceeded"), (507, "XMinioStorageFull")] {
        let double =
            with(move |request| (request.part() == Some(2)).then(|| Reply::Answer(status, vec![], s3_error(code))));
        let error = put(&double, &file().path).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Temporary, "store_full"),
            "{error}"
        );
        assert!(error.to_string().contains("has no room for part 2"), "{error}");
        assert_eq!((double.sendings(2), double.asked("DELETE", "")), (1, 0));
    }
}
