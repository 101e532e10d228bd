//! `GET /openapi.json`: the protocols as machines read them.

use actix_web::HttpResponse;

use crate::app::Shared;
use crate::openapi;

/// Answers with the document. What it tells is no secret, so that it needs no credentials.
pub async fn openapi(broker: Shared) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(openapi::document(broker.principals.allow_anonymous()))
}
