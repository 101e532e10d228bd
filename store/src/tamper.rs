//! Answers as no store should give them: what a [`Fault`] makes of one after the request has been served, or instead of that.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::request::Parts;
use http::{HeaderValue, Method, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use s3s::Body;

use crate::fault::{Fault, Garbled};
use crate::front::{Cut, failed_with_200};

/// Opens the element that ends each part of a list.
const PART_END: &str = "</Part>";

/// What comes in place of a right answer.
pub(crate) fn garbled(how: Garbled, answer: Response<Body>) -> Response<Body> {
    match how {
        Garbled::Error => failed_with_200(),
        Garbled::Empty => with_text(answer, ""),
        Garbled::Html => {
            let mut answer = with_text(answer, "<html><body>Please wait</body></html>");
            answer
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            answer
        }
        Garbled::SpaceBefore => {
            let text = format!("\n \n{}", text(&answer));
            with_text(answer, text)
        }
        Garbled::CutAt(bytes) => {
            let whole = text(&answer).into_bytes();
            let begun = Bytes::copy_from_slice(whole.get(..bytes).unwrap_or(&whole));
            // The connection sends what there is only when nothing more is at hand.
            let cut = stream::once(async {
                tokio::task::yield_now().await;
                Err(Cut)
            });
            let frames = stream::iter([Ok(Frame::data(begun))]).chain(cut);
            let mut answer = with_text(answer, "");
            *answer.body_mut() = Body::http_body_unsync(StreamBody::new(frames));
            answer
        }
    }
}

/// The answer as the fault has it; any other as it is.
pub(crate) fn tampered(strike: Option<&Fault>, head: &Parts, answer: Response<Body>) -> Response<Body> {
    if !answer.status().is_success() {
        return answer;
    }
    match strike {
        Some(Fault::Garbled {
            answer: how,
            done: true,
        }) if head.method != Method::HEAD => garbled(*how, answer),
        Some(Fault::OtherEtags) => other_etags(answer),
        Some(Fault::StaleList) => with_list(answer, |list| match list.rfind("<Part>") {
            Some(last) => {
                let end = list.rfind(PART_END).map_or(list.len(), |end| end + PART_END.len());
                format!("{}{}", &list[..last], &list[end..])
            }
            None => list.to_owned(),
        }),
        Some(Fault::RepeatMarker) => {
            let marker = marker(head).to_string();
            with_list(answer, |list| truncated(list, &marker))
        }
        Some(_) | None => answer,
    }
}

/// The first `parts` of a list of parts, as a page of it; the answer as it is where it has no more.
pub(crate) fn first_page(parts: usize, answer: Response<Body>) -> Response<Body> {
    with_list(answer, |list| {
        let ends: Vec<_> = list
            .match_indices(PART_END)
            .map(|(at, _)| at + PART_END.len())
            .collect();
        let (Some(end), Some(last)) = (parts.checked_sub(1).and_then(|place| ends.get(place)), ends.last()) else {
            return list.to_owned();
        };
        if end == last {
            return list.to_owned();
        }
        let page = format!("{}{}", &list[..*end], &list[*last..]);
        let marker = element(&list[..*end], "PartNumber").unwrap_or_default().to_owned();
        truncated(&page, &marker)
    })
}

/// The part that a page begins behind.
fn marker(head: &Parts) -> u64 {
    let query: Vec<(String, String)> =
        serde_urlencoded::from_str(head.uri.query().unwrap_or_default()).unwrap_or_default();
    let marker = query.iter().find(|(name, _)| name == "part-number-marker");
    marker.and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
}

/// A list that says that it goes on behind `marker`.
fn truncated(list: &str, marker: &str) -> String {
    let next = element(list, "NextPartNumberMarker").unwrap_or_default();
    list.replace(
        &format!("<NextPartNumberMarker>{next}<"),
        &format!("<NextPartNumberMarker>{marker}<"),
    )
    .replace("<IsTruncated>false<", "<IsTruncated>true<")
}

/// The text of the last element of this name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.rsplit_once(&format!("<{name}>"))?;
    after.split('<').next()
}

fn other_etags(mut answer: Response<Body>) -> Response<Body> {
    if let Some(etag) = answer.headers_mut().get_mut(header::ETAG) {
        *etag = HeaderValue::from_static("\"00000000000000000000000000000000-1\"");
    }
    with_list(answer, |list| {
        let mut told = String::with_capacity(list.len());
        for (at, piece) in list.split("<ETag>").enumerate() {
            match piece.split_once("</ETag>").filter(|_| at > 0) {
                Some((_, rest)) => {
                    told.push_str("<ETag>&quot;00000000000000000000000000000000&quot;</ETag>");
                    told.push_str(rest);
                }
                None => told.push_str(piece),
            }
        }
        told
    })
}

/// The answer with another list of parts, if that is what it is.
fn with_list(answer: Response<Body>, change: impl FnOnce(&str) -> String) -> Response<Body> {
    let list = text(&answer);
    if list.contains("</ListPartsResult>") {
        with_text(answer, change(&list))
    } else {
        answer
    }
}

fn text(answer: &Response<Body>) -> String {
    let bytes = answer.body().bytes().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn with_text(mut answer: Response<Body>, text: impl Into<String>) -> Response<Body> {
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    *answer.body_mut() = Body::from(text.into());
    answer
}
