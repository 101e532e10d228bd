//! What is said of buckets and objects besides their bytes: tags, CORS, and what no bucket here has.

use store::{Credentials, DevStore};

use crate::client::{Client, elements, refused, start};

fn tagging(tags: &[(&str, &str)]) -> String {
    let tags: String = tags
        .iter()
        .map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>"))
        .collect();
    format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_kept_replaced_and_removed() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.call("PUT", "key", &[], &[("x-amz-tagging", "a=1&b%20c=%C3%BC")], b"bytes");
    let told = client.ask("GET", "key", &[("tagging", "")], b"").text();
    assert_eq!(
        (elements(&told, "Key"), elements(&told, "Value")),
        (vec!["a".into(), "b c".into()], vec!["1".into(), "ü".into()])
    );
    assert_eq!(
        client
            .ask("PUT", "key", &[("tagging", "")], tagging(&[("d", "2")]).as_bytes())
            .status,
        200
    );
    let told = client.ask("GET", "key", &[("tagging", "")], b"").text();
    assert_eq!(elements(&told, "Key"), ["d"]);
    assert_eq!(client.ask("DELETE", "key", &[("tagging", "")], b"").status, 204);
    assert_eq!(
        elements(&client.ask("GET", "key", &[("tagging", "")], b"").text(), "Key"),
        [""; 0]
    );
    assert_eq!(client.get("key").body, b"bytes");

    let (long, longer) = ("k".repeat(129), "v".repeat(257));
    let many: Vec<_> = (0..11).map(|number| format!("k{number}")).collect();
    let many: Vec<_> = many.iter().map(|key| (key.as_str(), "")).collect();
    for wrong in [
        vec![(long.as_str(), "")],
        vec![("k", longer.as_str())],
        vec![("k", "1"), ("k", "2")],
        vec![("", "1")],
        vec![("aws:k", "1")],
        many,
    ] {
        let answer = client.ask("PUT", "key", &[("tagging", "")], tagging(&wrong).as_bytes());
        assert_eq!(refused(&answer), (400, "InvalidTag".into()), "{wrong:?}");
    }
    let without_value = b"<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>";
    let answer = client.ask("PUT", "key", &[("tagging", "")], without_value);
    assert_eq!(refused(&answer), (400, "MalformedXML".into()));
    let unseen = client.call("PUT", "other", &[], &[("x-amz-tagging", "a=%00")], b"");
    assert_eq!(refused(&unseen), (400, "InvalidTag".into()));
    assert_eq!(
        refused(&client.ask("GET", "", &[("tagging", "")], b"")),
        (404, "NoSuchTagSet".into())
    );
    assert_eq!(
        client
            .ask("PUT", "", &[("tagging", "")], tagging(&[("of", "bucket")]).as_bytes())
            .status,
        200
    );
    assert_eq!(client.ask("GET", "", &[("tagging", "")], b"").element("Key"), "of");
}

