//! `/healthz`: the process answers. `/readyz`: ledger and store answer, and the clock can be trusted. `/metrics`: for
//! Prometheus.

use std::sync::atomic::Ordering;

use actix_web::HttpResponse;
use serde::Serialize;

use crate::app::Shared;
use crate::metrics::{self, CONTENT_TYPE, Checks};

/// Whether uploads can be served, and for each thing that this takes `ok` or what is wrong.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Readiness {
    ready: bool,
    ledger: String,
    store: String,
    clock: String,
    /// Only while it stops, so that balancers send requests elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<&'static str>,
}

/// Alive.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))
}

/// `200` when uploads can be served, else `503` with what is wrong, within two seconds.
pub async fn readyz(broker: Shared) -> HttpResponse {
    let Checks { ledger, store, clock } = broker.metrics.checks(&broker).await;
    let stopping = broker.stopping.load(Ordering::Relaxed);
    let ready = ledger.is_ok() && store.is_ok() && clock.is_ok() && !stopping;
    let word = |outcome: Result<(), String>| outcome.err().unwrap_or_else(|| "ok".to_owned());
    let mut answer = if ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    answer.json(Readiness {
        ready,
        ledger: word(ledger),
        store: word(store),
        clock: word(clock),
        broker: stopping.then_some("is stopping"),
    })
}

/// All series as text. Only on the operator's address.
pub async fn metrics(broker: Shared) -> HttpResponse {
    let text = metrics::print(&broker).await;
    HttpResponse::Ok().content_type(CONTENT_TYPE).body(text)
}
