//! What comes over the network before a handler sees it: ambiguous framing, slow senders, too many requests, TLS, the end.

use std::time::{Duration, Instant};

use broker::config::Settings;
use reqwest::Method;
use serde_json::json;
use tests::{BrokerProcess, Program, Stack, StoreUnderTest, certificate, in_time, series, sha256_hex};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));

/// Sends these bytes, and answers all that comes back until the other end closes, or nothing comes for a second.
async fn talk(address: std::net::SocketAddr, bytes: &[u8]) -> (String, bool) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    _ = connection.write_all(bytes).await;
    let (mut told, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match tokio::time::timeout(Duration::from_secs(1), connection.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&told).into_owned(), true),
            Ok(Ok(count)) => told.extend_from_slice(&piece[..count]),
            Err(_) => return (String::from_utf8_lossy(&told).into_owned(), false),
        }
    }
}

#[tokio::test]
async fn t26_a_request_whose_end_is_unclear_is_refused_and_nothing_behind_it_is_answered() {
    let stack = Stack::start().await;
    let address = stack.broker.address();
    let hidden = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let post =
        |headers: &str, body: &str| format!("POST /abort HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n{body}{hidden}");
    for (name, request) in [
        (
            "both lengths",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        (
            "both lengths, the other way round",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
        ),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6", "12345")),
        ("a list of lengths", post("Content-Length: 5, 5", "12345")),
        ("a signed length", post("Content-Length: +5", "12345")),
        ("a negative length", post("Content-Length: -5", "12345")),
        ("a hexadecimal length", post("Content-Length: 0x5", "12345")),
        (
            "a length that overflows",
            post("Content-Length: 18446744073709551621", "12345"),
        ),
        ("a blank before the colon", post("Content-Length : 5", "12345")),
        (
            "two encodings",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        (
            "an encoding that is none",
            post("Transfer-Encoding: xchunked", "0\r\n\r\n"),
        ),
        (
            "chunked before another",
            post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
        ),
        (
            "a vertical tab in it",
            post("Transfer-Encoding: \u{b}chunked", "0\r\n\r\n"),
        ),
        ("a folded header", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n")),
        (
            "a chunk's size that overflows",
            post("Transfer-Encoding: chunked", "10000000000000001\r\n1\r\n0\r\n\r\n"),
        ),
        (
            "a chunk's size that is none",
            post("Transfer-Encoding: chunked", "-1\r\n1\r\n0\r\n\r\n"),
        ),
        (
            "chunks to HTTP/1.0",
            format!("POST /abort HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "no host",
            format!("POST /abort HTTP/1.1\r\nContent-Length: 1\r\n\r\n1{hidden}"),
        ),
        ("two hosts", post("Host: b\r\nContent-Length: 1", "1")),
        ("a NUL in a header", post("X: a\0b", "")),
        ("no version", format!("GET /healthz\r\n\r\n{hidden}")),
    ] {
        let (told, closed) = talk(address, request.as_bytes()).await;
        let answers = told.matches("HTTP/1.").count();
        assert!(answers <= 1, "{name}: {told}");
        assert!(closed, "{name}: {told}");
        assert!(
            told.starts_with("HTTP/1.1 4") || told.starts_with("HTTP/1.0 4") || told.is_empty(),
            "{name}: {told}"
        );
        assert!(!told.contains("\"ok\""), "{name}: {told}");
    }
    // What is unusual and clear: one request each, read to its own end.
    for (name, request, expected) in [
        (
            "a chunk with an extension",
            "POST /abort HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\na=b\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            2,
        ),
        (
            "the absolute form",
            "GET http://elsewhere.example/healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            1,
        ),
    ] {
        let (told, closed) = talk(address, request.as_bytes()).await;
        assert_eq!(
            (told.matches("HTTP/1.").count(), closed),
            (expected, true),
            "{name}: {told}"
        );
    }
    stack.api.upload("after all that", b"content").await;
}

#[tokio::test]
async fn t24_a_compressed_body_is_refused_and_not_unpacked() {
    let stack = Stack::start().await;
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, identity"] {
        let request = stack.api.request(Method::POST, "/v1/uploads");
        let request = request
            .header("content-encoding", encoding)
            .header("content-type", "application/json");
        let answer = stack.api.send(request.body(vec![0x1f; 10_000])).await;
        assert_eq!(answer.problem(415).code, "content_encoding");
    }
}

#[tokio::test]
async fn t25_a_body_of_one_byte_a_second_is_ended_within_ten_seconds_and_so_is_a_head() {
    let stack = Stack::start().await;
    let address = stack.broker.address();
    let body = "POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n";
    let first_head = "GET /healthz HTTP/1.1\r\nX: ";
    let drip = |begin: &'static str| async move {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(begin.as_bytes()).await.unwrap();
        let began = Instant::now();
        let (mut read, mut write) = connection.into_split();
        let dripping = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let mut told = Vec::new();
        _ = in_time(read.read_to_end(&mut told)).await;
        dripping.abort();
        (String::from_utf8_lossy(&told).into_owned(), began.elapsed())
    };
    let (slow_body, slow_head) = tokio::join!(drip(body), drip(first_head));
    assert!(
        slow_body.0.starts_with("HTTP/1.1 408") && slow_body.0.contains("body_timeout"),
        "{slow_body:?}"
    );
    assert!(
        slow_head.0.starts_with("HTTP/1.1 408") || slow_head.0.is_empty(),
        "{slow_head:?}"
    );
    for (told, time) in [slow_body, slow_head] {
        assert!(time < Duration::from_secs(12), "{told} after {time:?}");
    }
}

#[tokio::test]
async fn t25_a_second_head_of_one_byte_a_second_is_ended_and_a_request_that_takes_longer_is_not() {
    let settings = Settings {
        keep_alive_seconds: Some(1),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let second = async |begin: String, byte: &str, bytes: usize, pause: Duration| {
        let mut connection = TcpStream::connect(stack.broker.address()).await.unwrap();
        let first = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        connection.write_all(first.as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        let count = connection.read(&mut answer).await.unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 200"));
        let began = Instant::now();
        connection.write_all(begin.as_bytes()).await.unwrap();
        let (mut read, mut write) = connection.into_split();
        let byte = byte.to_owned();
        let dripping = tokio::spawn(async move {
            for _ in 0..bytes {
                tokio::time::sleep(pause).await;
                if write.write_all(byte.as_bytes()).await.is_err() {
                    break;
                }
            }
            write
        });
        let mut told = Vec::new();
        _ = in_time(read.read_to_end(&mut told)).await;
        dripping.abort();
        (String::from_utf8_lossy(&told).into_owned(), began.elapsed())
    };
    let head = "GET /healthz HTTP/1.1\r\nX: ".to_owned();
    let body = "POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n";
    let (head, body) = tokio::join!(
        second(head, "x", 60, Duration::from_secs(1)),
        second(body.to_owned(), " ", 16, Duration::from_millis(500)),
    );
    assert_eq!(head.0, "");
    assert!(head.1 < Duration::from_secs(12), "after {:?}", head.1);
    assert!(body.0.starts_with("HTTP/1.1 400"), "{body:?}");
    assert!(body.1 > Duration::from_secs(7), "{body:?}");
}

#[tokio::test]
async fn t25_a_body_in_chunks_that_goes_on_after_the_answer_ends_with_its_connection() {
    let stack = Stack::start().await;
    let mut connection = TcpStream::connect(stack.broker.address()).await.unwrap();
    let head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.write_all(head).await.unwrap();
    let mut told = [0; 4096];
    let count = in_time(connection.read(&mut told)).await.unwrap();
    let told = String::from_utf8_lossy(&told[..count]).to_ascii_lowercase();
    assert!(
        told.starts_with("http/1.1 404") && told.contains("connection: close"),
        "{told}"
    );
    in_time(async {
        while connection.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn t25_two_thousand_connections_that_say_nothing_keep_nobody_from_being_served() {
    let stack = Stack::start().await;
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        idle.push(TcpStream::connect(stack.broker.address()).await.unwrap());
    }
    stack.api.upload("beside them", b"content").await;
    drop(idle);
}

#[tokio::test]
async fn t25_an_address_has_a_share_of_the_connections_and_what_it_gives_back_it_can_have_again() {
    let settings = Settings {
        // Somewhere else: so that this machine's own count too.
        trusted_proxies: Some("192.0.2.1".into()),
        connections_per_address: Some(3),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let ask = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let connect = async || {
        let mut connection = TcpStream::connect(stack.broker.address()).await.unwrap();
        let mut answer = [0; 1024];
        // Fails where it was ended before.
        _ = connection.write_all(ask).await;
        let count = in_time(connection.read(&mut answer)).await.unwrap_or(0);
        (count > 0).then_some(connection)
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(connect().await.expect("within its share"));
    }
    assert!(connect().await.is_none(), "beyond it");
    let series = stack.broker.state().metrics.connections();
    assert_eq!((series.open.get(), series.refused.get()), (3, 1));
    held.pop();
    tests::until(|| series.open.get() == 2).await;
    assert!(connect().await.is_some());
}

#[tokio::test]
async fn too_many_requests_of_one_address_are_told_when_to_come_again_and_others_are_served() {
    let settings = Settings {
        trusted_proxies: Some("127.0.0.1".into()),
        allow_anonymous: Some(true),
        rate_per_address: Some(5),
        rate_per_principal: Some(0),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let from = |address: &str| {
        let request = stack
            .api
            .request(Method::GET, "/v1/uploads/unknown")
            .header("x-forwarded-for", address);
        stack.api.send(request)
    };
    let began = Instant::now();
    let asking: tokio::task::JoinSet<_> = (0..60)
        .map(|number| {
            // What the client itself wrote stands before what the proxy saw.
            let address = ["192.0.2.1", "192.0.2.3, 192.0.2.1"][number % 2];
            let api = stack.api.clone();
            async move {
                let request = api.request(Method::GET, "/v1/uploads/unknown");
                api.send(request.header("x-forwarded-for", address)).await
            }
        })
        .collect();
    let answers = asking.join_all().await;
    let (refused, served): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 429);
    assert!(
        served.len() >= 20 && served.iter().all(|answer| answer.status == 404),
        "twenty at once"
    );
    assert!(refused.len() > 10, "{}", refused.len());
    for answer in refused {
        assert_eq!(answer.problem(429).code, "too_many_requests");
        assert_eq!(answer.header("retry-after"), "1");
    }
    // Nobody who waits for answers can send many of these.
    assert!(began.elapsed() > Duration::from_millis(240));
    assert_eq!(from("192.0.2.2").await.status, 404);
}

#[tokio::test]
async fn the_trail_tells_where_a_request_came_from_and_believes_a_trusted_proxy_alone() {
    for (proxies, told) in [(Some("127.0.0.0/8"), "198.51.100.7"), (None, "127.0.0.1")] {
        let settings = Settings {
            trusted_proxies: proxies.map(str::to_owned),
            allow_anonymous: Some(true),
            ..Settings::default()
        };
        let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
        let request = stack
            .api
            .request(Method::POST, "/v1/uploads")
            .json(&json!({"name": "a", "size": 1}));
        let answer = stack.api.send(request.header("x-forwarded-for", "198.51.100.7")).await;
        let id = answer.expect::<serde_json::Value>(201)["upload_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let events: serde_json::Value = stack.api.get(&format!("/v1/uploads/{id}/events")).await.expect(200);
        assert_eq!(events["events"][0]["address"], told);
    }
}

#[tokio::test]
async fn too_many_requests_of_one_principal_are_refused_whatever_their_addresses() {
    let settings = Settings {
        trusted_proxies: Some("127.0.0.1".into()),
        rate_per_principal: Some(1),
        tokens: Some(format!("alice={},bob={}", sha256_hex("a"), sha256_hex("b"))),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let (alice, bob) = (stack.api.with_token("a"), stack.api.with_token("b"));
    let mut refused = 0;
    for number in 0..40 {
        let request = alice
            .request(Method::GET, "/v1/me")
            .header("x-forwarded-for", format!("192.0.2.{number}"));
        refused += u32::from(alice.send(request).await.status == 429);
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(bob.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a_broker_that_is_told_to_stop_says_so_to_balancers_and_finishes_what_is_under_way() {
    let store = StoreUnderTest::embedded().await;
    let directory = tempfile::tempdir().unwrap();
    let more = [("BROKER_DRAIN_SECONDS", "2"), ("BROKER_STOP_SECONDS", "20")];
    let broker = BrokerProcess::start_with(BROKER, directory.path(), &store, 0, &more).await;
    let api = broker.api();
    let upload = api.create("a", 7).await;
    api.send_parts(&upload, b"content", [1]).await;
    assert_eq!(api.get("/readyz").await.status, 200);
    // A complete that takes the store two seconds, begun before the signal.
    store
        .faulty()
        .inject(store::Fault::Delay(Duration::from_secs(3)), store::fault::complete());
    let completing = tokio::spawn({
        let (api, id) = (api.clone(), upload.upload_id.clone());
        async move { api.complete(&id).await }
    });
    tests::until(|| store.faulty().attempts(store::fault::complete()) > 0).await;
    broker.terminate();
    in_time(async {
        while api.get("/readyz").await.status != 503 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(api.get("/v1/me").await.status, 200, "requests are still served");
    assert_eq!(in_time(completing).await.unwrap().status, 200);
    assert_eq!(in_time(broker.ended()).await.code(), Some(0));
}

#[tokio::test]
async fn tls_is_spoken_by_files_that_are_read_again_when_they_change_and_a_broken_pair_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Some(files) = certificate(directory.path(), 1) else {
        eprintln!("skipped: there is no openssl here");
        return;
    };
    let store = StoreUnderTest::embedded().await;
    let settings = Settings {
        admin_listen: Some(([127, 0, 0, 1], 0).into()),
        tls_cert: Some(files.certificates.clone()),
        tls_key: Some(files.key.clone()),
        ..Settings::default()
    };
    let stack = Stack::with(store, settings).await;
    let address = stack.broker.address();
    let client = || {
        let authority = std::fs::read(directory.path().join("ca.pem")).unwrap();
        reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(&authority).unwrap()])
            .resolve("localhost", address)
            .build()
            .unwrap()
    };
    let ask = async |client: &reqwest::Client| {
        let answer = client
            .get(format!("https://localhost:{}/healthz", address.port()))
            .send()
            .await;
        answer.map(|answer| answer.status().as_u16()).map_err(|_| "refused")
    };
    let first = client();
    assert_eq!(ask(&first).await, Ok(200));
    assert_eq!(
        stack.broker.state().metrics.connections().open.get(),
        1,
        "known as one that can be ended"
    );
    let (told, _) = talk(address, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!told.contains("200 OK"), "plain HTTP is not served there: {told}");

    // Another authority, which is what tells the two apart.
    certificate(directory.path(), 2);
    let second = client();
    stack.broker.certificate().look();
    assert_eq!(ask(&second).await, Ok(200));
    let end = series(&stack.broker.admin().get("/metrics").await.text())
        .into_iter()
        .find(|one| one.name == "broker_certificate_expiry_timestamp_seconds");
    let end: i64 = end.unwrap().value.parse().unwrap();
    let left = end - OffsetDateTime::now_utc().unix_timestamp();
    assert!((170_000..=172_800).contains(&left), "{left} s");
    std::fs::write(&files.key, "no key").unwrap();
    stack.broker.certificate().look();
    assert_eq!(ask(&client()).await, Ok(200), "what was in use stays");
    let data = tempfile::tempdir().unwrap();
    let refused = Settings {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        store_listen: Some("127.0.0.1:0".parse().unwrap()),
        data_dir: Some(data.path().to_owned()),
        tls_cert: Some(files.certificates),
        tls_key: Some(files.key),
        ..Settings::default()
    };
    let error = refused.resolve().err().unwrap().to_string();
    assert!(error.contains("--tls-cert") && error.contains("key.pem"), "{error}");
}
