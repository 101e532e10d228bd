//! Control characters of keys, in the XML of answers.
//!
//! A key may hold any character, and XML 1.0 cannot: raw, a carriage return is read as a line feed, and any other control
//! character makes the whole document ill-formed. S3 writes them as character references. A carriage return then arrives; of
//! the others lenient parsers read the reference and strict ones still refuse it, for which lists can be asked for with
//! `encoding-type=url` (S3 API, ListObjectsV2).

use std::fmt::Write as _;

use http::{Response, header};
use s3s::Body;

/// Writes what XML cannot hold as references, in an answer that the protocol layer wrote as a whole: data of objects are streams.
pub(crate) fn write(answer: &mut Response<Body>) {
    let Some(text) = answer.body().bytes().filter(|text| text.starts_with(b"<?xml")) else {
        return;
    };
    // Not UTF-8 would not be of the protocol layer's making.
    let Ok(text) = str::from_utf8(&text) else {
        return;
    };
    if text.contains(is_unspeakable) {
        let told = referred(text);
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        *answer.body_mut() = Body::from(told);
    }
}

/// XML 1.0 section 2.2, but for the carriage return, which section 2.11 has read as a line feed.
fn is_unspeakable(character: char) -> bool {
    matches!(character, '\0'..'\t' | '\x0b'..' ' | '\u{fffe}' | '\u{ffff}')
}

fn referred(text: &str) -> String {
    let mut told = String::with_capacity(text.len() + 64);
    for character in text.chars() {
        if is_unspeakable(character) {
            // Writing to a String does not fail.
            _ = write!(told, "&#{};", u32::from(character));
        } else {
            told.push(character);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_becomes_a_reference_and_the_rest_stays() {
        assert_eq!(
            referred("<Key>a\0\x01\t\n\r\x1f \u{7f}é\u{fffe}</Key>"),
            "<Key>a&#0;&#1;\t\n&#13;&#31; \u{7f}é&#65534;</Key>"
        );
    }
}
