//! Who may do what: tokens, tickets, grants, limits, and what happens to uploads whose right has gone.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use broker::config::Settings;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use shared::MIB;
use shared::api::{BatchUpload, CreatedBatch, Me, TicketCreated, Tickets, UploadState};
use store::fault::{Fault, complete, put as put_object};
use tests::{Answer, Api, BrokerProcess, Program, Stack, StoreUnderTest, in_time, md5, pattern, put, sha256_hex};
use time::OffsetDateTime;

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));

/// A broker with these destinations and grants, and for each of these names a token `token of NAME`.
async fn with_rules(names: &[&str], rules: &str) -> Stack {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    let tokens = names
        .iter()
        .map(|name| format!("{name}={}", sha256_hex(&format!("token of {name}"))));
    let settings = Settings {
        tokens: Some(tokens.collect::<Vec<_>>().join(",")),
        ..Settings::read(file.path()).unwrap()
    };
    Stack::with(StoreUnderTest::embedded().await, settings).await
}

fn caller(stack: &Stack, name: &str) -> Api {
    stack.api.with_token(&format!("token of {name}"))
}

const TWO_PLACES: &str = r#"
[[destination]]
name = "backups"
key_template = "{principal}/{uuid}/{name}"

[[destination]]
name = "photos"
key_template = "photos/{principal}/{name}"
content_types = ["image/*"]
max_size = 20971520

[[grant]]
to = ["alice"]
may = ["upload", "list", "download", "tickets"]

[[grant]]
to = ["bob"]
destinations = ["photos"]
may = ["upload", "delete"]

[[grant]]
to = ["root"]
may = ["admin", "list", "download", "delete"]
"#;

#[tokio::test]
async fn me_tells_each_principal_its_own_destinations_and_rights() {
    let stack = with_rules(&["alice", "bob", "mallory"], TWO_PLACES).await;
    let me: Me = caller(&stack, "bob").get("/v1/me").await.expect(200);
    assert_eq!(me.destinations.len(), 1);
    let photos = &me.destinations[0];
    assert_eq!((photos.name.as_str(), photos.max_size), ("photos", 20 * MIB));
    assert_eq!(photos.may, ["upload", "delete"]);
    assert_eq!(photos.content_types, ["image/*"]);
    let me: Me = caller(&stack, "alice").get("/v1/me").await.expect(200);
    let names: Vec<_> = me.destinations.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["backups", "photos"]);
    assert_eq!(
        caller(&stack, "mallory").get("/v1/me").await.problem(403).code,
        "not_granted"
    );
}

/// Every route by everybody: without credentials, with a scope for something else, another owner, an admin, the owner.
#[tokio::test]
async fn every_route_is_denied_to_whom_it_is_not_granted() {
    let stack = with_rules(&["alice", "bob", "root"], TWO_PLACES).await;
    let (alice, bob, root) = (caller(&stack, "alice"), caller(&stack, "bob"), caller(&stack, "root"));
    let narrow = stack.api.with_token(&token(&stack, "alice", &["list:backups"]).await);
    let asked = json!({"name": "a.png", "size": 7, "content_type": "image/png", "destination": "photos"});
    let ticket: TicketCreated = alice
        .post("/v1/tickets", &json!({"destination": "photos"}))
        .await
        .expect(201);
    let form = |api: &Api, path: &str, fields: &[(&str, &str)]| {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let (api, path) = (api.clone(), path.to_owned());
        async move { api.post_form(&path, &fields).await }
    };
    // Route, then the statuses for nobody, the wrong scope, bob, root, alice.
    let table: [(&str, &str, Value, [u16; 5]); 17] = [
        ("GET", "/v1/uploads/{id}", Value::Null, [401, 403, 404, 200, 200]),
        ("GET", "/v1/uploads/{id}/events", Value::Null, [401, 403, 404, 200, 200]),
        (
            "POST",
            "/v1/uploads/{id}/parts",
            json!({"parts": [{"number": 1}]}),
            [401, 403, 404, 404, 200],
        ),
        (
            "POST",
            "/v1/uploads/{id}/complete",
            json!({}),
            [401, 403, 404, 404, 409],
        ),
        (
            "POST",
            "/v1/batches/complete",
            json!({"uploads": ["{id}"]}),
            [401, 200, 200, 200, 200],
        ),
        ("POST", "/v1/uploads", asked.clone(), [401, 403, 201, 403, 201]),
        (
            "POST",
            "/v1/batches",
            json!({"files": [{"name": "b.png", "size": 1, "md5": "kAFQmDzST7DWlj99KOF/cg==", "content_type": "image/png", "destination": "photos"}]}),
            [401, 201, 201, 201, 201],
        ),
        ("GET", "/v1/uploads", Value::Null, [401, 200, 200, 200, 200]),
        (
            "GET",
            "/v1/objects?destination=photos",
            Value::Null,
            [401, 403, 403, 200, 200],
        ),
        (
            "POST",
            "/v1/downloads",
            json!({"key": "photos/alice/none", "destination": "photos"}),
            [401, 403, 403, 404, 404],
        ),
        (
            "DELETE",
            "/v1/objects?destination=photos&key=photos%2Falice%2Fnone",
            Value::Null,
            [401, 403, 404, 204, 403],
        ),
        (
            "POST",
            "/v1/tickets",
            json!({"destination": "photos"}),
            [401, 403, 403, 403, 201],
        ),
        ("GET", "/v1/tickets", Value::Null, [401, 403, 403, 200, 200]),
        ("DELETE", "/v1/tickets/{ticket}", Value::Null, [401, 403, 403, 204, 204]),
        ("GET", "/v1/me", Value::Null, [401, 200, 200, 200, 200]),
        ("DELETE", "/v1/uploads/{id}", Value::Null, [401, 403, 404, 204, 204]),
        ("GET", "/healthz", Value::Null, [200; 5]),
    ];
    let callers = [&stack.api, &narrow, &bob, &root, &alice];
    let created: Value = alice.post("/v1/uploads", &asked).await.expect(201);
    let id = created["upload_id"].as_str().unwrap().to_owned();
    for (method, path, body, expected) in table {
        let path = path.replace("{id}", &id).replace("{ticket}", &ticket.info.ticket_id);
        let body: Value = serde_json::from_str(&body.to_string().replace("{id}", &id)).unwrap();
        let mut statuses = Vec::new();
        for api in callers {
            let mut request = api.request(Method::from_bytes(method.as_bytes()).unwrap(), &path);
            if !body.is_null() {
                request = request.json(&body);
            }
            statuses.push(api.send(request).await.status);
        }
        assert_eq!(statuses, expected, "{method} {path}");
    }
    // The form protocol, which names no destination: each at the first where they may upload.
    let asked = [
        ("keyname", "a.png"),
        ("expires", "60"),
        ("contenttype", "image/png"),
        ("1", "kAFQmDzST7DWlj99KOF/cg=="),
    ];
    let presigned = form(&alice, "/presign", &asked).await;
    assert_eq!(presigned.status, 201);
    let named: Value = serde_json::from_slice(&presigned.body).unwrap();
    let upload = [("uploadid", named["UploadID"].as_str().unwrap()), ("keyname", "a.png")];
    for (api, presign, touch) in [
        (&stack.api, 401, 401),
        (&narrow, 403, 403),
        (&bob, 201, 404),
        (&root, 403, 404),
    ] {
        assert_eq!(form(api, "/presign", &asked).await.status, presign);
        assert_eq!(form(api, "/complete", &upload).await.status, touch);
    }
    assert_eq!(form(&bob, "/abort", &upload).await.status, 404);
    assert_eq!(form(&alice, "/abort", &upload).await.status, 200);
}

