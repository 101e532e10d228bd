//! What the operator sees: series, readiness, and where they are told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use broker::config::{Secret, Settings};
use reqwest::Method;
use serde_json::{Value, json};
use shared::MIB;
use store::fault::{Fault, head};
use tests::{
    Answer, Api, Receiver, Relay, Series, Stack, StoreUnderTest, pattern, postgres_database, series, sha256_hex,
};

/// Settings of a broker that answers its operator.
/// What was found is told again for so long.
const READY_FRESH: Duration = Duration::from_millis(500);

fn with_admin() -> Settings {
    Settings {
        admin_listen: Some(([127, 0, 0, 1], 0).into()),
        ..Settings::default()
    }
}

async fn all(admin: &Api) -> Vec<Series> {
    let answer = admin.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    series(&answer.text())
}

/// The sum of the series of this name with these labels, which count whole things.
fn sum(all: &[Series], name: &str, labels: &[(&str, &str)]) -> u64 {
    let wanted = |one: &&Series| {
        let has = |(label, value): &(&str, &str)| one.labels.get(*label).is_some_and(|is| is == value);
        one.name == name && labels.iter().all(has)
    };
    all.iter()
        .filter(wanted)
        .map(|one| one.value.parse::<u64>().unwrap())
        .sum()
}

