//! Settings as meant: checked once, and filled in where they were left out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use shared::api::CreateUpload;

use crate::error::UploadError;
use crate::identity;
use crate::retry::RetryPolicy;
use crate::source::{Source, SourceError};

/// Where the broker is when nothing else is said.
pub const DEFAULT_BROKER: &str = "http://127.0.0.1:5000";
/// Parts on their way at once when nothing else is said.
pub const DEFAULT_CONCURRENCY: usize = 8;
/// Most parts on their way at once that can be asked for.
pub const MAX_CONCURRENCY: usize = 256;

/// What shows the broker who asks. Its `Debug` hides it.
#[derive(Clone)]
pub(crate) struct Token(HeaderValue);

impl Token {
    pub(crate) fn new(text: &str) -> Result<Self, UploadError> {
        let unusable =
            |_| UploadError::Settings("the token has characters that no header can carry; copy it again".into());
        let mut header = HeaderValue::try_from(format!("Bearer {}", text.trim())).map_err(unusable)?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    /// As `Authorization` carries it (RFC 6750 section 2.1).
    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Settings that hold for every upload of one [`crate::Uploader`].
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) broker: Url,
    pub(crate) token: Option<Token>,
    pub(crate) concurrency: usize,
    pub(crate) retry: RetryPolicy,
    pub(crate) stall: Duration,
}

impl Settings {
    /// Tells brokers and callers apart in the names of files, and tells nothing of either.
    pub(crate) fn account(&self) -> [u8; 32] {
        let token = self.token.as_ref().map(Token::header);
        let token = token.as_ref().map_or(&[][..], HeaderValue::as_bytes);
        identity::hash(&[self.broker.as_str().as_bytes(), token])
    }
}

/// Whether [`crate::Builder::broker`] would be content with this address.
///
/// # Errors
/// What is wrong with it, without showing what could be secret in it.
pub fn check_broker(url: &str) -> Result<(), UploadError> {
    broker_url(url).map(drop)
}

/// The broker's address: `http` or `https`, with a path in front of `/v1` if need be, with nothing secret in it.
pub(crate) fn broker_url(text: &str) -> Result<Url, UploadError> {
    let wrong = |why: &str| UploadError::Settings(format!("the broker's address {why}; write it as {DEFAULT_BROKER}"));
    let mut url = Url::parse(text).map_err(|_| wrong("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("does not begin with http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "has a user or password in it; give a token by UPLOADER_TOKEN instead",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or fragment"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// How one file is to be uploaded. All left out: under its own name, to the default destination, in parts that the
/// broker chooses.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// From which the destination makes the key; left out, the file's own name, or a link's.
    pub name: Option<String>,
    /// Media type of the object; left out, guessed from the name. Where that gives no hint a link's host is believed, and
    /// otherwise none is sent.
    pub content_type: Option<String>,
    /// Canned ACL.
    pub acl: Option<String>,
    /// User metadata, names without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// One of the broker's destinations; left out, the default one.
    pub destination: Option<String>,
    /// Bytes in every part but the last, 5 MiB to 5 GiB; left out, the broker chooses.
    pub part_size: Option<u64>,
}

/// How one object is to be downloaded.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// Whether the file may take the place of one that is there.
    pub overwrite: bool,
    /// One of the broker's destinations; left out, the first from which the caller may download.
    pub destination: Option<String>,
}

impl PutOptions {
    /// What to ask the broker for, but for the fingerprint: that takes reading.
    pub(crate) fn request(&self, source: &Source) -> Result<CreateUpload, UploadError> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None if source.held().is_some() => {
                return Err(UploadError::Settings(
                    "a stream has no name of its own: give it one".into(),
                ));
            }
            None => own_name(source.path())?,
        };
        let guess = || mime_guess::from_path(&name).first_raw().map(str::to_owned);
        Ok(CreateUpload {
            size: source.size(),
            content_type: self.content_type.clone().or_else(guess),
            acl: self.acl.clone(),
            metadata: self.metadata.clone(),
            destination: self.destination.clone(),
            fingerprint: None,
            part_size: self.part_size,
            growing_parts: false,
            name,
        })
    }
}

/// What names the content for continuing. It covers the settings too: an upload begun with others is not continued.
pub(crate) fn fingerprint(source: &Source, asked: &CreateUpload) -> Result<Option<String>, SourceError> {
    source.fingerprint(&format!(
        "{:?} {:?} {:?} {:?}",
        asked.content_type, asked.acl, asked.metadata, asked.part_size
    ))
}

/// The last component of the path.
fn own_name(path: &Path) -> Result<String, SourceError> {
    let not_utf8 = || SourceError::NameNotUtf8 { path: path.to_owned() };
    let name = path.file_name().ok_or_else(not_utf8)?;
    name.to_str().map(str::to_owned).ok_or_else(not_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new("very-secret").unwrap();
        assert!(!format!("{token:?} {:?}", token.header()).contains("very-secret"));
        let error = Token::new("very-secret\n\u{7f}").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("very-secret"));
    }

    #[test]
    fn the_brokers_address_is_an_http_url_without_secrets() {
        for (text, expected) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/"),
            ("https://host/broker", "https://host/broker/"),
        ] {
            assert_eq!(broker_url(text).unwrap().as_str(), expected);
        }
        for bad in [
            "127.0.0.1:5000",
            "",
            "ftp://host",
            "http://user:very-secret@host",
            "http://host/?a=very-secret",
        ] {
            let error = broker_url(bad).unwrap_err().to_string();
            assert!(!error.contains("very-secret"), "{error}");
        }
    }

    #[test]
    fn other_settings_begin_another_upload() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        std::fs::write(&path, "x").unwrap();
        let source = Source::open(&path).unwrap();
        let plain = PutOptions::default().request(&source).unwrap();
        assert_eq!(
            (plain.name.as_str(), plain.content_type.as_deref()),
            ("page.html", Some("text/html"))
        );
        let other = PutOptions {
            metadata: [("k".to_owned(), "v".to_owned())].into(),
            ..PutOptions::default()
        };
        let print = |asked: &CreateUpload| fingerprint(&source, asked).unwrap();
        assert_ne!(print(&plain), print(&other.request(&source).unwrap()));
        assert_eq!(print(&plain), print(&PutOptions::default().request(&source).unwrap()));
    }

    #[test]
    fn a_name_that_is_not_utf8_needs_another() {
        use std::os::unix::ffi::OsStrExt as _;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/tmp/caf\xe9"));
        let error = own_name(path).unwrap_err().to_string();
        assert!(error.contains("--name"), "{error}");
    }
}
