//! The content of a link, from its first byte to its last, over as many connections as it takes.

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, TRANSFER_ENCODING,
};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use crate::error::UploadError;
use crate::naming;
use crate::origin::{Answer, Origin, Rest, Trouble};
use crate::source::{Change, SourceError};

/// A connection that brought so many bytes was worth it: the tries before it are forgotten.
const WORTH: u64 = 1 << 20;
/// Longest media type that is taken over.
const LONGEST_TYPE: usize = 255;

/// The content of a link, as it is being read.
pub(crate) struct LinkContent {
    origin: Origin,
    response: Response,
    /// As the host or the URL says.
    name: Option<String>,
    content_type: Option<String>,
    /// Bytes in all, if the host has said.
    size: Option<u64>,
    /// What to ask for the rest by, if the host can give it.
    validator: Option<HeaderValue>,
    /// The first answer's, of either kind.
    etag: Option<HeaderValue>,
    /// Received, and not read yet.
    ready: Bytes,
    received: u64,
    /// What had been received when this connection began.
    began_at: u64,
}

impl LinkContent {
    /// Asks for all of it.
    pub(crate) async fn open(mut origin: Origin) -> Result<Self, UploadError> {
        let Answer { url, response } = origin.ask(None).await?;
        let headers = response.headers();
        let size = response.content_length();
        // What ends with its connection ends there for whatever reason, unless TLS tells one end from another (RFC 9112
        // section 9.8): half a dump would become an object.
        if size.is_none() && !headers.contains_key(TRANSFER_ENCODING) && url.scheme() != "https" {
            return Err(origin.unusable(
                "its host says neither how long it is nor where it ends, so that a cut connection would look like its end. If \
                 you trust it: curl URL | uploader put --name NAME -"
                    .into(),
            ));
        }
        Ok(Self {
            name: naming::name(headers, &url),
            content_type: content_type(headers),
            size,
            validator: validator(headers),
            etag: headers.get(ETAG).cloned(),
            ready: Bytes::new(),
            received: 0,
            began_at: 0,
            origin,
            response,
        })
    }

    /// What the content is called, if host or URL say.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The host's media type of it.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Bytes in all, if the host has said.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next `length` bytes, fewer only where the content ends.
    pub(crate) async fn read(&mut self, length: u64) -> Result<Vec<u8>, UploadError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // Room for no more than comes, where that is known.
        let left = self
            .size
            .map(|size| size.saturating_sub(self.received) + self.ready.len() as u64);
        let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or_default();
        let mut bytes = Vec::with_capacity(length.min(left));
        while bytes.len() < length {
            if self.ready.is_empty() {
                match self.next().await? {
                    Some(chunk) => self.ready = chunk,
                    None => break,
                }
            }
            let taken = self.ready.len().min(length - bytes.len());
            bytes.extend_from_slice(&self.ready.split_to(taken));
        }
        Ok(bytes)
    }

    /// What comes next, from another connection where this one fails; nothing at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, UploadError> {
        loop {
            let patience = self.origin.patience();
            let trouble = match timeout(patience, self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    self.received += chunk.len() as u64;
                    if self.size.is_some_and(|size| size < self.received) {
                        return Err(self.changed());
                    }
                    return Ok(Some(chunk));
                }
                Ok(Ok(None)) if self.size.is_none_or(|size| size == self.received) => return Ok(None),
                Ok(Ok(None)) => Trouble::cut(self.so_far("its host ended it"), None),
                Ok(Err(error)) => Trouble::cut(self.so_far("the connection was cut"), Some(error)),
                Err(_) => {
                    let silence = format!("nothing came for {} s", patience.as_secs());
                    Trouble::cut(self.so_far(&silence), None)
                }
            };
            self.go_on(trouble).await?;
        }
    }

    /// Asks for the rest (RFC 9110 section 14.2), if it is the rest of the same (section 13.1.5).
    async fn go_on(&mut self, trouble: Trouble) -> Result<(), UploadError> {
        let Some(validator) = &self.validator else {
            let (trouble, cause) = trouble.into_parts();
            return Err(UploadError::OriginCut { trouble, cause });
        };
        if self.received - self.began_at >= WORTH {
            self.origin.helped();
        }
        self.origin.wait(trouble).await?;
        let rest = Rest {
            offset: self.received,
            validator,
        };
        let response = self.origin.ask(Some(&rest)).await?.response;
        self.size = Some(self.size_by_rest(&response)?);
        self.response = response;
        self.began_at = self.received;
        Ok(())
    }

    /// Checks that an answer is just the rest that was asked for; how many bytes there are in all.
    fn size_by_rest(&self, response: &Response) -> Result<u64, UploadError> {
        let headers = response.headers();
        if response.status() != StatusCode::PARTIAL_CONTENT {
            let is_ours = |header: Option<&HeaderValue>| header.is_some() && header == self.validator.as_ref();
            if is_ours(headers.get(ETAG)) || is_ours(headers.get(LAST_MODIFIED)) {
                let why = "its host says that it gives parts of it, and gives all of it when asked for one. Download it, and \
                           upload the file";
                return Err(self.origin.unusable(why.into()));
            }
            return Err(self.changed());
        }
        // Not every host heeds `If-Range`. What it would have told of the whole it has to tell of a part too, but for the time
        // of change (RFC 9110 section 15.3.7).
        let by_time = self
            .validator
            .as_ref()
            .filter(|validator| !validator.as_bytes().starts_with(b"\""));
        let other_tag = match (&self.etag, headers.get(ETAG)) {
            (Some(before), Some(now)) => before != now,
            (Some(_), None) => by_time.is_none(),
            (None, _) => false,
        };
        let other_time = by_time.is_some_and(|before| headers.get(LAST_MODIFIED).is_some_and(|now| now != before));
        if other_tag || other_time {
            return Err(self.changed());
        }
        match headers.get(CONTENT_RANGE).and_then(content_range) {
            Some((start, size)) if start == self.received && size >= start => match self.size {
                Some(before) if before != size => Err(self.changed()),
                Some(_) | None => Ok(size),
            },
            Some(_) | None => Err(self.origin.unusable(format!(
                "its host was asked for the bytes from {}, and gave others. Download it, and upload the file",
                self.received
            ))),
        }
    }

    /// It is no longer what it was when its first byte came.
    fn changed(&self) -> UploadError {
        let path = self.origin.link().to_string().into();
        let change = Change::AtOrigin;
        SourceError::Changed { path, change }.into()
    }

    /// What happened, and how far it had come.
    fn so_far(&self, what: &str) -> String {
        let (link, received) = (self.origin.link(), self.received);
        match self.size {
            Some(size) => format!("{link}: {what} after {received} of {size} bytes"),
            None => format!("{link}: {what} after {received} bytes"),
        }
    }
}

