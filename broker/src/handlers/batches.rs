//! `POST /v1/batches` and `POST /v1/batches/complete`: many small files, each with an answer of its own.

use actix_web::web::Payload;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use shared::api::{
    BatchOutcome, BatchUpload, CompleteBatch, CompletedBatch, CreateBatch, CreatedBatch, MAX_BATCH, Problem,
};

use super::{body, status};
use crate::app::{Broker, RequestId, Shared};
use crate::batch::{self, Admitted};
use crate::error::ApiError;
use crate::principal::Caller;

/// Admits each file that may be sent, and signs it.
///
/// # Errors
/// The request as a whole cannot be used, or the ledger does not answer; then no file is admitted.
pub async fn create(
    broker: Shared,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let CreateBatch { files } = body::large_json(&request, payload).await?;
    check_count(files.len())?;
    broker
        .rates
        .take_entries(caller.principal.name(), caller.address, files.len())?;
    let now = broker.clock.now();
    let grants = files
        .into_iter()
        .map(|file| {
            broker
                .policy
                .admit_small(&caller.principal, file, now, broker.upload_random())
        })
        .collect();
    let files = batch::create(&broker, grants, &caller.by())
        .await?
        .into_iter()
        .map(|answer| match answer {
            Ok(Admitted { id, key, request }) => BatchUpload::Admitted {
                upload_id: id,
                key,
                request,
            },
            Err(error) => BatchUpload::Refused {
                problem: problem(&broker, &request, &error),
            },
        });
    let files: Vec<_> = files.collect();
    tracing::info!(owner = caller.principal.name(), files = files.len(), "batch created");
    Ok(HttpResponse::Created().json(CreatedBatch {
        files,
        server_time: now,
    }))
}

/// Answers for each upload whether its object is there.
///
/// # Errors
/// The request as a whole cannot be used, or ledger or store do not answer.
pub async fn complete(
    broker: Shared,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let CompleteBatch { uploads } = body::large_json(&request, payload).await?;
    check_count(uploads.len())?;
    broker
        .rates
        .take_entries(caller.principal.name(), caller.address, uploads.len())?;
    let outcomes = batch::complete(&broker, &caller, &uploads).await?;
    let uploads = uploads
        .into_iter()
        .zip(outcomes)
        .map(|(upload_id, outcome)| match outcome {
            Ok((session, object)) => BatchOutcome::Completed {
                object: status::completed(&broker, &session, &object),
                upload_id,
            },
            Err(error) => BatchOutcome::Failed {
                upload_id,
                problem: problem(&broker, &request, &error),
            },
        });
    let uploads: Vec<_> = uploads.collect();
    tracing::info!(
        owner = caller.principal.name(),
        uploads = uploads.len(),
        "batch completed"
    );
    Ok(HttpResponse::Ok().json(CompletedBatch { uploads }))
}

fn check_count(given: usize) -> Result<(), ApiError> {
    if (1..=MAX_BATCH).contains(&given) {
        return Ok(());
    }
    Err(ApiError::BatchSize {
        given,
        limit: MAX_BATCH,
    })
}

fn problem(broker: &Broker, request: &HttpRequest, error: &ApiError) -> Problem {
    broker.metrics.problem(error);
    let id = request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone());
    error.problem(&id.unwrap_or_default())
}
