//! A URL for each part, renewed before it expires, and how long URLs live.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use shared::PartNumber;
use shared::api::SignedPart;

/// Where and how to send one part, for a while. Its `Debug` hides the query: it is the signature.
#[derive(Clone)]
pub(crate) struct PartUrl {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    life: Life,
}

/// How long a URL lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    issued: Instant,
    issued_by_clock: SystemTime,
    expires_in: Duration,
}

impl Life {
    /// From `now` on, when it arrived.
    pub(crate) fn new(now: Instant, seconds: u64) -> Self {
        Self {
            issued: now,
            issued_by_clock: SystemTime::now(),
            expires_in: Duration::from_secs(seconds),
        }
    }

    /// Whether four fifths of it are over. By the clock that only goes forward, and by the other one too, since the first
    /// stands still while the machine sleeps.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        let by_clock = self.issued_by_clock.elapsed().unwrap_or_default();
        now.duration_since(self.issued).max(by_clock) >= self.expires_in.mul_f64(0.8)
    }
}

/// The broker's answer cannot be followed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the broker's answer for part {number} has {what} that cannot be used")]
pub(crate) struct UnusableUrl {
    pub(crate) number: PartNumber,
    pub(crate) what: &'static str,
}

impl PartUrl {
    /// Takes the broker's answer, which arrived at `now`.
    pub(crate) fn new(part: &SignedPart, now: Instant) -> Result<Self, UnusableUrl> {
        let unusable = |what| UnusableUrl {
            number: part.number,
            what,
        };
        let url = Url::parse(&part.url).map_err(|_| unusable("a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unusable("a URL scheme"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &part.headers {
            let name = HeaderName::try_from(name).map_err(|_| unusable("a header name"))?;
            let value = HeaderValue::try_from(value).map_err(|_| unusable("a header value"))?;
            headers.insert(name, value);
        }
        Ok(Self {
            method: Method::try_from(part.method.as_str()).map_err(|_| unusable("a method"))?,
            url,
            headers,
            life: Life::new(now, part.expires_in),
        })
    }

    /// Whether most of its life is over.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        self.life.is_old(now)
    }

    /// Scheme, host and port, to name the store by.
    pub(crate) fn store(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

impl fmt::Debug for PartUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartUrl")
            .field("store", &self.store())
            .field("path", &self.url.path())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn signed(url: &str, expires_in: u64) -> SignedPart {
        let json = format!(
            r#"{{"number": 1, "method": "PUT", "url": "{url}", "headers": {{}},
                "expires_at": "2026-01-01T00:00:00Z", "expires_in": {expires_in}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_url_is_old_after_four_fifths_of_its_life() {
        let now = Instant::now();
        let url = PartUrl::new(&signed("http://store/key?sig", 100), now).unwrap();
        assert!(!url.is_old(now + Duration::from_secs(79)));
        assert!(url.is_old(now + Duration::from_secs(80)));
    }

    #[test]
    fn a_url_does_not_show_its_signature() {
        let url = PartUrl::new(
            &signed("http://store:9000/bucket/key?X-Amz-Signature=secret", 1),
            Instant::now(),
        )
        .unwrap();
        let shown = format!("{url:?} {}", url.store());
        assert!(
            shown.contains("http://store:9000") && shown.contains("/bucket/key"),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn an_answer_that_cannot_be_followed_is_refused_without_showing_it() {
        let bad_header = BTreeMap::from([("bad name".to_owned(), "value".to_owned())]);
        for part in [
            signed("not a url secret", 1),
            signed("ftp://store/secret", 1),
            SignedPart {
                headers: bad_header,
                ..signed("http://store/secret", 1)
            },
        ] {
            let error = PartUrl::new(&part, Instant::now()).unwrap_err().to_string();
            assert!(error.starts_with("the broker's answer for part 1 has a"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
