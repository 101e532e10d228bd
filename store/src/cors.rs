//! Cross-origin requests of web pages (Fetch standard, "CORS protocol"): what a bucket's rules let them do and see.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::disk::CorsRule;
use crate::filter::{Refusal, refuse};

/// What the answer to a page's request depends on.
const VARIES: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// The headers that answer a preflight request by the first rule that allows it (S3 User Guide, "Using cross-origin
/// resource sharing", "How does Amazon S3 evaluate the CORS configuration on a bucket").
pub(crate) fn preflight(rules: &[CorsRule], headers: &HeaderMap) -> Result<HeaderMap, Refusal> {
    let Some(origin) = text(headers, &ORIGIN) else {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "Insufficient information. Origin request header needed.",
        ));
    };
    let Some(method) = text(headers, &ACCESS_CONTROL_REQUEST_METHOD) else {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "Invalid Access-Control-Request-Method: null",
        ));
    };
    if rules.is_empty() {
        return Err(refuse(
            StatusCode::FORBIDDEN,
            "AccessForbidden",
            "CORSResponse: CORS is not enabled for this bucket.",
        ));
    }
    let asked = text(headers, &ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    let asked: Vec<_> = asked
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let allows_headers = |rule: &CorsRule| {
        asked.iter().all(|name| {
            let name = name.to_ascii_lowercase();
            rule.allowed_headers
                .iter()
                .any(|pattern| matches(&pattern.to_ascii_lowercase(), &name))
        })
    };
    let mut allowing = rules.iter().filter(|rule| allows(rule, origin, method));
    let Some(rule) = allowing.find(|rule| allows_headers(rule)) else {
        return Err(refuse(
            StatusCode::FORBIDDEN,
            "AccessForbidden",
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / \
             Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
        ));
    };
    let mut answer = told(rule, origin);
    if !asked.is_empty() {
        put(
            &mut answer,
            ACCESS_CONTROL_ALLOW_HEADERS,
            &asked.join(", ").to_ascii_lowercase(),
        );
    }
    Ok(answer)
}

/// The headers that let the page which sent this request see its answer; none if no rule does.
pub(crate) fn of_request(rules: &[CorsRule], method: &str, headers: &HeaderMap) -> HeaderMap {
    let Some(origin) = text(headers, &ORIGIN) else {
        return HeaderMap::new();
    };
    let rule = rules.iter().find(|rule| allows(rule, origin, method));
    rule.map(|rule| told(rule, origin)).unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn allows(rule: &CorsRule, origin: &str, method: &str) -> bool {
    rule.allowed_methods.iter().any(|allowed| allowed == method)
        && rule.allowed_origins.iter().any(|pattern| matches(pattern, origin))
}

/// Whether `text` is `pattern`, in which one `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end),
    }
}

fn told(rule: &CorsRule, origin: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let everybody = rule.allowed_origins.iter().any(|pattern| pattern == "*");
    put(
        &mut headers,
        ACCESS_CONTROL_ALLOW_ORIGIN,
        if everybody { "*" } else { origin },
    );
    if !everybody {
        put(&mut headers, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    put(
        &mut headers,
        ACCESS_CONTROL_ALLOW_METHODS,
        &rule.allowed_methods.join(", "),
    );
    if !rule.expose_headers.is_empty() {
        put(
            &mut headers,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            &rule.expose_headers.join(", "),
        );
    }
    if let Some(seconds) = rule.max_age_seconds {
        put(&mut headers, ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
    }
    put(&mut headers, VARY, VARIES);
    headers
}

/// What a rule holds that no header can carry is left out.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wildcard_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("http://*.example", "http://a.example", true),
            ("http://*.example", "https://a.example", false),
            ("ab*ba", "aba", false),
            ("x-amz-*", "x-amz-date", true),
            ("exact", "exact", true),
            ("exact", "Exact", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_rule_is_named_to_the_origin_that_it_allows_and_to_no_other() {
        let rule = CorsRule {
            allowed_origins: vec!["https://a.example".into()],
            allowed_methods: vec!["GET".into(), "PUT".into()],
            expose_headers: vec!["ETag".into()],
            ..CorsRule::default()
        };
        let from = |origin| {
            [(ORIGIN, HeaderValue::from_static(origin))]
                .into_iter()
                .collect::<HeaderMap>()
        };
        let told = of_request(std::slice::from_ref(&rule), "GET", &from("https://a.example"));
        assert_eq!(told.get(ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "https://a.example");
        assert_eq!(told.get(ACCESS_CONTROL_EXPOSE_HEADERS).unwrap(), "ETag");
        assert!(of_request(std::slice::from_ref(&rule), "GET", &from("https://b.example")).is_empty());
        assert!(of_request(&[rule], "DELETE", &from("https://a.example")).is_empty());
    }
}
