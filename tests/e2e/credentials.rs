//! By what the broker knows somebody: tokens, tickets, tokens of other issuers; and what happens to uploads when it is revoked.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use broker::config::Settings;
use broker::give_up::{Ended, end_uploads_of};
use broker::ledger::{By, LeaseOutcome};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::api::{EventKind, Me, SignedPart, Tickets, UploadState};
use shared::{MIB, UploadId};
use store::fault::{Fault, abort, list_parts};
use tests::{Answer, Api, BrokerProcess, Program, Stack, StoreUnderTest, in_time, md5, pattern, put};
use time::OffsetDateTime;
use tokio::task::JoinHandle;

use crate::rules::{TWO_PLACES, caller, ticket, token, with_rules};

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));

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
async fn a_token_that_is_good_for_one_place_shows_no_tickets_of_others() {
    let stack = with_rules(&["alice"], TWO_PLACES).await;
    let alice = caller(&stack, "alice");
    for destination in ["backups", "photos"] {
        ticket(&alice, &json!({ "destination": destination })).await;
    }
    let narrow = stack.api.with_token(&token(&stack, "alice", &["tickets:photos"]).await);
    for (api, expected) in [(&alice, 2), (&narrow, 1)] {
        let listed: Tickets = api.get("/v1/tickets").await.expect(200);
        assert_eq!(listed.tickets.len(), expected);
        assert!(listed.tickets.iter().any(|ticket| ticket.destination == "photos"));
    }
    let first: Tickets = alice.get("/v1/tickets?limit=1").await.expect(200);
    let path = format!("/v1/tickets?cursor={}", first.next_cursor.unwrap());
    assert_eq!(alice.get(&path).await.expect::<Tickets>(200).tickets.len(), 1);
    for cursor in ["", "a", "%00", "ubk_aaaaaaaaaaaa"] {
        let refused = alice.get(&format!("/v1/tickets?cursor={cursor}")).await;
        assert_eq!(refused.problem(400).code, "invalid_query", "{cursor:?}");
    }
    assert_eq!(
        alice.delete("/v1/tickets/%00").await.problem(404).code,
        "no_such_ticket"
    );
    let zero = json!({"name": "a", "size": 1, "fingerprint": "a\u{0}b"});
    assert_eq!(
        alice.post("/v1/uploads", &zero).await.problem(400).code,
        "invalid_field"
    );
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
    answers.push(answers[0].clone());
    answers.push(stack.api.get(&format!("/t/{good}/v1/me")).await);
    assert_eq!(stack.api.with_token(&good).get("/v1/me").await.status, 200);
    let told: Vec<_> = answers
        .iter()
        .map(|answer| {
            let problem = answer.problem(401);
            (problem.code, problem.detail)
        })
        .collect();
    // In the header, and in the path.
    for place in [0, 1] {
        let mut there = told.iter().skip(place).step_by(2);
        let first = there.next().unwrap();
        assert!(there.all(|one| one == first), "{told:?}");
    }
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

/// A completion that is held after the parts were listed, of an upload of two parts of which these have been sent; and the URL of
/// the second.
async fn completing(stack: &Stack, api: &Api, sent: &[u16]) -> (UploadId, SignedPart, JoinHandle<Answer>) {
    let upload = api.create("a", 10 * MIB).await;
    api.send_parts(&upload, &pattern(10 * MIB), sent.iter().copied()).await;
    let second = api.sign(&upload.upload_id, 2, None).await;
    let store = stack.store.faulty();
    store.inject(Fault::Hold { done: true }, list_parts());
    let completing = {
        let (api, id) = (api.clone(), upload.upload_id.clone());
        tokio::spawn(async move { api.complete(&id).await })
    };
    in_time(store.held()).await;
    (upload.upload_id, second, completing)
}

/// How an upload ended, by whom and why.
async fn end_of(stack: &Stack, id: &UploadId) -> (EventKind, String, Option<String>) {
    let last = stack.broker.ledger().events(id, None, 10).await.unwrap().pop().unwrap();
    (last.kind, last.actor, last.detail.reason)
}

#[tokio::test]
async fn what_is_being_completed_when_its_ticket_is_revoked_becomes_no_object() {
    for sent in [&[1][..], &[1, 2]] {
        let stack = with_rules(&["alice"], TWO_PLACES).await;
        let alice = caller(&stack, "alice");
        let made = ticket(&alice, &json!({"destination": "backups"})).await;
        let holder = stack.api.with_token(&made.ticket);
        let (id, second, completing) = completing(&stack, &holder, sent).await;
        let path = format!("/v1/tickets/{}", made.info.ticket_id);
        assert_eq!(alice.delete(&path).await.status, 204);
        stack.store.faulty().release(false);
        let answer = in_time(completing).await.unwrap();
        assert_eq!(answer.problem(409).code, "upload_ended");
        let late = put(&second.url, &second.headers, pattern(2 * MIB)).await.status;
        assert_eq!(late, 404, "its URLs are dead");
        let ended = (EventKind::Aborted, "sweeper".into(), Some("credential_revoked".into()));
        assert_eq!(end_of(&stack, &id).await, ended);
        assert!(stack.bucket.keys("").await.is_empty());
    }
}

#[tokio::test]
async fn what_is_being_completed_when_an_administrator_aborts_it_becomes_no_object() {
    let rules = "[[grant]]\nto = [\"alice\"]\nmay = [\"upload\"]\n[[grant]]\nto = [\"root\"]\nmay = [\"admin\"]\n";
    let stack = with_rules(&["alice", "root"], rules).await;
    let (alice, root) = (caller(&stack, "alice"), caller(&stack, "root"));
    let (id, _, completing) = completing(&stack, &alice, &[1, 2]).await;
    let path = format!("/v1/uploads/{id}");
    assert_eq!(root.delete(&path).await.problem(409).code, "upload_busy");
    stack.store.faulty().release(false);
    assert_eq!(in_time(completing).await.unwrap().problem(409).code, "upload_ended");
    assert_eq!(end_of(&stack, &id).await, (EventKind::Aborted, "root".into(), None));
    assert!(stack.bucket.open_uploads("").await.is_empty());
}

#[tokio::test]
async fn what_a_dead_broker_was_completing_when_its_ticket_was_revoked_becomes_no_object() {
    let stack = with_rules(&["alice"], TWO_PLACES).await;
    let alice = caller(&stack, "alice");
    let made = ticket(&alice, &json!({"destination": "backups"})).await;
    let holder = stack.api.with_token(&made.ticket);
    let upload = holder.create("a", 7).await;
    holder.send_parts(&upload, b"content", [1]).await;
    let (ledger, clock) = (stack.broker.ledger(), stack.broker.clock());
    let lease = ledger.take_lease(&upload.upload_id, "died", None, clock.now()).await;
    assert!(matches!(lease.unwrap(), LeaseOutcome::Taken(_)));
    let path = format!("/v1/tickets/{}", made.info.ticket_id);
    assert_eq!(alice.delete(&path).await.status, 204);
    clock.advance(Duration::from_secs(31));
    assert_eq!(stack.broker.sweep().await.completed, 0);
    let session = ledger.find(&upload.upload_id).await.unwrap().unwrap();
    assert_eq!(session.state, UploadState::Aborted);
    assert!(stack.bucket.keys("").await.is_empty());
    assert!(stack.bucket.open_uploads("").await.is_empty());
}

#[tokio::test]
async fn what_the_store_does_not_abort_when_a_ticket_is_revoked_is_left_to_the_sweeper() {
    let stack = with_rules(&["alice"], TWO_PLACES).await;
    let alice = caller(&stack, "alice");
    let made = ticket(&alice, &json!({"destination": "backups"})).await;
    let holder = stack.api.with_token(&made.ticket);
    for name in ["a", "b"] {
        holder.create(name, 7).await;
    }
    stack.store.faulty().inject(Fault::AccessDenied, abort().times(1));
    let credential = format!("ticket:{}", made.info.ticket_id);
    let ended = end_uploads_of(stack.broker.state(), &credential, &By::sweeper()).await;
    let one_left = Ended {
        aborted: 1,
        left: 1,
        again: 0,
    };
    assert_eq!(ended.unwrap(), one_left);
    stack.store.faulty().inject(Fault::AccessDenied, abort().times(1));
    let again = end_uploads_of(stack.broker.state(), &credential, &By::sweeper()).await;
    let seen_to = Ended {
        aborted: 0,
        left: 1,
        again: 1,
    };
    assert_eq!(again.unwrap(), seen_to);
    stack.broker.clock().advance(Duration::from_mins(16));
    assert_eq!(stack.broker.sweep().await.cleared, 2);
    assert_eq!(stack.bucket.open_uploads("").await, [""; 0]);
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
    let (code, first, _) = broker(&["token", "create", "alice", "--scope", "upload", "--scope", "tickets"]).await;
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
    let given = ticket(&alice, &json!({})).await;
    let guest = running.api().with_token(&given.ticket);
    let guests = guest.create("c", 7).await;
    let guests = guest.sign(&guests.upload_id, 1, None).await;
    let (code, made, _) = broker(&["ticket", "create", "--for", "alice", "--max-files", "1", "--json"]).await;
    assert_eq!(code, 0);
    let made: Value = serde_json::from_str(&made).unwrap();
    let holder = running.api().with_token(made["ticket"].as_str().unwrap());
    holder.upload("b", b"content").await;
    let (_, listed, _) = broker(&["ticket", "list"]).await;
    assert!(listed.contains("1/1") && !listed.contains("ubk_"), "{listed}");

    let id = first.split('_').nth(1).unwrap();
    let (code, said, _) = broker(&["token", "revoke", id]).await;
    assert_eq!(code, 0);
    assert!(
        said.starts_with("revoked; 1 open uploads aborted, 0 left to the sweeper\n") && said.contains("hold on: 1;"),
        "{said}"
    );
    assert_eq!(
        put(&signed.url, &signed.headers, b"content".to_vec()).await.status,
        404,
        "the URL is dead"
    );
    assert_eq!(
        guest.get("/v1/me").await.status,
        200,
        "a ticket outlives a token that is replaced"
    );
    let (code, said, _) = broker(&["token", "revoke", id, "--tickets"]).await;
    assert_eq!(
        (code, said.as_str()),
        (
            0,
            "revoked; 1 open uploads aborted, 0 left to the sweeper\ntickets made with it, revoked too: 1\n"
        )
    );
    let late = put(&guests.url, &guests.headers, b"content".to_vec()).await.status;
    assert_eq!(late, 404, "and so are its tickets' URLs");
    assert_eq!(
        holder.get("/v1/me").await.status,
        200,
        "but no other ticket of alice's ends"
    );
    // What the running broker has kept of the token lasts a second.
    in_time(async {
        while alice.get("/v1/me").await.status != 401 || guest.get("/v1/me").await.status != 401 {
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
