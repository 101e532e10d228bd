//! The keys that an issuer publishes (RFC 7517 section 5): fetched or read when they are needed, kept while they are good.
//!
//! ```text
//!  fetched ── life (max-age, 1 min to 1 day) ──▶ fetched anew behind the back of requests ──▶ waited for
//!                                                └─ not to be had: the old ones, for a day, then none
//! ```
//!
//! However many tokens ask for keys that are not there, one fetch is under way at a time, and one in ten seconds begins.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use reqwest::header::{CACHE_CONTROL, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::sync::OwnedMutexGuard;

use super::jwt::JwtError;
use super::jwt::signature::{Algorithm, Key};

/// An issuer that takes longer has not answered.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// Longest document.
const MAX_LEN: usize = 256 * 1024;
/// How long keys are kept where the issuer does not say.
const LIFE: Duration = Duration::minutes(10);
const MIN_LIFE: Duration = Duration::minutes(1);
const MAX_LIFE: Duration = Duration::days(1);
/// How long keys past their life are gone by while no newer ones can be had.
const STALE: Duration = Duration::days(1);
/// Time between the beginnings of two fetches.
const FETCH_PAUSE: Duration = Duration::seconds(10);
/// Time between two looks at a file, and so the life of what was in it.
const LOOK_PAUSE: Duration = Duration::seconds(1);

