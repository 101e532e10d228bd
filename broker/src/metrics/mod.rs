//! What the operator's Prometheus reads: what this broker has done since it started, and how things stand.
//!
//! ```text
//! requests (app::tell), store calls (an SDK interceptor), ledger, signer, sweeper ─▶ counted where it happens ─┐
//! ledger and store, looked at when asked, every ten seconds at most ─▶ standing ──────────────────────────────┴─▶ GET /metrics
//! ```
//!
//! Labels are words of this program: route patterns, operations, codes. No path, key, id or name of anybody is among them, so
//! that there are as many series after a year as after a day.

mod standing;
mod store_calls;

use std::time::Duration;

use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use shared::api::EventKind;
use time::OffsetDateTime;

pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
pub use standing::Checks;
pub(crate) use store_calls::Counted;
pub use store_calls::StoreCalls;

use self::standing::Standing;
use crate::app::Broker;
use crate::edge::connections::ConnectionSeries;
use crate::edge::tls::CertificateSeries;
use crate::error::ApiError;
use crate::sweep::Swept;

/// One label and its value.
type Label = [(&'static str, &'static str); 1];
/// Histograms by labels.
type Timed<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// From half a millisecond, below which nothing is worth a look, to the time that a store is given to join parts.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// Route pattern, method, and class of the status.
type RequestLabels = [(&'static str, String); 3];

/// All series of one broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Timed<RequestLabels>,
    problems: Family<Label, Counter>,
    urls_signed: Family<Label, Counter>,
    sweeper: SweeperSeries,
    standing: Standing,
    connections: ConnectionSeries,
    certificate: CertificateSeries,
}

/// What is counted where the ledger commits. Cloning shares it.
#[derive(Clone, Debug)]
pub struct LedgerSeries {
    ended: Family<Label, Counter>,
    completed_bytes: Counter,
    /// How long changes waited for their turn.
    waits: Histogram,
}

impl Default for LedgerSeries {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            completed_bytes: Counter::default(),
            waits: seconds(),
        }
    }
}

impl LedgerSeries {
    /// Takes note of uploads that have ended so, and of the bytes of their objects where there are any.
    pub fn ended(&self, kind: EventKind, uploads: u64, bytes: u64) {
        self.ended.get_or_create(&[("kind", kind.name())]).inc_by(uploads);
        self.completed_bytes.inc_by(bytes);
    }

    /// Takes note that a change waited so long before it could begin.
    pub fn waited(&self, time: Duration) {
        self.waits.observe(time.as_secs_f64());
    }
}

/// What kind of URL was signed.
#[derive(Clone, Copy, Debug)]
pub enum Signed {
    /// For a part of an upload.
    Part,
    /// For a small file that goes up whole.
    Object,
    /// For an object to be read.
    Download,
}

#[derive(Debug, Default)]
struct SweeperSeries {
    runs: Family<Label, Counter>,
    uploads: Family<Label, Counter>,
    last_success: Gauge,
}

