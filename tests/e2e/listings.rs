//! What a caller can look at: uploads that have not ended, objects, and downloads of them.

use std::time::Duration;

use broker::config::Settings;
use reqwest::Method;
use serde_json::json;
use shared::api::{Download, ObjectList, OpenUploads};
use tests::{Api, Stack, StoreUnderTest, pattern, sha256_hex};

/// A broker for these callers, each with a folder of their own, which they may list and download from.
async fn with_folders(callers: &[&str]) -> Stack {
    let tokens = callers
        .iter()
        .map(|name| format!("{name}={}", sha256_hex(&format!("token of {name}"))));
    let settings = Settings {
        tokens: Some(tokens.collect::<Vec<_>>().join(",")),
        key_template: Some("{principal}/{name}".into()),
        downloads: Some(true),
        ..Settings::default()
    };
    Stack::with(StoreUnderTest::embedded().await, settings).await
}

fn caller(stack: &Stack, name: &str) -> Api {
    stack.api.with_token(&format!("token of {name}"))
}

fn keys(list: &ObjectList) -> Vec<&str> {
    list.objects.iter().map(|object| object.key.as_str()).collect()
}

#[tokio::test]
async fn open_uploads_are_listed_page_by_page_for_their_owner_alone() {
    let stack = with_folders(&["alice", "bob"]).await;
    let (alice, bob) = (caller(&stack, "alice"), caller(&stack, "bob"));
    for number in 0..5 {
        alice.create(&format!("file {number}"), 7).await;
    }
    alice.upload("done", b"content").await;
    let gone = alice.create("gone", 7).await;
    assert_eq!(
        alice.delete(&format!("/v1/uploads/{}", gone.upload_id)).await.status,
        204
    );

    let mut names = Vec::new();
    let mut path = "/v1/uploads?limit=2".to_owned();
    loop {
        let page: OpenUploads = alice.get(&path).await.expect(200);
        assert!((1..=2).contains(&page.uploads.len()));
        assert!(page.uploads.iter().all(|upload| upload.size == Some(7)));
        names.extend(page.uploads.into_iter().map(|upload| upload.name));
        let Some(cursor) = page.next_cursor else { break };
        path = format!("/v1/uploads?limit=2&cursor={cursor}");
    }

    names.sort();
    assert_eq!(names, [0, 1, 2, 3, 4].map(|number| format!("file {number}")));
    let others: OpenUploads = bob.get("/v1/uploads").await.expect(200);
    assert!(others.uploads.is_empty());
    stack.broker.clock().advance(Duration::from_hours(8 * 24));
    let later: OpenUploads = alice.get("/v1/uploads").await.expect(200);
    assert!(later.uploads.is_empty(), "an expired upload is listed");
}

#[tokio::test]
async fn objects_are_listed_by_prefix_and_folder_page_by_page() {
    let stack = with_folders(&["alice"]).await;
    let alice = caller(&stack, "alice");
    for name in ["a", "b/1", "b/2", "b/ü &+%", "c"] {
        alice.upload(name, name.as_bytes()).await;
    }

    let top: ObjectList = alice.get("/v1/objects?delimiter=/").await.expect(200);
    assert_eq!(top.prefix, "alice/");
    assert_eq!(
        (keys(&top), top.prefixes.clone()),
        (vec!["alice/a", "alice/c"], vec!["alice/b/".to_owned()])
    );

    let first: ObjectList = alice.get("/v1/objects?prefix=alice/b/&limit=2").await.expect(200);
    assert_eq!(keys(&first), ["alice/b/1", "alice/b/2"]);
    assert_eq!(first.objects[0].size, 3);
    let cursor = first.next_cursor.unwrap();
    let request = alice.request(Method::GET, "/v1/objects");
    let query = [("prefix", "alice/b/"), ("limit", "2"), ("cursor", &cursor)];
    let second: ObjectList = alice.send(request.query(&query)).await.expect(200);
    assert_eq!(
        (keys(&second), second.next_cursor.clone()),
        (vec!["alice/b/ü &+%"], None)
    );
}

