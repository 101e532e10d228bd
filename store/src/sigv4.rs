//! SigV4: taken apart, so that what is wrong with it is told in S3's words; and made anew when the filter takes off a request
//! what S3 passes over, since the protocol layer, which decides, verifies what is left.
//!
//! S3 API, "Authenticating requests (AWS Signature Version 4)".

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::filter::{Query, Refusal, does_not_match, one, refuse};
use crate::sigv2;

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(crate) const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Longest life of a presigned URL, seconds ("X-Amz-Expires").
const MAX_EXPIRES: i64 = 7 * 24 * 60 * 60;

/// All but the characters that stand for themselves in a canonical query, and in a canonical path.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const IN_PATH: &AsciiSet = &IN_QUERY.remove(b'/');

/// A signature and what it says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SigV4 {
    pub(crate) key: String,
    /// `YYYYMMDD`
    day: String,
    pub(crate) region: String,
    pub(crate) service: String,
    /// In lower case, as they were listed.
    signed_headers: Vec<String>,
    signature: String,
    in_query: bool,
}

impl SigV4 {
    /// Of an `Authorization` header. A request that tells its time by `Date` alone gets an `x-amz-date` that says the same.
    pub(crate) fn of_header(authorization: &str, headers: &mut HeaderMap) -> Result<Self, Refusal> {
        let malformed = || {
            let what = "The authorization header is malformed; expecting Credential, SignedHeaders and Signature, in that order.";
            refuse(StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed", what)
        };
        let fields = authorization.strip_prefix(ALGORITHM).ok_or_else(malformed)?;
        let fields: Vec<_> = fields.split(',').map(str::trim).collect();
        let &[credential, signed_headers, signature] = fields.as_slice() else {
            return Err(malformed());
        };
        let field = |text: &str, name: &str| text.strip_prefix(name).map(str::to_owned).ok_or_else(malformed);
        let found = Self::of_fields(
            &field(credential, "Credential=")?,
            &field(signed_headers, "SignedHeaders=")?,
            field(signature, "Signature=")?,
            false,
        );
        let found = found.ok_or_else(malformed)?;
        check_date(headers)?;
        check_content_sha256(headers)?;
        found.check_signature()
    }

    /// Of the query of a presigned URL.
    pub(crate) fn of_query(query: &Query) -> Result<Self, Refusal> {
        let wrong = |what| refuse(StatusCode::BAD_REQUEST, "AuthorizationQueryParametersError", what);
        let need = |name| {
            one(query, name).ok_or_else(|| {
                wrong(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, \
                     X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
                )
            })
        };
        if need("X-Amz-Algorithm")? != ALGORITHM {
            return Err(wrong("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
        }
        let (signed_headers, signature) = (need("X-Amz-SignedHeaders")?, need("X-Amz-Signature")?);
        let found = Self::of_fields(need("X-Amz-Credential")?, signed_headers, signature.to_owned(), true);
        let found = found.ok_or_else(|| {
            wrong(
                "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting \
                 \"ACCESS_KEY/YYYYMMDD/REGION/SERVICE/aws4_request\".",
            )
        })?;
        if parse_date(need("X-Amz-Date")?).is_none() {
            return Err(wrong(
                "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
            ));
        }
        match need("X-Amz-Expires")?.parse::<i64>() {
            Ok(0..=MAX_EXPIRES) => found.check_signature(),
            Ok(..0) => Err(wrong("X-Amz-Expires must be non-negative")),
            Ok(_) => Err(wrong(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 \
                 seconds",
            )),
            Err(_) => Err(wrong("X-Amz-Expires should be a number")),
        }
    }

    /// `ACCESS_KEY/YYYYMMDD/REGION/SERVICE/aws4_request` and the rest of it; nothing, if it is not of that form.
    fn of_fields(credential: &str, signed_headers: &str, signature: String, in_query: bool) -> Option<Self> {
        let fields: Vec<_> = credential.split('/').collect();
        let &[key, day, region, service, "aws4_request"] = fields.as_slice() else {
            return None;
        };
        if parse_date(&format!("{day}T000000Z")).is_none() || key.is_empty() || service.is_empty() {
            return None;
        }
        Some(Self {
            key: key.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature,
            in_query,
        })
    }

    /// Refuses what no secret would have signed: 64 hexadecimal digits, in lower case.
    fn check_signature(self) -> Result<Self, Refusal> {
        if is_sha256(&self.signature) {
            return Ok(self);
        }
        Err(does_not_match())
    }

    /// Whether it is that of a presigned URL.
    pub(crate) fn is_in_query(&self) -> bool {
        self.in_query
    }

    /// Whether the header of this name, in lower case, is signed.
    pub(crate) fn signs(&self, name: &str) -> bool {
        self.signed_headers.iter().any(|signed| signed == name)
    }

    /// The headers that are signed.
    pub(crate) fn signed_headers(&self) -> impl Iterator<Item = &str> {
        self.signed_headers.iter().map(String::as_str)
    }

    /// Makes `changes` to the headers of a request whose signature is that of `secret`, and signs what comes of it. One that
    /// is not stays as it is, to be refused.
    pub(crate) fn resign(&self, secret: &str, head: &mut Parts, query: &Query, changes: Changes) {
        if !self.is_good(secret, head, query) {
            return;
        }
        apply(&mut head.headers, changes);
        let mut anew = self.clone();
        anew.signed_headers.retain(|name| head.headers.contains_key(name));
        let query: Query = query
            .iter()
            .map(|(name, value)| match name.as_str() {
                "X-Amz-SignedHeaders" => (name.clone(), anew.signed_headers.join(";")),
                _ => (name.clone(), value.clone()),
            })
            .collect();
        if let Some(signature) = anew.sign(secret, head, &query) {
            anew.signature = signature;
            anew.put(head, &query);
        }
    }

    /// Whether the holder of `secret` has signed this request.
    pub(crate) fn is_good(&self, secret: &str, head: &Parts, query: &Query) -> bool {
        let good = self.sign(secret, head, query);
        good.is_some_and(|good| bool::from(good.as_bytes().ct_eq(self.signature.as_bytes())))
    }

    #[cfg(fuzzing)]
    pub(crate) fn sign_in_place(&self, secret: &str, head: &mut Parts, query: &Query) -> bool {
        let Some(signature) = self.sign(secret, head, query) else {
            return false;
        };
        let signed = Self {
            signature,
            ..self.clone()
        };
        signed.put(head, query);
        true
    }

    /// Writes the signature where the request has it.
    fn put(&self, head: &mut Parts, query: &Query) {
        if self.in_query {
            let signed = canonical_query(query);
            let target = format!("{}?{signed}&X-Amz-Signature={}", head.uri.path(), self.signature);
            let mut parts = head.uri.clone().into_parts();
            parts.path_and_query = target.parse::<PathAndQuery>().ok();
            if let Ok(uri) = Uri::from_parts(parts) {
                head.uri = uri;
            }
            return;
        }
        let (scope, names) = (self.scope(), self.signed_headers.join(";"));
        let text = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.key, self.signature
        );
        if let Ok(value) = HeaderValue::try_from(text) {
            head.headers.insert(header::AUTHORIZATION, value);
        }
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }

    /// What the holder of `secret` signs this request with; nothing, if it cannot be signed.
    fn sign(&self, secret: &str, head: &Parts, query: &Query) -> Option<String> {
        let text = |name: &HeaderName| head.headers.get(name)?.to_str().ok();
        let (date, payload) = if self.in_query {
            (one(query, "X-Amz-Date")?, "UNSIGNED-PAYLOAD")
        } else {
            (text(&AMZ_DATE)?, text(&CONTENT_SHA256)?)
        };
        let path = percent_decode_str(head.uri.path()).decode_utf8().ok()?;
        let path = utf8_percent_encode(&path, IN_PATH);
        let (query, names) = (canonical_query(query), self.signed_headers.join(";"));
        let mut canonical = format!("{}\n{path}\n{query}\n", head.method);
        for name in &self.signed_headers {
            let values: Option<Vec<_>> = head.headers.get_all(name).iter().map(one_spaced).collect();
            canonical.extend([name, ":", &values?.join(","), "\n"]);
        }
        canonical.extend(["\n", &names, "\n", payload]);
        let scope = self.scope();
        let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        Some(sign(secret, &scope, &to_sign))
    }
}

/// Headers to take off, or to give another value.
pub(crate) type Changes = Vec<(HeaderName, Option<HeaderValue>)>;

/// Makes them.
pub(crate) fn apply(headers: &mut HeaderMap, changes: Changes) {
    for (name, value) in changes {
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

/// What the holder of `secret` signs `text` with, in `scope`: `YYYYMMDD/REGION/SERVICE/aws4_request`.
pub(crate) fn sign(secret: &str, scope: &str, text: &str) -> String {
    let mut key = format!("AWS4{secret}").into_bytes();
    for step in scope.split('/').chain([text]) {
        key = hmac(&key, step);
    }
    hex(&key)
}

/// `YYYYMMDDTHHMMSSZ`
pub(crate) fn parse_date(text: &str) -> Option<OffsetDateTime> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let parsed = PrimitiveDateTime::parse(text, &format)
        .ok()
        .filter(|_| text.len() == 16);
    parsed.map(PrimitiveDateTime::assume_utc)
}

fn check_date(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(text) = text(&AMZ_DATE)
        && parse_date(text).is_some()
    {
        return Ok(());
    }
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = text(&header::DATE).filter(|_| !headers.contains_key(AMZ_DATE));
    let date = date.and_then(|text| parse_date(text).or_else(|| sigv2::parse_date(text)));
    let date = date.and_then(|date| date.to_offset(time::UtcOffset::UTC).format(&format).ok());
    let Some(Ok(value)) = date.map(HeaderValue::try_from) else {
        return Err(sigv2::no_date());
    };
    headers.insert(AMZ_DATE, value);
    Ok(())
}

fn check_content_sha256(headers: &HeaderMap) -> Result<(), Refusal> {
    let wrong = |code, what| Err(refuse(StatusCode::BAD_REQUEST, code, what));
    match headers.get(CONTENT_SHA256).map(HeaderValue::to_str) {
        Some(Ok(text)) if text == "UNSIGNED-PAYLOAD" || text.starts_with("STREAMING-") || is_sha256(text) => Ok(()),
        Some(_) => wrong(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid sha256 value.",
        ),
        None => wrong(
            "InvalidRequest",
            "Missing required header for this request: x-amz-content-sha256",
        ),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// All pairs but the signature, encoded and then sorted.
fn canonical_query(query: &Query) -> String {
    let encode = |text: &str| utf8_percent_encode(text, IN_QUERY).to_string();
    let signed = query.iter().filter(|(name, _)| name != "X-Amz-Signature");
    let mut pairs: Vec<_> = signed.map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Without space around it, and with one space for several ("Canonical headers").
fn one_spaced(value: &HeaderValue) -> Option<String> {
    let words = str::from_utf8(value.as_bytes()).ok()?.split_whitespace();
    Some(words.collect::<Vec<_>>().join(" "))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length is a key to HMAC; an error cannot come, and if it did no signature would fit.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// S3 API, "Signature calculations: transferring payload in a single chunk", "Example: GET Object".
    fn published() -> Parts {
        let request = Request::get("/test.txt")
            .header("host", "examplebucket.s3.amazonaws.com")
            .header("range", "bytes=0-9")
            .header("x-amz-content-sha256", EMPTY)
            .header("x-amz-date", "20130524T000000Z")
            .header("authorization", AUTHORIZATION);
        request.body(()).unwrap().into_parts().0
    }

    const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 \
        Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
        SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
        Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";

    #[test]
    fn the_published_example_has_its_published_signature() {
        let mut head = published();
        let found = SigV4::of_header(AUTHORIZATION, &mut head.headers).unwrap();
        assert_eq!(found.sign(SECRET, &head, &Query::new()).unwrap(), found.signature);
        assert_ne!(found.sign("other", &head, &Query::new()).unwrap(), found.signature);
    }

    #[test]
    fn what_is_left_after_a_change_is_signed_only_if_the_whole_was() {
        let take_off_range = || vec![(header::RANGE, None)];
        let mut head = published();
        let found = SigV4::of_header(AUTHORIZATION, &mut head.headers).unwrap();
        found.resign("other", &mut head, &Query::new(), take_off_range());
        assert!(head.headers.contains_key(header::RANGE));
        assert_eq!(head.headers.get(header::AUTHORIZATION).unwrap(), AUTHORIZATION);

        found.resign(SECRET, &mut head, &Query::new(), take_off_range());
        assert!(!head.headers.contains_key(header::RANGE));
        let text = head
            .headers
            .get(header::AUTHORIZATION)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let anew = SigV4::of_header(&text, &mut head.headers).unwrap();
        assert!(!anew.signs("range") && anew.signs("host"));
        assert_eq!(anew.sign(SECRET, &head, &Query::new()).unwrap(), anew.signature);
    }

    #[test]
    fn the_published_url_has_its_published_signature() {
        // S3 API, "Authenticating requests: using query parameters", "An example".
        let pairs = [
            ("X-Amz-Algorithm", ALGORITHM),
            (
                "X-Amz-Credential",
                "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request",
            ),
            ("X-Amz-Date", "20130524T000000Z"),
            ("X-Amz-Expires", "86400"),
            ("X-Amz-SignedHeaders", "host"),
            (
                "X-Amz-Signature",
                "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
            ),
        ];
        let query: Query = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let found = SigV4::of_query(&query).unwrap();
        assert_eq!(found.sign(SECRET, &published(), &query).unwrap(), found.signature);
        for (name, _) in pairs {
            let rest: Query = query.iter().filter(|(other, _)| other != name).cloned().collect();
            let refusal = SigV4::of_query(&rest).unwrap_err();
            assert_eq!(refusal.code, "AuthorizationQueryParametersError", "without {name}");
        }
    }

    #[test]
    fn a_date_header_tells_the_time_if_nothing_else_does() {
        for (date, expected) in [
            ("Fri, 24 May 2013 00:00:00 GMT", Some("20130524T000000Z")),
            ("20130524T000000Z", Some("20130524T000000Z")),
            ("yesterday", None),
            ("", None),
        ] {
            let mut headers = published().headers;
            headers.remove(AMZ_DATE);
            headers.insert(header::DATE, HeaderValue::from_static(date));
            let found = SigV4::of_header(AUTHORIZATION, &mut headers);
            assert_eq!(
                found.err().map(|refusal| refusal.code),
                expected.is_none().then_some("AccessDenied")
            );
            assert_eq!(headers.get(AMZ_DATE).map(|value| value.to_str().unwrap()), expected);
        }
    }
}
