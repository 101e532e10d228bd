//! T17: whatever is asked of a broker, and however it fails, nothing that it writes gives a secret away.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use shared::api::{BatchUpload, CreatedBatch};
use tests::{
    Answer, Api, BrokerProcess, Program, Receiver, Relay, StoreUnderTest, md5, postgres_database, put, sha256_hex,
    until,
};

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));
const TOKEN: &str = "the-token-of-alice";
const WRONG: &str = "a-token-of-another-broker";
const LEDGER_PASSWORD: &str = "the-ledgers-password";
/// In the query of the receiver's URL.
const HOOK_TOKEN: &str = "hunter2";

/// What must not be found, by what it is.
#[derive(Default)]
struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// What no broker may write.
    fn of_every_broker() -> Self {
        let known = [
            ("token", TOKEN),
            ("wrong token", WRONG),
            ("webhook secret", Receiver::SECRET),
            ("webhook URL's token", HOOK_TOKEN),
            ("V4 signature of a query", "X-Amz-Signature="),
            ("V4 signature of a header", "Signature="),
            ("V2 key", "AWSAccessKeyId="),
            // By it an upload knows its object.
            ("write token", "broker-write-token"),
            ("what the SDK signs", "canonical_request"),
        ];
        Self(known.map(|(what, secret)| (what.to_owned(), secret.to_owned())).into())
    }

    fn add(&mut self, what: &str, secret: &str) {
        assert!(secret.len() > 6, "{what} is too short to look for: {secret}");
        let what = format!("{what} {}", self.0.len());
        self.0.insert(what, secret.to_owned());
    }

    /// The signature of a URL that was handed out, as it stands there and as it was before it was escaped.
    fn add_url(&mut self, url: &str) {
        let signature = ["X-Amz-Signature=", "&Signature="];
        let signature = signature.iter().find_map(|name| url.split(name).nth(1)).unwrap();
        let signature = signature.split('&').next().unwrap();
        self.add("signature", signature);
        let raw = signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        self.add("signature", &raw);
    }

    /// What of it stands in `text`.
    fn found_in(&self, text: &str) -> Vec<&str> {
        let found = self.0.iter().filter(|(_, secret)| text.contains(secret.as_str()));
        found.map(|(what, _)| what.as_str()).collect()
    }

    /// None of it stands in `text`; and each would have been found.
    #[track_caller]
    fn are_not_in(&self, text: &str, what: &str) {
        assert_eq!(self.found_in(text), [""; 0], "in {what}");
        for (name, secret) in &self.0 {
            let middle = text.floor_char_boundary(text.len() / 2);
            let planted = format!("{}{secret}{}", &text[..middle], &text[middle..]);
            assert!(
                self.found_in(&planted).contains(&name.as_str()),
                "{name} would not be found"
            );
        }
    }
}

