//! What an error says where the protocol layer tells its code alone: people read the message, not the code.

use http::header;
use hyper::Response;
use s3s::Body;

/// What the code of the same name says.
pub(crate) const SIGNATURE_DOES_NOT_MATCH: &str =
    "The request signature we calculated does not match the signature you provided. Check your key and signing method.";

/// Codes that come without words, and what they mean (S3 API Reference, "Error responses").
const WORDS: [(&str, &str); 14] = [
    ("AccessDenied", "Access Denied"),
    (
        "AuthorizationHeaderMalformed",
        "The authorization header that you provided is not valid.",
    ),
    (
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed object size.",
    ),
    (
        "IncompleteBody",
        "The request body is not as long or not of the form that its headers say.",
    ),
    ("InternalError", "The store failed inside; its log says how. Try again."),
    ("InvalidArgument", "An argument of the request is not valid."),
    (
        "InvalidBucketName",
        "The specified bucket is not valid: 3 to 63 lower case letters, digits, dots and dashes.",
    ),
    ("InvalidRequest", "The request is not one that the operation takes."),
    ("InvalidURI", "The path of the request cannot be read."),
    ("KeyTooLongError", "Your key is too long: at most 1024 bytes of UTF-8."),
    (
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema.",
    ),
    (
        "MissingContentLength",
        "You must provide the Content-Length HTTP header.",
    ),
    (
        "NotImplemented",
        "A header or a query that you provided implies functionality that is not implemented.",
    ),
    ("SignatureDoesNotMatch", SIGNATURE_DOES_NOT_MATCH),
];

/// Gives an error without words those of its code.
pub(crate) fn tell(answer: &mut Response<Body>) {
    let Some(text) = answer.body().bytes().filter(|_| !answer.status().is_success()) else {
        return;
    };
    let text = String::from_utf8_lossy(&text);
    if text.contains("<Message>") {
        return;
    }
    let worded = WORDS.iter().find_map(|(code, words)| {
        let code = format!("<Code>{code}</Code>");
        let (before, after) = text.split_once(&code)?;
        Some(format!("{before}{code}<Message>{words}</Message>{after}"))
    });
    if let Some(worded) = worded {
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        *answer.body_mut() = Body::from(worded);
    }
}
