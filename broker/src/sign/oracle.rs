//! Holds the V4 signer to an oracle: the AWS SDK's own presigner has to give the same URL, for any key that S3 allows.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{
    BehaviorVersion, ConfigBag, Credentials as SdkCredentials, Intercept, Region, RequestChecksumCalculation,
    RuntimeComponents,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::presigning::PresigningConfig;
use proptest::prelude::*;
use shared::{Md5Digest, PartNumber};
use time::OffsetDateTime;

use super::v4::{PartSigner, SigningKey};
use super::{Addressing, Credentials, Part, SignatureVersion, Target, Validity, download_url, put_url};

/// The SDK adds `x-id=UploadPart` or the like, which servers ignore and we leave out.
#[derive(Debug)]
struct WithoutXId;

impl Intercept for WithoutXId {
    fn name(&self) -> &'static str {
        "WithoutXId"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let mut uri = request.uri().to_owned();
        for id in ["x-id=UploadPart", "x-id=GetObject", "x-id=PutObject"] {
            uri = uri
                .replace(&format!("{id}&"), "")
                .replace(&format!("?{id}"), "?")
                .replace(&format!("&{id}"), "");
        }
        request.set_uri(uri)?;
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Case {
    key: String,
    upload_id: String,
    part: Part,
    token: Option<String>,
    expires_in: u64,
    at: i64,
    addressing: Addressing,
}

fn case() -> impl Strategy<Value = Case> {
    let awkward = prop::sample::select(vec![
        " ", "+", "&", "=", "%", "(", ")", "!", "'", "*", "//", "ü", "日本", "~", "%2F", "?", "#", "a",
    ]);
    let key = prop_oneof![
        prop::collection::vec(awkward, 1..40).prop_map(|pieces| pieces.concat()),
        "[a-zA-Z0-9 _./+&=%()!'*-]{1,60}",
        any::<String>().prop_filter("1 to 1024 bytes", |text| (1..=1024).contains(&text.len())),
    ]
    // The SDK resolves dot segments, which names never have here; a leading slash it drops.
    .prop_filter("no dot segments", |key| {
        !key.split('/').any(|segment| matches!(segment, "." | ".."))
    })
    .prop_filter("no leading slash", |key| !key.starts_with('/'))
    .prop_filter("not blank, which the SDK takes for no key", |key| {
        !key.trim().is_empty()
    });
    (
        key,
        "[A-Za-z0-9._~+/=-]{1,120}",
        1..=10_000_u64,
        any::<Option<[u8; 16]>>(),
        prop::option::of(0..=5 * shared::GIB),
        prop::option::of("[A-Za-z0-9+/=]{10,300}"),
        1..=604_800_u64,
        0..=4_000_000_000_i64,
        any::<bool>(),
    )
        .prop_map(
            |(key, upload_id, number, md5, size, token, expires_in, at, path)| Case {
                key,
                upload_id,
                part: Part {
                    number: PartNumber::try_from(number).unwrap(),
                    md5: md5.map(Md5Digest::from_bytes),
                    size,
                },
                token,
                expires_in,
                at,
                addressing: if path { Addressing::Path } else { Addressing::Virtual },
            },
        )
}

const ENDPOINT: &str = "http://store.example:9000";
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const REGION: &str = "eu-central-1";

/// The URLs of the part, of the object's download, and of putting it whole.
fn ours(case: &Case) -> [String; 3] {
    let credentials = Credentials {
        access_key_id: KEY_ID.into(),
        secret_access_key: SECRET.into(),
        session_token: case.token.clone(),
    };
    let target = Target::new(
        &ENDPOINT.parse().unwrap(),
        case.addressing,
        "bucket",
        &case.key.parse().unwrap(),
    );
    let signed_at = OffsetDateTime::from_unix_timestamp(case.at).unwrap();
    let validity = Validity {
        signed_at,
        expires_in: Duration::from_secs(case.expires_in),
    };
    let key = SigningKey::new(&credentials, REGION, signed_at);
    let mut url = Vec::new();
    PartSigner::new(&key, &target, &case.upload_id, validity).write_urls(&[case.part], &mut url, |_, _| ());
    let download = download_url(SignatureVersion::V4, &target, REGION, &credentials, validity);
    let md5 = case.part.md5.map(|md5| ("content-md5", md5.to_base64()));
    let length = case.part.size.map(|size| ("content-length", size.to_string()));
    let token = Some(("x-amz-meta-token", case.upload_id.clone()));
    let headers = [
        md5,
        length,
        token,
        Some(("content-type", "text/plain; charset=utf-8".into())),
    ];
    let headers = headers
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let put = put_url(&key, &target, &headers, &[], validity);
    [String::from_utf8(url).unwrap(), download, put]
}

fn the_sdks(case: &Case) -> [String; 3] {
    let config = aws_sdk_s3::config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SdkCredentials::new(KEY_ID, SECRET, case.token.clone(), None, "test"))
        .region(Region::new(REGION))
        .endpoint_url(ENDPOINT)
        .force_path_style(case.addressing == Addressing::Path)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .interceptor(WithoutXId)
        .build();
    let presigning = PresigningConfig::builder()
        .start_time(SystemTime::UNIX_EPOCH + Duration::from_secs(case.at.unsigned_abs()))
        .expires_in(Duration::from_secs(case.expires_in))
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let client = Client::from_conf(config);
    let part = client
        .upload_part()
        .bucket("bucket")
        .key(&case.key)
        .upload_id(&case.upload_id)
        .part_number(case.part.number.get().into())
        .set_content_md5(case.part.md5.map(Md5Digest::to_base64))
        .set_content_length(case.part.size.map(|size| i64::try_from(size).unwrap()))
        .presigned(presigning.clone());
    let download = client
        .get_object()
        .bucket("bucket")
        .key(&case.key)
        .presigned(presigning.clone());
    let put = client
        .put_object()
        .bucket("bucket")
        .key(&case.key)
        .content_type("text/plain; charset=utf-8")
        .metadata("token", &case.upload_id)
        .set_content_md5(case.part.md5.map(Md5Digest::to_base64))
        .set_content_length(case.part.size.map(|size| i64::try_from(size).unwrap()))
        .presigned(presigning);
    let signed = runtime.block_on(async { [part.await.unwrap(), download.await.unwrap(), put.await.unwrap()] });
    signed.map(|request| request.uri().to_owned())
}

/// Scheme, host and path; then the query's pairs in order of their names.
fn in_order(url: &str) -> (String, Vec<String>) {
    let (before, query) = url.split_once('?').unwrap();
    let mut pairs: Vec<_> = query.split('&').map(str::to_owned).collect();
    pairs.sort();
    (before.to_owned(), pairs)
}

proptest! {
    #[test]
    fn the_sdks_presigner_gives_the_same_url(case in case()) {
        for (ours, the_sdks) in ours(&case).iter().zip(&the_sdks(&case)) {
            prop_assert_eq!(in_order(ours), in_order(the_sdks));
        }
    }
}
