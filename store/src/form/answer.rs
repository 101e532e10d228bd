//! What a form's sender gets back: nothing, a document, or another page.

use http::{HeaderValue, Response, StatusCode, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::Body;
use s3s::dto::PutObjectOutput;

use super::Address;
use super::fields::Fields;

/// All but the characters that stand for themselves anywhere in a URL (RFC 3986 section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The answer that the form asks for.
pub(super) enum Success {
    Empty(StatusCode),
    /// `PostResponse`
    Document,
    Redirect(String),
}

impl Success {
    /// What is no status or no URL counts as not asked for (S3 API, "POST Object": success_action_redirect and _status).
    pub(super) fn asked_for(fields: &Fields) -> Self {
        let url = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
        match (
            url.filter(|url| is_web_address(url)),
            fields.get("success_action_status"),
        ) {
            (Some(url), _) => Self::Redirect(url.to_owned()),
            (None, Some("200")) => Self::Empty(StatusCode::OK),
            (None, Some("201")) => Self::Document,
            (None, Some(_) | None) => Self::Empty(StatusCode::NO_CONTENT),
        }
    }

    /// The answer for the object that has been stored.
    pub(super) fn answer(self, address: &Address<'_>, key: &str, stored: &PutObjectOutput) -> Response<Body> {
        let etag = stored.e_tag.as_ref().map(s3s::dto::ETag::value).unwrap_or_default();
        let escaped = utf8_percent_encode(key, ESCAPED);
        let Address { host, bucket, .. } = address;
        let place = if address.of_its_own {
            format!("http://{host}/{escaped}")
        } else {
            format!("http://{host}/{bucket}/{escaped}")
        };
        let mut answer = Response::new(Body::empty());
        let location = match self {
            Self::Empty(status) => {
                *answer.status_mut() = status;
                place
            }
            Self::Document => {
                *answer.status_mut() = StatusCode::CREATED;
                *answer.body_mut() = Body::from(document(&place, bucket, key, etag));
                let kind = HeaderValue::from_static("application/xml");
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                place
            }
            Self::Redirect(url) => {
                *answer.status_mut() = StatusCode::SEE_OTHER;
                let glue = if url.contains('?') { '&' } else { '?' };
                format!("{url}{glue}bucket={bucket}&key={escaped}&etag=%22{etag}%22")
            }
        };
        let headers = [
            ("location", Some(location)),
            ("etag", Some(format!("\"{etag}\""))),
            ("x-amz-checksum-crc32", stored.checksum_crc32.clone()),
            ("x-amz-checksum-crc32c", stored.checksum_crc32c.clone()),
            ("x-amz-checksum-crc64nvme", stored.checksum_crc64nvme.clone()),
            ("x-amz-checksum-sha1", stored.checksum_sha1.clone()),
            ("x-amz-checksum-sha256", stored.checksum_sha256.clone()),
        ];
        for (name, value) in headers {
            if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }
}

fn is_web_address(url: &str) -> bool {
    let parsed = url.parse::<Uri>();
    parsed.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

fn document(place: &str, bucket: &str, key: &str, etag: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{}</Location><Bucket>{bucket}</Bucket><Key>{}</Key><ETag>\"{etag}\"</ETag></PostResponse>",
        escape(place),
        escape(key),
    )
}

/// As the text of an element (XML 1.0 section 2.4); a lone carriage return would come back as a line feed.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\r', "&#13;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_web_address_is_redirected_to_and_only_known_statuses_are_answered() {
        for (fields, expected) in [
            (
                [
                    ("success_action_redirect", "https://a.test/done"),
                    ("success_action_status", "201"),
                ],
                303,
            ),
            ([("redirect", "http://a.test/?x=1"), ("", "")], 303),
            (
                [("success_action_redirect", "/done"), ("success_action_status", "200")],
                200,
            ),
            ([("success_action_redirect", "javascript:alert(1)"), ("", "")], 204),
            ([("success_action_status", "201"), ("", "")], 201),
            ([("success_action_status", "404"), ("", "")], 204),
        ] {
            let address = Address {
                host: "localhost",
                bucket: "b",
                of_its_own: false,
            };
            let answer = Success::asked_for(&fields.into()).answer(&address, "k", &PutObjectOutput::default());
            assert_eq!(answer.status(), expected, "{fields:?}");
        }
    }
}