const RULES: &str = "<CORSConfiguration>\
    <CORSRule><AllowedOrigin>https://*.example</AllowedOrigin><AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod>\
    <AllowedHeader>content-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>600</MaxAgeSeconds></CORSRule>\
    <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_may_do_what_its_buckets_rules_say() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let preflight = |origin, method, headers| {
        let mut asked = vec![("Origin", origin), ("Access-Control-Request-Method", method)];
        if !str::is_empty(headers) {
            asked.push(("Access-Control-Request-Headers", headers));
        }
        client.send("OPTIONS", "/uploads/key", &asked, b"")
    };
    assert_eq!(
        refused(&preflight("https://a.example", "PUT", "")),
        (403, "AccessForbidden".into())
    );
    assert_eq!(
        refused(&client.ask("GET", "", &[("cors", "")], b"")),
        (404, "NoSuchCORSConfiguration".into())
    );
    assert_eq!(client.ask("PUT", "", &[("cors", "")], RULES.as_bytes()).status, 200);
    assert_eq!(
        elements(&client.ask("GET", "", &[("cors", "")], b"").text(), "AllowedOrigin").len(),
        2
    );

    let allowed = preflight("https://a.example", "PUT", "Content-MD5, content-type");
    assert_eq!(allowed.status, 200, "{}", allowed.text());
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "PUT, GET"),
        ("access-control-allow-headers", "content-md5, content-type"),
        ("access-control-expose-headers", "ETag"),
        ("access-control-max-age", "600"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(allowed.header(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(
        preflight("https://other.org", "GET", "")
            .header("access-control-allow-origin")
            .as_deref(),
        Some("*")
    );
    for (origin, method, headers) in [
        ("https://other.org", "PUT", ""),
        ("https://a.example", "DELETE", ""),
        ("https://a.example", "PUT", "x-amz-acl"),
    ] {
        assert_eq!(
            refused(&preflight(origin, method, headers)),
            (403, "AccessForbidden".into()),
            "{origin} {method} {headers}"
        );
    }
    assert_eq!(client.send("OPTIONS", "/uploads/key", &[], b"").status, 400);

    let target = client.v4("PUT", "key", &[], &[]);
    let put = client.send("PUT", &target, &[("Origin", "https://a.example")], b"");
    assert_eq!(
        put.header("access-control-allow-origin").as_deref(),
        Some("https://a.example")
    );
    // A page also gets to read why it was refused.
    let target = target.replace("/uploads/key", "/uploads/other");
    let put = client.send("PUT", &target, &[("Origin", "https://a.example")], b"");
    assert_eq!(
        (put.status, put.header("access-control-allow-origin").as_deref()),
        (403, Some("https://a.example"))
    );

    assert_eq!(client.ask("DELETE", "", &[("cors", "")], b"").status, 204);
    assert_eq!(preflight("https://a.example", "PUT", "").status, 403);
    let wrong = RULES.replace("<AllowedMethod>PUT<", "<AllowedMethod>PATCH<");
    assert_eq!(
        refused(&client.ask("PUT", "", &[("cors", "")], wrong.as_bytes())),
        (400, "InvalidRequest".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_bucket_has_is_told_as_s3_tells_it() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (name, code) in [
        ("policy", "NoSuchBucketPolicy"),
        ("policyStatus", "NoSuchBucketPolicy"),
        ("encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("website", "NoSuchWebsiteConfiguration"),
        ("replication", "ReplicationConfigurationNotFoundError"),
        ("object-lock", "ObjectLockConfigurationNotFoundError"),
        ("publicAccessBlock", "NoSuchPublicAccessBlockConfiguration"),
        ("ownershipControls", "OwnershipControlsNotFoundError"),
    ] {
        assert_eq!(
            refused(&client.ask("GET", "", &[(name, "")], b"")),
            (404, code.into()),
            "{name}"
        );
    }
    for name in ["logging", "notification", "requestPayment", "accelerate", "versioning"] {
        assert_eq!(client.ask("GET", "", &[(name, "")], b"").status, 200, "{name}");
    }
    for name in ["analytics", "inventory", "metrics", "intelligent-tiering"] {
        assert_eq!(client.ask("GET", "", &[(name, "")], b"").status, 200, "{name}");
    }
    let put = |name: &str, xml: &str| client.ask("PUT", "", &[(name, "")], xml.as_bytes()).status;
    let payer = |payer| format!("<RequestPaymentConfiguration><Payer>{payer}</Payer></RequestPaymentConfiguration>");
    let target = "<LoggingEnabled><TargetBucket>uploads</TargetBucket><TargetPrefix>x</TargetPrefix></LoggingEnabled>";
    let topic = "<TopicConfiguration><Topic>arn:aws:sns:us-east-1:1:t</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration>";
    assert_eq!(put("requestPayment", &payer("BucketOwner")), 200);
    assert_eq!(put("requestPayment", &payer("Requester")), 501);
    assert_eq!(put("logging", "<BucketLoggingStatus/>"), 200);
    assert_eq!(
        put(
            "logging",
            &format!("<BucketLoggingStatus>{target}</BucketLoggingStatus>")
        ),
        501
    );
    assert_eq!(put("notification", "<NotificationConfiguration/>"), 200);
    assert_eq!(
        put(
            "notification",
            &format!("<NotificationConfiguration>{topic}</NotificationConfiguration>")
        ),
        501
    );
    let versioning = |status| format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    let enable = client.ask("PUT", "", &[("versioning", "")], versioning("Enabled").as_bytes());
    assert_eq!(refused(&enable), (501, "NotImplemented".into()));
    assert_eq!(
        client
            .ask("PUT", "", &[("versioning", "")], versioning("Suspended").as_bytes())
            .status,
        200
    );
    client.put("a/b", b"");
    client.put("c", b"");
    let versions = client
        .ask("GET", "", &[("delimiter", "/"), ("versions", "")], b"")
        .text();
    assert_eq!(
        (elements(&versions, "Key"), elements(&versions, "VersionId")),
        (vec!["c".into()], vec!["null".into()])
    );
    assert_eq!(
        elements(&versions, "CommonPrefixes")[0],
        "<Prefix>a/</Prefix>",
        "{versions}"
    );
    for (method, id, status) in [
        ("GET", "null", 200),
        ("GET", "1", 400),
        ("DELETE", "1", 400),
        ("DELETE", "null", 204),
    ] {
        assert_eq!(
            client.ask(method, "c", &[("versionId", id)], b"").status,
            status,
            "{method} {id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_tags_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let (first, client) = start(dir.path(), &credentials).await;
    assert_eq!(client.ask("PUT", "", &[("cors", "")], RULES.as_bytes()).status, 200);
    assert_eq!(
        client
            .call("PUT", "", &[("acl", "")], &[("x-amz-acl", "public-read")], b"")
            .status,
        200
    );
    client.call("PUT", "key", &[], &[("x-amz-tagging", "a=1")], b"");
    let asked = [("x-amz-checksum-algorithm", "CRC32")];
    let id = client
        .call("POST", "parts", &[("uploads", "")], &asked, b"")
        .element("UploadId");
    let part = client.part("parts", &id, 1, b"123456789").etag();
    first.stop().await;
    let (_second, client) = start(dir.path(), &credentials).await;
    assert_eq!(
        elements(&client.ask("GET", "", &[("cors", "")], b"").text(), "AllowedOrigin").len(),
        2
    );
    assert_eq!(client.send("GET", "/uploads", &[], b"").status, 200);
    assert_eq!(client.ask("GET", "key", &[("tagging", "")], b"").element("Key"), "a");
    assert_eq!(
        client.list_parts("parts", &id, "0").element("ChecksumCRC32"),
        "y/Q5Jg=="
    );
    assert_eq!(
        client.complete("parts", &id, &[(1, &part)]).element("ChecksumType"),
        "COMPOSITE"
    );
}

fn lifecycle(rules: &str) -> String {
    format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_has_the_lifecycle_that_it_was_told_and_refuses_what_it_would_not_do() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let get = || client.ask("GET", "", &[("lifecycle", "")], b"");
    assert_eq!(refused(&get()), (404, "NoSuchLifecycleConfiguration".into()));
    let rules = "<Rule><ID>old</ID><Prefix>logs/</Prefix><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>\
        <Rule><ID>both</ID><Filter><And><Prefix>a</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter><Status>Disabled</Status>\
        <Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule>\
        <Rule><ID>stale</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
        <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>";
    let put = |rules: &str| client.ask("PUT", "", &[("lifecycle", "")], lifecycle(rules).as_bytes());
    assert_eq!(put(rules).status, 200);
    let told = get().text();
    assert_eq!(elements(&told, "ID"), ["old", "both", "stale"]);
    assert_eq!(elements(&told, "Days"), ["3"]);
    assert!(told.contains("<And>") && told.contains("2030-01-01T00:00:00"), "{told}");
    assert_eq!(elements(&told, "DaysAfterInitiation"), ["7"]);
    client.put("logs/1", b"");
    let told = client
        .ask("HEAD", "logs/1", &[], b"")
        .header("x-amz-expiration")
        .unwrap();
    assert!(
        told.starts_with("expiry-date=\"") && told.ends_with("00:00:00 GMT\", rule-id=\"old\""),
        "{told}"
    );
    assert_eq!(client.put("other", b"").header("x-amz-expiration"), None);

    let rule = |inner: &str| format!("<Rule><ID>r</ID><Filter/><Status>Enabled</Status>{inner}</Rule>");
    let expire = "<Expiration><Days>1</Days></Expiration>";
    for (rules, code) in [
        (rule(""), "InvalidRequest"),
        (rule("<Expiration><Days>0</Days></Expiration>"), "InvalidArgument"),
        (
            rule("<Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration>"),
            "InvalidArgument",
        ),
        (
            rule("<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"),
            "NotImplemented",
        ),
        (
            rule("<Expiration><Date>9999-12-31T23:30:00-01:00</Date></Expiration>"),
            "InvalidArgument",
        ),
        (
            rule(expire).replace("<Filter/>", "<Filter><And></And></Filter>"),
            "MalformedXML",
        ),
        (
            rule(expire).replace(
                "<Filter/>",
                "<Filter><ObjectSizeGreaterThan>-1</ObjectSizeGreaterThan></Filter>",
            ),
            "MalformedXML",
        ),
        (rule(expire).replace("Enabled", "enabled"), "MalformedXML"),
        (rule(expire).replace("<Filter/>", ""), "MalformedXML"),
        (format!("{}{}", rule(expire), rule(expire)), "InvalidArgument"),
        (
            rule(expire).replace("<ID>r</ID>", &format!("<ID>{}</ID>", "r".repeat(256))),
            "InvalidArgument",
        ),
    ] {
        assert_eq!(put(&rules).element("Code"), code, "{rules}");
    }
    assert_eq!(elements(&get().text(), "ID").len(), 3, "a refusal changed something");
    assert_eq!(client.ask("DELETE", "", &[("lifecycle", "")], b"").status, 204);
    assert_eq!(get().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_had_its_time_goes_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let (first, client) = start(dir.path(), &credentials).await;
    for key in ["old/1", "old/2", "kept"] {
        client.put(key, b"");
    }
    let rules = "<Rule><ID>r</ID><Prefix>old/</Prefix><Status>Enabled</Status><Expiration><Date>2020-01-01T00:00:00Z</Date></Expiration></Rule>";
    assert_eq!(
        client
            .ask("PUT", "", &[("lifecycle", "")], lifecycle(rules).as_bytes())
            .status,
        200
    );
    first.stop().await;
    // A round begins with the store.
    let (_second, client) = start(dir.path(), &credentials).await;
    let listed = || elements(&client.ask("GET", "", &[("list-type", "2")], b"").text(), "Key");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while listed().len() > 1 && std::time::Instant::now() < until {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(listed(), ["kept"]);
}
