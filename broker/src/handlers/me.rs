//! `GET /v1/me`: who the broker takes the caller for, and what they may do.

use actix_web::HttpResponse;
use shared::api::{DestinationInfo, Me};

use crate::app::Shared;
use crate::principal::Principal;

/// Answers with principal, destinations and limits.
pub async fn me(broker: Shared, principal: Principal) -> HttpResponse {
    let destination = &broker.policy.destination;
    HttpResponse::Ok().json(Me {
        principal: principal.name().to_owned(),
        destinations: vec![DestinationInfo {
            name: destination.name.clone(),
            key_template: destination.key_template.to_string(),
            max_size: destination.max_size,
            acls: destination.acls.clone(),
            downloads: destination.downloads,
            bucket_id: Some(destination.bucket_id.clone()),
        }],
        limits: broker.policy.limits(),
        server_time: broker.clock.now(),
    })
}
