//! The signers alone, at chosen times, against the store's own verification.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use broker::s3::Profile;
use broker::sign::{Addressing, Credentials, Part, SignatureVersion, Target, Validity, v2, v4};
use shared::{Md5Digest, PartNumber};
use tests::{Answer, Stack, md5, put, unique};
use time::OffsetDateTime;

/// One upload that the store was asked for directly, and URLs for its parts.
struct Direct {
    stack: Stack,
    key: String,
    upload_id: String,
}

impl Direct {
    async fn begin(key: &str) -> Self {
        let stack = Stack::on_store_under_test().await;
        let upload_id = stack.bucket.create_upload(key).await;
        Self {
            stack,
            key: key.to_owned(),
            upload_id,
        }
    }

    /// A URL for the part, signed at that instant to live for 10 minutes.
    fn url(&self, version: SignatureVersion, part: &Part, signed_at: OffsetDateTime) -> String {
        let store = &self.stack.store;
        let credentials = Credentials {
            access_key_id: store.access_key_id.clone(),
            secret_access_key: store.secret_access_key.clone(),
            session_token: None,
        };
        let endpoint = store.endpoint.parse().unwrap();
        let target = Target::new(&endpoint, Addressing::Path, &store.bucket, &self.key.parse().unwrap());
        let validity = Validity {
            signed_at,
            expires_in: Duration::from_mins(10),
        };
        let mut url = Vec::new();
        match version {
            SignatureVersion::V4 => {
                let key = v4::SigningKey::new(&credentials, &store.region, signed_at);
                let barred = Profile::of(store.kind.profile()).barred.part;
                let signer = v4::PartSigner::new(&key, &target, &self.upload_id, validity);
                signer.barring(barred).write_urls(&[*part], &mut url, |_, _| ());
            }
            SignatureVersion::V2 => {
                v2::PartSigner::new(&credentials, &target, &self.upload_id, validity).write_urls(
                    &[*part],
                    &mut url,
                    |_, _| (),
                );
            }
        }
        String::from_utf8(url).unwrap()
    }

    fn versions(&self) -> Vec<SignatureVersion> {
        let v2 = self.stack.store.kind.has_v2().then_some(SignatureVersion::V2);
        [SignatureVersion::V4].into_iter().chain(v2).collect()
    }
}

fn part(md5: Option<Md5Digest>, size: Option<u64>) -> Part {
    Part {
        number: PartNumber::FIRST,
        md5,
        size,
    }
}

async fn send(url: &str, md5: Option<Md5Digest>, body: &[u8]) -> Answer {
    let headers: BTreeMap<_, _> = md5
        .map(|md5| ("Content-MD5".to_owned(), md5.to_base64()))
        .into_iter()
        .collect();
    put(url, &headers, body.to_vec()).await
}

#[tokio::test]
async fn every_key_that_s3_allows_is_signed_as_the_store_reads_it() {
    let keys = [
        "plain",
        "with space",
        "+&=%",
        "a//b",
        "(round) [square] {curly} <angle>",
        "!'*~-._,;:@$#?^`|\"",
        "ü日本 ñ 🦀",
        "%41%2F%zz",
        "dir/sub dir/file.bin",
        "ends with a dot.",
    ];
    for key in keys {
        let direct = Direct::begin(&unique(key)).await;
        for version in direct.versions() {
            let url = direct.url(version, &part(Some(md5(b"bytes")), None), OffsetDateTime::now_utc());
            let answer = send(&url, Some(md5(b"bytes")), b"bytes").await;
            assert_eq!(answer.status, 200, "{version:?} {key:?}: {}", answer.text());
        }
        direct
            .stack
            .bucket
            .complete_upload(&direct.key, &direct.upload_id, &[md5(b"bytes")])
            .await;
        assert_eq!(
            direct.stack.bucket.get(&direct.key).await.unwrap().bytes,
            b"bytes",
            "{key:?}"
        );
    }
}

#[tokio::test]
async fn an_expired_url_is_refused() {
    let direct = Direct::begin(&unique("expired")).await;
    for version in direct.versions() {
        let an_hour_ago = OffsetDateTime::now_utc() - Duration::from_hours(1);
        let answer = send(&direct.url(version, &part(None, None), an_hour_ago), None, b"late").await;
        // 403 AccessDenied nearly everywhere, 400 InvalidRequest on Garage: which is why clients judge by the broker's clock.
        assert!(
            matches!(answer.status, 400 | 403),
            "{version:?}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert_eq!(direct.stack.bucket.parts(&direct.key, &direct.upload_id).await, 0);
}

#[tokio::test]
async fn a_signed_md5_can_be_neither_left_out_nor_changed() {
    let direct = Direct::begin(&unique("pinned")).await;
    for version in direct.versions() {
        let url = direct.url(version, &part(Some(md5(b"right")), None), OffsetDateTime::now_utc());
        for (sent, body) in [
            (None, b"right"),
            (Some(md5(b"wrong")), b"wrong"),
            (Some(md5(b"right")), b"wrong"),
        ] {
            let answer = send(&url, sent, body).await;
            assert!(
                matches!(answer.status, 400 | 403),
                "{version:?} {sent:?}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    assert_eq!(direct.stack.bucket.parts(&direct.key, &direct.upload_id).await, 0);
}

#[tokio::test]
async fn a_signed_length_is_the_only_one_that_can_be_sent() {
    let direct = Direct::begin(&unique("length")).await;
    let url = direct.url(SignatureVersion::V4, &part(None, Some(5)), OffsetDateTime::now_utc());
    for body in [&b"1234"[..], b"123456", b""] {
        let answer = send(&url, None, body).await;
        assert_eq!(answer.status, 403, "{} bytes: {}", body.len(), answer.text());
    }
    assert_eq!(direct.stack.bucket.parts(&direct.key, &direct.upload_id).await, 0);
    assert_eq!(send(&url, None, b"12345").await.status, 200);
}

#[tokio::test]
async fn a_url_is_good_for_its_part_and_key_only() {
    let direct = Direct::begin(&unique("bound")).await;
    for version in direct.versions() {
        let url = direct.url(version, &part(None, None), OffsetDateTime::now_utc());
        let other_key = url.replacen("bound", "bomb", 1);
        for changed in [url.replace("partNumber=1", "partNumber=2"), other_key] {
            assert_ne!(changed, url);
            let answer = send(&changed, None, b"x").await;
            assert_eq!(answer.status, 403, "{version:?}: {}", answer.text());
        }
    }
    assert_eq!(direct.stack.bucket.parts(&direct.key, &direct.upload_id).await, 0);
}

#[tokio::test]
async fn the_url_of_a_part_copies_nothing() {
    let direct = Direct::begin(&unique("copy")).await;
    let bucket = &direct.stack.bucket;
    let secret = unique("secret");
    bucket.put(&secret, b"secret", &HashMap::new()).await;
    let source = format!("/{}/{secret}", direct.stack.store.bucket);
    for version in direct.versions() {
        // Whoever knows the MD5 of what is in there declares it.
        for declared in [None, Some(md5(b"secret"))] {
            let part = part(declared, None);
            let url = direct.url(version, &part, OffsetDateTime::now_utc());
            let mut headers = part.headers();
            headers.insert("x-amz-copy-source".into(), source.clone());
            for body in [&b""[..], b"secret"] {
                let answer = put(&url, &headers, body.to_vec()).await;
                let refused = (400..500).contains(&answer.status);
                assert!(refused, "{version:?} {declared:?}: {} {}", answer.status, answer.text());
            }
        }
    }
    assert_eq!(bucket.parts(&direct.key, &direct.upload_id).await, 0);
}