/// An issuer's keys.
#[derive(Debug)]
pub struct Jwks {
    issuer: String,
    source: Source,
    state: Mutex<State>,
    /// Held by the one fetch that is under way.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
enum Source {
    Url { url: Url, http: Client },
    File(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct State {
    kept: Option<Kept>,
    tried_at: Option<OffsetDateTime>,
    failed: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    keys: Arc<KeySet>,
    /// Of the file that they were read from.
    stamp: Option<Stamp>,
    at: OffsetDateTime,
    life: Duration,
}

/// By what a file is known not to have changed.
type Stamp = (SystemTime, u64);

impl Kept {
    /// Both ways, so that a clock that was put back does not keep keys for longer.
    fn age(&self, now: OffsetDateTime) -> Duration {
        (now - self.at).abs()
    }
}

impl Jwks {
    /// Keys that are fetched from there.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub fn at_url(issuer: &str, url: Url) -> Result<Self, String> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            // Where a redirect leads, others than the operator would have a say (T16).
            .redirect(Policy::none())
            // One fetch in minutes: a connection that waits for the next one is of no use.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("upload-broker/", env!("CARGO_PKG_VERSION")));
        // What does not leave this machine needs no proxy, and must not pass one in clear.
        let here = url.host_str().is_some_and(crate::webhook::is_loopback);
        let client = if here { client.no_proxy() } else { client };
        let http = client
            .build()
            .map_err(|_| "the HTTP client does not start".to_owned())?;
        Ok(Self::of(issuer, Source::Url { url, http }))
    }

    /// Keys in a file, which may be replaced at any time.
    ///
    /// # Errors
    /// There are none in it now.
    pub fn in_file(issuer: &str, file: &Path) -> Result<Self, String> {
        read(file, None).map_err(|why| format!("{} {why}", file.display()))?;
        Ok(Self::of(issuer, Source::File(file.to_owned())))
    }

    fn of(issuer: &str, source: Source) -> Self {
        Self {
            issuer: issuer.to_owned(),
            source,
            state: Mutex::default(),
            turn: Arc::default(),
        }
    }

    /// The keys as they are known.
    ///
    /// # Errors
    /// [`JwtError::KeysUnavailable`].
    pub async fn keys(self: &Arc<Self>, now: OffsetDateTime) -> Result<Arc<KeySet>, JwtError> {
        let state = self.state().clone();
        match &state.kept {
            Some(kept) if kept.age(now) < kept.life => {}
            // Somebody may still wait when they are much older: that a key was withdrawn is not to be found out only after
            // the first request of the day.
            Some(kept) if self.is_far() && (state.failed || kept.age(now) < kept.life * 2) => {
                if self.may_try(now)
                    && let Ok(turn) = Arc::clone(&self.turn).try_lock_owned()
                {
                    tokio::spawn(Arc::clone(self).renew(turn, now));
                }
            }
            Some(_) | None => self.wait_for_newer(now).await,
        }
        self.usable(now)
    }

    /// The keys, newer ones if they may be fetched now: for a key that is not among those that are known.
    ///
    /// # Errors
    /// [`JwtError::KeysUnavailable`].
    pub async fn newer_keys(self: &Arc<Self>, now: OffsetDateTime) -> Result<Arc<KeySet>, JwtError> {
        self.wait_for_newer(now).await;
        self.usable(now)
    }

    async fn wait_for_newer(self: &Arc<Self>, now: OffsetDateTime) {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if self.may_try(now) {
            // A task of its own: a caller that goes away must not take the fetch along that others wait for.
            let _ = tokio::spawn(Arc::clone(self).renew(turn, now)).await;
        }
    }

    fn usable(&self, now: OffsetDateTime) -> Result<Arc<KeySet>, JwtError> {
        let kept = self.state().kept.clone();
        kept.filter(|kept| kept.age(now) < kept.life + STALE)
            .map(|kept| kept.keys)
            .ok_or(JwtError::KeysUnavailable)
    }

    fn may_try(&self, now: OffsetDateTime) -> bool {
        let pause = if self.is_far() { FETCH_PAUSE } else { LOOK_PAUSE };
        // Both ways: requests that come at once do not look at the clock in the order in which they get here.
        let since = self.state().tried_at.map(|at| (now - at).abs());
        since.is_none_or(|since| since >= pause)
    }

    fn is_far(&self) -> bool {
        matches!(self.source, Source::Url { .. })
    }

    /// Fetches or reads the keys, unless that was just done.
    async fn renew(self: Arc<Self>, _turn: OwnedMutexGuard<()>, now: OffsetDateTime) {
        if !self.may_try(now) {
            return;
        }
        let known = {
            let mut state = self.state();
            state.tried_at = Some(now);
            state.kept.clone()
        };
        let renewed = match &self.source {
            Source::Url { url, http } => fetch(http, url).await.map(|(keys, life)| Kept {
                keys: Arc::new(keys),
                stamp: None,
                at: now,
                life,
            }),
            Source::File(file) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || read(&file, known)).await;
                read.map_err(|_| "was not read to the end".to_owned())
                    .flatten()
                    .map(|(keys, stamp)| Kept {
                        keys,
                        stamp: Some(stamp),
                        at: now,
                        life: LOOK_PAUSE,
                    })
            }
        };
        let mut state = self.state();
        state.failed = renewed.is_err();
        match renewed {
            Ok(kept) => state.kept = Some(kept),
            Err(why) => tracing::warn!(issuer = %self.issuer, "the keys of a token issuer cannot be renewed: {why}"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches a set, and for how long it is good. The reasons name no URL.
async fn fetch(http: &Client, url: &Url) -> Result<(KeySet, Duration), String> {
    let told = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(" ({cause})"));
        format!("{error}{cause}")
    };
    let mut answer = http.get(url.clone()).send().await.map_err(told)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("answered {}", answer.status().as_u16()));
    }
    let life = life(answer.headers());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > MAX_LEN {
            return Err(format!("the document is longer than {MAX_LEN} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((KeySet::read(&body)?, life))
}

/// What is in a file, unless that is known already.
fn read(file: &Path, known: Option<Kept>) -> Result<(Arc<KeySet>, Stamp), String> {
    let told = |error: std::io::Error| format!("cannot be read: {error}");
    let about = std::fs::metadata(file).map_err(told)?;
    let stamp = (about.modified().map_err(told)?, about.len());
    if let Some(known) = known.filter(|known| known.stamp == Some(stamp)) {
        return Ok((known.keys, stamp));
    }
    if stamp.1 > MAX_LEN as u64 {
        return Err(format!("is longer than {MAX_LEN} bytes"));
    }
    let keys = KeySet::read(&std::fs::read(file).map_err(told)?)?;
    Ok((Arc::new(keys), stamp))
}

/// `max-age` of `Cache-Control` (RFC 9111 section 5.2.2.1), within bounds.
fn life(headers: &HeaderMap) -> Duration {
    let all = headers.get_all(CACHE_CONTROL).into_iter();
    let texts = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let mut ages = texts.filter_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let is_it = name.eq_ignore_ascii_case("max-age");
        is_it.then(|| value.trim_matches('"').parse::<u32>().ok()).flatten()
    });
    let life = ages.next().map_or(LIFE, |seconds| Duration::seconds(seconds.into()));
    life.clamp(MIN_LIFE, MAX_LIFE)
}

/// The keys of a set that signatures can be checked with.
#[derive(Debug)]
pub struct KeySet(Vec<Listed>);

#[derive(Debug)]
struct Listed {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    key: Key,
}

impl KeySet {
    /// Reads a JWK Set. Keys of other kinds or for other uses are passed over (RFC 7517 section 5).
    ///
    /// # Errors
    /// It is none.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document =
            serde_json::from_slice(text).map_err(|_| "holds no JWK Set: {\"keys\": […]}".to_owned())?;
        Ok(Self(document.keys.iter().filter_map(listed).collect()))
    }

    /// Those that a signature by this algorithm could be by: of that id, or all that fit where a token names none.
    pub fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<&Key> {
        self.0
            .iter()
            .filter(|listed| listed.key.fits(algorithm) && listed.algorithm.is_none_or(|only| only == algorithm))
            .filter(|listed| id.is_none() || listed.id.as_deref() == id)
            .map(|listed| &listed.key)
            .collect()
    }
}

/// What is of use of one JWK (RFC 7517 sections 4.2 to 4.5).
fn listed(jwk: &Value) -> Option<Listed> {
    let is_for_signatures = jwk.get("use").is_none_or(|its| its == "sig");
    let may_verify = match jwk.get("key_ops") {
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => false,
        None => true,
    };
    let algorithm = match jwk.get("alg") {
        Some(name) => Some(Algorithm::deserialize(name).ok()?),
        None => None,
    };
    let id = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
    let key = Key::from_jwk(jwk).filter(|_| is_for_signatures && may_verify)?;
    Some(Listed { id, algorithm, key })
}
