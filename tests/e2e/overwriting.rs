//! Who replaces an object that is there, and who does not: two uploads to one key, URLs that are used late.

use std::collections::HashMap;

use serde_json::json;
use store::fault::{Fault, complete, put as put_object};
use tests::{Api, Stack, in_time, put};

use crate::rules::{caller, ticket, with_rules};

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
    holder.upload("holder's", b"one").await;
    alice.upload("holder's", b"two").await;
    let theirs = holder.post("/v1/uploads", &json!({"name": "key", "size": 1})).await;
    assert_eq!(
        theirs.problem(409).code,
        "key_taken",
        "a guest replaces nothing of alice's own"
    );
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
    assert_eq!(stack.bucket.get("key").await.unwrap().bytes, b"two");
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
async fn t06_a_tickets_holder_replaces_what_was_uploaded_with_it_and_nothing_else_unless_the_rule_says_so() {
    let stack = with_rules(&["alice"], "").await;
    let alice = caller(&stack, "alice");
    alice.upload("payroll", b"alice's").await;
    let asked = |name: &str| json!({"name": name, "size": 7});
    let guest = stack.api.with_token(&ticket(&alice, &json!({})).await.ticket);
    let other = stack.api.with_token(&ticket(&alice, &json!({})).await.ticket);
    let refused = guest.post("/v1/uploads", &asked("payroll")).await;
    assert_eq!(refused.problem(409).code, "key_taken");
    for content in [b"guest's", b"guest 2"] {
        guest.upload("holiday", content).await;
    }
    let refused = other.post("/v1/uploads", &asked("holiday")).await;
    assert_eq!(refused.problem(409).code, "key_taken", "of another ticket");
    alice.upload("holiday", b"alice's").await;
    assert_eq!(stack.bucket.get("payroll").await.unwrap().bytes, b"alice's");

    let always = "overwrite = \"always\"\n";
    let stack = with_rules(&["alice"], always).await;
    let alice = caller(&stack, "alice");
    alice.upload("payroll", b"alice's").await;
    let guest = stack.api.with_token(&ticket(&alice, &json!({})).await.ticket);
    guest.upload("payroll", b"guest's").await;
}
