//! What a store or the network answered, in words for a person.

use crate::retry::{s3_code, s3_message};

/// The kind of a network failure, in words that read alone.
pub(crate) fn trouble(error: &reqwest::Error) -> &'static str {
    if error.is_connect() {
        "could not connect"
    } else if error.is_timeout() {
        "it took too long"
    } else {
        "the connection was cut"
    }
}

/// XML's own entities as what they stand for; `&amp;` last, since what it yields is text (XML 1.0 section 4.6).
fn unescaped(text: &str) -> String {
    let entities = [
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    let replaced = |text: String, (entity, meant)| text.replace(entity, meant);
    entities.into_iter().fold(text.to_owned(), replaced)
}

/// A refusal: its status, and S3's code and words where the document has them.
pub(crate) fn describe(status: u16, document: &str) -> String {
    let mut text = format!("HTTP {status}");
    for (before, part) in [(" ", s3_code(document)), (": ", s3_message(document))] {
        if let Some(part) = part {
            text.push_str(before);
            // Text from outside: no control characters to a terminal, no more than a line.
            text.extend(unescaped(part).chars().filter(|c| !c.is_control()).take(200));
        }
    }
    text
}

/// A store's trouble without what may differ from part to part: its own words, which come after a colon.
pub(crate) fn of_store(store: &str, trouble: &str) -> String {
    let (short, _) = trouble.split_once(": ").unwrap_or((trouble, ""));
    format!("the store at {store}: {short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stores_words_are_shown_as_they_were_meant_and_on_one_line() {
        assert_eq!(
            describe(
                403,
                "<Error><Code>AccessDenied</Code><Message>no &quot;a &amp;lt; b&quot;\n\u{1b}[2J</Message></Error>"
            ),
            "HTTP 403 AccessDenied: no \"a &lt; b\"[2J"
        );
        assert_eq!(describe(500, ""), "HTTP 500");
        let slow = describe(
            503,
            "<Error><Code>SlowDown</Code><Message>key a: slower</Message></Error>",
        );
        assert_eq!(
            of_store("http://host", &slow),
            "the store at http://host: HTTP 503 SlowDown"
        );
    }
}