/// A token of the ledger's for this principal.
async fn token(stack: &Stack, principal: &str, scope: &[&str]) -> String {
    use broker::auth::bearer::{Bearer, Kind};
    use broker::auth::scope::Scope;
    let state = stack.broker.state();
    let (bearer, text) = Bearer::make(Kind::Token, &state.random);
    let scope: Vec<String> = scope.iter().map(|text| (*text).to_owned()).collect();
    let scope = Scope::try_from(scope).unwrap();
    let added = state
        .ledger
        .add_token(&bearer, principal, &scope, None, state.clock.now());
    assert!(added.await.unwrap());
    text
}

async fn ticket(api: &Api, asked: &Value) -> TicketCreated {
    api.post("/v1/tickets", asked).await.expect(201)
}

#[tokio::test]
async fn t22_a_ticket_is_good_for_what_it_says_and_nothing_else() {
    let stack = with_rules(&["alice"], TWO_PLACES).await;
    let alice = caller(&stack, "alice");
    let asked = json!({
        "destination": "photos", "max_files": 2, "max_bytes": 10, "max_size": 8,
        "content_types": ["image/png"], "expires_in": 3600, "note": "for the wedding",
    });
    let made = ticket(&alice, &asked).await;
    let (holder, nobody) = (stack.api.with_token(&made.ticket), &stack.api);
    let me: Me = holder.get("/v1/me").await.expect(200);
    assert_eq!(me.principal, format!("ticket:{}", made.info.ticket_id));
    assert_eq!(me.destinations[0].may, ["upload"]);

    let create = |name: &str, size: u64, kind: &str| json!({"name": name, "size": size, "content_type": kind});
    let code = async |api: &Api, body: &Value, status| api.post("/v1/uploads", body).await.problem(status).code;
    assert_eq!(code(&holder, &create("a", 9, "image/png"), 413).await, "file_too_large");
    assert_eq!(
        code(&holder, &create("a", 1, "image/gif"), 403).await,
        "type_not_granted"
    );
    assert_eq!(
        code(&holder, &json!({"name": "a", "size": 1}), 403).await,
        "type_not_granted"
    );
    assert_eq!(
        code(
            &holder,
            &json!({"name": "a", "size": 1, "content_type": "image/png", "destination": "backups"}),
            403
        )
        .await,
        "no_such_destination"
    );

    // In the path, as a page sends it that cannot send a header; the bytes go to the store as ever.
    let path = format!("/t/{}/v1/uploads", made.ticket);
    let created: Value = nobody.post(&path, &create("a", 8, "image/png")).await.expect(201);
    let id = created["upload_id"].as_str().unwrap();
    assert_eq!(
        created["key"], "photos/alice/a",
        "in the folder of whoever made the ticket"
    );
    let content = b"12345678";
    let signed: Value = nobody
        .post(
            &format!("{path}/{id}/parts"),
            &json!({"parts": [{"number": 1, "md5": md5(content)}]}),
        )
        .await
        .expect(200);
    let part = &signed["parts"][0];
    let headers = serde_json::from_value(part["headers"].clone()).unwrap();
    assert_eq!(
        put(part["url"].as_str().unwrap(), &headers, content.to_vec())
            .await
            .status,
        200
    );
    assert_eq!(
        nobody.post(&format!("{path}/{id}/complete"), &json!({})).await.status,
        200
    );

    assert_eq!(
        code(&holder, &create("b", 3, "image/png"), 403).await,
        "ticket_used_up",
        "10 bytes in all"
    );
    assert_eq!(
        holder.post("/v1/uploads", &create("b", 2, "image/png")).await.status,
        201
    );
    let refused = holder
        .post("/v1/uploads", &create("c", 0, "image/png"))
        .await
        .problem(403);
    assert!(refused.detail.contains("2 files"), "{}", refused.detail);
    for path in ["/v1/objects", "/v1/tickets"] {
        assert_eq!(holder.get(path).await.status, 403, "{path}");
    }

    let listed: Tickets = alice.get("/v1/tickets").await.expect(200);
    assert_eq!(
        (listed.tickets.len(), listed.tickets[0].files, listed.tickets[0].bytes),
        (1, 2, 10)
    );
    stack.broker.clock().advance(Duration::from_secs(3601));
    assert_eq!(holder.get("/v1/me").await.problem(401).code, "unauthenticated");
}

