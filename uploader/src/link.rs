//! A link: what its host is asked for, and what may be shown of it.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use reqwest::{RequestBuilder, Url};

use crate::error::UploadError;
use crate::naming;

/// An `http` or `https` URL to upload the content of.
///
/// Its query is often a signature, and a user with a password may stand before its host: `Display`, `Debug` and every error
/// leave them out. User and password are shown to that one origin (RFC 6454 section 4) as basic authentication (RFC 7617),
/// and to no other, wherever it redirects.
#[derive(Clone)]
pub struct Link {
    /// Without user, password and fragment.
    url: Url,
    user: Option<User>,
}

/// Who asks.
#[derive(Clone)]
struct User {
    name: String,
    password: Option<String>,
}

impl Link {
    /// Whether a source of this name is a link and no path: it begins with `http://` or `https://`, in letters of any size.
    pub fn is_meant(source: &str) -> bool {
        let begins = |with: &str| {
            let start = source.get(..with.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        begins("http://") || begins("https://")
    }

    /// The last segment of its path that is not empty, if that can be a name: what its content is called unless its host says
    /// otherwise.
    pub fn own_name(&self) -> Option<String> {
        naming::of_url(&self.url)
    }

    /// What is asked for.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The request to `url` with user and password, if `url` is of the origin that they were given for.
    pub(crate) fn authenticated(&self, request: RequestBuilder, url: &Url) -> RequestBuilder {
        match &self.user {
            Some(user) if url.origin() == self.url.origin() => request.basic_auth(&user.name, user.password.as_ref()),
            Some(_) | None => request,
        }
    }
}

impl FromStr for Link {
    type Err = UploadError;

    /// Reads a URL.
    ///
    /// # Errors
    /// [`UploadError::Settings`], which does not repeat the text: what is secret in it could not be told from the rest.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| {
            UploadError::Settings(format!(
                "a link cannot be read: {why}. Write it as https://HOST/PATH; what is special in a user or password has to be \
                 percent-encoded"
            ))
        };
        let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("it does not begin with http:// or https:// and a host"));
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = (!url.username().is_empty() || url.password().is_some()).then(|| User {
            name: decoded(url.username()),
            password: url.password().map(decoded),
        });
        without_user(&mut url);
        url.set_fragment(None);
        Ok(Self { url, user })
    }
}

/// Takes user and password out.
pub(crate) fn without_user(url: &mut Url) {
    // Only a URL without a host refuses, and has neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// What may be shown of a URL: nothing that could be a secret, so neither user and password nor query and fragment.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    without_user(&mut url);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::AUTHORIZATION;

    use super::*;

    #[test]
    fn a_link_is_told_from_a_path_by_its_beginning() {
        for link in ["http://host/a", "https://host", "HTTPS://host/a", "http://"] {
            assert!(Link::is_meant(link), "{link}");
        }
        for path in [
            "a",
            "-",
            "http",
            "http:/a",
            "./http://host/a",
            "ftp://host/a",
            "httpſ://a",
        ] {
            assert!(!Link::is_meant(path), "{path}");
        }
    }

    #[test]
    fn neither_query_nor_user_is_ever_shown() {
        let link: Link = "HTTPS://us%40er:secret-1@Host:8443/a%20b/c?signature=secret-2#secret-3"
            .parse()
            .unwrap();
        assert_eq!(link.to_string(), "https://host:8443/a%20b/c");
        assert!(!format!("{link:?}").contains("secret"));
        assert_eq!(link.url().query(), Some("signature=secret-2"));
        for bad in ["https://", "http://user:secret/1@host/", "ftp://secret@host/", "secret"] {
            let error = bad.parse::<Link>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn user_and_password_go_to_their_own_origin_and_to_no_other() {
        let link: Link = "https://us%40er:pass@host/a".parse().unwrap();
        let sent = |to: &str| {
            let url: Url = to.parse().unwrap();
            let request = link.authenticated(reqwest::Client::new().get(url.clone()), &url);
            let request = request.build().unwrap();
            request.headers().get(AUTHORIZATION).cloned()
        };
        assert_eq!(sent("https://host:443/b").unwrap(), "Basic dXNAZXI6cGFzcw==");
        for other in ["https://host:8443/a", "http://host/a", "https://other/a"] {
            assert_eq!(sent(other), None, "{other}");
        }
    }
}
