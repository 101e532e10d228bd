//! Presigned URLs of whole objects, one at a time, in both signature versions: a GET, and a PUT, which signs every header that
//! it is to be sent with.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{Credentials, SignatureVersion, Target, Validity, encode, v4};

/// Signs URLs of whole objects.
pub enum ObjectSigner {
    /// By Signature Version 4.
    V4(v4::SigningKey),
    /// By Signature Version 2.
    V2(Credentials),
}

impl ObjectSigner {
    /// Prepares what all URLs of one time have in common.
    pub fn new(version: SignatureVersion, region: &str, credentials: &Credentials, signed_at: OffsetDateTime) -> Self {
        match version {
            SignatureVersion::V4 => Self::V4(v4::SigningKey::new(credentials, region, signed_at)),
            SignatureVersion::V2 => Self::V2(credentials.clone()),
        }
    }

    /// The URL by which an object can be read for as long as it lives, whole or in ranges.
    pub fn download_url(&self, target: &Target, validity: Validity) -> String {
        self.url("GET", target, &BTreeMap::new(), validity)
    }

    /// The URL by which an object can be written with just these headers, which have names in lower case and values as
    /// [`is_canonical`] wants them. Version 2 signs `content-md5`, `content-type` and `x-amz-*`, and cannot sign others: of
    /// the length it says nothing but that the MD5 is to fit.
    pub fn put_url(&self, target: &Target, headers: &BTreeMap<String, String>, validity: Validity) -> String {
        self.url("PUT", target, headers, validity)
    }

    fn url(&self, method: &str, target: &Target, headers: &BTreeMap<String, String>, validity: Validity) -> String {
        match self {
            Self::V4(key) => v4_url(method, key, target, headers, validity),
            Self::V2(credentials) => v2_url(method, credentials, target, headers, validity),
        }
    }
}

/// Whether a header's value is signed as it is sent. Version 4 leaves out white space at the ends and repeated within, which
/// not every store does alike.
pub fn is_canonical(value: &str) -> bool {
    value.trim() == value && !value.contains("  ")
}

/// "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)", S3 API Reference.
fn v4_url(
    method: &str,
    key: &v4::SigningKey,
    target: &Target,
    headers: &BTreeMap<String, String>,
    validity: Validity,
) -> String {
    let mut all = headers.clone();
    all.insert("host".into(), target.host.clone());
    let signed_headers = all.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    let mut query = key.query(validity);
    encode::query(&signed_headers, &mut query);
    let mut canonical_request = format!("{method}\n{}\n{query}\n", target.path);
    for (name, value) in &all {
        canonical_request.extend([name, ":", value, "\n"]);
    }
    canonical_request.extend(["\n", &signed_headers, "\nUNSIGNED-PAYLOAD"]);
    let hash = encode::hex(&Sha256::digest(canonical_request).into());
    let signature = encode::hex(&key.sign(&hash, validity.signed_at));
    let mut url = format!("{}?{query}&X-Amz-Signature=", target.url());
    url.extend(signature.map(char::from));
    url
}

/// "Signing and Authenticating REST Requests", section "Query String Request Authentication Alternative", S3 developer guide.
fn v2_url(
    method: &str,
    credentials: &Credentials,
    target: &Target,
    headers: &BTreeMap<String, String>,
    validity: Validity,
) -> String {
    let expires = validity
        .signed_at
        .unix_timestamp()
        .saturating_add_unsigned(validity.expires_in.as_secs());
    let token = credentials.session_token.as_ref();
    // In the query it counts as the header that it stands for.
    let mut amz_headers: BTreeMap<&str, &str> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| name.starts_with("x-amz-"))
        .collect();
    amz_headers.extend(token.map(|token| ("x-amz-security-token", token.as_str())));
    let header = |name| headers.get(name).map_or("", String::as_str);
    let mut string_to_sign = format!(
        "{method}\n{}\n{}\n{expires}\n",
        header("content-md5"),
        header("content-type")
    );
    for (name, value) in amz_headers {
        string_to_sign.extend([name, ":", value, "\n"]);
    }
    string_to_sign.push_str(&target.v2_resource);
    let mut url = format!("{}?AWSAccessKeyId=", target.url());
    encode::query(&credentials.access_key_id, &mut url);
    url.push_str("&Expires=");
    url.push_str(&expires.to_string());
    if let Some(token) = token {
        url.push_str("&x-amz-security-token=");
        encode::query(token, &mut url);
    }
    url.push_str("&Signature=");
    // Keys of any length are taken, so this cannot fail; without a signature any store would refuse the URL.
    if let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(credentials.secret_access_key.as_bytes()) {
        mac.update(string_to_sign.as_bytes());
        encode::query(&STANDARD.encode(mac.finalize().into_bytes()), &mut url);
    }
    url
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sign::Addressing;

    /// The query string example of "Signing and Authenticating REST Requests", S3 developer guide.
    #[test]
    fn the_published_example_of_version_2_has_the_published_signature() {
        let endpoint = "http://s3.amazonaws.com".parse().unwrap();
        let key = "photos/puppy.jpg".parse().unwrap();
        let target = Target::new(&endpoint, Addressing::Virtual, "johnsmith", &key);
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let validity = Validity {
            signed_at: OffsetDateTime::from_unix_timestamp(1_175_139_610).unwrap(),
            expires_in: Duration::from_secs(10),
        };
        let signer = ObjectSigner::new(SignatureVersion::V2, "us-east-1", &credentials, validity.signed_at);
        assert_eq!(
            signer.download_url(&target, validity),
            "http://johnsmith.s3.amazonaws.com/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1175139620\
             &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D"
        );
    }
}