/// What the rest can be asked for by, where the host gives parts: a strong ETag, else the time of change, if nothing can have
/// changed in the same second after it (RFC 9110 sections 8.8.1, 8.8.2.2 and 14.3).
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let accepts = headers.get(ACCEPT_RANGES)?.to_str().ok()?;
    if !accepts.split(',').any(|unit| unit.trim().eq_ignore_ascii_case("bytes")) {
        return None;
    }
    let tag = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let time = || {
        let (modified, sent) = (headers.get(LAST_MODIFIED)?, headers.get(DATE)?);
        (modified != sent).then_some(modified)
    };
    tag.or_else(time).cloned()
}

/// The first byte's place and the size of all, of `bytes 5-9/10` (RFC 9110 section 14.4).
fn content_range(header: &HeaderValue) -> Option<(u64, u64)> {
    let (unit, range) = header.to_str().ok()?.split_once(' ')?;
    let (places, size) = range.trim().split_once('/')?;
    let (start, _) = places.split_once('-')?;
    let is_bytes = unit.eq_ignore_ascii_case("bytes");
    is_bytes.then_some((start.parse().ok()?, size.parse().ok()?))
}

/// The host's media type, if it is one.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?.trim();
    let whole = text
        .split_once('/')
        .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    (whole && text.len() <= LONGEST_TYPE).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        pairs
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_rest_is_asked_for_by_what_tells_one_content_from_another() {
        const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
        let ranges = (ACCEPT_RANGES, "bytes");
        for (given, expected) in [
            (
                vec![(ETAG, "\"a\""), (LAST_MODIFIED, EARLY), (DATE, LATE)],
                Some("\"a\""),
            ),
            (
                vec![(ETAG, "W/\"a\""), (LAST_MODIFIED, EARLY), (DATE, LATE)],
                Some(EARLY),
            ),
            (vec![(LAST_MODIFIED, EARLY), (DATE, EARLY)], None),
            (vec![(LAST_MODIFIED, EARLY)], None),
            (vec![(ETAG, "W/\"a\"")], None),
            (vec![], None),
        ] {
            let with: Vec<_> = given.iter().cloned().chain([ranges.clone()]).collect();
            let found = validator(&headers(&with));
            assert_eq!(
                found.as_ref().map(|value| value.to_str().unwrap()),
                expected,
                "{given:?}"
            );
            assert_eq!(validator(&headers(&given)), None, "without Accept-Ranges: {given:?}");
        }
    }

    #[test]
    fn a_range_is_read_with_its_place_and_the_size_of_all() {
        let read = |text| content_range(&HeaderValue::from_static(text));
        assert_eq!(read("bytes 5-9/10"), Some((5, 10)));
        for unknown in ["bytes 5-9/*", "bytes */10", "5-9/10", "items 5-9/10", "bytes 5-9", ""] {
            assert_eq!(read(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn only_a_media_type_is_taken_over() {
        let taken = |text| content_type(&headers(&[(CONTENT_TYPE, text)]));
        assert_eq!(
            taken("text/html; charset=utf-8").as_deref(),
            Some("text/html; charset=utf-8")
        );
        for none in ["", "text", "/", "text/"] {
            assert_eq!(taken(none), None, "{none}");
        }
    }
}
