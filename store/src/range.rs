//! What S3 passes over rather than refuses: ranges of a form it does not know, of several pieces, or ending before they begin,
//! for which the whole object is the answer (RFC 9110 section 14.2), and dates that cannot be read (section 13.1.3).

use http::header::{IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use s3s::dto::{Timestamp, TimestampFormat};

use crate::sigv4::Changes;

/// The headers of a request that reads which the protocol layer would refuse, to be taken off or spelt as it reads them.
pub(crate) fn passed_over(method: &Method, headers: &HeaderMap) -> Changes {
    let mut changes = Changes::new();
    if method != Method::GET && method != Method::HEAD {
        return changes;
    }
    if let Some(value) = headers.get(RANGE) {
        let range = value.to_str().ok().and_then(respelt);
        if range.as_deref().map(str::as_bytes) != Some(value.as_bytes()) {
            let range = range.and_then(|text| HeaderValue::try_from(text).ok());
            changes.push((RANGE, range));
        }
    }
    for name in [IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        let is_date = |text: &str| Timestamp::parse(TimestampFormat::HttpDate, text).is_ok();
        if headers
            .get(&name)
            .is_some_and(|value| !value.to_str().is_ok_and(is_date))
        {
            changes.push((name, None));
        }
    }
    changes
}

/// `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-COUNT`, with numbers that are no larger than any object needs; nothing, if
/// `text` is no such range.
fn respelt(text: &str) -> Option<String> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than fit are beyond every object.
        is_number.then(|| text.parse().unwrap_or(i64::MAX))
    };
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(format!("bytes={first}-{last}")),
        (Some(first), None) if last.is_empty() => Some(format!("bytes={first}-")),
        (None, Some(count)) if first.is_empty() => Some(format!("bytes=-{count}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_range_that_goes_forward_is_one() {
        for good in ["bytes=0-0", "bytes=5-", "bytes=-5", "bytes=-0", "bytes=1-99999999999"] {
            assert_eq!(respelt(good).as_deref(), Some(good));
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
            assert_eq!(respelt(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_number_that_is_beyond_all_objects_is_one_that_can_be_read() {
        let most = i64::MAX;
        assert_eq!(respelt("bytes=0-99999999999999999999"), Some(format!("bytes=0-{most}")));
        assert_eq!(respelt("bytes=99999999999999999999-"), Some(format!("bytes={most}-")));
        assert_eq!(respelt("bytes=-0099"), Some("bytes=-99".to_owned()));
    }

    #[test]
    fn what_can_be_read_is_left_as_it_is() {
        let one = |name, value| {
            [(name, HeaderValue::from_static(value))]
                .into_iter()
                .collect::<HeaderMap>()
        };
        assert_eq!(passed_over(&Method::GET, &one(RANGE, "bytes=1-2")), []);
        assert_eq!(passed_over(&Method::GET, &one(RANGE, "lines=1-2")), [(RANGE, None)]);
        assert_eq!(
            passed_over(&Method::GET, &one(IF_MODIFIED_SINCE, "Sat, 29 Oct 1994 19:43:31 GMT")),
            []
        );
        assert_eq!(
            passed_over(&Method::GET, &one(IF_MODIFIED_SINCE, "yesterday")),
            [(IF_MODIFIED_SINCE, None)]
        );
        assert_eq!(passed_over(&Method::DELETE, &one(IF_MODIFIED_SINCE, "yesterday")), []);
    }
}
