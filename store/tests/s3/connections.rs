//! Connections that clients do not use as most do.

use std::io::Write as _;
use std::net::Shutdown;

use store::DevStore;

use crate::client::{Answer, Client, read_answer, refused};

/// A PUT that says it has `length` bytes, sends these, and closes its side of the connection.
fn half_closed(client: &Client, key: &str, length: usize, body: &[u8]) -> Answer {
    half_closed_at(client, "PUT", &client.v4("PUT", key, &[], &[]), length, body)
}

fn half_closed_at(client: &Client, method: &str, target: &str, length: usize, body: &[u8]) -> Answer {
    let mut head = client.head(method, target, &[]);
    head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
    let mut stream = client.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    read_answer(&mut stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_side_after_a_whole_request_is_answered() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let body = crate::bytes(3 << 20, 1);
    for (key, body) in [("small", &b"body"[..]), ("large", &body)] {
        let answer = half_closed(&client, key, body.len(), body);
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
        assert_eq!(client.get(key).body, body, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_closed_its_side_within_the_body_leaves_nothing() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let answer = half_closed(&client, "key", 1 << 20, &[7; 1000]);
    assert_eq!(refused(&answer), (400, "IncompleteBody".into()));
    assert_eq!(refused(&client.get("key")), (404, "NoSuchKey".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_cut_short_is_the_clients_fault() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", b"body");
    let document = b"<Delete><Object><Key>key</Key></Object></Delete>";
    let target = client.v4("POST", "", &[("delete", "")], &[]);
    let answer = half_closed_at(&client, "POST", &target, document.len() + 1, document);
    assert_eq!(refused(&answer), (400, "IncompleteBody".into()));
    assert_eq!(client.get("key").status, 200);
    let target = client.v4("PUT", "", &[], &[]);
    let answer = half_closed_at(&client, "PUT", &target, 100, b"<CreateBucketConfiguration>");
    assert_eq!(refused(&answer), (400, "IncompleteBody".into()));
}