/// Everything that there is to ask, answers of all kinds, and the URLs handed out noted.
async fn ask_for_everything(broker: &BrokerProcess, secrets: &mut Secrets) {
    let (nobody, api) = (broker.api(), broker.api().with_token(TOKEN));
    let upload = api.create("in parts", 3).await;
    let path = format!("/v1/uploads/{}", upload.upload_id);
    api.complete(&upload.upload_id).await.problem(409);
    let signed = api.sign(&upload.upload_id, 1, Some(md5(b"abc"))).await;
    secrets.add_url(&signed.url);
    assert_eq!(put(&signed.url, &signed.headers, b"abc".to_vec()).await.status, 200);
    // A URL that is altered is refused by the store, which tells what it would have signed.
    put(
        &signed.url.replace("partNumber=1", "partNumber=2"),
        &signed.headers,
        b"abc".to_vec(),
    )
    .await;
    api.get(&path).await.expect::<Value>(200);
    api.complete(&upload.upload_id).await.expect::<Value>(200);
    api.complete(&upload.upload_id).await.expect::<Value>(200);
    api.get(&format!("{path}/events")).await.expect::<Value>(200);
    let given_up = api.create("given up", 3).await;
    assert_eq!(
        api.delete(&format!("/v1/uploads/{}", given_up.upload_id)).await.status,
        204
    );

    let fields = [
        ("keyname", "by form"),
        ("expires", "900"),
        ("1", &md5(b"abc").to_base64()),
    ];
    let mut form: BTreeMap<String, String> = api.post_form("/presign", &owned(&fields)).await.expect(201);
    let id = form.remove("UploadID").unwrap();
    secrets.add_url(&form["1"]);
    let headers = BTreeMap::from([("Content-MD5".to_owned(), md5(b"abc").to_base64())]);
    assert_eq!(put(&form["1"], &headers, b"abc".to_vec()).await.status, 200);
    let named = owned(&[("uploadid", &id), ("keyname", "by form")]);
    assert_eq!(api.post_form("/complete", &named).await.status, 200);
    api.post_form("/abort", &named).await;

    let file = |name: &str| json!({"name": name, "size": 3, "md5": md5(b"abc").to_base64()});
    let files = json!({"files": [file("small"), file("../no")]});
    let batch: CreatedBatch = api.post("/v1/batches", &files).await.expect(201);
    let BatchUpload::Admitted { upload_id, request, .. } = &batch.files[0] else {
        panic!("{batch:?}");
    };
    let request = request.as_ref().unwrap();
    secrets.add_url(&request.url);
    put(&request.url, &request.headers, b"abc".to_vec()).await;
    api.post("/v1/batches/complete", &json!({"uploads": [upload_id]}))
        .await
        .expect::<Value>(200);

    api.get("/v1/objects").await.expect::<Value>(200);
    api.get("/v1/uploads").await.expect::<Value>(200);
    api.get("/v1/me").await.expect::<Value>(200);
    let download: Value = api.post("/v1/downloads", &json!({"key": upload.key})).await.expect(201);
    secrets.add_url(download["url"].as_str().unwrap());
    Api::at(download["url"].as_str().unwrap()).get("").await;

    let made: Value = api
        .post("/v1/tickets", &json!({"destination": "default"}))
        .await
        .expect(201);
    let ticket = made["ticket"].as_str().unwrap();
    secrets.add("ticket", ticket);
    nobody.get(&format!("/t/{ticket}/v1/me")).await.expect::<Value>(200);
    nobody.with_token(ticket).get("/v1/me").await.expect::<Value>(200);
    nobody.get(&format!("/t/{ticket}/nowhere")).await.problem(404);
    nobody.get(&format!("/t/{ticket}")).await.problem(404);
    nobody.get(&format!("/t/{WRONG}/v1/me")).await.problem(401);

    nobody.get("/v1/me").await.problem(401);
    nobody.with_token(WRONG).get("/v1/me").await.problem(401);
    nobody.get(&format!("/v1/me?token={WRONG}")).await.problem(401);
    nobody
        .send(
            nobody
                .request(reqwest::Method::GET, "/v1/me")
                .basic_auth("alice", Some(WRONG)),
        )
        .await
        .problem(401);
    api.post("/v1/uploads", &json!({"name": "a", "token": WRONG}))
        .await
        .problem(400);
    api.post("/v1/downloads", &json!({"key": "nothing"})).await.problem(404);
    api.get("/v1/uploads/unknown").await.problem(404);
    api.get("/nowhere").await.problem(404);
    assert_eq!(nobody.get("/readyz").await.status, 200);
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    fields.iter().map(own).collect()
}

/// What a broker is told here beside where its store is.
fn settings(log: &'static str, format: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("BROKER_LOG", log),
        ("BROKER_LOG_FORMAT", format),
        ("BROKER_ADMIN_LISTEN", "127.0.0.1:0"),
        ("BROKER_DOWNLOADS", "true"),
        ("BROKER_KEY_TEMPLATE", "{principal}/{name}"),
        ("BROKER_WEBHOOK_SECRET", Receiver::SECRET),
        ("RUST_BACKTRACE", "1"),
    ]
}

fn log_of(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("log")).unwrap()
}

