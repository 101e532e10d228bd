//! The host of a link: asked again while that may help, followed where it redirects, and judged by what it answers.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, IF_RANGE, LOCATION, RANGE, TRANSFER_ENCODING,
};
use reqwest::{Response, Url};
use tokio::time::timeout;

use crate::Engine;
use crate::error::{TransportError, UploadError};
use crate::link::{Link, shown, without_user};
use crate::progress::{Event, Progress};
use crate::retry;

/// Most redirects that are followed for one request.
const MOST_REDIRECTS: usize = 10;

/// The host of one link, and what has been tried there.
pub(crate) struct Origin {
    engine: Arc<Engine>,
    link: Link,
    progress: Arc<dyn Progress>,
    /// Tries that failed since the last one that helped.
    tries: u32,
    /// Whether it has ever answered.
    reached: bool,
}

/// What is asked for when a beginning is there already.
pub(crate) struct Rest<'a> {
    /// The first byte that is missing.
    pub(crate) offset: u64,
    /// What the beginning belongs to: an ETag or a date (RFC 9110 section 13.1.5).
    pub(crate) validator: &'a HeaderValue,
}

/// The head of a success, with a body still to be read.
pub(crate) struct Answer {
    /// Where it came from in the end.
    pub(crate) url: Url,
    pub(crate) response: Response,
}

/// What may pass by itself.
pub(crate) struct Trouble {
    what: String,
    retry_after: Option<Duration>,
    cause: Option<TransportError>,
}

impl Origin {
    pub(crate) fn new(engine: Arc<Engine>, link: Link, progress: Arc<dyn Progress>) -> Self {
        Self {
            engine,
            link,
            progress,
            tries: 0,
            reached: false,
        }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// How long it may be silent.
    pub(crate) fn patience(&self) -> Duration {
        self.engine.settings.stall
    }

    /// Asks until there is a success: 200, or 206 where the rest is asked for.
    pub(crate) async fn ask(&mut self, rest: Option<&Rest<'_>>) -> Result<Answer, UploadError> {
        loop {
            match self.ask_once(rest).await? {
                Ok(answer) => return Ok(answer),
                Err(trouble) => self.wait(trouble).await?,
            }
        }
    }

    /// One request, and those that its redirects lead to. They are followed anew each time: what they lead to may have been
    /// made for one request, and soon expire.
    async fn ask_once(&mut self, rest: Option<&Rest<'_>>) -> Result<Result<Answer, Trouble>, UploadError> {
        let mut url = self.link.url().clone();
        for _ in 0..=MOST_REDIRECTS {
            let response = match self.request(&url, rest).await {
                Ok(response) => response,
                Err(trouble) => return Ok(Err(trouble)),
            };
            self.reached = true;
            let status = response.status().as_u16();
            match (status, rest) {
                (200, _) | (206, Some(_)) => {
                    self.check_encoding(response.headers())?;
                    return Ok(Ok(Answer { url, response }));
                }
                (301 | 302 | 303 | 307 | 308, _) => {
                    url = target(&url, response.headers()).map_err(|why| self.unusable(why))?;
                }
                (408 | 429 | 500..=599, _) => {
                    return Ok(Err(Trouble {
                        what: format!("{} answered HTTP {status}", self.at(&url)),
                        retry_after: retry::retry_after(response.headers()),
                        cause: None,
                    }));
                }
                _ => {
                    return Err(UploadError::OriginRefused {
                        url: self.at(&url),
                        status,
                    });
                }
            }
        }
        Err(self.unusable(format!(
            "its host redirects more than {MOST_REDIRECTS} times; check the link in a browser, and give the address that it \
             leads to"
        )))
    }

    async fn request(&self, url: &Url, rest: Option<&Rest<'_>>) -> Result<Response, Trouble> {
        // What is compressed on the way has another length, and ranges of it are of something else.
        let request = self.engine.origins.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        let mut request = self.link.authenticated(request, url);
        if let Some(Rest { offset, validator }) = rest {
            request = request
                .header(RANGE, format!("bytes={offset}-"))
                .header(IF_RANGE, *validator);
        }
        match timeout(self.patience(), request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(Trouble::cut(
                format!("could not connect to {}", self.at(url)),
                Some(error),
            )),
            Ok(Err(error)) => Err(Trouble::cut(
                format!("{} ended the connection without an answer", self.at(url)),
                Some(error),
            )),
            Err(_) => {
                let seconds = self.patience().as_secs();
                let what = format!("{} did not answer in {seconds} s", self.at(url));
                Err(Trouble::cut(what, None))
            }
        }
    }

    fn check_encoding(&self, headers: &HeaderMap) -> Result<(), UploadError> {
        let other_than = |plain: &'static [u8]| move |is: &&HeaderValue| !is.as_bytes().eq_ignore_ascii_case(plain);
        let content = headers.get_all(CONTENT_ENCODING).iter().find(other_than(b"identity"));
        let transfer = headers.get_all(TRANSFER_ENCODING).iter().find(other_than(b"chunked"));
        match content.or(transfer) {
            None => Ok(()),
            Some(encoding) => Err(self.unusable(format!(
                "its host sends it encoded ({}) although it was asked not to, so its own bytes and their number are not known. \
                 Download it with a tool that decodes it, and upload the file",
                String::from_utf8_lossy(encoding.as_bytes())
            ))),
        }
    }

    /// Waits before the next try, or gives up.
    pub(crate) async fn wait(&mut self, trouble: Trouble) -> Result<(), UploadError> {
        self.tries += 1;
        let (attempt, retry) = (self.tries, self.engine.settings.retry);
        let policy = if self.reached { retry } else { retry.first_contact() };
        let Some(after) = policy.wait(attempt, retry::random(), trouble.retry_after) else {
            return Err(UploadError::OriginUnreachable {
                tries: attempt,
                trouble: trouble.what,
                cause: trouble.cause,
            });
        };
        let what: Arc<str> = trouble.what.as_str().into();
        self.progress.event(&Event::Retrying {
            trouble: what.clone(),
            what,
            after,
            attempt,
        });
        tokio::time::sleep(after).await;
        Ok(())
    }

    /// The last try brought something: what fails from now on has all tries before it.
    pub(crate) fn helped(&mut self) {
        self.tries = 0;
    }

    /// The link, and where it has led to.
    fn at(&self, url: &Url) -> String {
        let (link, url) = (self.link.to_string(), shown(url));
        if link == url {
            link
        } else {
            format!("{link} (redirected to {url})")
        }
    }

    pub(crate) fn unusable(&self, why: String) -> UploadError {
        UploadError::OriginUnusable {
            url: self.link.to_string(),
            why,
        }
    }
}

impl Trouble {
    /// An answer that did not come, or not whole.
    pub(crate) fn cut(what: String, cause: Option<reqwest::Error>) -> Self {
        Self {
            what,
            retry_after: None,
            cause: cause.map(Into::into),
        }
    }

