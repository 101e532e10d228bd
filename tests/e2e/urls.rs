//! Links as sources: what a host gives becomes the object, whole and as named, or nothing does and it is said why.

use broker::config::Settings;
use serde_json::Value;
use tests::{Finished, Stack, StoreUnderTest, cut, multipart_etag, random_bytes};

use crate::origin::{Asked, Origin, Reply};
use crate::uploader::{Machine, PART, completed};

/// What a host that gives parts says.
const PARTS: [&str; 2] = ["Accept-Ranges: bytes", "ETag: \"first\""];

/// A host that answers from `body` as `reply` says, which gets each request and how many there were before it.
async fn host_of(body: &[u8], reply: impl Fn(&Asked, usize, &[u8]) -> Reply + Send + Sync + 'static) -> Origin {
    let body = body.to_vec();
    Origin::start(move |asked, before| reply(asked, before, &body)).await
}

/// That the run failed with this exit code and these words, and left nothing at the store.
async fn assert_failed(stack: &Stack, run: &Finished, code: i32, words: &str) {
    assert_eq!(run.code, Some(code), "{run:?}");
    assert!(run.stderr.contains(words), "{}", run.stderr);
    assert_eq!(stack.bucket.keys("").await, [""; 0]);
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn a_link_of_known_length_becomes_an_object_of_that_size() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    for length in [0, 1, PART, 6 * PART + 1] {
        let bytes = random_bytes(length);
        let origin = host_of(&bytes, |_, _, body| {
            Reply::whole(&["Content-Type: application/x-dump"], body)
        })
        .await;
        let link = origin.link(&format!("/path/gr%C3%BC%C3%9Fe-{length}?a=b"));

        let run = machine.run(&["--json", "put", "--part-size", "5MiB", &link]).await;

        assert_eq!(run.code, Some(0), "{run:?}");
        let name = format!("grüße-{length}");
        let object = stack.bucket.get(&name).await.unwrap();
        assert!(object.bytes == bytes, "{name}");
        assert_eq!(object.content_type.as_deref(), Some("application/x-dump"));
        if length > 0 {
            assert_eq!(object.etag, multipart_etag(cut(&bytes, PART)));
        }
        let started: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&started["size"], &started["part_count"]),
            (&length.into(), &length.div_ceil(PART).into())
        );
        assert_eq!(origin.asked().len(), 1);
        assert_eq!(origin.asked()[0].headers["accept-encoding"], "identity");
    }
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn a_link_of_unknown_length_is_read_to_its_end() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    for length in [0, 2 * PART, 6 * PART + 1] {
        let bytes = random_bytes(length);
        let origin = host_of(&bytes, |_, _, body| Reply::chunked(&[], body)).await;
        let name = format!("dump-{length}");

        let run = machine
            .run(&["put", "--part-size", "5MiB", "--name", &name, &origin.link("/")])
            .await;

        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(stack.bucket.get(&name).await.unwrap().bytes == bytes, "{name}");
    }
}

#[tokio::test]
async fn the_name_is_the_one_given_else_the_hosts_else_the_end_of_the_link() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let origin = Origin::start(|asked, _| match asked.target.as_str() {
        "/named" => Reply::whole(
            &["Content-Disposition: attachment; filename=\"no.txt\"; filename*=UTF-8''..%2F%E2%82%AC.html"],
            b"content",
        ),
        _ => Reply::whole(&[], b"content"),
    })
    .await;

    for (arguments, link, name) in [
        (&["put"][..], "/named", "€.html"),
        (&["put", "--name", "given"], "/named", "given"),
        (&["put"], "/path/plain.txt/?query", "plain.txt"),
    ] {
        let run = machine.run(&[arguments, &[&origin.link(link)]].concat()).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(stack.bucket.get(name).await.unwrap().bytes, b"content");
    }
    let html = stack.bucket.get("€.html").await.unwrap();
    assert_eq!(html.content_type.as_deref(), Some("text/html"));
    let nameless = machine.run(&["put", &origin.link("/?query")]).await;
    assert_eq!(nameless.code, Some(2), "{nameless:?}");
    assert!(nameless.stderr.contains("--name"), "{}", nameless.stderr);
}

