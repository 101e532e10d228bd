//! Connections that clients do not use as most do.

use std::io::Write as _;
use std::net::Shutdown;

use store::DevStore;

use crate::client::{Client, read_answer, refused};

/// A PUT that says it has `length` bytes, sends these, and closes its side of the connection.
fn half_closed(client: &Client, key: &str, length: usize, body: &[u8]) -> crate::client::Answer {
    let mut head = client.head("PUT", &client.v4("PUT", key, &[], &[]), &[]);
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
    assert_ne!(answer.status, 200);
    assert_eq!(refused(&client.get("key")), (404, "NoSuchKey".into()));
}
