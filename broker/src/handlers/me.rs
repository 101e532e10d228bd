//! `GET /v1/me`: who the broker takes the caller for, and what they may do.

use actix_web::HttpResponse;
use shared::api::{DestinationInfo, Me};

use crate::app::Shared;
use crate::error::ApiError;
use crate::policy::{Right, refused};
use crate::principal::Principal;

/// Answers with principal, destinations and limits.
///
/// # Errors
/// There is nothing that the caller may do.
pub async fn me(broker: Shared, principal: Principal) -> Result<HttpResponse, ApiError> {
    let policy = &broker.policy;
    let default = policy
        .default_of(&principal)
        .ok_or_else(|| refused(&principal, None, Right::Upload))?;
    let others = policy
        .destinations_of(&principal)
        .filter(|destination| destination.name != default.name);
    let destinations = std::iter::once(default).chain(others).map(|destination| {
        let may = policy.rights_of(&principal, &destination.name);
        let downloads = may.contains(&Right::List) && may.contains(&Right::Download);
        // A ticket's are among those that its destination takes.
        let content_types = match principal.ticket() {
            Some(terms) if !terms.content_types.is_empty() => &terms.content_types,
            _ => &destination.content_types,
        };
        let limits = policy
            .limits_of(&principal, &destination.name, Right::Upload)
            .unwrap_or_default();
        DestinationInfo {
            name: destination.name.clone(),
            key_template: destination.key_template.to_string(),
            max_size: policy.max_size_of(&principal, destination),
            acls: destination.acls.clone(),
            downloads: downloads && destination.key_template.prefix(&principal).is_some(),
            bucket_id: Some(destination.bucket_id.clone()),
            may: may.into_iter().map(|right| right.name().to_owned()).collect(),
            content_types: content_types.clone(),
            open_uploads: limits.open_uploads,
            bytes_per_day: limits.bytes_per_day,
        }
    });
    Ok(HttpResponse::Ok().json(Me {
        principal: principal.name().to_owned(),
        destinations: destinations.collect(),
        limits: policy.limits(default),
        server_time: broker.clock.now(),
    }))
}
