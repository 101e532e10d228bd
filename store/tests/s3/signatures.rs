//! Who is let in: signatures of both kinds, and what the holder of a presigned URL may not add to it.

use std::io::Write as _;

use store::DevStore;
use time::Duration;
use time::format_description::well_known::Rfc2822;
use time::macros::format_description;

use crate::client::{Client, md5_base64, read_answer, refused};

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_of_a_url_cannot_add_what_was_not_signed() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("secret", b"secret");
    let id = client.create("upload");
    let number = [("partNumber", "1"), ("uploadId", id.as_str())];
    let targets = [
        client.v4("PUT", "key", &[], &[]),
        client.v2("PUT", "key", &[], ""),
        client.v4("PUT", "upload", &number, &[]),
        client.v2("PUT", "upload", &number, ""),
    ];
    for target in &targets {
        for header in [
            ("x-amz-copy-source", "/uploads/secret"),
            ("x-amz-acl", "public-read"),
            ("x-amz-meta-token", "forged"),
            ("X-Amz-Storage-Class", "STANDARD"),
        ] {
            let answer = client.send("PUT", target, &[header], b"");
            assert_eq!(answer.status, 403, "{header:?}: {}", answer.text());
        }
    }
    assert_eq!(client.get("key").status, 404);
    assert!(!client.list_parts("upload", &id, "0").text().contains("<Part>"));
    for target in &targets {
        assert_eq!(client.send("PUT", target, &[], b"mine").status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_md5_must_be_sent_as_it_was_signed() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let (md5, other) = (md5_base64(b"body"), md5_base64(b"other"));
    let v4 = client.v4("PUT", "key", &[], &[("content-md5", &md5)]);
    let v2 = client.v2("PUT", "key", &[], &md5);
    for target in [v4, v2] {
        assert_eq!(client.send("PUT", &target, &[], b"body").status, 403);
        assert_eq!(
            client.send("PUT", &target, &[("Content-MD5", &other)], b"other").status,
            403
        );
        assert_eq!(
            client.send("PUT", &target, &[("Content-MD5", &md5)], b"body").status,
            200
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_length_must_be_the_length_sent() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let target = client.v4("PUT", "key", &[], &[("content-length", "4")]);
    assert_eq!(client.send("PUT", &target, &[], b"more than four").status, 403);
    assert_eq!(client.send("PUT", &target, &[], b"four").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_end_and_change_nothing_but_what_they_name() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("key", b"body");
    let mut late = client.clone();
    late.now -= Duration::seconds(301);
    let mut early = client.clone();
    early.now += Duration::minutes(20);
    let (mut eternal, mut dead, mut week) = (client.clone(), client.clone(), client.clone());
    (eternal.expires, dead.expires, week.expires) = (604_801, 0, 604_800);
    let mut stranger = client.clone();
    stranger.credentials.access_key_id = "STRANGER".to_owned();
    let mut forger = client.clone();
    forger.credentials.secret_access_key = "guessed1".to_owned();
    let mut elsewhere = client.clone();
    elsewhere.region = "eu-west-1".to_owned();
    for (who, v4, v2) in [
        (&late, Some("AccessDenied"), Some("AccessDenied")),
        (&early, Some("RequestTimeTooSkewed"), None),
        (&eternal, Some("AuthorizationQueryParametersError"), None),
        (&dead, Some("AccessDenied"), Some("AccessDenied")),
        (&stranger, Some("InvalidAccessKeyId"), Some("InvalidAccessKeyId")),
        (&forger, Some("SignatureDoesNotMatch"), Some("SignatureDoesNotMatch")),
        (&elsewhere, Some("AuthorizationHeaderMalformed"), None),
        (&week, None, None),
    ] {
        let mut v2_who = who.clone();
        // V2 says when a URL ends, to the second: one that ends now has not ended yet.
        v2_who.now -= Duration::seconds(i64::from(who.expires == 0));
        for (target, code) in [
            (who.v4("GET", "key", &[], &[]), v4),
            (v2_who.v2("GET", "key", &[], ""), v2),
        ] {
            let answer = client.send("GET", &target, &[], b"");
            let told = (answer.status != 200).then(|| answer.element("Code"));
            assert_eq!(told.as_deref(), code, "{}", answer.text());
        }
    }
    for target in [client.v4("GET", "key", &[], &[]), client.v2("GET", "key", &[], "")] {
        assert_eq!(client.send("HEAD", &target, &[], b"").status, 403);
        assert_eq!(client.send("DELETE", &target, &[], b"").status, 403);
        assert_eq!(
            client.send("GET", &target.replace("/key?", "/kez?"), &[], b"").status,
            403
        );
        assert_eq!(client.send("GET", &format!("{target}&acl"), &[], b"").status, 403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn part_number_and_upload_are_part_of_the_signature() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let id = client.create("key");
    let query = [("partNumber", "1"), ("uploadId", id.as_str())];
    for target in [
        client.v4("PUT", "key", &query, &[]),
        client.v2("PUT", "key", &query, ""),
    ] {
        let other = target.replace("partNumber=1", "partNumber=2");
        assert_eq!(client.send("PUT", &other, &[], b"x").status, 403);
        let twice = format!("{target}&partNumber=2");
        assert_eq!(client.send("PUT", &twice, &[], b"x").status, 400);
        assert_eq!(client.send("PUT", &target, &[], b"x").status, 200);
    }
    // The id of one key is nothing to another.
    assert_eq!(client.part("other", &id, 1, b"x").element("Code"), "NoSuchUpload");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v2_header_works_for_a_quarter_of_an_hour_and_with_either_path_of_a_bucket() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let date = client.now.format(&Rfc2822).unwrap();
    for (signed, sent) in [
        ("/uploads", "/uploads"),
        ("/uploads/", "/uploads"),
        ("/uploads", "/uploads/"),
        ("/uploads/", "/uploads/"),
    ] {
        let authorization = client.v2_header("GET", signed, &date);
        let answer = client.send("GET", sent, &[("Date", &date), ("Authorization", &authorization)], b"");
        assert_eq!(answer.status, 200, "{signed} sent to {sent}: {}", answer.text());
    }
    for (date, code) in [
        (
            (client.now - Duration::minutes(16)).format(&Rfc2822).unwrap(),
            "RequestTimeTooSkewed",
        ),
        (
            (client.now + Duration::minutes(16)).format(&Rfc2822).unwrap(),
            "RequestTimeTooSkewed",
        ),
        ("Tue, 27 Mar 2007 19:36:42 +0000".to_owned(), "RequestTimeTooSkewed"),
        ("today".to_owned(), "AccessDenied"),
    ] {
        let authorization = client.v2_header("GET", "/uploads/", &date);
        let answer = client.send(
            "GET",
            "/uploads/",
            &[("Date", &date), ("Authorization", &authorization)],
            b"",
        );
        assert_eq!((answer.status, answer.element("Code").as_str()), (403, code), "{date}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_send_its_body_is_told_at_once() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let good = client.v4("PUT", "key", &[], &[]);
    let forged = good.replace("X-Amz-Expires=300", "X-Amz-Expires=301");
    let waits = [("Expect", "100-continue"), ("Content-Length", "5000000")];
    let mut stream = client.connect();
    stream
        .write_all(format!("{}\r\n", client.head("PUT", &forged, &waits)).as_bytes())
        .unwrap();
    let answer = read_answer(&mut stream);
    assert_eq!(answer.status, 403, "{}", answer.head);
    assert_eq!(answer.header("connection").as_deref(), Some("close"));

    let waits = [
        ("Expect", "100-continue"),
        ("Content-Length", "4"),
        ("Connection", "close"),
    ];
    let mut stream = client.connect();
    stream
        .write_all(format!("{}\r\n", client.head("PUT", &good, &waits)).as_bytes())
        .unwrap();
    let mut first = [0; 25];
    std::io::Read::read_exact(&mut stream, &mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").unwrap();
    assert_eq!(read_answer(&mut stream).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_can_be_read_by_a_client_that_sent_its_whole_body_first() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let forged = client
        .v4("PUT", "key", &[], &[])
        .replace("X-Amz-Expires=300", "X-Amz-Expires=301");
    let answer = client.send("PUT", &forged, &[], &vec![0; 16 << 20]);
    assert_eq!(
        (answer.status, answer.element("Code").as_str()),
        (403, "SignatureDoesNotMatch")
    );
    assert_eq!(answer.element("RequestId"), answer.header("x-amz-request-id").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_requests_are_refused() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let target = client.v4("PUT", "key", &[], &[]);
    for (target, headers, status) in [
        (format!("{target}&Signature=x"), vec![], 400),
        (target.clone(), vec![("Authorization", "AWS a:b")], 400),
        (target.clone(), vec![("Content-MD5", "a"), ("Content-MD5", "b")], 400),
        (target.clone(), vec![("Authorization", "Bearer token")], 400),
        ("/uploads/key".to_owned(), vec![("Authorization", "Bearer token")], 400),
        (target, vec![("Transfer-Encoding", "chunked")], 411),
    ] {
        let answer = client.send("PUT", &target, &headers, b"0\r\n\r\n");
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
    }
    assert_eq!(client.get("key").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_that_is_none_is_refused_as_s3_does_it() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (authorization, status, code) in [
        ("", 403, "AccessDenied"),
        ("AWS nonsense", 400, "InvalidArgument"),
        ("Basic dTpw", 400, "InvalidArgument"),
        ("AWS", 400, "InvalidArgument"),
        ("AWS5-HMAC-SHA256 Credential=a", 400, "InvalidArgument"),
        ("AWS4-HMAC-SHA256 nonsense", 400, "AuthorizationHeaderMalformed"),
        ("AWS4-HMAC-SHA256", 400, "AuthorizationHeaderMalformed"),
    ] {
        let answer = client.send("GET", "/uploads", &[("authorization", authorization)], b"");
        assert_eq!(refused(&answer), (status, code.into()), "{authorization:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_v4_header_is_told_as_s3_does_it() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let now = client
        .now
        .format(&format_description!("[year][month][day]T[hour][minute][second]Z"));
    let now = now.unwrap();
    let (id, day, digits) = (&client.credentials.access_key_id, &now[..8], "0".repeat(64));
    let authorization = |credential: &str, signature: &str| {
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature={signature}")
    };
    let scope = format!("{id}/{day}/us-east-1/s3/aws4_request");
    let good = authorization(&scope, &digits);
    let unsigned = "UNSIGNED-PAYLOAD";
    for (authorization, date, sha256, status, code) in [
        (
            authorization(&scope, ""),
            now.as_str(),
            unsigned,
            403,
            "SignatureDoesNotMatch",
        ),
        (
            authorization(&scope, &digits[1..]),
            &now,
            unsigned,
            403,
            "SignatureDoesNotMatch",
        ),
        (
            authorization(&scope, &digits.replace('0', "z")),
            &now,
            unsigned,
            403,
            "SignatureDoesNotMatch",
        ),
        (
            authorization(id, &digits),
            &now,
            unsigned,
            400,
            "AuthorizationHeaderMalformed",
        ),
        (
            authorization(&scope.replace(day, "20260230"), &digits),
            &now,
            unsigned,
            400,
            "AuthorizationHeaderMalformed",
        ),
        (good.clone(), "", unsigned, 403, "AccessDenied"),
        (
            good.clone(),
            "Thu, 01 Jan 1970 00:00:00 GMT",
            unsigned,
            403,
            "AccessDenied",
        ),
        (good.clone(), &now[..15], unsigned, 403, "AccessDenied"),
        (good.clone(), &now, "nonsense", 400, "InvalidArgument"),
        (good.clone(), &now, "", 400, "InvalidArgument"),
    ] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-amz-date", date),
            ("x-amz-content-sha256", sha256),
        ];
        let answer = client.send("GET", "/uploads/key", &headers, b"");
        assert_eq!(refused(&answer), (status, code.into()), "{headers:?}");
    }
    let no_date = [("authorization", good.as_str()), ("x-amz-content-sha256", unsigned)];
    let answer = client.send("GET", "/uploads/key", &no_date, b"");
    assert_eq!(refused(&answer), (403, "AccessDenied".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_url_is_told_as_s3_does_it() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let v4 = client.v4("GET", "key", &[], &[]);
    for name in [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
    ] {
        for odd in [
            v4.replace(name, "x"),
            v4.replace(&format!("{name}="), &format!("{name}=~")),
        ] {
            let told = refused(&client.send("GET", &odd, &[], b""));
            let about_headers = (403, "SignatureDoesNotMatch".to_owned());
            let wrong = (400, "AuthorizationQueryParametersError".to_owned());
            let is_names = name == "X-Amz-SignedHeaders" && odd.contains(name);
            // The first field of a credential is any text, so a tilde there is another key's.
            let is_key = name == "X-Amz-Credential" && odd.contains(name);
            let expected = match (is_names, is_key) {
                (true, _) => about_headers,
                (false, true) => (403, "InvalidAccessKeyId".to_owned()),
                (false, false) => wrong,
            };
            assert_eq!(told, expected, "{odd}");
        }
    }
    assert_eq!(
        refused(&client.send("GET", &v4[..v4.len() - 1], &[], b"")),
        (403, "SignatureDoesNotMatch".into())
    );
    let v2 = client.v2("GET", "key", &[], "");
    for odd in [
        v2.replace("AWSAccessKeyId", "x"),
        v2.replace("Expires", "x"),
        v2.replace("Expires=", "Expires=x"),
        v2.replace("Expires=", "Expires=99999999999"),
    ] {
        assert_eq!(
            refused(&client.send("GET", &odd, &[], b"")),
            (403, "AccessDenied".into()),
            "{odd}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_nothing_here_has_are_not_allowed() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (method, target) in [
        ("PUT", "/"),
        ("POST", "/"),
        ("DELETE", "/"),
        ("PATCH", "/uploads/key"),
        ("TRACE", "/uploads"),
    ] {
        let answer = client.send(method, target, &[], b"");
        assert_eq!(refused(&answer), (405, "MethodNotAllowed".into()), "{method} {target}");
    }
}