#[tokio::test]
async fn redirects_are_followed_without_the_credentials_of_the_first_host() {
    let stack = Stack::with_tokens(&[("alice", "alice-token")]).await;
    let machine = Machine::with_broker(&stack.broker.base());
    let last = Origin::start(|_, _| Reply::whole(&[], b"content")).await;
    let elsewhere = format!("Location: {}", last.link_as("other:pair", "/c.txt"));
    let first = Origin::start(move |asked, _| match asked.target.as_str() {
        "/a" => Reply::status(302, &["Location: b"]),
        _ => Reply::status(307, &[&elsewhere]),
    })
    .await;
    let link = first.link_as("us%40er:pass", "/a");

    let run = machine.run(&["--token", "alice-token", "put", &link]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(stack.bucket.get("c.txt").await.unwrap().bytes, b"content");
    let authorizations = |origin: &Origin| {
        let asked = origin.asked();
        let of = |asked: &Asked| asked.headers.get("authorization").cloned();
        asked.iter().map(of).collect::<Vec<_>>()
    };
    let basic = Some("Basic dXNAZXI6cGFzcw==".to_owned());
    assert_eq!(authorizations(&first), [basic.clone(), basic]);
    assert_eq!(authorizations(&last), [None]);
    assert!(!last.asked()[0].headers.contains_key("referer"));
}

#[tokio::test]
async fn redirects_come_to_an_end() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let origin = Origin::start(|_, before| Reply::status(301, &[&format!("Location: /{before}")])).await;
    let run = machine.run(&["put", &origin.link("/a")]).await;
    assert_failed(&stack, &run, 1, "redirects more than 10 times").await;
    assert_eq!(origin.asked().len(), 11);
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_continued_from_the_byte_it_came_to() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(3 * PART + 7);
    let modified = [
        "Accept-Ranges: bytes",
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
        "Date: Sun, 06 Nov 1994 09:00:00 GMT",
    ];
    let all: [(&[&str], bool, &str); 3] = [
        (&PARTS, true, "\"first\""),
        (&PARTS, false, "\"first\""),
        (&modified, true, "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    for (headers, sized, validator) in all {
        let given: Vec<_> = headers.iter().map(|&header| header.to_owned()).collect();
        let origin = host_of(&bytes, move |asked, before, body| {
            let headers: Vec<_> = given.iter().map(String::as_str).collect();
            match (before, asked.from()) {
                (0, _) if sized => Reply::whole(&headers, body).cut(2_000_000),
                (0, _) => Reply::chunked(&headers, body).cut(2_000_000),
                (1, Some(start)) => Reply::rest(&headers, body, start).cut(1_000_000),
                (2, _) => Reply::status(503, &["Retry-After: 0"]),
                (_, Some(start)) => Reply::rest(&headers, body, start),
                (_, None) => Reply::status(500, &[]),
            }
        })
        .await;

        let run = machine
            .run(&["put", "--part-size", "5MiB", &origin.link("/db.dump")])
            .await;

        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(stack.bucket.get("db.dump").await.unwrap().bytes == bytes);
        let asked = origin.asked();
        assert_eq!(asked.len(), 4, "{asked:?}");
        assert!(asked[1..].iter().all(|asked| asked.headers["if-range"] == validator));
        assert_eq!(asked[3].from(), Some(bytes.len() - 1_000_000));
    }
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
}

#[tokio::test]
async fn a_host_that_falls_silent_is_asked_for_the_rest() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(PART);
    let origin = host_of(&bytes, |asked, _, body| match asked.from() {
        None => Reply::whole(&PARTS, body).stalled(1_000_000),
        Some(start) => Reply::rest(&PARTS, body, start),
    })
    .await;
    let run = machine.run(&["put", "--stall-timeout", "1", &origin.link("/a")]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("nothing came for 1 s"), "{}", run.stderr);
    assert!(stack.bucket.get("a").await.unwrap().bytes == bytes);
}

