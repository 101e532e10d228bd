//! What the fuzz targets in `fuzz/` call: each takes bytes from anywhere to a parser of what comes from outside, and on to the
//! policy, and asserts what has to hold of all that is accepted. Compiled for them alone.

// A broken assertion is what a target is for.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, clippy::expect_used)]

use std::future::Future as _;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use actix_web::HttpMessage as _;
use actix_web::http::Uri;
use actix_web::http::header::HeaderValue;
use actix_web::test::TestRequest;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use shared::PartNumber;
use shared::api::{BatchFile, CompleteUpload, CreateTicket, CreateUpload, Object, SignParts};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::auth::bearer::Bearer;
use crate::auth::identify::PathTicket;
use crate::auth::jwt::{JwtIssuer, JwtVerifier};
use crate::auth::path_ticket;
use crate::auth::scope::Scope;
use crate::config::Settings;
use crate::edge::address::{TrustedProxies, address_of};
use crate::ledger::Plan;
use crate::policy::{CreateGrant, Policy, UploadRandom};
use crate::principal::{Principal, is_name};

pub use crate::handlers::fuzzing::{form, listing, named};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-01-02 00:00 UTC);
pub(crate) const RANDOM: UploadRandom = UploadRandom {
    uuid: [7; 16],
    token: [9; 16],
};
/// Where the caller's keys have to begin.
const PREFIX: &str = "in/alice/";
const MAX_SIZE: u64 = 1 << 40;
const SECRET: &[u8] = b"thirty-two bytes or a little more";

pub(crate) static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let settings = Settings {
        key_template: Some("in/{principal}/{name}".to_owned()),
        max_size: Some(MAX_SIZE),
        tokens: Some(format!("alice={}", "0".repeat(64))),
        downloads: Some(true),
        ..Settings::default()
    };
    let config = settings.resolve().unwrap();
    Policy {
        destinations: config.destinations,
        rules: config.rules,
        zero_byte_part: true,
        single_put: true,
        equal_parts: false,
    }
});

pub(crate) fn alice() -> Principal {
    Principal::named("alice")
}

/// What holds of every upload that is admitted, whoever asked for it how.
pub(crate) fn check_grant(grant: &CreateGrant) {
    let key = grant.key.as_str();
    assert!(key.starts_with(PREFIX) && key.len() <= 1024, "{key:?}");
    assert!(!key.chars().any(char::is_control), "{key:?}");
    let segments = key.split('/').skip(2);
    assert!(
        segments.clone().all(|segment| segment != "." && segment != ".."),
        "{key:?}"
    );
    assert!(grant.reserved <= MAX_SIZE);
    assert_eq!(grant.owner, "alice");
    for text in grant.metadata.values().chain(&grant.content_type).chain(&grant.acl) {
        HeaderValue::from_str(text).expect("what is stored as a header can be one");
    }
}

fn json<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
    serde_json::from_slice::<Object<T>>(data)
        .ok()
        .map(|Object(value)| value)
}

/// `POST /v1/uploads`: what is admitted lies under the caller's prefix, within the limits, and its parts make up its size.
pub fn create(data: &[u8]) {
    let Some(asked) = json::<CreateUpload>(data) else {
        return;
    };
    let Ok(grant) = POLICY.admit_create(&alice(), asked, NOW, RANDOM) else {
        return;
    };
    check_grant(&grant);
    check_plan(&grant.plan);
}

fn check_plan(plan: &Plan) {
    let Plan::Sized(plan) = plan else { return };
    assert!(plan.size() <= MAX_SIZE && plan.part_count() <= PartNumber::MAX);
    let lengths = plan
        .parts()
        .map(|number| plan.part_len(number).expect("a part of the plan has a length"));
    assert_eq!(lengths.sum::<u64>(), plan.size());
}

/// The files of `POST /v1/batches`, one by one.
pub fn batch(data: &[u8]) {
    let Some(file) = json::<BatchFile>(data) else { return };
    if let Ok(grant) = POLICY.admit_small(&alice(), file, NOW, RANDOM) {
        check_grant(&grant.upload);
    }
}