#[tokio::test]
async fn t36_metrics_are_told_on_the_operators_address_alone() {
    let stack = Stack::with(StoreUnderTest::embedded().await, with_admin()).await;
    assert_eq!(stack.api.get("/metrics").await.problem(404).code, "no_such_route");

    let admin = stack.broker.admin();
    let told = admin.get("/metrics").await;

    assert_eq!(told.status, 200);
    assert_eq!(told.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(admin.get("/healthz").await.status, 200);
    assert_eq!(admin.get("/readyz").await.status, 200);
    assert_eq!(admin.get("/v1/me").await.problem(404).code, "no_such_route");
    let rebound = admin.request(Method::GET, "/metrics").header("host", "evil.example");
    assert_eq!(
        admin.send(rebound).await.status,
        403,
        "a page's own name that leads here"
    );
    assert_eq!(
        admin.post("/metrics", &json!({})).await.problem(405).code,
        "method_not_allowed"
    );
}

#[tokio::test]
async fn t36_labels_are_words_of_the_program_whatever_is_asked() {
    let settings = Settings {
        tokens: Some(format!("carol-of-accounts={}", sha256_hex("carols token"))),
        key_template: Some("{principal}/{name}".into()),
        downloads: Some(true),
        ..with_admin()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let api = stack.api.with_token("carols token");
    let admin = stack.broker.admin();
    let ids = async |round: u32| {
        let upload = api.create(&format!("private-{round}.bin"), 1).await;
        api.send_parts(&upload, b"x", [1]).await;
        api.complete(&upload.upload_id).await.expect::<Value>(200);
        api.get(&format!("/nowhere/{round}?secret={round}")).await;
        api.get(&format!("/v1/uploads/made-up-{round}")).await;
        api.with_token(&format!("wrong-{round}")).get("/v1/me").await;
        let odd = Method::from_bytes(format!("ODD{round}").as_bytes()).unwrap();
        api.send(api.request(odd, "/v1/uploads")).await;
        upload.upload_id.to_string()
    };
    let first = ids(0).await;
    let names = |all: &[Series]| -> BTreeSet<String> {
        all.iter().map(|one| format!("{}{:?}", one.name, one.labels)).collect()
    };
    let before = names(&all(&admin).await);
    for round in 1..5 {
        ids(round).await;
    }

    let text = admin.get("/metrics").await.text();

    let grown: Vec<_> = names(&series(&text)).difference(&before).cloned().collect();
    let told_of_the_first_scrape = |name: &String| name.contains("/metrics");
    assert!(grown.iter().all(told_of_the_first_scrape), "{grown:?}");
    for private in [
        first.as_str(),
        "private",
        "carol",
        "wrong",
        "nowhere",
        "made-up",
        "ODD",
        "secret",
    ] {
        assert!(!text.contains(private), "{private} is in {text}");
    }
    for credential in [&stack.store.access_key_id, &stack.store.secret_access_key] {
        assert!(!text.contains(credential.as_str()));
    }
}

#[tokio::test]
async fn what_was_done_is_counted() {
    let receiver = Receiver::start().await;
    let settings = Settings {
        webhook_url: Some(Secret(receiver.url())),
        webhook_secret: Some(Secret(Receiver::SECRET.into())),
        downloads: Some(true),
        ..with_admin()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    receiver.answers(500);
    let admin = stack.broker.admin();
    stack.store.faulty().inject(Fault::InternalError, head());
    stack.api.upload("one", &pattern(6 * MIB)).await;
    let open = stack.api.create("two", 1).await;
    stack.api.delete(&format!("/v1/uploads/{}", open.upload_id)).await;
    stack.api.create("three", 1).await;
    stack
        .api
        .post("/v1/downloads", &json!({"key": "one"}))
        .await
        .expect::<Value>(201);
    let file = json!({"name": "four", "size": 1, "md5": "1B2M2Y8AsgTpgAmY7PhCfg=="});
    let bad = json!({"name": "../five", "size": 1, "md5": "1B2M2Y8AsgTpgAmY7PhCfg=="});
    stack
        .api
        .post("/v1/batches", &json!({"files": [file, bad]}))
        .await
        .expect::<Value>(201);
    stack.broker.sweep().await;
    stack.broker.deliver().await;

    let now = all(&admin).await;

    let is = |name: &str, labels: &[(&str, &str)]| sum(&now, name, labels);
    let created = [("route", "/v1/uploads"), ("method", "POST"), ("status", "2xx")];
    assert_eq!(is("broker_request_duration_seconds_count", &created), 3);
    assert_eq!(is("broker_uploads_ended_total", &[("kind", "completed")]), 1);
    assert_eq!(is("broker_uploads_ended_total", &[("kind", "aborted")]), 1);
    assert_eq!(is("broker_completed_bytes_total", &[]), 6 * MIB);
    assert_eq!(is("broker_urls_signed_total", &[("kind", "part")]), 1);
    assert_eq!(is("broker_urls_signed_total", &[("kind", "object")]), 1);
    assert_eq!(is("broker_urls_signed_total", &[("kind", "download")]), 1);
    assert_eq!(
        is("broker_problems_total", &[("code", "invalid_name")]),
        1,
        "one of a batch counts"
    );
    let completed = [("operation", "CompleteMultipartUpload"), ("outcome", "ok")];
    assert_eq!(is("broker_store_call_duration_seconds_count", &completed), 1);
    assert_eq!(is("broker_store_retries_total", &[("operation", "HeadObject")]), 1);
    assert_eq!(is("broker_uploads", &[("state", "open")]), 2);
    assert_eq!(is("broker_uploads", &[("state", "clearing")]), 1);
    assert_eq!(is("broker_webhooks", &[("state", "pending")]), 2);
    assert_eq!(is("broker_sweeper_runs_total", &[("outcome", "ok")]), 1);
    assert!(is("broker_sweeper_last_success_timestamp_seconds", &[]) > 1_000_000_000);
    assert!(is("broker_ledger_wait_seconds_count", &[]) > 0);
    assert_eq!(is("broker_ready", &[]), 3);
    assert_eq!(is("broker_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1);
}

#[tokio::test]
async fn a_call_that_fails_is_told_by_how() {
    let mut store = StoreUnderTest::embedded().await;
    store.secret_access_key = "not-the-secret-that-the-store-knows".into();
    let denied = Stack::with(store, with_admin()).await;
    denied
        .api
        .post("/v1/uploads", &json!({"name": "a", "size": 1}))
        .await
        .problem(502);
    let calls = all(&denied.broker.admin()).await;
    let create = |outcome| [("operation", "CreateMultipartUpload"), ("outcome", outcome)];
    let count = "broker_store_call_duration_seconds_count";
    assert_eq!(sum(&calls, count, &create("denied")), 1);
    assert_eq!(sum(&calls, "broker_ready", &[("check", "store")]), 0);
    assert_eq!(sum(&calls, "broker_ready", &[("check", "ledger")]), 1);

    let relay = Relay::to(vec![]).await;
    let mut store = StoreUnderTest::embedded().await;
    store.endpoint = format!("http://{}", relay.address());
    let gone = Stack::with(store, with_admin()).await;
    gone.api
        .post("/v1/uploads", &json!({"name": "a", "size": 1}))
        .await
        .problem(503);
    let calls = all(&gone.broker.admin()).await;
    assert_eq!(sum(&calls, count, &create("unanswered")), 1);
}

#[tokio::test]
async fn who_asks_twice_within_ten_seconds_has_nobody_asked_again() {
    let stack = Stack::with(StoreUnderTest::embedded().await, with_admin()).await;
    let admin = stack.broker.admin();
    let looks = |all: Vec<Series>| {
        sum(
            &all,
            "broker_store_call_duration_seconds_count",
            &[("operation", "HeadBucket")],
        )
    };
    let first = looks(all(&admin).await);
    for _ in 0..5 {
        assert_eq!(looks(all(&admin).await), first);
    }
}

/// Answers within the two seconds that those who ask after readiness wait.
async fn within_two_seconds(asked: impl Future<Output = Answer>) -> Answer {
    let began = Instant::now();
    let answer = asked.await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}: {}", answer.text());
    answer
}

#[tokio::test]
async fn readiness_is_denied_within_two_seconds_while_the_store_says_nothing() {
    let mut store = StoreUnderTest::embedded().await;
    let relay = Relay::to(vec![store.endpoint.trim_start_matches("http://").parse().unwrap()]).await;
    store.endpoint = format!("http://{}", relay.address());
    let stack = Stack::with(store, with_admin()).await;
    assert_eq!(stack.api.get("/readyz").await.status, 200);

    relay.hush();
    tokio::time::sleep(READY_FRESH).await;
    let answer = within_two_seconds(stack.api.get("/readyz")).await;
    let scraped = within_two_seconds(stack.broker.admin().get("/metrics")).await;

    let told: Value = answer.expect(503);
    assert_eq!((&told["ledger"], &told["ready"]), (&json!("ok"), &json!(false)));
    assert!(told["store"].as_str().unwrap().contains("did not answer"), "{told}");
    assert_eq!(sum(&series(&scraped.text()), "broker_ready", &[("check", "store")]), 0);
    relay.mend();
    tokio::time::sleep(READY_FRESH).await;
    assert_eq!(stack.api.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn readiness_is_denied_within_two_seconds_while_the_ledger_says_nothing() {
    let url = postgres_database().await;
    let (_, host) = url.split_once('@').unwrap();
    let (host, database) = host.split_once('/').unwrap();
    let relay = Relay::to(vec![host.parse().unwrap()]).await;
    let settings = Settings {
        ledger: Some(format!("postgres://postgres@{}/{database}", relay.address())),
        ..with_admin()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    assert_eq!(stack.api.get("/readyz").await.status, 200);

    relay.hush();
    tokio::time::sleep(READY_FRESH).await;
    let answer = within_two_seconds(stack.api.get("/readyz")).await;
    let scraped = within_two_seconds(stack.broker.admin().get("/metrics")).await;

    let told: Value = answer.expect(503);
    assert_eq!((&told["store"], &told["ready"]), (&json!("ok"), &json!(false)));
    assert!(told["ledger"].as_str().unwrap().contains("did not answer"), "{told}");
    let now = series(&scraped.text());
    assert_eq!(sum(&now, "broker_ready", &[("check", "ledger")]), 0);
    assert!(
        !now.iter().any(|one| one.name == "broker_uploads"),
        "what is not known is not told"
    );
    relay.mend();
    tokio::time::sleep(READY_FRESH).await;
    assert_eq!(stack.api.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn t25_readiness_that_is_asked_for_all_the_time_asks_the_store_twice_a_second() {
    let stack = Stack::with(StoreUnderTest::embedded().await, with_admin()).await;
    let admin = stack.broker.admin();
    let asked = async || {
        let labels = [("operation", "HeadBucket")];
        sum(&all(&admin).await, "broker_store_call_duration_seconds_count", &labels)
    };
    let (before, began) = (asked().await, Instant::now());
    for _ in 0..200 {
        assert_eq!(stack.api.get("/readyz").await.status, 200);
    }
    let most = u64::try_from(began.elapsed().as_millis() / 500).unwrap() + 3;
    let calls = asked().await - before;
    assert!(calls <= most, "{calls} calls, {most} at most");
}