#[tokio::test]
async fn t31_whatever_is_wrong_with_a_token_or_ticket_the_answer_is_the_same() {
    let stack = with_rules(&["alice"], TWO_PLACES).await;
    let alice = caller(&stack, "alice");
    let revoked = token(&stack, "alice", &[]).await;
    let id = revoked.split('_').nth(1).unwrap();
    let state = stack.broker.state();
    assert!(state.ledger.revoke_token(id, state.clock.now()).await.unwrap());
    let expired = ticket(&alice, &json!({"expires_in": 1})).await.ticket;
    stack.broker.clock().advance(Duration::from_secs(2));
    let good = token(&stack, "alice", &[]).await;
    let mut flipped = good.clone().into_bytes();
    let place = flipped.len() - 10;
    flipped[place] ^= 1;
    let flipped = String::from_utf8(flipped).unwrap();
    let texts = [
        revoked,
        expired,
        flipped,
        good[..good.len() - 1].to_owned(),
        "x".into(),
        "a.b.c".into(),
    ];
    let mut answers: Vec<Answer> = Vec::new();
    for text in &texts {
        answers.push(stack.api.with_token(text).get("/v1/me").await);
        answers.push(stack.api.get(&format!("/t/{text}/v1/me")).await);
    }
    // A token is no ticket, and the other way round only the header takes both.
    answers.push(stack.api.get(&format!("/t/{good}/v1/me")).await);
    assert_eq!(stack.api.with_token(&good).get("/v1/me").await.status, 200);
    let told: Vec<_> = answers
        .iter()
        .map(|answer| {
            let problem = answer.problem(401);
            (problem.code, problem.detail)
        })
        .collect();
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}

