//! Ranges that S3 passes over: of a form it does not know, of several pieces, or ending before they begin. The whole object
//! is the answer then (RFC 9110 section 14.2); the protocol layer would refuse them.

use http::header::RANGE;
use http::{HeaderMap, HeaderValue};

/// Takes such a range off the request. Where it is among the signed headers it has to stay.
pub(crate) fn pass_over(headers: &mut HeaderMap, signed_headers: &str) {
    let passed_over = |value: &HeaderValue| !value.to_str().is_ok_and(is_one_range);
    let is_signed = || signed_headers.split(';').any(|name| name.eq_ignore_ascii_case("range"));
    if headers.get(RANGE).is_some_and(passed_over) && !is_signed() {
        headers.remove(RANGE);
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

#[cfg(test)]
mod tests {
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
        let kept = |signed_headers| {
            let mut headers: HeaderMap = [(RANGE, HeaderValue::from_static("lines=1-2"))].into_iter().collect();
            pass_over(&mut headers, signed_headers);
            headers.contains_key(RANGE)
        };
        assert!(!kept(""));
        assert!(!kept("host"));
        assert!(kept("host;range"));
        assert!(kept("host;range;x-amz-date"));
    }
}
