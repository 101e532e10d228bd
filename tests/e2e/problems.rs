//! Whatever is sent, the answer is the right status and a problem that a program and a person can read (RFC 9457).

use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::Value;
use tests::{Stack, in_time};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

#[tokio::test]
async fn every_refusal_is_a_problem_with_the_right_status() {
    let stack = Stack::start().await;
    let request = |method, path: &str| stack.api.request(method, path);
    let json = |text: &'static [u8]| {
        request(Method::POST, "/v1/uploads")
            .header(CONTENT_TYPE, "application/json")
            .body(text)
    };
    let form = |text: &'static [u8]| {
        let kind = "application/x-www-form-urlencoded";
        request(Method::POST, "/presign").header(CONTENT_TYPE, kind).body(text)
    };
    let requests = [
        (request(Method::GET, "/no/such/route"), 404),
        (request(Method::GET, "/v1"), 404),
        (request(Method::PUT, "/v1/uploads"), 405),
        (request(Method::GET, "/presign"), 405),
        (request(Method::PATCH, "/v1/me"), 405),
        (json(b"{"), 400),
        (json(b"null"), 400),
        (json(b"\xff\xfe"), 400),
        (json(b""), 400),
        (
            request(Method::POST, "/v1/uploads")
                .header(CONTENT_TYPE, "text/plain")
                .body("{}"),
            415,
        ),
        (
            request(Method::POST, "/presign")
                .header(CONTENT_TYPE, "text/plain")
                .body("a=b"),
            415,
        ),
        (form(b"keyname=%ff%fe&expires=900&1=1B2M2Y8AsgTpgAmY7PhCfg%3D%3D"), 400),
        (form(b"keyname=%00&expires=900&1=1B2M2Y8AsgTpgAmY7PhCfg%3D%3D"), 400),
        (form(b"\xff=\xfe"), 400),
        (form(b"%00=%00"), 400),
    ];
    for (request, status) in requests {
        let shown = format!("{request:?}");
        let answer = stack.api.send(request).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        answer.problem(status);
    }
}

/// Reads one answer, head and body, from a connection that may stay open.
async fn answer_on(connection: &mut (impl AsyncRead + Unpin)) -> (String, Value) {
    let mut reader = BufReader::new(connection);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_body_of_two_gigabytes_is_refused_before_it_is_sent() {
    let stack = Stack::start().await;
    let mut connection = TcpStream::connect(stack.broker.address()).await.unwrap();
    let head = "POST /presign HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 2147483648\r\n\r\nkeyname=a";
    connection.write_all(head.as_bytes()).await.unwrap();

    let (head, problem) = in_time(answer_on(&mut connection)).await;

    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(problem["code"], "body_too_large");
}

#[tokio::test]
async fn a_form_client_of_http_1_0_gets_its_answer_in_one_piece() {
    let stack = Stack::start().await;
    let mut connection = TcpStream::connect(stack.broker.address()).await.unwrap();
    let body = "keyname=a&expires=60&1=1B2M2Y8AsgTpgAmY7PhCfg%3D%3D&2=1B2M2Y8AsgTpgAmY7PhCfg%3D%3D";
    let request = format!(
        "POST /presign HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();

    let (head, answer) = in_time(answer_on(&mut connection)).await;

    assert!(head.starts_with("HTTP/1.0 201 "), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(answer.as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn a_body_that_only_turns_out_too_large_is_refused_too() {
    let stack = Stack::start().await;
    let connection = TcpStream::connect(stack.broker.address()).await.unwrap();
    let (mut read, mut write) = connection.into_split();
    let head = "POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    write.write_all(head.as_bytes()).await.unwrap();
    let sending = tokio::spawn(async move {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // Ends when the broker closes, or with the test: the broker need not read all of this.
        while write.write_all(chunk.as_bytes()).await.is_ok() {}
    });

    let (head, problem) = in_time(answer_on(&mut read)).await;

    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(problem["code"], "body_too_large");
    sending.abort();
    assert_eq!(stack.api.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_request_id_of_the_callers_is_not_taken_over_unchecked() {
    let stack = Stack::start().await;
    let hostile = "a b\"c<script>";
    let answer = stack
        .api
        .send(
            stack
                .api
                .request(Method::GET, "/nowhere")
                .header("x-request-id", hostile),
        )
        .await;
    assert!(!answer.problem(404).request_id.contains('<'));
}

#[tokio::test]
async fn the_broker_says_that_it_is_alive_and_ready() {
    let stack = Stack::start().await;
    assert_eq!(stack.api.get("/healthz").await.status, 200);
    assert_eq!(stack.api.get("/readyz").await.status, 200);
    let length = stack
        .api
        .send(stack.api.request(Method::GET, "/healthz").header(CONTENT_LENGTH, "0"))
        .await;
    assert_eq!(length.status, 200);
}