#[tokio::test]
async fn what_breaks_off_and_cannot_be_continued_leaves_nothing_and_says_so() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(2 * PART);
    for (headers, sized) in [
        (&["ETag: \"first\""][..], true),
        (&["ETag: \"first\""], false),
        (&["Accept-Ranges: bytes", "ETag: W/\"first\""], true),
    ] {
        let given: Vec<_> = headers.iter().map(|&header| header.to_owned()).collect();
        let origin = host_of(&bytes, move |_, _, body| {
            let headers: Vec<_> = given.iter().map(String::as_str).collect();
            let all = if sized { Reply::whole } else { Reply::chunked };
            all(&headers, body).cut(1_000)
        })
        .await;
        let run = machine
            .run(&["put", "--part-size", "5MiB", &origin.link("/db.dump")])
            .await;
        assert_failed(&stack, &run, 75, "no object was made of it").await;
        assert!(run.stderr.contains("Accept-Ranges"), "{}", run.stderr);
        assert_eq!(origin.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_length_that_never_comes_is_given_up_after_the_tries() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    // Of the eleven bytes it promises it has ten.
    let origin = Origin::start(|asked, _| match asked.from() {
        None => Reply::whole(&PARTS, b"0123456789+").cut(1),
        Some(start) => Reply::rest(&PARTS, b"0123456789+", start).cut(1),
    })
    .await;
    let run = machine.run(&["--tries", "3", "put", &origin.link("/a")]).await;
    assert_failed(&stack, &run, 75, "after 10 of 11 bytes, in 3 tries").await;
    assert_eq!(origin.asked().len(), 3);
}

#[tokio::test]
async fn content_that_changes_between_two_connections_is_exit_4_and_leaves_nothing() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(2 * PART);
    let replies: [fn(usize, &[u8]) -> Reply; 3] = [
        |_, body| Reply::whole(&["ETag: \"second\""], body),
        |start, body| Reply::rest(&["ETag: \"second\""], body, start),
        |start, body| Reply::rest(&[], &[body, b"more"].concat(), start),
    ];
    for reply in replies {
        let origin = host_of(&bytes, move |asked, _, body| match asked.from() {
            None => Reply::whole(&PARTS, body).cut(1_000_000),
            Some(start) => reply(start, body),
        })
        .await;
        let run = machine
            .run(&["put", "--part-size", "5MiB", &origin.link("/db.dump")])
            .await;
        assert_failed(&stack, &run, 4, "the upload was aborted").await;
    }
}

#[tokio::test]
async fn a_host_that_does_not_heed_the_condition_is_found_out_by_what_it_says_of_the_rest() {
    const EARLY: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
    const LATE: &str = "Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT";
    const DATE: &str = "Date: Tue, 08 Nov 1994 08:49:37 GMT";
    const RANGES: &str = "Accept-Ranges: bytes";
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(2 * PART);
    for (whole, rest) in [
        (&["ETag: \"first\"", RANGES][..], &[][..]),
        (&[EARLY, DATE, RANGES], &[LATE, DATE]),
        (
            &[EARLY, DATE, RANGES, "ETag: W/\"first\""],
            &["ETag: W/\"second\"", DATE],
        ),
    ] {
        let origin = host_of(&bytes, move |asked, _, body| match asked.from() {
            None => Reply::whole(whole, body).cut(1_000_000),
            Some(start) => Reply::rest(rest, body, start),
        })
        .await;
        let run = machine.run(&["put", &origin.link("/db.dump")]).await;
        assert_failed(&stack, &run, 4, "the upload was aborted").await;
    }
}

#[tokio::test]
async fn a_rest_that_was_not_asked_for_is_not_taken() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(2 * PART);
    let replies: [fn(usize, &[u8]) -> Reply; 3] = [
        |_, body| Reply::whole(&PARTS, body),
        |start, body| Reply::rest(&PARTS, body, start - 1),
        |_, body| {
            let headers = PARTS.iter().copied().chain(["Content-Length: 1000000"]);
            Reply::new(206, &headers.map(str::to_owned).collect::<Vec<_>>(), &body[..1_000_000])
        },
    ];
    for reply in replies {
        let origin = host_of(&bytes, move |asked, _, body| match asked.from() {
            None => Reply::whole(&PARTS, body).cut(1_000_000),
            Some(start) => reply(start, body),
        })
        .await;
        let run = machine.run(&["put", &origin.link("/db.dump")]).await;
        assert_failed(&stack, &run, 1, "upload the file").await;
    }
}

#[tokio::test]
async fn what_a_host_refuses_is_final_and_what_passes_by_itself_is_waited_for() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    for (status, code, tries, words) in [
        (401, 1, 1, "USER:PASSWORD"),
        (403, 1, 1, "may have expired"),
        (404, 1, 1, "HTTP 404"),
        (410, 1, 1, "HTTP 410"),
        (204, 1, 1, "HTTP 204"),
        (429, 75, 2, "HTTP 429"),
        (503, 75, 2, "HTTP 503"),
    ] {
        let origin = Origin::start(move |_, _| Reply::status(status, &["Retry-After: 0"])).await;
        let run = machine.run(&["--tries", "2", "put", &origin.link("/a")]).await;
        assert_failed(&stack, &run, code, words).await;
        assert_eq!(origin.asked().len(), tries, "{status}");
    }
    let gone = Origin::start(|_, _| Reply::status(200, &[])).await;
    let link = gone.link("/a");
    drop(gone);
    let run = machine.run(&["--tries", "2", "put", &link]).await;
    assert_failed(&stack, &run, 75, "could not connect to").await;
}

