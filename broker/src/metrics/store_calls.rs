//! The calls to the store as the SDK makes them: how long each took with all its attempts, and what came of it.

use std::time::Instant;

use aws_sdk_s3::config::interceptors::{BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Timed, seconds};

/// What is counted of the calls to the store. Cloning shares it.
#[derive(Clone, Debug)]
pub struct StoreCalls {
    calls: Timed<[(&'static str, String); 2]>,
    retries: Family<[(&'static str, String); 1], Counter>,
}

impl Default for StoreCalls {
    fn default() -> Self {
        Self {
            calls: Timed::new_with_constructor(seconds as fn() -> Histogram),
            retries: Family::default(),
        }
    }
}

impl StoreCalls {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "store_call_duration",
            "Calls to the store, with all their attempts",
            Unit::Seconds,
            self.calls.clone(),
        );
        registry.register("store_retries", "Attempts beyond a call's first", self.retries.clone());
    }
}

/// Counts every call of the client that it is given to.
#[derive(Debug)]
pub(crate) struct Counted(pub(crate) StoreCalls);

/// When a call began.
#[derive(Debug)]
struct Began(Instant);

impl Storable for Began {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Counted {
    fn name(&self) -> &'static str {
        "Counted"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(Began(Instant::now()));
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (Some(Began(began)), Some(operation)) = (config.load::<Began>(), config.load::<Metadata>()) else {
            return Ok(());
        };
        let status = context.response().map(|response| response.status().as_u16());
        let done = context.output_or_error().is_some_and(|outcome| outcome.is_ok());
        let labels = [
            ("operation", operation.name().to_owned()),
            ("outcome", outcome(done, status).to_owned()),
        ];
        self.0
            .calls
            .get_or_create(&labels)
            .observe(began.elapsed().as_secs_f64());
        let retries = config.load::<RequestAttempts>().map_or(0, RequestAttempts::attempts);
        self.0
            .retries
            .get_or_create(&[("operation", operation.name().to_owned())])
            .inc_by(retries.saturating_sub(1).into());
        Ok(())
    }
}

/// What came of a call, by the status of the store's last answer.
fn outcome(done: bool, status: Option<u16>) -> &'static str {
    match status {
        _ if done => "ok",
        // For HEAD this is an answer like any other: there is nothing at that key.
        Some(404) => "not_found",
        Some(401 | 403) => "denied",
        // A 200 can turn out to be a failure that came too late for its status.
        Some(200..=299 | 429 | 500..=599) => "busy",
        Some(_) => "refused",
        None => "unanswered",
    }
}