/// What a broker has written in JSON, line by line; each is an object.
fn lines(log: &str) -> Vec<serde_json::Map<String, Value>> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test]
async fn t17_no_secret_is_in_the_json_log_or_the_series_of_a_broker_on_its_own_store() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    receiver.answers(500);
    let (url, tokens) = (receiver.url(), format!("alice={}", sha256_hex(TOKEN)));
    let mut more = settings("trace", "json");
    more.extend([("BROKER_WEBHOOK_URL", url.as_str()), ("BROKER_TOKENS", &tokens)]);
    let log = Stdio::from(File::create(directory.path().join("log")).unwrap());
    let broker = BrokerProcess::start_logging(BROKER, directory.path(), None, 0, &more, log).await;
    let mut secrets = Secrets::of_every_broker();
    let keys = std::fs::read_to_string(directory.path().join("data/store-credentials")).unwrap();
    let keys: BTreeMap<String, String> = serde_json::from_str(&keys).unwrap();
    for (name, key) in &keys {
        secrets.add(name, key);
    }

    ask_for_everything(&broker, &mut secrets).await;
    until(|| log_of(directory.path()).contains("webhook was not taken")).await;
    let series = broker.admin().get("/metrics").await;
    let answer: Answer = broker.api().get("/nowhere").await;
    let id = answer.problem(404).request_id;
    broker.kill().await;

    let log = log_of(directory.path());
    assert!(
        log.contains("\"TRACE\"") || log.contains("\"DEBUG\""),
        "detail was asked for: {log}"
    );
    secrets.are_not_in(&log, "the log");
    secrets.are_not_in(&series.text(), "the series");
    let lines = lines(&log);
    let access = |line: &&serde_json::Map<String, Value>| line["target"] == "broker::access";
    let of_request = |line: &&serde_json::Map<String, Value>| line["span"]["id"] == id.as_str();
    let line: Vec<_> = lines.iter().filter(access).filter(of_request).collect();
    assert_eq!(line.len(), 1, "one line a request");
    assert_eq!(
        (&line[0]["fields"]["status"], &line[0]["span"]["method"]),
        (&json!(404), &json!("GET"))
    );
    let created = |line: &&serde_json::Map<String, Value>| {
        line["fields"]["route"] == "/v1/uploads" && line["fields"]["status"] == 201
    };
    let created = lines.iter().filter(access).find(created).unwrap();
    assert_eq!(created["fields"]["principal"], "alice");
    assert!(created["fields"]["milliseconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn t17_no_secret_is_in_the_text_log_of_a_broker_whose_store_and_ledger_fail_and_whose_operator_asks_for_modules()
{
    // Each would win over a filter for its whole library.
    const FILTER: &str = "trace,aws_sigv4::http_request=trace,aws_smithy_runtime::client=trace,aws_config::profile=trace,\
                          aws_sdk_s3::operation=trace,sqlx::query=trace,sqlx_core=trace,hyper_util::client=trace,\
                          reqwest::connect=trace,actix_http::h1=trace,rustls::client=trace,log=trace";
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let mut store = StoreUnderTest::embedded().await;
    let relay = Relay::to(vec![store.endpoint.trim_start_matches("http://").parse().unwrap()]).await;
    store.endpoint = format!("http://{}", relay.address());
    let database = postgres_database().await;
    let (_, host) = database.split_once('@').unwrap();
    let (host, database) = host.split_once('/').unwrap();
    let line = Relay::to(vec![host.parse().unwrap()]).await;
    let ledger = format!("postgres://postgres:{LEDGER_PASSWORD}@{}/{database}", line.address());
    let (url, tokens) = (receiver.url(), format!("alice={}", sha256_hex(TOKEN)));
    let mut more = settings(FILTER, "text");
    more.extend([("BROKER_WEBHOOK_URL", url.as_str()), ("BROKER_TOKENS", &tokens)]);
    more.extend([("BROKER_LEDGER", ledger.as_str()), ("BROKER_SIGNATURE", "v2")]);
    let log = Stdio::from(File::create(directory.path().join("log")).unwrap());
    let broker = BrokerProcess::start_logging(BROKER, directory.path(), Some(&store), 0, &more, log).await;
    let mut secrets = Secrets::of_every_broker();
    secrets.add("the store's key", &store.secret_access_key);
    secrets.add("the store's key", &store.access_key_id);
    secrets.add("the ledger's password", LEDGER_PASSWORD);

    ask_for_everything(&broker, &mut secrets).await;
    until(|| !receiver.heard().is_empty()).await;
    let api = broker.api().with_token(TOKEN);
    let asked = json!({"name": "later", "size": 3});
    relay.cut();
    api.post("/v1/uploads", &asked).await.problem(503);
    relay.mend();
    line.cut();
    api.post("/v1/uploads", &asked).await.problem(503);
    let series = broker.admin().get("/metrics").await;
    broker.kill().await;

    let log = log_of(directory.path());
    assert!(log.contains("DEBUG"), "detail was asked for: {log}");
    assert!(
        log.contains("store_unavailable") && log.contains("ledger_unavailable"),
        "{log}"
    );
    secrets.are_not_in(&log, "the log");
    secrets.are_not_in(&series.text(), "the series");
}
