//! What a browser is kept from: pages of other origins, names that lead here, uploads that would run.

use reqwest::Method;
use serde_json::json;
use tests::Stack;

use crate::rules::{TWO_PLACES, caller, with_rules};

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
