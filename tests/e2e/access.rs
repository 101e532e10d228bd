//! Who may do what where, and how much of it.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use shared::MIB;
use shared::api::{BatchUpload, CreatedBatch, Me, TicketCreated};
use tests::{Api, Program, md5, pattern, put};

use crate::rules::{TWO_PLACES, caller, ticket, token, with_rules};

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

#[tokio::test]
async fn t05_a_key_that_stores_resolve_or_refuse_is_none_of_the_callers_to_see() {
    let rules = "[[destination]]\nname = \"d\"\nkey_template = \"{principal}/{name}\"\n\
                 [[grant]]\nto = [\"*\"]\nmay = [\"upload\", \"list\", \"download\", \"delete\"]\n\
                 [[grant]]\nto = [\"root\"]\nmay = [\"admin\", \"download\", \"delete\"]\n";
    let stack = with_rules(&["alice", "bob", "root"], rules).await;
    caller(&stack, "bob").upload("x", b"content").await;
    for (name, keys) in [
        (
            "alice",
            &["alice/../bob/x", "alice/./x", "alice/a/../../bob/x", "bob/x"][..],
        ),
        ("root", &["..", " ", "\r\n", "a/../bob/x"]),
    ] {
        let api = caller(&stack, name);
        for key in keys {
            let answer = api.post("/v1/downloads", &json!({ "key": key })).await;
            assert_eq!(answer.problem(404).code, "no_such_object", "{name}: {key:?}");
            let request = api.request(Method::DELETE, "/v1/objects").query(&[("key", key)]);
            assert_eq!(
                api.send(request).await.problem(404).code,
                "no_such_object",
                "{name}: {key:?}"
            );
        }
    }
    assert_eq!(stack.bucket.keys("").await, ["bob/x"]);
}
