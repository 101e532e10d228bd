//! `/healthz`: the process answers. `/readyz`: ledger and store answer, and the clock can be trusted.

use actix_web::HttpResponse;
use serde::Serialize;

use crate::app::Shared;

/// A store clock further off than this makes signatures that other parties refuse.
const MAX_CLOCK_DIFFERENCE_SECONDS: i64 = 60;

/// Whether uploads can be served, and for each thing that this takes `ok` or what is wrong.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct Readiness {
    ready: bool,
    ledger: String,
    store: String,
    clock: String,
}

/// Alive.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))
}

/// `200` when uploads can be served, else `503` with what is wrong.
pub async fn readyz(broker: Shared) -> HttpResponse {
    let ledger = broker.ledger.ping().await.map_err(|error| error.to_string());
    let mut store = Ok(());
    for bucket in broker.policy.buckets() {
        let checked = broker.store.check_bucket(bucket).await;
        store = store.and(checked.map_err(|error| error.to_string()));
    }
    let clock = match broker.clock.store_ahead() {
        ahead if ahead.abs() > MAX_CLOCK_DIFFERENCE_SECONDS => Err(format!(
            "the store's clock is {ahead} s ahead of this machine's; set the clock by NTP"
        )),
        _ => Ok(()),
    };
    let ready = ledger.is_ok() && store.is_ok() && clock.is_ok();
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
    })
}