    /// In words, and what the network said.
    pub(crate) fn into_parts(self) -> (String, Option<TransportError>) {
        (self.what, self.cause)
    }
}

/// Where a redirect leads: not from `https` to where anybody on the way can change it, and with no user and password but the
/// link's own. If it cannot be followed, why.
fn target(from: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers
        .get(LOCATION)
        .and_then(|location| from.join(std::str::from_utf8(location.as_bytes()).ok()?).ok());
    let Some(mut url) = location else {
        return Err("its host redirects without saying whereto; check the link in a browser".into());
    };
    match (from.scheme(), url.scheme()) {
        ("https", "https") | ("http", "http" | "https") => {}
        (before, scheme) => {
            return Err(format!(
                "its host redirects from {before} to {scheme}, which is not followed: what comes by it could be anybody's. Give \
                 the address that it leads to if you trust that"
            ));
        }
    }
    without_user(&mut url);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_followed_from_where_it_stands_and_never_from_https_to_less() {
        let follow = |from: &str, location: &'static str| {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            target(&from.parse().unwrap(), &headers).map(String::from)
        };
        for (from, location, expected) in [
            ("https://host/a/b?c", "d?e", "https://host/a/d?e"),
            ("https://host/a", "/b", "https://host/b"),
            ("https://host/a", "//other/b", "https://other/b"),
            ("http://host/a", "https://user:pass@other/b", "https://other/b"),
            ("http://host/a", "http://other/b", "http://other/b"),
        ] {
            assert_eq!(follow(from, location).as_deref(), Ok(expected), "{from} {location}");
        }
        for (from, location) in [
            ("https://host/a", "http://host/a"),
            ("https://host/a", "file:///etc/passwd"),
            ("http://host/a", "ftp://host/a"),
            ("http://host/a", "http://"),
        ] {
            assert!(follow(from, location).is_err(), "{from} {location}");
        }
        assert!(target(&"http://host/a".parse().unwrap(), &HeaderMap::new()).is_err());
    }
}
