//! Where a URL points: the store's public address, the bucket, the key, and how the three are put together.

use std::fmt;
use std::str::FromStr;

use actix_web::http::Uri;
use shared::ObjectKey;

use super::encode;

/// Where the bucket's name stands in a URL (S3 User Guide, "Virtual hosting of general purpose buckets").
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    Virtual,
}

/// The scheme and authority at which clients reach the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    scheme: &'static str,
    authority: String,
}

impl Endpoint {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.authority.starts_with("127.")
            || self.authority.starts_with("localhost")
            || self.authority.starts_with("[::1]")
    }

    /// Host, and port if it is not the scheme's own.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// The text is no endpoint.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not a store endpoint; expected http://HOST[:PORT] or https://HOST[:PORT] and nothing after it")]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What stands before an @ may be a password.
        let shown = match text.rsplit_once('@') {
            Some((_, host)) => format!("…@{host}"),
            None => text.to_owned(),
        };
        let refuse = || EndpointError(shown.clone());
        let uri: Uri = text.parse().map_err(|_| refuse())?;
        let (scheme, default_port) = match uri.scheme_str() {
            Some("http") => ("http", 80),
            Some("https") => ("https", 443),
            Some(_) | None => return Err(refuse()),
        };
        let bare = uri.path_and_query().is_none_or(|rest| rest.as_str() == "/");
        let authority = uri
            .authority()
            .filter(|authority| bare && !authority.as_str().contains('@'))
            .ok_or_else(refuse)?;
        // HTTP clients leave the default port out of `Host`, which is signed.
        let host = authority.host().to_ascii_lowercase();
        let authority = match authority.port_u16() {
            Some(port) if port != default_port => format!("{host}:{port}"),
            Some(_) | None => host,
        };
        if authority.is_empty() {
            Err(refuse())
        } else {
            Ok(Self { scheme, authority })
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// One object's address, ready to be signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    scheme: &'static str,
    pub(super) host: String,
    /// Escaped, as it stands in the URL.
    pub(super) path: String,
    /// The canonicalized resource of Signature Version 2 without its sub-resources: always begins with the bucket.
    pub(super) v2_resource: String,
}

impl Target {
    /// Puts the address together.
    pub fn new(endpoint: &Endpoint, addressing: Addressing, bucket: &str, key: &ObjectKey) -> Self {
        let mut escaped = String::with_capacity(key.as_str().len() + 16);
        encode::path(key.as_str(), &mut escaped);
        let v2_resource = format!("/{bucket}/{escaped}");
        let (host, path) = match addressing {
            Addressing::Path => (endpoint.authority.clone(), v2_resource.clone()),
            Addressing::Virtual => (format!("{bucket}.{}", endpoint.authority), format!("/{escaped}")),
        };
        Self {
            scheme: endpoint.scheme,
            host,
            path,
            v2_resource,
        }
    }

    /// The object's URL, unsigned.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(endpoint: &str, addressing: Addressing, key: &str) -> Target {
        Target::new(&endpoint.parse().unwrap(), addressing, "bucket", &key.parse().unwrap())
    }

    #[test]
    fn the_bucket_stands_in_the_path_or_in_the_host() {
        let path = target("http://127.0.0.1:5001", Addressing::Path, "a b/ü+&=%");
        assert_eq!(path.url(), "http://127.0.0.1:5001/bucket/a%20b/%C3%BC%2B%26%3D%25");
        let virtual_host = target("https://s3.eu-west-1.amazonaws.com", Addressing::Virtual, "k");
        assert_eq!(virtual_host.url(), "https://bucket.s3.eu-west-1.amazonaws.com/k");
        assert_eq!(virtual_host.v2_resource, "/bucket/k");
    }

    #[test]
    fn t32_a_url_leads_to_the_host_that_was_configured_whatever_the_style_port_or_key() {
        for endpoint in [
            "https://s3.example",
            "http://s3.example:8080",
            "http://[2001:db8::1]:9000",
            "http://10.0.0.1",
        ] {
            for key in ["a", "@evil.example/", "..a", "?x", "#x", "a:80", "\\evil", "%2f@evil"] {
                for addressing in [Addressing::Path, Addressing::Virtual] {
                    let url = target(endpoint, addressing, key).url();
                    let configured = reqwest::Url::parse(endpoint).unwrap();
                    // Addresses have no subdomains.
                    if addressing == Addressing::Virtual && configured.domain().is_none() {
                        continue;
                    }
                    let parsed = reqwest::Url::parse(&url).unwrap();
                    let host = parsed.host_str().unwrap();
                    let host = host.strip_prefix("bucket.").unwrap_or(host);
                    assert_eq!(Some(host), configured.host_str(), "{url}");
                    assert_eq!(
                        (parsed.port(), parsed.scheme()),
                        (configured.port(), configured.scheme()),
                        "{url}"
                    );
                    assert_eq!(
                        (parsed.username(), parsed.query(), parsed.fragment()),
                        ("", None, None),
                        "{url}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_default_port_is_left_out_as_clients_leave_it_out_of_host() {
        for (given, meant) in [
            ("https://Store.Example:443/", "https://store.example"),
            ("http://store.example:80", "http://store.example"),
            ("http://store.example:443", "http://store.example:443"),
            ("http://[::1]:5001", "http://[::1]:5001"),
        ] {
            assert_eq!(given.parse::<Endpoint>().unwrap().to_string(), meant);
        }
    }

    #[test]
    fn an_endpoint_is_a_scheme_and_an_authority_and_nothing_else() {
        for bad in [
            "",
            "127.0.0.1:5001",
            "ftp://host",
            "http://",
            "http://host/path",
            "http://user:secret@host",
            "http://host?x",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?} was taken as an endpoint");
        }
    }
}
