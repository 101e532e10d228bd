//! Documents that the protocol layer parses and the store then judges, as the fuzz targets call them; see `crate::fuzzing`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

use http::{HeaderMap, HeaderValue, header};
use s3s::dto::{BucketLifecycleConfiguration, CORSConfiguration};
use s3s::xml::{Deserialize, Deserializer};

use crate::cors;

use super::{lifecycle, settings, tagging};

fn parse<T: for<'xml> Deserialize<'xml>>(xml: &[u8]) -> Option<T> {
    let mut parser = Deserializer::new(xml);
    let parsed = T::deserialize(&mut parser).ok()?;
    parser.expect_eof().ok()?;
    Some(parsed)
}

/// Lifecycle rules: one that is taken is told as it was taken, and would end something some day.
pub fn lifecycle(data: &[u8]) {
    let Some(configuration) = parse::<BucketLifecycleConfiguration>(data) else {
        return;
    };
    for told in configuration.rules {
        let Ok(mut rule) = lifecycle::rule(told) else { continue };
        assert!(rule.expiration_days.is_none_or(|days| days > 0) && rule.abort_days.is_none_or(|days| days > 0));
        assert!(rule.expiration_days.or(rule.abort_days).is_some() || rule.expiration_date.is_some());
        let again = lifecycle::rule(lifecycle::told(&rule)).expect("a rule is told in words that are refused");
        // A filter of nothing is told as the prefix that all keys have.
        if let Some(filter) = rule.filter.as_mut().filter(|filter| filter.len() == 0) {
            filter.prefix = Some(String::new());
        }
        assert_eq!(rule, again);
    }
}

/// CORS rules: a page is told its own origin or everybody's, and only by a rule that has it.
pub fn cors(data: &[u8]) {
    let Some(configuration) = parse::<CORSConfiguration>(data) else {
        return;
    };
    let rules = configuration.cors_rules.into_iter().map(settings::cors_rule);
    let Ok(rules) = rules.collect::<Result<Vec<_>, _>>() else {
        return;
    };
    let origin = "https://a.example";
    let headers: HeaderMap = [
        (header::ORIGIN, HeaderValue::from_static(origin)),
        (header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT")),
        (
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_static("content-md5, x-a"),
        ),
    ]
    .into_iter()
    .collect();
    if let Ok(answer) = cors::preflight(&rules, &headers) {
        let allowed = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap();
        assert!(allowed == origin || allowed == "*");
        assert!(
            rules
                .iter()
                .any(|rule| rule.allowed_methods.iter().any(|method| method == "PUT"))
        );
        assert!(!cors::of_request(&rules, "PUT", &headers).is_empty());
    }
}

/// Tags of a header: as many and as long as they may be, and the same when they are encoded again.
pub fn tagging(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(tags) = tagging::of_header(text) else { return };
    assert!(tags.len() <= 10);
    assert!(
        tags.iter()
            .all(|(key, value)| !key.is_empty() && key.chars().count() <= 128 && value.chars().count() <= 256)
    );
    let again = serde_urlencoded::to_string(&tags).unwrap();
    assert_eq!(
        tagging::of_header(&again).expect("tags are refused when they are encoded again"),
        tags
    );
}