#[tokio::test]
async fn what_a_revoked_ticket_had_open_is_ended_and_the_urls_it_was_given_are_dead() {
    let stack = with_rules(&["alice"], TWO_PLACES).await;
    let alice = caller(&stack, "alice");
    let made = ticket(&alice, &json!({"destination": "backups"})).await;
    let holder = stack.api.with_token(&made.ticket);
    let own = alice.create("alice's own", 7).await;
    let upload = holder.create("a", 7).await;
    let signed = holder.sign(&upload.upload_id, 1, None).await;
    let path = format!("/v1/tickets/{}", made.info.ticket_id);
    assert_eq!(alice.delete(&path).await.status, 204);
    assert_eq!(alice.delete(&path).await.status, 204, "again");
    assert_eq!(put(&signed.url, &signed.headers, b"content".to_vec()).await.status, 404);
    assert_eq!(holder.get("/v1/me").await.status, 401);
    let session = stack.broker.ledger().find(&upload.upload_id).await.unwrap().unwrap();
    assert_eq!(session.state, UploadState::Aborted);
    assert_eq!(
        alice.sign(&own.upload_id, 1, None).await.number.get(),
        1,
        "others' go on"
    );
    let events: Value = caller(&stack, "alice").get("/v1/uploads").await.expect(200);
    assert_eq!(events["uploads"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn t15_limits_that_count_are_answered_with_429_and_when_to_come_again() {
    let rules = format!(
        "{TWO_PLACES}\n[[grant]]\nto = [\"carol\"]\nmay = [\"upload\"]\nopen_uploads = 2\nbytes_per_day = 1000\n"
    );
    let stack = with_rules(&["carol"], &rules).await;
    let carol = caller(&stack, "carol");
    let asked = |name: &str, size: u64| json!({"name": name, "size": size});
    let first = carol.create("a", 600).await;
    let over = carol.post("/v1/uploads", &asked("b", 401)).await;
    let problem = over.problem(429);
    assert_eq!(problem.code, "quota_exceeded");
    for told in ["600 bytes", "1000", "bytes_per_day", "backups"] {
        assert!(problem.detail.contains(told), "{}", problem.detail);
    }
    assert!((1..=86_400).contains(&over.header("retry-after").parse::<u64>().unwrap()));
    let second = carol.create("b", 400).await;
    let problem = carol.post("/v1/uploads", &asked("c", 0)).await.problem(429);
    assert!(problem.detail.contains("open_uploads"), "{}", problem.detail);
    assert_eq!(
        stack.bucket.open_uploads("").await.len(),
        2,
        "nothing is begun at the store that is over a limit"
    );

    assert_eq!(
        carol.delete(&format!("/v1/uploads/{}", first.upload_id)).await.status,
        204
    );
    // By batch, file by file.
    let file = |name: &str, size: u64| json!({"name": name, "size": size, "md5": "kAFQmDzST7DWlj99KOF/cg=="});
    let batch: CreatedBatch = carol
        .post(
            "/v1/batches",
            &json!({"files": [file("d", 601), file("e", 600), file("f", 1)]}),
        )
        .await
        .expect(201);
    let outcome: Vec<_> = batch
        .files
        .iter()
        .map(|file| match file {
            BatchUpload::Admitted { .. } => "admitted",
            BatchUpload::Refused { problem } => problem.code.as_str(),
        })
        .collect();
    // Of the two that would fit alone, whichever comes first.
    assert_eq!(outcome[0], "quota_exceeded");
    assert!(
        outcome[1..].contains(&"quota_exceeded") && outcome[1..].contains(&"admitted"),
        "{outcome:?}"
    );
    drop(second);
}

#[tokio::test]
async fn t09_a_stream_and_a_form_come_to_no_more_than_they_were_admitted_for() {
    let rules = "[[destination]]\nname = \"small\"\nmax_size = 6291456\n[[grant]]\nto = [\"*\"]\nmay = [\"upload\"]\n";
    let stack = with_rules(&["alice"], rules).await;
    let alice = caller(&stack, "alice");
    let content = pattern(4 * MIB);
    let digest = md5(&content).to_base64();
    let fields: Vec<_> = [("keyname", "a"), ("expires", "600"), ("1", &digest), ("2", &digest)]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let answer = alice.post_form("/presign", &fields).await;
    assert_eq!(answer.header("x-max-object-size"), "6291456");
    let urls: Value = serde_json::from_slice(&answer.body).unwrap();
    let headers = [("content-md5".to_owned(), digest.clone())].into_iter().collect();
    for part in ["1", "2"] {
        assert_eq!(
            put(urls[part].as_str().unwrap(), &headers, content.clone())
                .await
                .status,
            200
        );
    }
    let id = urls["UploadID"].as_str().unwrap().to_owned();
    let fields = [("uploadid".to_owned(), id), ("keyname".to_owned(), "a".to_owned())];
    let problem = alice.post_form("/complete", &fields).await.problem(422);
    assert_eq!(problem.code, "file_too_large");
    assert!(stack.bucket.get("a").await.is_none(), "no object");
}

/// Two who have found nothing at a key complete at once: one's object is there then, and the other is told.
async fn one_of_two_becomes_the_object(stack: &Stack, (alice, bob): (&Api, &Api), key: &str) {
    let (first, second) = (alice.create(key, 7).await, bob.create(key, 7).await);
    alice.send_parts(&first, b"alice's", [1]).await;
    bob.send_parts(&second, b"bob has", [1]).await;
    let (one, other) = tokio::join!(alice.complete(&first.upload_id), bob.complete(&second.upload_id));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let loser = if one.status == 409 { &one } else { &other };
    assert_eq!(loser.problem(409).code, "key_taken");
    let winner: &[u8] = if one.status == 200 { b"alice's" } else { b"bob has" };
    assert_eq!(stack.bucket.get(key).await.unwrap().bytes, winner);
}

#[tokio::test]
async fn t06_of_two_uploads_to_one_key_one_becomes_the_object_where_nothing_is_overwritten() {
    let rules =
        "[[destination]]\nname = \"once\"\noverwrite = \"never\"\n[[grant]]\nto = [\"*\"]\nmay = [\"upload\"]\n";
    let stack = with_rules(&["alice", "bob"], rules).await;
    let (alice, bob) = (caller(&stack, "alice"), caller(&stack, "bob"));
    one_of_two_becomes_the_object(&stack, (&alice, &bob), "key").await;
    let again = alice.post("/v1/uploads", &json!({"name": "key", "size": 1})).await;
    assert_eq!(again.problem(409).code, "key_taken", "before anything is sent");
    assert!(stack.bucket.open_uploads("").await.is_empty());
}

#[tokio::test]
async fn t06_of_two_owners_that_find_nothing_at_a_key_one_becomes_the_object_where_owners_replace_only_their_own() {
    let rules =
        "[[destination]]\nname = \"own\"\noverwrite = \"same-owner\"\n[[grant]]\nto = [\"*\"]\nmay = [\"upload\"]\n";
    let stack = with_rules(&["alice", "bob"], rules).await;
    let (alice, bob) = (caller(&stack, "alice"), caller(&stack, "bob"));
    for round in 0..10 {
        one_of_two_becomes_the_object(&stack, (&alice, &bob), &format!("key {round}")).await;
    }
    // Both are the same owner's: the later one replaces the earlier, whichever that is.
    let (first, second) = (alice.create("both", 7).await, alice.create("both", 7).await);
    alice.send_parts(&first, b"alice's", [1]).await;
    alice.send_parts(&second, b"alice's", [1]).await;
    let (one, other) = tokio::join!(alice.complete(&first.upload_id), alice.complete(&second.upload_id));
    assert_eq!((one.status, other.status), (200, 200));
}

#[tokio::test]
async fn t09_a_url_for_a_whole_object_is_given_to_nobody_whose_bytes_are_counted_nor_beyond_the_ticket() {
    let rules = "[[destination]]\nname = \"all\"\n[[grant]]\nto = [\"bob\"]\nmay = [\"upload\"]\nbytes_per_day = 100\n\
                 [[grant]]\nto = [\"alice\"]\nmay = [\"upload\", \"tickets\"]\n";
    let stack = with_rules(&["alice", "bob"], rules).await;
    let (alice, bob) = (caller(&stack, "alice"), caller(&stack, "bob"));
    let files = json!({"files": [{"name": "a", "size": 7, "md5": md5(b"content").to_base64()}]});
    let request = async |api: &Api| {
        let created: CreatedBatch = api.post("/v1/batches", &files).await.expect(201);
        let [BatchUpload::Admitted { upload_id, request, .. }] = &created.files[..] else {
            panic!("{created:?}");
        };
        (upload_id.clone(), request.clone().unwrap())
    };
    let (id, counted) = request(&bob).await;
    assert!(
        counted.url.contains("partNumber=1"),
        "a part, which dies with its upload"
    );
    assert_eq!(bob.delete(&format!("/v1/uploads/{id}")).await.status, 204);
    assert_eq!(
        put(&counted.url, &counted.headers, b"content".to_vec()).await.status,
        404
    );
    assert!(stack.bucket.get("a").await.is_none());

    let (_, whole) = request(&alice).await;
    assert!(!whole.url.contains("partNumber"));
    assert_eq!(
        whole.headers["content-type"], "application/octet-stream",
        "nobody else can say another"
    );
    let mut other = whole.headers.clone();
    other.insert("content-type".into(), "text/html".into());
    assert_eq!(put(&whole.url, &other, b"content".to_vec()).await.status, 403);

    let ticket = ticket(&alice, &json!({"expires_in": 60})).await;
    let (_, short) = request(&stack.api.with_token(&ticket.ticket)).await;
    assert!(short.expires_in <= 60, "{}", short.expires_in);
}

#[tokio::test]
async fn a_broker_that_was_open_to_this_machine_is_no_longer_once_somebody_has_a_token() {
    let stack = Stack::start().await;
    assert_eq!(stack.api.get("/v1/me").await.status, 200);
    let alice = stack.api.with_token(&token(&stack, "alice", &[]).await);
    in_time(async {
        while stack.api.get("/v1/me").await.status != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(alice.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn t21_a_page_whose_name_leads_to_this_machine_is_not_served_as_this_machine_is() {
    let stack = Stack::start().await;
    let port = stack.broker.address().port();
    for (host, status) in [
        ("evil.example", 403),
        (&*format!("evil.example:{port}"), 403),
        ("localhost", 200),
        ("[::1]:5000", 200),
        (&*format!("127.0.0.1:{port}"), 200),
    ] {
        let request = stack.api.request(Method::GET, "/v1/me").header("host", host);
        assert_eq!(stack.api.send(request).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn t06_an_object_that_comes_between_the_brokers_look_and_the_stores_joining_is_not_overwritten() {
    let rules =
        "[[destination]]\nname = \"once\"\noverwrite = \"never\"\n[[grant]]\nto = [\"*\"]\nmay = [\"upload\"]\n";
    let stack = with_rules(&["alice"], rules).await;
    let (alice, store) = (caller(&stack, "alice"), stack.store.faulty());
    // An empty file is put, and not joined.
    for (content, call) in [(&b"alice's"[..], complete()), (b"", put_object())] {
        let upload = alice.create("key", content.len() as u64).await;
        alice.send_parts(&upload, content, 1..=upload.part_count.unwrap()).await;
        store.inject(Fault::Hold { done: false }, call);
        let completing = {
            let (alice, id) = (alice.clone(), upload.upload_id.clone());
            tokio::spawn(async move { alice.complete(&id).await })
        };
        in_time(store.held()).await;
        stack.bucket.put("key", b"put by hand", &HashMap::new()).await;
        store.release(false);
        let told = completing.await.unwrap();
        assert_eq!(told.problem(409).code, "key_taken", "{content:?}");
        assert_eq!(stack.bucket.get("key").await.unwrap().bytes, b"put by hand");
        assert!(stack.bucket.open_uploads("").await.is_empty());
        stack.bucket.delete("key").await;
    }
}

#[tokio::test]
async fn an_object_is_overwritten_by_who_uploaded_it_where_that_is_the_rule() {
    let rules = "[[destination]]\nname = \"own\"\noverwrite = \"same-owner\"\n[[grant]]\nto = [\"*\"]\nmay = [\"upload\", \"tickets\"]\n";
    let stack = with_rules(&["alice", "bob"], rules).await;
    let (alice, bob) = (caller(&stack, "alice"), caller(&stack, "bob"));
    alice.upload("key", b"one").await;
    alice.upload("key", b"two").await;
    let holder = stack.api.with_token(&ticket(&alice, &json!({})).await.ticket);
    holder.upload("key", b"three").await;
    assert_eq!(
        bob.post("/v1/uploads", &json!({"name": "key", "size": 1}))
            .await
            .problem(409)
            .code,
        "key_taken"
    );
    stack.bucket.put("foreign", b"put by hand", &HashMap::new()).await;
    assert_eq!(
        alice
            .post("/v1/uploads", &json!({"name": "foreign", "size": 1}))
            .await
            .problem(409)
            .code,
        "key_taken"
    );
    assert_eq!(stack.bucket.get("key").await.unwrap().bytes, b"three");
}

#[tokio::test]
async fn t12_a_url_that_is_used_again_after_completing_changes_nothing() {
    let stack = Stack::start().await;
    let upload = stack.api.create("key", 7).await;
    let signed = stack.api.sign(&upload.upload_id, 1, None).await;
    assert_eq!(put(&signed.url, &signed.headers, b"content".to_vec()).await.status, 200);
    assert_eq!(stack.api.complete(&upload.upload_id).await.status, 200);
    assert_eq!(put(&signed.url, &signed.headers, b"another".to_vec()).await.status, 404);
    assert_eq!(stack.bucket.get("key").await.unwrap().bytes, b"content");
}

#[tokio::test]
async fn t14_what_browsers_run_is_saved_when_it_is_opened_and_metadata_cannot_pose_as_the_brokers() {
    let stack = Stack::start().await;
    for (name, kind, disposition) in [
        ("page", "text/html", Some("attachment")),
        ("drawing", "image/svg+xml", Some("attachment")),
        ("photo", "image/png", None),
    ] {
        let asked = json!({"name": name, "size": 7, "content_type": kind});
        let created: shared::api::UploadCreated = stack.api.post("/v1/uploads", &asked).await.expect(201);
        stack.api.send_parts(&created, b"content", [1]).await;
        assert_eq!(stack.api.complete(&created.upload_id).await.status, 200);
        let object = stack.bucket.get(name).await.unwrap();
        assert_eq!(object.content_disposition.as_deref(), disposition, "{name}");
        assert_eq!(object.content_type.as_deref(), Some(kind));
    }
    for metadata in [
        json!({"broker-write-token": "x"}),
        json!({"a\r\nx-amz-acl": "public-read"}),
        json!({"a": "b\r\nc"}),
    ] {
        let asked = json!({"name": "a", "size": 7, "metadata": metadata});
        assert_eq!(
            stack.api.post("/v1/uploads", &asked).await.problem(400).code,
            "invalid_field"
        );
    }
}

#[tokio::test]
async fn t08_an_id_that_is_not_the_callers_gets_the_answer_of_one_that_never_was_and_no_call_to_the_store() {
    let stack = with_rules(&["alice", "bob"], TWO_PLACES).await;
    let (alice, bob) = (caller(&stack, "alice"), caller(&stack, "bob"));
    let foreign = alice.create("a", 7).await.upload_id.to_string();
    let expired = bob
        .post(
            "/v1/uploads",
            &json!({"name": "a.png", "size": 7, "content_type": "image/png"}),
        )
        .await;
    let expired = expired.expect::<Value>(201)["upload_id"].as_str().unwrap().to_owned();
    stack.broker.clock().advance(Duration::from_hours(24 * 8));
    let before = stack.store.faulty().requests();
    let mut told = Vec::new();
    for id in [foreign.as_str(), &expired, "A".repeat(32).as_str(), "garbage", "%00"] {
        for (method, path, body) in [
            (Method::GET, "", None),
            (Method::POST, "/parts", Some(json!({"parts": [{"number": 1}]}))),
            (Method::POST, "/complete", Some(json!({}))),
            (Method::DELETE, "", None),
        ] {
            let mut request = bob.request(method, &format!("/v1/uploads/{id}{path}"));
            if let Some(body) = body {
                request = request.json(&body);
            }
            let problem = bob.send(request).await.problem(404);
            told.push((problem.code, problem.title, problem.detail, problem.kind));
        }
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    assert_eq!(stack.store.faulty().requests(), before);
}

#[tokio::test]
async fn t21_a_page_of_another_origin_cannot_use_a_broker_that_asks_for_no_token() {
    let stack = Stack::start().await;
    let form = || {
        let request = stack.api.request(Method::POST, "/presign");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body("keyname=a&expires=60&1=kAFQmDzST7DWlj99KOF%2Fcg%3D%3D")
    };
    let own = stack.broker.base();
    for (name, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("origin", own.as_str(), 201),
        ("sec-fetch-site", "same-origin", 201),
        ("sec-fetch-site", "none", 201),
    ] {
        assert_eq!(
            stack.api.send(form().header(name, value)).await.status,
            status,
            "{name}: {value}"
        );
    }
    assert_eq!(stack.bucket.open_uploads("").await.len(), 3);
}

#[tokio::test]
async fn t20_no_origin_is_let_in_by_cors_headers() {
    let stack = with_rules(&["alice"], TWO_PLACES).await;
    for origin in ["https://evil.example", "null", "http://localhost"] {
        let preflight = stack.api.request(Method::OPTIONS, "/v1/uploads");
        let preflight = preflight
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        let answer = stack.api.send(preflight).await;
        assert_eq!(answer.status, 405);
        let with_token = caller(&stack, "alice")
            .request(Method::GET, "/v1/me")
            .header("origin", origin);
        let allowed = stack.api.send(with_token).await;
        assert_eq!(allowed.status, 200);
        for answer in [answer, allowed] {
            assert!(
                !answer
                    .headers
                    .keys()
                    .any(|name| name.as_str().starts_with("access-control-"))
            );
        }
    }
}

#[tokio::test]
async fn an_object_is_deleted_by_who_may_and_only_what_they_may_see() {
    let stack = with_rules(&["alice", "bob"], TWO_PLACES).await;
    let bob = caller(&stack, "bob");
    for key in ["photos/bob/a b", "photos/alice/a", "elsewhere"] {
        stack.bucket.put(key, b"x", &HashMap::new()).await;
    }
    for (key, status) in [
        ("photos/bob/a%20b", 204),
        ("photos/bob/a%20b", 204),
        ("photos/alice/a", 404),
        ("elsewhere", 404),
        ("", 400),
    ] {
        let answer = bob.delete(&format!("/v1/objects?destination=photos&key={key}")).await;
        assert_eq!(answer.status, status, "{key}");
    }
    assert!(stack.bucket.get("photos/bob/a b").await.is_none());
    assert!(stack.bucket.get("photos/alice/a").await.is_some());
}

#[tokio::test]
async fn an_operator_makes_lists_and_revokes_tokens_and_tickets_beside_a_running_broker() {
    let store = StoreUnderTest::embedded().await;
    let data = tempfile::tempdir().unwrap();
    let broker = async |arguments: &[&str]| {
        let mut all = vec![
            "--data-dir",
            "data",
            "--profile",
            "embedded",
            "--bucket",
            &store.bucket,
            "--log",
            "warn",
        ];
        all.extend_from_slice(arguments);
        let program = BROKER;
        let output = program.command(data.path(), &all, &store.environment()).output();
        let output = in_time(output).await.unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, first, _) = broker(&["token", "create", "alice", "--scope", "upload"]).await;
    assert_eq!((code, first.starts_with("ubt_"), first.lines().count()), (0, true, 1));
    assert_eq!(broker(&["token", "create", "alice"]).await.0, 0);
    let (code, _, error) = broker(&["token", "create", "alice"]).await;
    assert!(code == 1 && error.contains("revoke one"), "{error}");
    let (_, listed, _) = broker(&["token", "list"]).await;
    assert!(
        !listed.contains(first.trim()) && listed.matches("alice").count() == 2,
        "{listed}"
    );
    for (bad, words) in [("sweeper", "is no name"), ("a/b", "is no name")] {
        let (code, _, error) = broker(&["token", "create", bad]).await;
        assert!(code == 1 && error.contains(words), "{error}");
    }
    let (code, _, error) = broker(&["token", "create", "bob", "--scope", "write"]).await;
    assert!(code == 1 && error.contains("is not RIGHT"), "{error}");

    let running = BrokerProcess::start(BROKER, data.path(), &store, 0).await;
    assert_eq!(running.api().get("/v1/me").await.status, 401, "there are tokens now");
    let alice = running.api().with_token(first.trim());
    let upload = alice.create("a", 7).await;
    let signed = alice.sign(&upload.upload_id, 1, None).await;
    let (code, made, _) = broker(&["ticket", "create", "--for", "alice", "--max-files", "1", "--json"]).await;
    assert_eq!(code, 0);
    let made: Value = serde_json::from_str(&made).unwrap();
    let holder = running.api().with_token(made["ticket"].as_str().unwrap());
    holder.upload("b", b"content").await;
    let (_, listed, _) = broker(&["ticket", "list"]).await;
    assert!(listed.contains("1/1") && !listed.contains("ubk_"), "{listed}");

    let id = first.split('_').nth(1).unwrap();
    let (code, said, _) = broker(&["token", "revoke", id]).await;
    assert_eq!(
        (code, said.as_str()),
        (0, "revoked; 1 open uploads aborted, 0 left to the sweeper\n")
    );
    assert_eq!(
        put(&signed.url, &signed.headers, b"content".to_vec()).await.status,
        404,
        "the URL is dead"
    );
    // What the running broker has kept of the token lasts a second.
    in_time(async {
        while alice.get("/v1/me").await.status != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let (code, _, error) = broker(&["token", "revoke", "nothing"]).await;
    assert!(code == 1 && error.contains("broker token list"), "{error}");
}

#[tokio::test]
async fn a_broker_that_others_reach_and_that_knows_nobody_does_not_start_and_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let settings = |allow_anonymous| Settings {
        listen: Some("0.0.0.0:0".parse().unwrap()),
        store_listen: Some("127.0.0.1:0".parse().unwrap()),
        data_dir: Some(data.path().to_owned()),
        allow_anonymous,
        ..Settings::default()
    };
    let refused = Box::pin(broker::start(settings(None).resolve().unwrap())).await;
    let error = refused.err().unwrap().to_string();
    assert!(
        error.contains("broker token create") && error.contains("--tokens"),
        "{error}"
    );
    let running = Box::pin(broker::start(settings(Some(true)).resolve().unwrap()))
        .await
        .unwrap();
    running.stop().await;
}

#[tokio::test]
async fn check_config_says_all_that_is_wrong_at_once_or_what_the_settings_come_to() {
    let directory = tempfile::tempdir().unwrap();
    let check = async |text: &str| {
        std::fs::write(directory.path().join("broker.toml"), text).unwrap();
        let output = BROKER
            .command(directory.path(), ["check-config"], &std::collections::BTreeMap::new())
            .output();
        let output = in_time(output).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, out, _) = check(TWO_PLACES).await;
    assert_eq!(code, 0);
    assert!(out.contains("grant to bob: upload, delete at photos"), "{out}");
    let (code, _, error) = check(
        "listen = \"0.0.0.0\"\nkey_template = \"{nmae}\"\ntokens = \"hunter2\"\n\n[[destination]]\nname = \"a b\"\n\n\
         [[grant]]\nto = []\nmay = [\"upload\"]\ndestinations = [\"b\"]\n",
    )
    .await;
    assert_eq!(code, 1);
    for expected in [
        "line 1",
        "listen",
        "line 2",
        "nmae",
        "line 3",
        "line 5",
        "a b",
        "line 8",
        "to is empty",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn the_uploader_works_with_each_destination_by_name() {
    let stack = with_rules(&["alice"], TWO_PLACES).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.png"), b"content").unwrap();
    let base = stack.broker.base();
    let run = async |arguments: &[&str]| {
        let program = Program::at(env!("CARGO_BIN_EXE_uploader-under-test"));
        let environment = [
            ("UPLOADER_BROKER", base.clone().into()),
            ("UPLOADER_TOKEN", "token of alice".into()),
        ];
        let environment = std::collections::BTreeMap::from(environment);
        program.run(directory.path(), arguments, &environment).await
    };
    let there = ["--destination", "photos"];
    for arguments in [
        ["put", "a.png"].as_slice(),
        &["put", "--if-changed", "a.png"],
        &["get", "photos/alice/a.png", "b.png"],
        &["ls", "--recursive"],
    ] {
        let run = run(&[arguments, &there].concat()).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(
            arguments[0] != "ls" || run.stdout.contains("photos/alice/a.png"),
            "{run:?}"
        );
    }
    assert_eq!(std::fs::read(directory.path().join("b.png")).unwrap(), b"content");
    let refused = run(&["get", "photos/alice/a.png", "c.png"]).await;
    assert!(refused.stderr.contains("no_such_object"), "{refused:?}");
    let who = run(&["whoami"]).await;
    assert!(
        who.stdout.contains("photos") && who.stdout.contains("backups"),
        "{who:?}"
    );
}

/// A token of another issuer by HS256 (RFC 7515 section 3), good for so many seconds.
fn jwt(secret: &[u8], subject: &str, roles: &str, seconds: i64) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let claims = json!({
        "iss": "https://issuer.example", "aud": "broker", "sub": subject, "roles": roles,
        "iat": now - 600, "exp": now + seconds,
    });
    let parts = [json!({"alg": "HS256"}), claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = parts.join(".");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(signed.as_bytes());
    format!(
        "{signed}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    )
}

#[tokio::test]
async fn t28_a_token_of_another_issuer_uploads_as_its_subject_by_the_grants_of_its_roles_and_a_bad_one_does_nothing() {
    const SECRET: &[u8] = b"thirty-two bytes that nobody else knows";
    let rules = format!(
        r#"
[[jwt]]
issuer = "https://issuer.example"
audience = "broker"
secret = "{}"
roles_claim = "roles"

[[grant]]
to = ["role:ci"]
may = ["upload"]
"#,
        String::from_utf8_lossy(SECRET)
    );
    let stack = with_rules(&[], &rules).await;
    let as_token = |token: &str| stack.api.with_token(token);
    let ci = as_token(&jwt(SECRET, "repo-7", "ci other", 60));
    let upload = ci.create("from ci", 7).await;
    let id = upload.upload_id.clone();
    ci.send_parts(&upload, b"content", [1]).await;
    ci.complete(&id).await.expect::<Value>(200);
    let events: Value = ci.get(&format!("/v1/uploads/{id}/events")).await.expect(200);
    assert_eq!(events["events"][0]["actor"], "repo-7");
    // Another subject of the same role is somebody else.
    let other = as_token(&jwt(SECRET, "repo-8", "ci", 60));
    assert_eq!(other.get(&format!("/v1/uploads/{id}")).await.status, 404);
    let unrelated = as_token(&jwt(SECRET, "repo-7", "other", 60));
    assert_eq!(unrelated.get("/v1/me").await.problem(403).code, "not_granted");
    for bad in [
        jwt(SECRET, "repo-7", "ci", -120),
        jwt(b"thirty-two bytes that somebody guessed.", "repo-7", "ci", 60),
        jwt(SECRET, "", "ci", 60),
        jwt(SECRET, "../repo-7", "ci", 60),
    ] {
        assert_eq!(as_token(&bad).get("/v1/me").await.status, 401, "{bad}");
    }
    let uploads = stack
        .api
        .with_token(&jwt(SECRET, "repo-7", "ci", 60))
        .get("/v1/uploads")
        .await;
    assert_eq!(uploads.expect::<Value>(200)["uploads"], json!([]), "none was left open");
}
