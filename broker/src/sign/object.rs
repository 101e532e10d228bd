//! Presigned URLs of whole objects, one at a time: a GET in both signature versions, and a PUT, which signs every header that
//! it is to be sent with.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{Credentials, SignatureVersion, Target, Validity, encode, v4};

/// The URL by which an object can be read for as long as it lives, whole or in ranges.
pub fn download_url(
    version: SignatureVersion,
    target: &Target,
    region: &str,
    credentials: &Credentials,
    validity: Validity,
) -> String {
    match version {
        SignatureVersion::V4 => {
            let key = v4::SigningKey::new(credentials, region, validity.signed_at);
            v4_url("GET", &key, target, &BTreeMap::new(), &[], validity)
        }
        SignatureVersion::V2 => v2_url(target, credentials, validity),
    }
}

/// The URL by which an object can be written with just these headers, which have names in lower case and values as
/// [`is_canonical`] wants them; and without the barred ones ([`Barred`](crate::s3::Barred)). Signature Version 2 could not
/// sign the length, so there is none in it.
pub fn put_url(
    key: &v4::SigningKey,
    target: &Target,
    headers: &BTreeMap<String, String>,
    barred: &[&str],
    validity: Validity,
) -> String {
    v4_url("PUT", key, target, headers, barred, validity)
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
    barred: &[&str],
    validity: Validity,
) -> String {
    let mut all = headers.clone();
    all.insert("host".into(), target.host.clone());
    let names: BTreeSet<_> = all.keys().map(String::as_str).chain(barred.iter().copied()).collect();
    let signed_headers = names.into_iter().collect::<Vec<_>>().join(";");
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
fn v2_url(target: &Target, credentials: &Credentials, validity: Validity) -> String {
    let expires = validity
        .signed_at
        .unix_timestamp()
        .saturating_add_unsigned(validity.expires_in.as_secs());
    let token = credentials.session_token.as_ref();
    let amz_headers = token
        .map(|token| format!("x-amz-security-token:{token}\n"))
        .unwrap_or_default();
    let string_to_sign = format!("GET\n\n\n{expires}\n{amz_headers}{}", target.v2_resource);
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

    use time::OffsetDateTime;

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
        assert_eq!(
            download_url(SignatureVersion::V2, &target, "us-east-1", &credentials, validity),
            "http://johnsmith.s3.amazonaws.com/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1175139620\
             &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D"
        );
    }
}
