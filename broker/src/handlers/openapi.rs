//! `GET /openapi.json`: the protocols as machines read them.

use std::convert::Infallible;

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::web::Bytes;
use futures_util::stream;

use crate::app::Shared;
use crate::openapi;

/// Bytes written at once. In one piece, an answer waits in memory for as long as its receiver does not read, and with it those
/// of all requests that were sent along.
const PIECE: usize = 16 * 1024;

/// Answers with the document. What it tells is no secret, so that it needs no credentials.
pub async fn openapi(broker: Shared) -> HttpResponse {
    let document = openapi::document(broker.principals.allow_anonymous()).as_bytes();
    let pieces = document
        .chunks(PIECE)
        .map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece)));
    HttpResponse::Ok()
        .content_type("application/json")
        .body(SizedStream::new(document.len() as u64, stream::iter(pieces)))
}
