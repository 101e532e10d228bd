//! An upload in parts begins: at the store, then in the ledger.

use crate::app::{Broker, Shared, to_its_end};
use crate::error::{ApiError, Sent};
use crate::ledger::{Admission, By, Digests, Exceeded, Plan, Session};
use crate::overwrite;
use crate::policy::CreateGrant;
use crate::s3::{StoreError, StoreErrorKind};

/// Begins the upload at the store and records it; if it is not recorded, the store forgets it again. Nothing if another
/// request has begun an upload for the same content meanwhile. Done to its end, whether or not the caller waits for it.
///
/// # Errors
/// The store or the ledger did not do it.
pub async fn admit(broker: Shared, grant: CreateGrant, declared: Digests, by: By) -> Result<Option<Session>, ApiError> {
    to_its_end(async move { admit_here(&broker, &grant, &declared, &by).await }).await
}

/// The same for as long as it is polled. Dropped, it leaves what a broker leaves that dies: at most an upload at the store,
/// without parts, that the ledger does not know.
///
/// # Errors
/// As [`admit`].
pub async fn admit_here(
    broker: &Broker,
    grant: &CreateGrant,
    declared: &Digests,
    by: &By,
) -> Result<Option<Session>, ApiError> {
    overwrite::before_create(broker, grant).await?;
    broker
        .ledger
        .within_quota(grant)
        .await?
        .map_err(|exceeded| over(grant, exceeded))?;
    let id = broker.upload_id();
    let empty = matches!(grant.plan, Plan::Sized(plan) if plan.part_count() == 0);
    let store_upload_id = if empty {
        None
    } else {
        Some(broker.store.create(grant).await.map_err(created)?)
    };
    let recorded = broker
        .ledger
        .admit(&id, grant, store_upload_id.as_deref(), declared, by)
        .await;
    if !matches!(recorded, Ok(Admission::Recorded(_)))
        && let Some(store_upload_id) = &store_upload_id
        && let Err(error) = broker.store.abort(&grant.bucket, &grant.key, store_upload_id).await
    {
        tracing::warn!(key = %grant.key, error = %error, "an unrecorded multipart upload without parts stays behind");
    }
    let reserved = match recorded? {
        Admission::Recorded(reserved) => reserved,
        Admission::OpenAlready => return Ok(None),
        Admission::Exceeded(exceeded) => return Err(over(grant, exceeded)),
        Admission::Revoked => return Err(revoked()),
    };
    tracing::info!(upload = %id, owner = grant.owner, key = %grant.key, size = grant.plan.size(), "upload created");
    Ok(Some(Session::admitted(id, grant, reserved, store_upload_id)))
}

/// What the caller is told of a limit that the upload would go beyond.
pub(crate) fn over(grant: &CreateGrant, exceeded: Exceeded) -> ApiError {
    ApiError::QuotaExceeded {
        exceeded,
        asked: grant.plan.size(),
        destination: grant.destination.clone(),
    }
}

/// What the caller is told whose token or ticket was revoked while the request was under way.
pub(crate) fn revoked() -> ApiError {
    ApiError::Unauthenticated {
        sent: Sent::Header,
        optional: false,
    }
}

/// A store that says NoSuchUpload to a create has another trouble than an upload that is gone.
pub(crate) fn created(error: StoreError) -> ApiError {
    match error.kind {
        StoreErrorKind::NoSuchUpload => ApiError::StoreRefused(error),
        _ => error.into(),
    }
}
