use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const SECRET: &str = "a secret of more than thirty-two bytes";
const ISSUER: &str = "https://issuer.example";

fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::seconds(1_800_000_000)
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer's private key, made for the test.
enum Signing {
    Secret(Vec<u8>),
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signing {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    /// Modulus and exponent: a public key's DER ends with 256 bytes, and with an INTEGER of three.
    fn rsa_numbers(pair: &rsa::KeyPair) -> (&[u8], &[u8]) {
        let der = pair.public_key().as_ref();
        let (rest, exponent) = der.split_at(der.len() - 3);
        (&rest[rest.len() - 2 - 256..rest.len() - 2], exponent)
    }

    fn jwk(&self, id: Option<&str>) -> Value {
        let mut jwk = match self {
            Self::Secret(bytes) => json!({"kty": "oct", "k": base64(bytes)}),
            Self::Rsa(pair) => {
                let (n, e) = Self::rsa_numbers(pair);
                json!({"kty": "RSA", "n": base64(n), "e": base64(e)})
            }
            Self::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)})
            }
            Self::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64(pair.public_key())}),
        };
        if let Some(id) = id {
            jwk["kid"] = json!(id);
        }
        jwk
    }

    /// A token with this header, `alg` among it, whatever the key is.
    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let (bytes, random) = (signed.as_bytes(), SystemRandom::new());
        let signature = match self {
            Self::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), bytes)
                .as_ref()
                .to_vec(),
            Self::Rsa(pair) => {
                let scheme = if header["alg"] == "PS256" {
                    &RSA_PSS_SHA256
                } else {
                    &RSA_PKCS1_SHA256
                };
                let mut signature = vec![0; 256];
                pair.sign(scheme, &random, bytes, &mut signature).unwrap();
                signature
            }
            Self::P256(pair) => pair.sign(&random, bytes).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(bytes).as_ref().to_vec(),
        };
        format!("{signed}.{}", base64(signature))
    }
}

fn claims() -> Value {
    let now = now().unix_timestamp();
    json!({"iss": ISSUER, "aud": "broker", "sub": "alice", "exp": now + 300, "nbf": now - 5})
}

/// The good claims but for this one; null takes it away.
fn but(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    claims
}

fn settings(more: &str) -> JwtIssuer {
    toml::from_str(&format!("issuer = {ISSUER:?}\naudience = \"broker\"\n{more}")).unwrap()
}

fn verifier(more: &str) -> JwtVerifier {
    JwtVerifier::new(vec![settings(more)]).unwrap()
}

fn by_secret(more: &str) -> JwtVerifier {
    verifier(&format!("secret = {SECRET:?}\n{more}"))
}

fn secret() -> Signing {
    Signing::Secret(SECRET.into())
}

fn hs() -> Value {
    json!({"alg": "HS256"})
}

/// What a server says to whoever asks for keys.
#[derive(Clone)]
enum Answer {
    Keys(Vec<Value>, &'static str),
    Raw(String),
    Nothing,
}

/// A real server on loopback that counts who comes.
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    fetches: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            fetches: Arc::default(),
        };
        let (answer, fetches) = (Arc::clone(&server.answer), Arc::clone(&server.fetches));
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                fetches.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 4096];
                let _ = connection.read(&mut request).await;
                let answer = answer.lock().unwrap().clone();
                let text = match answer {
                    Answer::Keys(keys, headers) => {
                        let body = json!({ "keys": keys }).to_string();
                        format!(
                            "HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}",
                            body.len()
                        )
                    }
                    Answer::Raw(text) => text,
                    Answer::Nothing => {
                        silent.push(connection);
                        continue;
                    }
                };
                let _ = connection.write_all(text.as_bytes()).await;
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn verifier(&self, more: &str) -> JwtVerifier {
        verifier(&format!("jwks_url = {:?}\n{more}", self.url()))
    }
}

