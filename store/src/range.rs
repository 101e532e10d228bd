//! Ranges that S3 passes over: of a form it does not know, of several pieces, or ending before they begin. The whole object
//! is the answer then (RFC 9110 section 14.2); the protocol layer would refuse them.

use http::header::{AUTHORIZATION, RANGE};
use http::request::Parts;

/// Takes such a range off the request. Where it was signed it has to stay.
pub(crate) fn pass_over(head: &mut Parts) {
    let passed_over = |value: &http::HeaderValue| !value.to_str().is_ok_and(is_one_range);
    if head.headers.get(RANGE).is_some_and(passed_over) && !is_signed(head) {
        head.headers.remove(RANGE);
    }
}

/// `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`.
fn is_one_range(text: &str) -> bool {
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<i64>().ok())
    };
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return false;
    };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) => first <= last,
        (Some(Some(_)), Some(None)) => last.is_empty(),
        (Some(None), Some(Some(_))) => first.is_empty(),
        _ => false,
    }
}

/// Whether a V4 signature names the header; one of V2 cannot.
fn is_signed(head: &Parts) -> bool {
    let names = |list: &str| list.to_ascii_lowercase().split(';').any(|name| name == "range");
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let in_header = authorization
        .and_then(|text| text.split("SignedHeaders=").nth(1))
        .and_then(|rest| rest.split([',', ' ']).next());
    let query: Vec<(String, String)> = head
        .uri
        .query()
        .and_then(|query| serde_urlencoded::from_str(query).ok())
        .unwrap_or_default();
    let in_query = query.iter().find(|(name, _)| name == "X-Amz-SignedHeaders");
    in_header.is_some_and(names) || in_query.is_some_and(|(_, list)| names(list))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn only_one_range_that_goes_forward_is_one() {
        for good in ["bytes=0-0", "bytes=5-", "bytes=-5", "bytes=-0", "bytes=1-99999999999"] {
            assert!(is_one_range(good), "{good}");
        }
        for bad in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=2-1",
            "bytes=0-1,3-4",
            "foo",
            "bytes=a-b",
            "bytes=1-+2",
            "Bytes 0-1",
        ] {
            assert!(!is_one_range(bad), "{bad}");
        }
    }

    #[test]
    fn a_signed_range_stays() {
        let kept = |uri: &str, authorization: &str| {
            let request = Request::builder()
                .uri(uri)
                .header(RANGE, "lines=1-2")
                .header(AUTHORIZATION, authorization);
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            pass_over(&mut head);
            head.headers.contains_key(RANGE)
        };
        assert!(!kept("/b/k", "AWS key:signature"));
        assert!(!kept("/b/k?X-Amz-SignedHeaders=host", ""));
        assert!(kept("/b/k?X-Amz-SignedHeaders=host%3Brange", ""));
        assert!(kept(
            "/b/k",
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;range;x-amz-date, Signature=0"
        ));
    }
}