impl Metrics {
    /// The series of a broker that starts now, with what its ledger and its calls to the store count already.
    pub fn new(ledger: &LedgerSeries, store: &StoreCalls, now: OffsetDateTime) -> Self {
        let mut registry = Registry::default();
        let (requests, problems, urls_signed) = (
            Timed::new_with_constructor(seconds as fn() -> Histogram),
            Family::<Label, Counter>::default(),
            Family::<Label, Counter>::default(),
        );
        let (sweeper, standing) = (SweeperSeries::default(), Standing::default());
        // There from the beginning, so that the first of them is a rise and not a birth.
        for kind in [EventKind::Completed, EventKind::Aborted, EventKind::Expired] {
            ledger.ended(kind, 0, 0);
        }
        for kind in [Signed::Part, Signed::Object, Signed::Download] {
            urls_signed.get_or_create(&[("kind", kind.name())]).inc_by(0);
        }
        for outcome in ["ok", "failed"] {
            sweeper.runs.get_or_create(&[("outcome", outcome)]).inc_by(0);
        }
        sweeper.count(&Swept::default());

        registry.register(
            "process_start_time_seconds",
            "When this process started, in seconds since 1970",
            ConstGauge::new(now.unix_timestamp()),
        );
        let of_broker = registry.sub_registry_with_prefix("broker");
        of_broker.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        of_broker.register_with_unit(
            "request_duration",
            "Requests, from head to the head of the answer",
            Unit::Seconds,
            requests.clone(),
        );
        of_broker.register(
            "problems",
            "Refusals and failures told, by their code",
            problems.clone(),
        );
        of_broker.register("urls_signed", "URLs handed out", urls_signed.clone());
        of_broker.register(
            "uploads_ended",
            "Uploads that this broker has ended, by how",
            ledger.ended.clone(),
        );
        of_broker.register_with_unit(
            "completed",
            "Bytes of the objects that uploads became",
            Unit::Bytes,
            ledger.completed_bytes.clone(),
        );
        of_broker.register_with_unit(
            "ledger_wait",
            "How long a change of the ledger waited for its turn or for a connection",
            Unit::Seconds,
            ledger.waits.clone(),
        );
        of_broker.register(
            "sweeper_runs",
            "Rounds of the sweeper on this broker",
            sweeper.runs.clone(),
        );
        of_broker.register(
            "sweeper_uploads",
            "What those rounds did, and what they did not manage",
            sweeper.uploads.clone(),
        );
        of_broker.register(
            "sweeper_last_success_timestamp_seconds",
            "When a round last went through on this broker, in seconds since 1970; 0 before that",
            sweeper.last_success.clone(),
        );
        let connections = ConnectionSeries::default();
        of_broker.register(
            "connections",
            "Connections of clients that are open",
            connections.open.clone(),
        );
        of_broker.register(
            "connections_refused",
            "Connections ended at once, since their address had too many",
            connections.refused.clone(),
        );
        let certificate = CertificateSeries::default();
        certificate.register(of_broker);
        store.register(of_broker);
        standing.register(of_broker);
        Self {
            registry,
            requests,
            problems,
            urls_signed,
            sweeper,
            standing,
            connections,
            certificate,
        }
    }

    /// Whether the broker is ready, as of half a second ago at most.
    pub async fn checks(&self, broker: &Broker) -> Checks {
        self.standing.checks(broker).await
    }

    /// Where the end of the certificate is told.
    pub fn certificate(&self) -> CertificateSeries {
        self.certificate.clone()
    }

    /// Where connections are counted.
    pub fn connections(&self) -> ConnectionSeries {
        self.connections.clone()
    }

    /// Takes note of a request that was answered. `route` is its pattern, never its path.
    pub fn request(&self, route: Option<String>, method: &str, status: u16, time: Duration) {
        let method = match method {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
            _ => "other",
        };
        let labels = [
            ("route", route.unwrap_or_else(|| "none".to_owned())),
            ("method", method.to_owned()),
            ("status", format!("{}xx", status / 100)),
        ];
        self.requests.get_or_create(&labels).observe(time.as_secs_f64());
    }

    /// Takes note of a failure that somebody was told.
    pub fn problem(&self, failure: &ApiError) {
        self.problems.get_or_create(&[("code", failure.code())]).inc();
    }

    /// Takes note of URLs that were signed.
    pub fn signed(&self, kind: Signed, urls: usize) {
        self.urls_signed
            .get_or_create(&[("kind", kind.name())])
            .inc_by(urls as u64);
    }

    /// Takes note of a round of the sweeper.
    pub fn swept(&self, outcome: &Result<Swept, ApiError>, now: OffsetDateTime) {
        let word = match outcome {
            Ok(swept) => {
                self.sweeper.count(swept);
                self.sweeper.last_success.set(now.unix_timestamp());
                "ok"
            }
            Err(_) => "failed",
        };
        self.sweeper.runs.get_or_create(&[("outcome", word)]).inc();
    }
}

impl Signed {
    fn name(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::Object => "object",
            Self::Download => "download",
        }
    }
}

impl SweeperSeries {
    fn count(&self, swept: &Swept) {
        let Swept {
            completed,
            expired,
            cleared,
            failed,
        } = *swept;
        for (outcome, uploads) in [
            ("completed", completed),
            ("expired", expired),
            ("cleared", cleared),
            ("failed", failed),
        ] {
            self.uploads.get_or_create(&[("outcome", outcome)]).inc_by(uploads);
        }
    }
}

/// What `/metrics` prints.
pub async fn print(broker: &Broker) -> String {
    broker.metrics.standing.look(broker).await;
    let mut text = String::new();
    // Writing to a text does not fail.
    _ = encode(&mut text, &broker.metrics.registry);
    text
}