#[tokio::test]
async fn a_download_is_one_object_whole_or_in_ranges_and_only_that_version() {
    let stack = with_folders(&["alice"]).await;
    let alice = caller(&stack, "alice");
    let bytes = pattern(100_000);
    alice.upload("ü &+%", &bytes).await;

    let asked = json!({"key": "alice/ü &+%"});
    let download: Download = alice.post("/v1/downloads", &asked).await.expect(201);
    assert_eq!((download.method.as_str(), download.size), ("GET", 100_000));
    assert!(download.expires_in > 0);

    let url = Api::at(&download.url);
    let whole = url.send(url.request(Method::GET, "")).await;
    assert!(whole.status == 200 && whole.body == bytes, "{}", whole.status);
    let ranged = |etag: &str| {
        let request = url.request(Method::GET, "").header("Range", "bytes=10-19");
        request.header("If-Match", etag)
    };
    let part = url.send(ranged(download.etag.as_str())).await;
    assert_eq!((part.status, part.body.as_ref()), (206, &bytes[10..20]));
    assert_eq!(url.send(ranged("\"another\"")).await.status, 412);
    assert_eq!(url.send(url.request(Method::DELETE, "")).await.status, 403);
}

#[tokio::test]
async fn what_belongs_to_others_is_neither_listed_nor_downloaded() {
    let stack = with_folders(&["alice", "alice2", "bob"]).await;
    let (alice, bob) = (caller(&stack, "alice"), caller(&stack, "bob"));
    caller(&stack, "alice2").upload("secret", b"content").await;
    bob.upload("secret", b"content").await;

    for prefix in ["", "a", "alice", "alice/", "bob/", "b", "alice2/"] {
        let list: ObjectList = alice.get(&format!("/v1/objects?prefix={prefix}")).await.expect(200);
        assert_eq!(keys(&list), [""; 0], "{prefix:?}");
        let list: ObjectList = alice
            .get(&format!("/v1/objects?delimiter=/&prefix={prefix}"))
            .await
            .expect(200);
        assert_eq!(list.prefixes, [""; 0], "{prefix:?}");
    }
    for key in ["bob/secret", "alice2/secret", "alice/secret", "alice/../bob/secret"] {
        let refused = alice.post("/v1/downloads", &json!({ "key": key })).await;
        assert_eq!(refused.problem(404).code, "no_such_object", "{key}");
    }
}

#[tokio::test]
async fn without_the_operators_word_nothing_is_listed_or_downloaded() {
    let stack = Stack::with_tokens(&[("alice", "token")]).await;
    let alice = stack.api.with_token("token");
    alice.upload("a", b"content").await;
    assert_eq!(
        alice.get("/v1/objects").await.problem(403).code,
        "downloads_not_granted"
    );
    let refused = alice.post("/v1/downloads", &json!({"key": "a"})).await;
    assert_eq!(refused.problem(403).code, "downloads_not_granted");
    assert_eq!(stack.api.get("/v1/objects").await.problem(401).code, "unauthenticated");
}

#[tokio::test]
async fn a_query_that_cannot_be_right_is_refused() {
    let stack = with_folders(&["alice"]).await;
    let alice = caller(&stack, "alice");
    for path in [
        "/v1/uploads?limit=0",
        "/v1/uploads?limit=1001",
        "/v1/uploads?limit=x",
        "/v1/uploads?cursor=no-id",
        "/v1/uploads?crusor=x",
        "/v1/objects?limit=0",
        "/v1/objects?prefix=a&prefix=b",
        "/v1/objects?cursor=",
        "/v1/objects?prefix=%01",
        "/v1/objects?delimiter=%00",
        "/v1/objects?prefix=%FF",
        "/v1/objects?a%0aFAKE%20LINE=1",
    ] {
        let refused = alice.get(path).await;
        let problem = refused.problem(400);
        assert_eq!(problem.code, "invalid_query", "{path}");
        assert!(!problem.detail.contains('\n'), "{}", problem.detail);
    }
}

#[test]
fn downloads_need_a_template_that_keeps_principals_apart() {
    let settings = Settings {
        key_template: Some("{date}/{principal}/{name}".into()),
        downloads: Some(true),
        ..Settings::default()
    };
    let refusal = settings.resolve().unwrap_err().to_string();
    assert!(
        refusal.contains("--downloads") && refusal.contains("{principal}/"),
        "{refusal}"
    );
}