#[tokio::test]
async fn content_that_is_encoded_or_has_no_end_of_its_own_is_refused() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let encoded = Origin::start(|_, _| Reply::whole(&["Content-Encoding: gzip"], b"content")).await;
    let run = machine.run(&["put", &encoded.link("/a")]).await;
    assert_failed(&stack, &run, 1, "encoded (gzip)").await;
    let packed =
        Origin::start(|_, _| Reply::new(200, &["Transfer-Encoding: gzip, chunked".into()], b"0\r\n\r\n")).await;
    let run = machine.run(&["put", &packed.link("/a")]).await;
    assert_failed(&stack, &run, 1, "encoded (gzip, chunked)").await;

    let endless = Origin::start(|_, _| Reply::new(200, &[], b"content")).await;
    let run = machine.run(&["put", &endless.link("/a")]).await;
    assert_failed(&stack, &run, 1, "a cut connection would look like its end").await;
}

#[tokio::test]
async fn what_is_secret_in_a_link_is_never_shown() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    let origin = Origin::start(|asked, before| match (asked.target.as_str(), asked.from()) {
        ("/a?key=secret", None) if before == 0 => Reply::whole(&PARTS, b"content").cut(3),
        ("/a?key=secret", None) => Reply::whole(&PARTS, b"content"),
        ("/a?key=secret", Some(start)) => Reply::rest(&PARTS, b"content", start),
        ("/b?key=secret", _) => Reply::status(302, &["Location: /c?key=secret"]),
        ("/silent?key=secret", _) => Reply::new(200, &[], b"").cut(10),
        _ => Reply::status(404, &[]),
    })
    .await;
    for path in ["/a?key=secret", "/b?key=secret", "/silent?key=secret"] {
        let link = origin.link_as("user:secret", path);
        for style in [&["put"][..], &["--json", "put"]] {
            let run = machine.run(&[&["--tries", "2"], style, &[&link]].concat()).await;
            let (shown, _) = path.split_once('?').unwrap();
            assert!(
                run.stdout.contains(shown) || run.stderr.contains(&origin.link(shown)),
                "{run:?}"
            );
            for said in [&run.stdout, &run.stderr] {
                assert!(!said.contains("secret") && !said.contains("key="), "{said}");
            }
            for line in run.stdout.lines().filter(|_| style.len() == 2) {
                let event: Value = serde_json::from_str(line).unwrap();
                assert_eq!(event["file"], origin.link(shown));
            }
        }
    }
    let unreadable = machine.run(&["put", "https://user:secret/1@host/"]).await;
    assert_eq!(unreadable.code, Some(2), "{unreadable:?}");
    assert!(!unreadable.stderr.contains("secret"), "{}", unreadable.stderr);
}

#[tokio::test]
async fn the_brokers_token_stays_with_the_broker() {
    let stack = Stack::with_tokens(&[("alice", "alice-token")]).await;
    let mut machine = Machine::with_broker(&stack.broker.base());
    machine.environment.insert("UPLOADER_TOKEN", "alice-token".into());
    let origin = Origin::start(|_, _| Reply::whole(&[], b"content")).await;
    let run = machine.run(&["put", &origin.link("/a")]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let asked = origin.asked();
    assert_eq!(asked.len(), 1);
    assert!(!format!("{asked:?}").contains("alice-token"), "{asked:?}");
    assert!(!asked[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_link_that_fails_does_not_stop_files_and_links_beside_it() {
    let stack = Stack::start().await;
    let machine = Machine::with_broker(&stack.broker.base());
    machine.file("file", b"of a file");
    let origin = Origin::start(|asked, _| match asked.target.as_str() {
        "/link" => Reply::whole(&[], b"of a link"),
        _ => Reply::status(404, &[]),
    })
    .await;
    let (good, bad) = (origin.link("/link"), origin.link("/absent"));
    let upper = good.replace("http", "HTTP");

    let run = machine.run(&["--json", "put", &bad, "file", &upper]).await;

    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(stack.bucket.keys("").await, ["file", "link"]);
    assert_eq!(stack.bucket.get("link").await.unwrap().bytes, b"of a link");
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
    let alone = machine.run(&["--json", "put", &good]).await;
    assert_eq!(completed(&alone)["file"], good);
}

#[tokio::test]
async fn a_link_that_never_ends_is_stopped_where_no_object_could_be_made_of_it() {
    let settings = Settings {
        max_size: Some(2 * PART + 1),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let machine = Machine::with_broker(&stack.broker.base());
    let bytes = random_bytes(4 * PART);
    let origin = host_of(&bytes, |_, _, body| Reply::chunked(&[], body).stalled(5)).await;

    let run = machine
        .run(&["put", "--part-size", "5MiB", &origin.link("/endless")])
        .await;

    assert_failed(&stack, &run, 1, "file_too_large").await;
}
