//! Requests as nobody means them: seeds of every route, changed at random. `GARBAGE_REQUESTS` says how many, `GARBAGE_SEED` which.

use std::sync::Arc;

use reqwest::Method;
use serde_json::Value;
use tests::{Api, Stack, StoreUnderTest};

/// One request of every route and of every kind of credential, as it is meant. `{id}` is an upload's.
const SEEDS: &[(&str, &str, &str, &str)] = &[
    (
        "POST",
        "/presign",
        FORM,
        "keyname=a%2Fb&expires=60&contenttype=text%2Fplain&x-amz-meta-a=b&1=kAFQmDzST7DWlj99KOF%2Fcg%3D%3D&2=kAFQmDzST7DWlj99KOF%2Fcg%3D%3D",
    ),
    ("POST", "/complete", FORM, "uploadid={id}&keyname=a"),
    ("POST", "/abort", FORM, "uploadid={id}&keyname=a"),
    (
        "POST",
        "/v1/uploads",
        JSON,
        r#"{"name":"a/é.bin","size":6291456,"content_type":"text/plain","metadata":{"a":"b"},"fingerprint":"f","part_size":5242880}"#,
    ),
    (
        "POST",
        "/v1/uploads/{id}/parts",
        JSON,
        r#"{"parts":[{"number":1,"md5":"kAFQmDzST7DWlj99KOF/cg==","size":7},{"number":2}]}"#,
    ),
    ("POST", "/v1/uploads/{id}/complete", JSON, r#"{"size":7}"#),
    (
        "POST",
        "/v1/batches",
        JSON,
        r#"{"files":[{"name":"b","size":1,"md5":"kAFQmDzST7DWlj99KOF/cg=="}]}"#,
    ),
    ("POST", "/v1/batches/complete", JSON, r#"{"uploads":["{id}"]}"#),
    ("POST", "/v1/downloads", JSON, r#"{"key":"a"}"#),
    (
        "POST",
        "/v1/tickets",
        JSON,
        r#"{"max_files":1,"max_bytes":2,"content_types":["image/*"],"expires_in":60,"note":"n"}"#,
    ),
    ("GET", "/v1/uploads?limit=10&cursor={id}", "", ""),
    ("GET", "/v1/uploads/{id}/events", "", ""),
    ("GET", "/v1/objects?prefix=a%2F&delimiter=%2F&limit=10", "", ""),
    ("GET", "/v1/tickets?limit=1&cursor=a", "", ""),
    ("GET", "/v1/uploads/{id}", "", ""),
    ("DELETE", "/v1/objects?key=a%20b", "", ""),
    ("DELETE", "/v1/tickets/{id}", "", ""),
    (
        "GET",
        "/t/ubk_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0000/v1/me",
        "",
        "",
    ),
];
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// What breaks parsers.
const PIECES: &[&str] = &[
    "\0",
    "\"",
    "\\u0000",
    "\\ud800",
    "[[[[[[[[",
    "{}",
    "null",
    "-1",
    "1e400",
    "18446744073709551616",
    "0.5",
    "true",
    "%00",
    "%ff",
    "%",
    "&",
    "=",
    "../",
    "//",
    "\u{202e}",
    "\u{fffe}",
    "é",
    "\r\n",
    "1",
    "10001",
    "99999999999999999999",
    "x-amz-meta-",
    ":",
    ",",
    "ubt_",
    "{id}",
    "?",
];

/// A linear congruential generator (Knuth, MMIX): the same for the same seed, on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

fn changed(text: &str, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=chance.below(4) {
        let place = chance.below(bytes.len() + 1);
        match chance.below(6) {
            0 if place < bytes.len() => bytes[place] ^= 1 << chance.below(8),
            1 => bytes.truncate(place),
            2 => {
                let end = place + chance.below(bytes.len() - place + 1);
                let copy = bytes[place..end].to_vec();
                bytes.splice(place..place, copy);
            }
            3 => {
                let end = place + chance.below(bytes.len() - place + 1);
                bytes.drain(place..end);
            }
            _ => {
                let piece = PIECES[chance.below(PIECES.len())];
                bytes.splice(place..place, piece.bytes());
            }
        }
    }
    bytes
}

/// A path in which everything can be sent.
fn path(bytes: &[u8]) -> String {
    let sendable = |byte: u8| byte.is_ascii_alphanumeric() || b"/?&=%._-~:{}".contains(&byte);
    let text: String = bytes
        .iter()
        .map(|byte| {
            if sendable(*byte) {
                char::from(*byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    format!("/{}", text.trim_start_matches('/'))
}

#[tokio::test]
async fn t30_no_request_whatever_is_in_it_breaks_the_broker_and_each_refusal_is_a_problem() {
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let (requests, seed) = (number("GARBAGE_REQUESTS", 20_000), number("GARBAGE_SEED", 20_261_126));
    println!("GARBAGE_SEED={seed} GARBAGE_REQUESTS={requests}");
    let stack = Arc::new(Stack::on(StoreUnderTest::embedded().await).await);
    let id = stack.api.create("a", 7).await.upload_id.to_string();
    let mut sending = tokio::task::JoinSet::new();
    for worker in 0..8_u64 {
        let (stack, id) = (stack.clone(), id.clone());
        sending.spawn(async move {
            let mut chance = Chance(seed.wrapping_add(worker));
            for _ in 0..requests / 8 {
                send(&stack.api, &id, &mut chance).await;
            }
        });
    }
    sending.join_all().await;
    assert_eq!(stack.api.get("/healthz").await.status, 200);
    stack.api.upload("after all that", b"content").await;
}

async fn send(api: &Api, id: &str, chance: &mut Chance) {
    let (method, target, kind, body) = SEEDS[chance.below(SEEDS.len())];
    let (target, body) = (target.replace("{id}", id), body.replace("{id}", id));
    let change_target = body.is_empty() || chance.below(8) == 0;
    let target = if change_target {
        path(&changed(&target, chance))
    } else {
        target
    };
    let body = if body.is_empty() {
        Vec::new()
    } else {
        changed(&body, chance)
    };
    let mut request = api.request(Method::from_bytes(method.as_bytes()).unwrap(), &target);
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    if chance.below(16) == 0 {
        let token: String = changed("Bearer ubt_aaaaaaaaaaaa_b", chance)
            .into_iter()
            .filter(|byte| (b' '..=b'~').contains(byte))
            .map(char::from)
            .collect();
        request = request.header("authorization", token);
    }
    let shown = format!("{method} {target} {:?}", String::from_utf8_lossy(&body));
    let answer = api.send(request.body(body)).await;
    assert!(answer.status < 500, "{shown}: {} {}", answer.status, answer.text());
    if answer.status >= 400 {
        let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{shown}: {answer:?}"));
        assert_eq!(problem["status"], answer.status, "{shown}");
    }
}
