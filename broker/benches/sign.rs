//! How many part URLs a core signs a second, beside what is possible and what the AWS SDK does, in one run:
//!
//! ```text
//! cargo bench -p broker --bench sign
//! ```
//!
//! *bound* is the hash blocks of one URL and nothing else, on states kept from URL to URL. *ours* writes the whole URL
//! into the answer, which is made in pieces of [`PARTS_PER_PIECE`]. *aws-sdk-s3* presigns the same part. What a whole form
//! costs is measured over HTTP, by `bench/form.py`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark is no part of the library"
)]

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use broker::sign::{Addressing, Credentials, Part, Target, Validity, v2, v4};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shared::{Md5Digest, PartNumber};
use time::OffsetDateTime;

const ENDPOINT: &str = "https://s3.eu-central-1.amazonaws.com";
const KEY: &str = "uploads/alice/2026-11-22/backup-of-the-day.tar";
const UPLOAD_ID: &str = "VXBsb2FkSWRWWHBsYjJGa1NXUldXSEJzYjJGa1NXUldXSEJzYjJGa1NXUldXSEJzYjJGa1NXUldXSEJzYjJGa1NXUldXSEJzYjJGa1NXUldXSEJzYjJGa1NXUlZ5";

/// As many as the form protocol's answer has in one piece.
const PARTS_PER_PIECE: usize = 112;

fn credentials() -> Credentials {
    Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        session_token: None,
    }
}

fn part(number: u64) -> Part {
    Part {
        number: PartNumber::try_from(number).unwrap(),
        md5: Some(Md5Digest::from_bytes([u8::try_from(number % 256).unwrap(); 16])),
        size: Some(8 << 20),
    }
}

fn parts() -> Vec<Part> {
    (1..=10_000).map(part).collect()
}

fn target() -> Target {
    Target::new(
        &ENDPOINT.parse().unwrap(),
        Addressing::Path,
        "examplebucket",
        &KEY.parse().unwrap(),
    )
}

fn validity() -> Validity {
    Validity {
        signed_at: OffsetDateTime::UNIX_EPOCH,
        expires_in: Duration::from_mins(15),
    }
}

/// SHA-256 blocks of one V4 URL after what is kept: the rest of the canonical request, then the two halves of the HMAC.
fn v4_blocks() -> usize {
    // All of the canonical request up to the part's number is constant; its whole blocks are in the kept state.
    let mut url = Vec::new();
    let key = v4::SigningKey::new(&credentials(), "eu-central-1", validity().signed_at);
    v4::PartSigner::new(&key, &target(), UPLOAD_ID, validity()).write_urls(&[part(10_000)], &mut url, |_, _| ());
    let url = String::from_utf8(url).unwrap();
    let (_, query) = url.split_once('?').unwrap();
    let constant = "PUT\n/examplebucket/\n".len() + KEY.len() + query.find("10000").unwrap();
    let rest = "10000&uploadId=\n".len()
        + UPLOAD_ID.len()
        + "content-length:8388608\ncontent-md5:\n".len()
        + 24
        + "host:s3.eu-central-1.amazonaws.com\n\ncontent-length;content-md5;host\nUNSIGNED-PAYLOAD".len();
    let string_to_sign = "AWS4-HMAC-SHA256\n19700101T000000Z\n19700101/eu-central-1/s3/aws4_request\n".len() % 64 + 64;
    blocks(constant % 64 + rest) + blocks(string_to_sign) + 1
}

/// Blocks of 64 bytes that this many bytes and their padding (9 bytes or more) fill.
const fn blocks(bytes: usize) -> usize {
    (bytes + 9).div_ceil(64)
}

/// SHA-1 blocks of one V2 URL: all of the string to sign, then the outer half of the HMAC.
fn v2_blocks() -> usize {
    let string_to_sign = "PUT\n".len()
        + 24
        + "\n\n900\n/examplebucket/".len()
        + KEY.len()
        + "?partNumber=10000&uploadId=".len()
        + UPLOAD_ID.len();
    blocks(string_to_sign) + 1
}

fn signing(criterion: &mut Criterion) {
    let parts = parts();
    let (target, validity, credentials) = (target(), validity(), credentials());

    let mut group = criterion.benchmark_group("sign");
    group.throughput(Throughput::Elements(10_000));
    let sha256_blocks = vec![[7_u8; 64]; v4_blocks()];
    group.bench_function(format!("v4 bound ({} SHA-256 blocks a URL)", v4_blocks()), |bencher| {
        bencher.iter(|| {
            for _ in 0..10_000 {
                let mut state = [1_u32; 8];
                sha2::block_api::compress256(&mut state, black_box(&sha256_blocks));
                black_box(state);
            }
        });
    });
    group.bench_function("v4 ours", |bencher| {
        let mut out = Vec::with_capacity(PARTS_PER_PIECE * 640);
        bencher.iter(|| {
            let key = v4::SigningKey::new(&credentials, "eu-central-1", validity.signed_at);
            let mut signer = v4::PartSigner::new(&key, &target, UPLOAD_ID, validity);
            for piece in parts.chunks(PARTS_PER_PIECE) {
                out.clear();
                signer.write_urls(piece, &mut out, |_, _| ());
                black_box(&out);
            }
        });
    });
    let sha1_blocks = vec![[7_u8; 64]; v2_blocks()];
    group.bench_function(format!("v2 bound ({} SHA-1 blocks a URL)", v2_blocks()), |bencher| {
        bencher.iter(|| {
            for _ in 0..10_000 {
                let mut state = [1_u32; 5];
                sha1::block_api::compress(&mut state, black_box(&sha1_blocks));
                black_box(state);
            }
        });
    });
    group.bench_function("v2 ours", |bencher| {
        let mut out = Vec::with_capacity(PARTS_PER_PIECE * 640);
        bencher.iter(|| {
            let mut signer = v2::PartSigner::new(&credentials, &target, UPLOAD_ID, validity);
            for piece in parts.chunks(PARTS_PER_PIECE) {
                out.clear();
                signer.write_urls(piece, &mut out, |_, _| ());
                black_box(&out);
            }
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("sign");
    group.sample_size(10).throughput(Throughput::Elements(1_000));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let client = aws_sdk_s3::Client::from_conf(
        aws_sdk_s3::config::Builder::new()
            .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
            .credentials_provider(aws_sdk_s3::config::Credentials::new(
                credentials.access_key_id.clone(),
                credentials.secret_access_key.clone(),
                None,
                None,
                "bench",
            ))
            .region(aws_sdk_s3::config::Region::new("eu-central-1"))
            .endpoint_url(ENDPOINT)
            .force_path_style(true)
            .build(),
    );
    group.bench_function("v4 aws-sdk-s3", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                for part in parts.iter().take(1_000) {
                    let presigning = aws_sdk_s3::presigning::PresigningConfig::builder()
                        .start_time(SystemTime::UNIX_EPOCH)
                        .expires_in(Duration::from_mins(15))
                        .build()
                        .unwrap();
                    let request = client
                        .upload_part()
                        .bucket("examplebucket")
                        .key(KEY)
                        .upload_id(UPLOAD_ID)
                        .part_number(part.number.get().into())
                        .set_content_md5(part.md5.map(Md5Digest::to_base64))
                        .content_length(8 << 20)
                        .presigned(presigning)
                        .await
                        .unwrap();
                    black_box(request.uri().len());
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, signing);
criterion_main!(benches);