fn status(line: &str) -> Answer {
    Answer::Raw(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n"))
}

/// The fetch that is under way behind the back of requests, if there is one, has ended.
async fn settled(verifier: &JwtVerifier, at: OffsetDateTime) {
    let Keys::Published(jwks) = &verifier.issuers[0].keys else {
        unreachable!()
    };
    let _ = jwks.newer_keys(at).await;
}

async fn refused(verifying: impl Future<Output = Result<Verified, JwtError>>) -> JwtError {
    verifying.await.unwrap_err()
}

#[tokio::test]
async fn a_token_by_each_kind_of_key_is_its_subjects() {
    let keys = [Signing::rsa(), Signing::p256(), Signing::ed25519()];
    let listed = keys.iter().zip(["r", "p", "e"]).map(|(key, id)| key.jwk(Some(id)));
    let server = Server::start(Answer::Keys(listed.collect(), "")).await;
    let verifier = server.verifier("");
    for (key, header) in keys.iter().zip([
        json!({"alg": "RS256", "kid": "r"}),
        json!({"alg": "ES256", "kid": "p", "typ": "at+jwt"}),
        // One key fits, so it need not be named.
        json!({"alg": "EdDSA"}),
    ]) {
        let caller = verifier.verify(&key.token(&header, &claims()), now()).await.unwrap();
        assert_eq!((caller.name.as_str(), caller.roles.len()), ("alice", 0));
        assert_eq!(caller.expires_at, now() + Duration::minutes(5));
    }
    assert_eq!(server.fetches(), 1);
    let caller = by_secret("")
        .verify(&secret().token(&hs(), &claims()), now())
        .await
        .unwrap();
    assert_eq!(caller.name, "alice");
}

#[tokio::test]
async fn t28_a_claim_that_is_missing_or_of_the_wrong_kind_or_value_is_refused_by_name() {
    type Rule = Box<dyn Fn(&JwtError) -> bool>;
    let (verifier, at) = (by_secret(""), now().unix_timestamp());
    let claim = |claim| move |error: &JwtError| matches!(error, JwtError::Claim { claim: its, .. } if *its == claim);
    let is = |expected: JwtError| move |error: &JwtError| *error == expected;
    let table: Vec<(&str, Value, Rule)> = vec![
        ("exp", Value::Null, Box::new(claim("exp"))),
        ("exp", json!((at + 300).to_string()), Box::new(claim("exp"))),
        ("exp", json!("never"), Box::new(claim("exp"))),
        ("exp", json!([at + 300]), Box::new(claim("exp"))),
        ("exp", json!(true), Box::new(claim("exp"))),
        ("exp", json!(-1), Box::new(claim("exp"))),
        ("exp", json!(1e300), Box::new(claim("exp"))),
        ("exp", json!(at - 60), Box::new(is(JwtError::Expired))),
        ("exp", json!(0), Box::new(is(JwtError::Expired))),
        ("nbf", json!(at + 61), Box::new(is(JwtError::TooEarly))),
        ("nbf", json!(at.to_string()), Box::new(claim("nbf"))),
        ("nbf", json!({}), Box::new(claim("nbf"))),
        ("aud", Value::Null, Box::new(claim("aud"))),
        ("aud", json!(7), Box::new(claim("aud"))),
        ("aud", json!("Broker"), Box::new(is(JwtError::Audience))),
        ("aud", json!("broker2"), Box::new(is(JwtError::Audience))),
        ("aud", json!(["a", ["broker"]]), Box::new(is(JwtError::Audience))),
        ("iss", Value::Null, Box::new(claim("iss"))),
        ("iss", json!([ISSUER]), Box::new(claim("iss"))),
        ("iss", json!(format!("{ISSUER}/")), Box::new(is(JwtError::Issuer))),
        ("sub", Value::Null, Box::new(claim("sub"))),
        ("sub", json!(7), Box::new(claim("sub"))),
        ("sub", json!(""), Box::new(claim("sub"))),
        ("sub", json!("hunter2 x"), Box::new(is(JwtError::Name("sub".into())))),
        ("sub", json!("anonymous"), Box::new(is(JwtError::Name("sub".into())))),
    ];
    for (name, value, rule) in table {
        let error = refused(verifier.verify(&secret().token(&hs(), &but(name, value.clone())), now())).await;
        assert!(rule(&error), "{name} {value}: {error}");
        assert!(
            !error.to_string().contains("hunter2") && !error.is_unavailable(),
            "{error}"
        );
    }
    for (name, value) in [
        ("exp", json!(at - 59)),
        ("exp", json!(1_800_000_000.5)),
        ("nbf", json!(at + 60)),
        ("nbf", Value::Null),
        ("aud", json!(["a", "broker"])),
    ] {
        let token = secret().token(&hs(), &but(name, value.clone()));
        assert!(verifier.verify(&token, now()).await.is_ok(), "{name} {value}");
    }
    let strict = by_secret("leeway = 0");
    let token = secret().token(&hs(), &but("exp", json!(at)));
    assert_eq!(refused(strict.verify(&token, now())).await, JwtError::Expired);
}

#[tokio::test]
async fn t28_no_algorithm_but_the_pinned_ones_counts_and_no_public_key_is_a_secret() {
    let (rsa, ed) = (Signing::rsa(), Signing::ed25519());
    let Signing::Rsa(pair) = &rsa else { unreachable!() };
    let (modulus, _) = Signing::rsa_numbers(pair);
    let public = [
        pair.public_key().as_ref().to_vec(),
        modulus.to_vec(),
        rsa.jwk(None).to_string().into_bytes(),
    ];
    // An issuer that publishes a secret too: nobody is to be believed by it.
    let shared = Signing::Secret(SECRET.into());
    let server = Server::start(Answer::Keys(
        vec![rsa.jwk(Some("r")), shared.jwk(Some("s")), ed.jwk(Some("e"))],
        "",
    ))
    .await;
    let verifier = server.verifier("algorithms = [\"RS256\"]");
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});

    let unsigned = |alg: Value| {
        let header = json!({"alg": alg, "kid": "r"});
        format!("{}.{}.", base64(header.to_string()), base64(claims().to_string()))
    };
    for alg in [
        json!("none"),
        json!("None"),
        json!("NONE"),
        json!(""),
        json!(null),
        json!(["RS256"]),
    ] {
        assert_eq!(
            refused(verifier.verify(&unsigned(alg), now())).await,
            JwtError::Algorithm
        );
    }
    assert_eq!(
        refused(verifier.verify(&unsigned(json!("RS256")), now())).await,
        JwtError::Signature
    );
    for secret in public {
        let swapped = Signing::Secret(secret).token(&header("HS256", "r"), &claims());
        assert_eq!(refused(verifier.verify(&swapped, now())).await, JwtError::Algorithm);
        let key = signature::Key::from_jwk(&rsa.jwk(None)).unwrap();
        let token = Token::read(&swapped).unwrap();
        assert!(!key.has_signed(Algorithm::Hs256, token.signed.as_bytes(), &token.signature));
    }
    assert!(signature::Key::from_jwk(&shared.jwk(None)).is_none());
    for (key, header, error) in [
        (&shared, header("RS256", "s"), JwtError::UnknownKey),
        (&rsa, header("PS256", "r"), JwtError::Algorithm),
        (&ed, header("EdDSA", "e"), JwtError::Algorithm),
        (&ed, header("RS256", "e"), JwtError::UnknownKey),
        (&ed, header("RS256", "r"), JwtError::Signature),
        (&Signing::rsa(), header("RS256", "r"), JwtError::Signature),
        (&rsa, json!({"alg": "RS256", "kid": 7}), JwtError::Malformed),
        (
            &rsa,
            json!({"alg": "RS256", "kid": "r", "crit": ["exp"], "exp": 1}),
            JwtError::Critical,
        ),
        (
            &rsa,
            json!({"alg": "RS256", "kid": "r", "crit": null}),
            JwtError::Critical,
        ),
    ] {
        assert_eq!(
            refused(verifier.verify(&key.token(&header, &claims()), now())).await,
            error,
            "{header}"
        );
    }
    // A key that the token brings along is not looked at.
    let own = Signing::rsa();
    let brought = json!({"alg": "RS256", "kid": "r", "jwk": own.jwk(None), "jku": server.url(), "x5u": server.url()});
    assert_eq!(
        refused(verifier.verify(&own.token(&brought, &claims()), now())).await,
        JwtError::Signature
    );
    assert!(
        verifier
            .verify(&rsa.token(&header("RS256", "r"), &claims()), now())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn t28_a_changed_a_long_and_a_mutilated_token_are_refused() {
    let verifier = by_secret("");
    let token = secret().token(&hs(), &claims());
    let [header, payload, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = base64(but("sub", json!("mallory")).to_string());
    let changed = format!("{header}.{other}.{signature}");
    assert_eq!(refused(verifier.verify(&changed, now())).await, JwtError::Signature);
    let foreign = Signing::Secret(vec![b'x'; 40]).token(&hs(), &claims());
    assert_eq!(refused(verifier.verify(&foreign, now())).await, JwtError::Signature);
    for bad in [
        String::new(),
        "..".into(),
        header.into(),
        format!("{header}.{payload}"),
        format!("{token}.{signature}"),
        format!("{token}="),
        format!(" {token}"),
        format!("{header}.{}.{signature}", base64("[]")),
        format!("{header}.{}.{signature}", base64("{")),
        format!("{}.{payload}.{signature}", base64("7")),
    ] {
        assert_eq!(
            refused(verifier.verify(&bad, now())).await,
            JwtError::Malformed,
            "{bad}"
        );
    }
    let long = secret().token(&hs(), &but("more", json!("x".repeat(MAX_LEN))));
    assert_eq!(refused(verifier.verify(&long, now())).await, JwtError::TooLong);
}

#[tokio::test]
async fn t28_a_flood_of_unknown_keys_fetches_once_in_ten_seconds_and_a_new_key_is_found() {
    let (old, new) = (Signing::p256(), Signing::p256());
    let server = Server::start(Answer::Keys(vec![old.jwk(Some("old"))], "")).await;
    let verifier = server.verifier("");
    let token = |key: &Signing, kid: &str| key.token(&json!({"alg": "ES256", "kid": kid}), &claims());
    assert!(verifier.verify(&token(&old, "old"), now()).await.is_ok());
    for number in 0..50 {
        // Not in the order of their clocks, as with several threads.
        let at = now() + Duration::milliseconds(9_999 - 200 * number);
        let error = refused(verifier.verify(&token(&new, &format!("made up {number}")), at)).await;
        assert_eq!(error, JwtError::UnknownKey);
    }
    assert_eq!(server.fetches(), 1);
    server.say(Answer::Keys(vec![old.jwk(Some("old")), new.jwk(Some("new"))], ""));
    let later = now() + Duration::seconds(10);
    assert!(verifier.verify(&token(&new, "new"), later).await.is_ok());
    for number in 0..50 {
        let error = refused(verifier.verify(&token(&new, &format!("made up {number}")), later)).await;
        assert_eq!(error, JwtError::UnknownKey);
    }
    assert_eq!(server.fetches(), 2);
    let unnamed = old.token(&json!({"alg": "ES256"}), &claims());
    assert_eq!(refused(verifier.verify(&unnamed, later)).await, JwtError::KeyNotNamed);
}

#[tokio::test]
async fn t28_many_at_once_wait_for_one_fetch_that_goes_on_when_one_of_them_leaves() {
    let key = Signing::p256();
    let server = Server::start(Answer::Keys(vec![key.jwk(Some("k"))], "")).await;
    let verifier = Arc::new(server.verifier(""));
    let token = key.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    {
        // Asks, is under way, and is dropped.
        let mut leaving = Box::pin(verifier.verify(&token, now()));
        std::future::poll_fn(|context| {
            let _ = leaving.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    let many = (0..20).map(|_| {
        let (verifier, token) = (Arc::clone(&verifier), token.clone());
        tokio::spawn(async move { verifier.verify(&token, now()).await })
    });
    for one in many.collect::<Vec<_>>() {
        assert!(one.await.unwrap().is_ok());
    }
    assert_eq!(server.fetches(), 1);
}

#[tokio::test]
async fn t28_stale_keys_are_gone_by_for_a_day_while_newer_ones_cannot_be_had() {
    let key = Signing::p256();
    let good = Answer::Keys(vec![key.jwk(Some("k"))], "cache-control: public, max-age=300\r\n");
    let server = Server::start(good.clone()).await;
    let verifier = server.verifier("");
    let sent = |at: OffsetDateTime| {
        let token = key.token(
            &json!({"alg": "ES256", "kid": "k"}),
            &but("exp", json!(at.unix_timestamp() + 60)),
        );
        let verifier = &verifier;
        async move { verifier.verify(&token, at).await.map(|verified| verified.name) }
    };
    assert!(sent(now()).await.is_ok());
    assert!(sent(now() + Duration::seconds(299)).await.is_ok());
    assert_eq!(server.fetches(), 1);

    server.say(status("500 Internal Server Error"));
    let mut fetches = 1;
    for minutes in [6, 30, 600, 24 * 60] {
        let at = now() + Duration::minutes(minutes);
        assert!(sent(at).await.is_ok(), "{minutes}");
        settled(&verifier, at).await;
        fetches += 1;
        assert_eq!(server.fetches(), fetches, "{minutes}");
    }
    let late = now() + Duration::minutes(24 * 60 + 5);
    let error = sent(late).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");

    server.say(good);
    let later = late + Duration::seconds(10);
    let _ = sent(later).await;
    settled(&verifier, later).await;
    assert!(sent(later).await.is_ok());
}

#[tokio::test]
async fn f23_an_issuer_that_does_not_answer_holds_nobody_up_whose_key_is_known() {
    let key = Signing::p256();
    let server = Server::start(Answer::Keys(vec![key.jwk(Some("k"))], "")).await;
    let verifier = server.verifier("");
    let token = |kid: &str| {
        let claims = but("exp", json!(now().unix_timestamp() + 7200));
        key.token(&json!({"alg": "ES256", "kid": kid}), &claims)
    };
    assert!(verifier.verify(&token("k"), now()).await.is_ok());
    server.say(Answer::Nothing);
    let at = now() + Duration::minutes(11);
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        assert!(verifier.verify(&token("k"), at).await.is_ok());
    }
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    // Who names an unknown key waits for the answer, but not for ever.
    assert_eq!(
        refused(verifier.verify(&token("other"), at)).await,
        JwtError::UnknownKey
    );
    assert_eq!(server.fetches(), 2);
}

#[tokio::test]
async fn keys_that_were_never_had_are_no_fault_of_the_token() {
    let key = Signing::p256();
    let token = key.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    let much = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n{{\"keys\": []{}",
        " ".repeat(400_000)
    );
    let no_set = |body: &str| {
        Answer::Raw(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    for answer in [
        status("500 Internal Server Error"),
        status("204 No Content"),
        Answer::Raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"keys\": []}".into()),
        Answer::Raw(much),
        no_set("<html>"),
        no_set("{}"),
        no_set("[]"),
    ] {
        let server = Server::start(answer).await;
        let verifier = server.verifier("");
        let error = refused(verifier.verify(&token, now())).await;
        assert!(error.is_unavailable(), "{error}");
        // Nor is the issuer asked again at once.
        assert!(refused(verifier.verify(&token, now())).await.is_unavailable());
        assert_eq!(server.fetches(), 1);
        server.say(Answer::Keys(vec![key.jwk(Some("k"))], ""));
        assert!(verifier.verify(&token, now() + Duration::seconds(10)).await.is_ok());
    }
}

#[tokio::test]
async fn t16_a_redirect_is_not_followed() {
    let key = Signing::p256();
    let inside = Server::start(Answer::Keys(vec![key.jwk(Some("k"))], "")).await;
    let token = key.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    for code in [301, 302, 303, 307, 308] {
        let moved = format!(
            "HTTP/1.1 {code} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            inside.url()
        );
        let server = Server::start(Answer::Raw(moved)).await;
        assert!(
            refused(server.verifier("").verify(&token, now()))
                .await
                .is_unavailable()
        );
        assert_eq!((server.fetches(), inside.fetches()), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_it_changes() {
    let (old, new) = (Signing::p256(), Signing::p256());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let set = |keys: &[Value]| std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    set(&[old.jwk(Some("old"))]);
    let verifier = verifier(&format!("jwks_file = {file:?}"));
    let token = |key: &Signing, kid: &str| key.token(&json!({"alg": "ES256", "kid": kid}), &claims());
    assert!(verifier.verify(&token(&old, "old"), now()).await.is_ok());
    set(&[new.jwk(Some("new")), json!({"kty": "unheard of"})]);
    // Not looked at twice within a second.
    assert!(verifier.verify(&token(&old, "old"), now()).await.is_ok());
    let later = now() + Duration::seconds(1);
    assert_eq!(
        refused(verifier.verify(&token(&old, "old"), later)).await,
        JwtError::UnknownKey
    );
    assert!(verifier.verify(&token(&new, "new"), later).await.is_ok());
    // Half written, or gone: what was known goes on.
    std::fs::write(&file, "{\"keys\": [").unwrap();
    assert!(
        verifier
            .verify(&token(&new, "new"), later + Duration::seconds(1))
            .await
            .is_ok()
    );
    std::fs::remove_file(&file).unwrap();
    assert!(
        verifier
            .verify(&token(&new, "new"), later + Duration::seconds(2))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn keys_for_other_uses_and_algorithms_are_passed_over() {
    let key = Signing::rsa();
    let with = |name: &str, value: Value| {
        let mut jwk = key.jwk(Some("k"));
        jwk[name] = value;
        jwk
    };
    let token = key.token(&json!({"alg": "RS256", "kid": "k"}), &claims());
    for (jwk, good) in [
        (with("use", json!("sig")), true),
        (with("use", json!("enc")), false),
        (with("key_ops", json!(["verify"])), true),
        (with("key_ops", json!(["encrypt"])), false),
        (with("alg", json!("RS256")), true),
        (with("alg", json!("PS256")), false),
        (with("alg", json!("RSA-OAEP")), false),
        (with("n", json!(base64([1; 128]))), false),
        (with("n", json!("no base64!")), false),
        (json!("k"), false),
    ] {
        let server = Server::start(Answer::Keys(vec![jwk.clone()], "")).await;
        let verified = server.verifier("").verify(&token, now()).await;
        assert_eq!(verified.is_ok(), good, "{jwk}");
        assert!(good || verified == Err(JwtError::UnknownKey));
    }
}

#[tokio::test]
async fn a_workflow_of_github_has_the_role_that_its_claims_give_it() {
    let verifier = by_secret(
        "principal = \"gh:{repository_id}\"\nrequired_claims = { repository_owner_id = [11, \"12\"] }\n\
         refused_claims = { event_name = [\"pull_request_target\", \"workflow_run\"] }\nroles_claim = \"groups\"\n\
         [[roles]]\nrole = \"ci\"\nclaims = { repository_id = \"123\", ref = \"refs/heads/main\" }\n\
         [[roles]]\nrole = \"protected\"\nclaims = { ref_protected = true, run_attempt = 1 }\n",
    );
    let workflow = |more: Value| {
        let mut claims = claims();
        claims["sub"] = json!("repo:octo/app:ref:refs/heads/main");
        for (claim, value) in [
            ("repository_id", json!("123")),
            ("repository_owner_id", json!("12")),
            ("ref", json!("refs/heads/main")),
            ("event_name", json!("push")),
            ("ref_protected", json!("true")),
            ("run_attempt", json!("1")),
        ] {
            claims[claim] = value;
        }
        for (claim, value) in more.as_object().unwrap() {
            claims[claim.as_str()] = value.clone();
        }
        let token = secret().token(&hs(), &claims);
        let verifier = &verifier;
        async move {
            verifier
                .verify(&token, now())
                .await
                .map(|verified| (verified.name, verified.roles))
        }
    };
    let is = |name: &str, roles: &[&str]| Ok((name.to_owned(), roles.iter().map(|role| (*role).to_owned()).collect()));
    assert_eq!(workflow(json!({})).await, is("gh:123", &["ci", "protected"]));
    assert_eq!(
        workflow(json!({"ref": "refs/heads/mainly"})).await,
        is("gh:123", &["protected"])
    );
    assert_eq!(
        workflow(json!({"ref": ["x", "refs/heads/main"]})).await,
        is("gh:123", &["ci", "protected"])
    );
    assert_eq!(
        workflow(json!({"repository_id": 124})).await,
        is("gh:124", &["protected"])
    );
    assert_eq!(
        workflow(json!({"ref_protected": true, "run_attempt": 2})).await,
        is("gh:123", &["ci"])
    );
    assert_eq!(
        workflow(json!({"run_attempt": 1.0, "ref": {}})).await,
        is("gh:123", &[])
    );
    let groups = json!({"groups": "a ci  b", "run_attempt": "2"});
    assert_eq!(workflow(groups).await, is("gh:123", &["a", "ci", "b"]));
    let groups = json!({"groups": ["a b", 7, "c"], "ref": "x"});
    assert_eq!(workflow(groups).await, is("gh:123", &["a b", "c", "protected"]));
    for event in [
        json!("workflow_run"),
        json!(["push", "pull_request_target"]),
        json!([["workflow_run"]]),
        json!({"of": "workflow_run"}),
    ] {
        assert_eq!(
            workflow(json!({ "event_name": event })).await,
            Err(JwtError::Refused("event_name".into()))
        );
    }
    for owner in [json!("13"), json!(null), json!([]), json!("")] {
        assert_eq!(
            workflow(json!({ "repository_owner_id": owner })).await,
            Err(JwtError::Required("repository_owner_id".into()))
        );
    }
    assert_eq!(
        workflow(json!({"repository_id": "1/../2"})).await,
        Err(JwtError::Name("repository_id".into()))
    );
}

#[test]
fn all_that_is_wrong_with_an_issuer_is_told_at_once_and_no_secret() {
    let wrong: JwtIssuer = toml::from_str(
        "issuer = \"\"\naudience = []\nsecret = \"hunter2\"\nalgorithms = [\"RS256\", \"HS512\"]\nprincipal = \"{\"\n\
         roles_claim = \"\"\nroles = [{ role = \"a b\", claims = {} }]\nrequired_claims = { a = [] }\n\
         refused_claims = { b = [] }\nleeway = 601\n",
    )
    .unwrap();
    let texts = wrong.check();
    let fields = [
        "issuer",
        "audience",
        "secret",
        "algorithms",
        "principal",
        "roles_claim",
        "roles",
        "roles",
        "required_claims",
        "refused_claims",
        "leeway",
    ];
    assert_eq!(texts.len(), fields.len(), "{texts:#?}");
    for (text, field) in texts.iter().zip(fields) {
        assert!(text.starts_with(&format!("jwt \"\": {field}: ")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(!format!("{wrong:?}").contains("hunter2"));
    for (quoted, unquoted) in [
        ("secret = 12345678\n", "12345678"),
        ("secret = [\"hunter2\"]\n", "hunter2"),
    ] {
        let error = toml::from_str::<JwtIssuer>(&format!("issuer = \"i\"\naudience = \"a\"\n{quoted}")).unwrap_err();
        assert!(!error.message().contains(unquoted), "{error}");
    }
}

#[test]
fn keys_come_from_one_place_that_nobody_else_can_write() {
    let enough = format!("secret = {SECRET:?}\n");
    for (more, field) in [
        ("", "jwks_url"),
        (&format!("{enough}jwks_url = \"https://a.example/\""), "jwks_url"),
        ("secret_file = \"/nowhere\"", "secret_file"),
        ("jwks_file = \"/nowhere\"", "jwks_file"),
        ("jwks_url = \"http://a.example/hunter2\"", "jwks_url"),
        ("jwks_url = \"http://127.0.0.1.a.example/hunter2\"", "jwks_url"),
        ("jwks_url = \"file:///hunter2\"", "jwks_url"),
        ("jwks_url = \"hunter2\"", "jwks_url"),
        (
            "jwks_url = \"https://a.example/\"\nalgorithms = [\"RS256\", \"HS256\"]",
            "algorithms",
        ),
        (&format!("{enough}algorithms = [\"HS256\", \"ES256\"]"), "algorithms"),
        (&format!("{enough}algorithms = [\"HS384\"]"), "secret"),
        ("secret = \"thirty-one bytes are not enough\"", "secret"),
    ] {
        let texts = settings(more).check();
        assert_eq!(texts.len(), 1, "{more}: {texts:?}");
        assert!(
            texts[0].contains(&format!(": {field}: ")) && !texts[0].contains("hunter2"),
            "{more}: {texts:?}"
        );
    }
    for url in [
        "https://a.example/",
        "http://127.0.0.1:1/",
        "http://[::1]/",
        "http://localhost/",
    ] {
        assert_eq!(settings(&format!("jwks_url = {url:?}")).check(), Vec::<String>::new());
    }
    let twice = vec![settings(&enough), settings(&enough)];
    assert!(JwtVerifier::new(twice).unwrap_err()[0].contains("two entries"));
    for bad in ["algorithms = [\"none\"]", "jwks_uri = \"https://a.example/\""] {
        let text = format!("issuer = \"i\"\naudience = \"a\"\n{bad}");
        assert!(toml::from_str::<JwtIssuer>(&text).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_secret_in_a_file_ends_before_the_end_of_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\r\n")).unwrap();
    let verifier = verifier(&format!("secret_file = {:?}", file.path()));
    assert!(verifier.verify(&secret().token(&hs(), &claims()), now()).await.is_ok());
}
