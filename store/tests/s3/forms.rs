//! Uploads by HTML forms: what the policy allows is stored, nothing of anything else.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use sha2::{Digest as _, Sha256};
use store::{AccessKey, Credentials, DevStore, Rights};
use time::Duration;

use crate::client::{Client, hex, md5_base64, read_answer};
use crate::form::{BOUNDARY, Form, Version, file_part, post};

fn refused(client: &Client, form: &Form, status: u16, code: &str, message: &str) {
    let answer = form.post(client);
    let told = (answer.status, answer.element("Code"));
    assert_eq!(told, (status, code.to_owned()), "{}", answer.text());
    let text = answer.element("Message");
    assert!(text.contains(message), "{text}");
    assert_eq!(
        client.get("in/key").status,
        404,
        "{code} {message}: stored all the same"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_form_stores_its_file_with_what_the_fields_say() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for version in [Version::V4, Version::V2] {
        let form = Form::new("in/dir/a b&c", b"content\r\n--not the boundary")
            .agreed("Cache-Control", "no-store")
            .agreed("Content-Disposition", "attachment")
            .agreed("Content-Encoding", "gzip")
            .agreed("Expires", "Wed, 21 Oct 2026 07:28:00 GMT")
            .condition(r#"["starts-with", "$tagging", ""]"#)
            .field(
                "tagging",
                "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag></TagSet></Tagging>",
            )
            .condition(r#"["starts-with", "$x-amz-meta-color", ""]"#)
            .field("X-Amz-Meta-Color", "blue")
            .field("x-ignore-this", "whatever")
            .sign(&client, version);
        let answer = form.post(&client);
        assert_eq!(answer.status, 204, "{version:?}: {}", answer.text());
        let md5 = hex(&Md5::digest(&form.file.1));
        assert_eq!(answer.etag(), format!("\"{md5}\""));
        let place = format!("http://{}/uploads/in%2Fdir%2Fa%20b%26c", client.address);
        assert_eq!(answer.header("location"), Some(place));

        let got = client.get("in/dir/a b&c");
        assert_eq!(got.body, form.file.1);
        for (name, value) in [
            ("content-type", "text/plain"),
            ("cache-control", "no-store"),
            ("content-disposition", "attachment"),
            ("content-encoding", "gzip"),
            ("expires", "Wed, 21 Oct 2026 07:28:00 GMT"),
            ("x-amz-meta-color", "blue"),
        ] {
            assert_eq!(got.header(name).as_deref(), Some(value), "{name}");
        }
        let tags = client.ask("GET", "in/dir/a b&c", &[("tagging", "")], b"");
        assert_eq!(
            (tags.element("Key"), tags.element("Value")),
            ("a b".to_owned(), "1&2".to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_says_what_its_sender_gets_back() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let signed = |name: &str, value: &str| {
        let form = Form::new("in/a<b", b"content").agreed(name, value);
        form.sign(&client, Version::V4).post(&client)
    };
    let empty = signed("success_action_status", "200");
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    let document = signed("success_action_status", "201");
    assert_eq!(document.status, 201);
    assert_eq!(document.element("Bucket"), "uploads");
    assert_eq!(document.element("Key"), "in/a&lt;b");
    assert_eq!(document.element("ETag"), document.etag());
    assert_eq!(Some(document.element("Location")), document.header("location"));
    assert!(document.text().contains("<PostResponse>"));
    let redirect = signed("success_action_redirect", "https://site.test/done?from=form");
    assert_eq!(redirect.status, 303);
    let etag = redirect.etag().replace('"', "%22");
    assert_eq!(
        redirect.header("location"),
        Some(format!(
            "https://site.test/done?from=form&bucket=uploads&key=in%2Fa%3Cb&etag={etag}"
        ))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_name_becomes_part_of_the_key_without_its_directories() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for name in ["photo.jpg", "C:\\\\Users\\\\me\\\\photo.jpg", "home/me/photo.jpg"] {
        let mut form = Form::new("in/${filename}", name.as_bytes()).sign(&client, Version::V4);
        name.clone_into(&mut form.file.0);
        assert_eq!(form.post(&client).status, 204);
        assert_eq!(client.get("in/photo.jpg").body, name.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_does_not_allow_is_refused() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for version in [Version::V4, Version::V2] {
        let form = Form::new("in/key", b"content");
        let signed = form.clone().sign(&client, version);
        let denied = |form: &Form, message: &str| refused(&client, form, 403, "AccessDenied", message);
        denied(
            &signed.clone().field("key", "out/key"),
            r#"Invalid according to Policy: Policy Condition failed: ["starts-with", "$key", "in/"]"#,
        );
        denied(
            &signed.clone().field("acl", "public-read"),
            r#"Policy Condition failed: ["eq", "$acl", "private"]"#,
        );
        denied(
            &signed.clone().without("Content-Type"),
            "Policy Condition failed: [\"starts-with\"",
        );
        denied(
            &signed.clone().field("x-amz-meta-extra", "x"),
            "Extra input fields: x-amz-meta-extra",
        );
        denied(
            &signed.clone().field("success_action_status", "201"),
            "Extra input fields",
        );
        denied(
            &form.clone().condition(r#"{"bucket": "other"}"#).sign(&client, version),
            r#"["eq", "$bucket", "other"]"#,
        );
        let mut late = form.clone();
        late.expires_in = Duration::seconds(-1);
        denied(
            &late.sign(&client, version),
            "Invalid according to Policy: Policy expired.",
        );
        let untagged = form.clone().agreed("tagging", "not XML").sign(&client, version);
        refused(&client, &untagged, 400, "MalformedXML", "");
        let broken = form.clone().condition("{}").sign(&client, version);
        refused(&client, &broken, 400, "InvalidPolicyDocument", "Simple-Condition");
        assert_eq!(signed.post(&client).status, 204);
        client.ask("DELETE", "in/key", &[], b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_key_can_have_signed() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let (mut stranger, mut forger) = (client.clone(), client.clone());
    stranger.credentials.access_key_id = "STRANGER".to_owned();
    forger.credentials.secret_access_key = "guessed1".to_owned();
    let form = Form::new("in/key", b"content");
    for (version, signature) in [(Version::V4, "X-Amz-Signature"), (Version::V2, "signature")] {
        let by = |who: &Client| form.clone().sign(who, version);
        refused(&client, &by(&stranger), 403, "InvalidAccessKeyId", "");
        refused(&client, &by(&forger), 403, "SignatureDoesNotMatch", "");
        let other = form.clone().condition(r#"{"acl": "private"}"#).policy(&client);
        let altered = by(&client).without("policy").without("Policy").field("policy", &other);
        refused(&client, &altered, 403, "SignatureDoesNotMatch", "");
        let unsigned = by(&client).without(signature);
        let told = format!(
            "Bucket POST must contain a field named '{}{}'.",
            &signature[..1].to_uppercase(),
            &signature[1..]
        );
        refused(&client, &unsigned, 400, "InvalidArgument", &told);
    }
    refused(&client, &form, 403, "AccessDenied", "not signed");
    let both = form
        .clone()
        .sign(&client, Version::V2)
        .without("policy")
        .sign(&client, Version::V4);
    refused(&client, &both, 400, "InvalidArgument", "more than one way");

    let good = form.sign(&client, Version::V4);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let target = client.v4("POST", "", &[], &[]);
    let twice = client.send("POST", &target, &[("Content-Type", &kind)], &good.body());
    assert_eq!((twice.status, twice.element("Code").as_str()), (400, "InvalidArgument"));
    let to_object = client.send("POST", "/uploads/in/key", &[("Content-Type", &kind)], &good.body());
    assert_eq!(to_object.element("Code"), "MethodNotAllowed");
    let nowhere = client.send("POST", "/nowhere", &[("Content-Type", &kind)], &good.body());
    assert_eq!(nowhere.status, 403, "the policy is for another bucket");
    assert_eq!(client.get("in/key").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_as_large_as_the_policy_says_and_the_form_whole() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let sized = |size: usize| {
        let form = Form::new("in/key", &vec![b'x'; size]).condition(r#"["content-length-range", 5, 1000000]"#);
        form.sign(&client, Version::V4)
    };
    refused(&client, &sized(4), 400, "EntityTooSmall", "");
    refused(&client, &sized(1_000_001), 400, "EntityTooLarge", "");
    // Far too large: the refusal can be read by who sends all of it first.
    refused(&client, &sized(10_000_000), 400, "EntityTooLarge", "");

    let good = sized(5).body();
    let end = format!("--{BOUNDARY}--\r\n");
    let without_end = &good[..good.len() - end.len()];
    let file = file_part("second.jpg", b"second");
    let code = |body: &[u8]| post(&client, body).element("Code");
    assert_eq!(code(without_end), "MalformedPOSTRequest");
    assert_eq!(
        code(&[without_end, &file, end.as_bytes()].concat()),
        "IncorrectNumberOfFilesInPostRequest"
    );
    let no_file = &good[..good.windows(11).position(|at| at == b"name=\"file\"").unwrap()];
    let no_file = [no_file, b"name=\"x\"\r\n\r\n\r\n", end.as_bytes()].concat();
    assert_eq!(code(&no_file), "IncorrectNumberOfFilesInPostRequest");
    assert_eq!(code(b"no form"), "MalformedPOSTRequest");
    let long = sized(5).field("x-ignore-this", &"x".repeat(21_000));
    refused(&client, &long, 400, "MaxPostPreDataLengthExceededError", "");
    let endless = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; {}",
        "x".repeat(3_000_000)
    );
    assert_eq!(code(endless.as_bytes()), "MaxPostPreDataLengthExceededError");
    let nameless = sized(5).without("key");
    refused(
        &client,
        &nameless,
        400,
        "InvalidArgument",
        "Bucket POST must contain a field named 'key'.",
    );
    assert_eq!(client.get("in/key").status, 404);

    // What follows the file counts for nothing.
    let submit = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nSend\r\n");
    assert_eq!(
        post(&client, &[without_end, submit.as_bytes(), end.as_bytes()].concat()).status,
        204
    );
    assert_eq!(client.get("in/key").body, b"xxxxx");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_the_file_leaves_the_old_object() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    client.put("in/key", b"old");
    let body = Form::new("in/key", &vec![b'x'; 3_000_000])
        .sign(&client, Version::V4)
        .body();
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let length = body.len().to_string();
    let headers = [("Content-Type", kind.as_str()), ("Content-Length", &length)];
    let mut stream = client.connect();
    write!(stream, "{}\r\n", client.head("POST", "/uploads", &headers)).unwrap();
    stream.write_all(&body[..2_000_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = read_answer(&mut stream);
    assert!(!(200..300).contains(&answer.status), "{}", answer.head);
    assert_eq!(client.get("in/key").body, b"old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_can_say_what_its_file_hashes_to() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    let form = Form::new("in/key", b"content");
    let sha256 = |bytes: &[u8]| BASE64.encode(Sha256::digest(bytes));
    // A checksum is the sender's own: no condition has to name it.
    let summed = |value: &str| {
        let form = form.clone().field("x-amz-checksum-sha256", value);
        form.sign(&client, Version::V4)
    };
    refused(
        &client,
        &summed(&sha256(b"other")),
        400,
        "BadDigest",
        "x-amz-checksum-sha256",
    );
    let hashed = |value: &str| form.clone().agreed("Content-MD5", value).sign(&client, Version::V2);
    refused(&client, &hashed(&md5_base64(b"other")), 400, "BadDigest", "Content-MD5");
    assert_eq!(hashed(&md5_base64(b"content")).post(&client).status, 204);
    let answer = summed(&sha256(b"content")).post(&client);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("x-amz-checksum-sha256"), Some(sha256(b"content")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_may_do_what_its_signers_key_may() {
    let (writer, reader) = (Credentials::random().unwrap(), Credentials::random().unwrap());
    let limited = |credentials: &Credentials, rights| AccessKey {
        rights,
        prefix: "in/deep/".to_owned(),
        ..AccessKey::full(credentials.clone())
    };
    let store = DevStore::start_with(|config| {
        config.keys.add(limited(&writer, Rights::WriteOnly));
        config.keys.add(limited(&reader, Rights::ReadOnly));
    })
    .await
    .unwrap();
    let owner = Client::of(&store);
    let (writer, reader) = (Client::to(&store, &writer), Client::to(&store, &reader));
    for (who, key, acl, status) in [
        (&writer, "in/deep/key", "private", 204),
        (&writer, "in/key", "private", 403),
        (&writer, "in/deep/open", "public-read", 403),
        (&reader, "in/deep/other", "private", 403),
        (&owner, "in/key", "public-read", 204),
    ] {
        let mut form = Form::new(key, b"content");
        form.conditions.retain(|condition| !condition.contains("acl"));
        let answer = form.agreed("acl", acl).sign(who, Version::V4).post(who);
        assert_eq!(answer.status, status, "{key} {acl}: {}", answer.text());
        let stored = owner.get(key).status == 200;
        assert_eq!(stored, status == 204, "{key}");
    }
}

/// The store as a process of its own, so that the memory is its alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_never_in_memory() {
    const CHUNKS: usize = 192;
    let dir = tempfile::tempdir().unwrap();
    let credentials = Credentials::random().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_store"))
        .args(["serve", "--no-sync", "--listen", "127.0.0.1:0", "--bucket", "uploads"])
        .arg(dir.path())
        .env_remove("STORE_CREDENTIALS_FILE")
        .env("STORE_ACCESS_KEY_ID", &credentials.access_key_id)
        .env("STORE_SECRET_ACCESS_KEY", &credentials.secret_access_key)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(process.stdout.take().unwrap()).lines();
    let endpoint = told.next().unwrap().unwrap();
    let client = Client {
        address: endpoint.rsplit_once("//").unwrap().1.parse().unwrap(),
        credentials,
        now: time::OffsetDateTime::now_utc(),
        expires: 300,
        region: "us-east-1".to_owned(),
    };

    let form = Form::new("in/key", b"").sign(&client, Version::V4).body();
    let at = form.windows(8).position(|at| at == b"\r\n\r\n\r\n--").unwrap() + 4;
    let (before, after) = form.split_at(at);
    let chunk = vec![b'x'; 1 << 20];
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let length = (form.len() + CHUNKS * chunk.len()).to_string();
    let headers = [
        ("Content-Type", kind.as_str()),
        ("Content-Length", &length),
        ("Connection", "close"),
    ];
    let mut stream = client.connect();
    write!(stream, "{}\r\n", client.head("POST", "/uploads", &headers)).unwrap();
    stream.write_all(before).unwrap();
    for _ in 0..CHUNKS {
        stream.write_all(&chunk).unwrap();
    }
    stream.write_all(after).unwrap();
    let answer = read_answer(&mut stream);
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()));
    process.kill().unwrap();
    process.wait().unwrap();

    assert_eq!(answer.status, 204, "{}", answer.text());
    if let Ok(status) = status {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 64 * 1024, "{peak} KiB for a file of {CHUNKS} MiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_there_twice_is_refused() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (name, value) in [
        ("key", "in/b"),
        ("KEY", "in/a"),
        ("acl", "private"),
        ("Content-Type", "text/html"),
    ] {
        for version in [Version::V4, Version::V2] {
            let form = Form::new("in/a", b"file").sign(&client, version).and(name, value);
            let answer = form.post(&client);
            let told = (answer.status, answer.element("Code"));
            assert_eq!(told, (400, "InvalidArgument".to_owned()), "{name}: {}", answer.text());
        }
    }
    for key in ["in/a", "in/b", "in/a,in/b"] {
        assert_eq!(client.get(key).status, 404, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_form_says_by_the_headers_name_is_refused_rather_than_judged_in_place_of_the_field() {
    let store = DevStore::start().await.unwrap();
    let client = Client::of(&store);
    for (name, value) in [("x-amz-acl", "private"), ("x-amz-tagging", "a=b")] {
        for version in [Version::V4, Version::V2] {
            let form = Form::new("in/a", b"file").condition(&format!(r#"["starts-with", "${name}", ""]"#));
            let answer = form.and(name, value).sign(&client, version).post(&client);
            let told = (answer.status, answer.element("Code"));
            assert_eq!(told, (400, "InvalidArgument".to_owned()), "{name}: {}", answer.text());
        }
    }
    assert_eq!(client.get("in/a").status, 404);
}