/// The bodies of the other routes: they are read or refused, and a ticket is no better than who makes it.
pub fn bodies(data: &[u8]) {
    _ = json::<SignParts>(data);
    _ = json::<CompleteUpload>(data);
    if let Some(asked) = json::<CreateTicket>(data)
        && let Ok(terms) = POLICY.admit_ticket(&alice(), asked, "T1".to_owned(), NOW)
    {
        assert!(terms.minted_by == "alice" && terms.expires_at > NOW);
        assert!(terms.max_size.is_none_or(|size| size <= MAX_SIZE));
    }
}

/// Tokens, tickets and scopes: what is read as a token is told apart from all others by its id and kind alone.
pub fn bearer(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(bearer) = Bearer::read(text) {
        assert!(text.contains(&bearer.id) && text.is_ascii());
        assert!(!format!("{bearer:?}").contains(text.rsplit('_').next().unwrap_or_default()));
    }
    let scopes: Vec<String> = text.split(' ').map(str::to_owned).collect();
    _ = Scope::try_from(scopes);
}

/// Tokens of another issuer. The first line is the token's header, the second its claims, both signed here, since nobody could
/// guess a signature; what comes without a second line is a token as it is.
pub fn jwt(data: &[u8]) {
    static VERIFIER: LazyLock<JwtVerifier> = LazyLock::new(|| {
        let issuer = format!(
            "issuer = 'i'\naudience = 'b'\nsecret = '{}'\nprincipal = 'p:{{sub}}'\nroles_claim = 'roles'",
            str::from_utf8(SECRET).unwrap()
        );
        let issuer: JwtIssuer = toml::from_str(&issuer).unwrap();
        JwtVerifier::new(vec![issuer]).unwrap()
    });
    let token = match data.iter().position(|byte| *byte == b'\n') {
        None => String::from_utf8_lossy(data).into_owned(),
        Some(end) => {
            let (header, claims) = data.split_at(end);
            let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
            let signed = format!("{}.{}", encode(header), encode(claims.get(1..).unwrap_or_default()));
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            let signature = hmac::sign(&key, signed.as_bytes());
            format!("{signed}.{}", encode(signature.as_ref()))
        }
    };
    // With a secret there is nothing to wait for.
    let mut verifying = pin!(VERIFIER.verify(&token, NOW));
    let Poll::Ready(verified) = verifying.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("a shared secret was waited for");
    };
    if let Ok(verified) = verified {
        assert!(data.contains(&b'\n'), "a signature was guessed");
        assert!(
            is_name(&verified.name) && verified.name.starts_with("p:"),
            "{}",
            verified.name
        );
        assert!(verified.expires_at > NOW - time::Duration::minutes(10));
    }
}

/// `X-Forwarded-For` of a trusted proxy, a header a line: the client is the proxy, or one of the addresses that stand there.
pub fn forwarded(data: &[u8]) {
    let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
    let peer: IpAddr = "10.0.0.1".parse().unwrap();
    let mut request = TestRequest::default().peer_addr((peer, 1).into());
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            return;
        };
        request = request.append_header(("x-forwarded-for", value));
    }
    let request = request.to_srv_request();
    let client = proxies.client_of(request.head()).expect("the peer is known");
    let text = String::from_utf8_lossy(data);
    let mut said = text.split([',', '\n']).filter_map(|address| address_of(address.trim()));
    assert!(client == peer || said.any(|address| address == client), "{client}");
}

/// `/t/TICKET/…`: what is left of the path has no ticket in it, and routes as a path of its own.
pub fn path(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    if !uri.path().starts_with('/') {
        return;
    }
    let mut request = TestRequest::default().to_srv_request();
    request.match_info_mut().get_mut().update(&uri);
    request.head_mut().uri = uri.clone();
    path_ticket::take(&mut request);
    let taken = request.extensions().get::<PathTicket>().is_some();
    assert!(request.path().starts_with('/'), "{uri}");
    assert!(taken || request.uri() == &uri, "{uri}");
}
