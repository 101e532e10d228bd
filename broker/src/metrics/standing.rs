//! How things stand: what is looked up when Prometheus asks, and for it alone.

use std::time::{Duration, Instant};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Label;
use crate::app::Broker;
use crate::ledger::LedgerError;
use crate::s3::StoreError;

/// Whoever asks more often is told the same again.
const FRESH: Duration = Duration::from_secs(10);
/// How long what `/readyz` found is told again, for whoever asks next.
const READY_FRESH: Duration = Duration::from_millis(500);
/// How long ledger and store are waited for: who asks after readiness often gives up after two seconds.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A store clock further off than this makes signatures that other parties refuse.
const MAX_CLOCK_DIFFERENCE_SECONDS: i64 = 60;

/// What was found at the last look.
#[derive(Debug, Default)]
pub(super) struct Standing {
    looked: Mutex<Option<Instant>>,
    checked: Mutex<Option<(Instant, Checks)>>,
    ready: Family<Label, Gauge>,
    uploads: Family<Label, Gauge>,
    webhooks: Family<Label, Gauge>,
    connections: Family<Label, Gauge>,
    max_connections: Gauge,
    store_clock_ahead: Gauge,
}

impl Standing {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "ready",
            "1 where what /readyz asks of this is well, else 0",
            self.ready.clone(),
        );
        registry.register(
            "uploads",
            "Uploads in the ledger that need something yet",
            self.uploads.clone(),
        );
        registry.register("webhooks", "Events in the webhook's outbox", self.webhooks.clone());
        registry.register(
            "ledger_connections",
            "Connections to the ledger's database, but for the one that a SQLite file is written by",
            self.connections.clone(),
        );
        registry.register(
            "ledger_connections_max",
            "Most connections to the ledger's database",
            self.max_connections.clone(),
        );
        registry.register_with_unit(
            "store_clock_ahead",
            "How far the store's clock is ahead of this machine's; 0 while they agree within 5 s",
            Unit::Seconds,
            self.store_clock_ahead.clone(),
        );
    }

    /// Looks whether the broker is ready; or, since anybody may ask as often as they like, what was found less than
    /// [`READY_FRESH`] ago.
    pub(super) async fn checks(&self, broker: &Broker) -> Checks {
        let mut checked = self.checked.lock().await;
        if let Some((at, found)) = &*checked
            && at.elapsed() < READY_FRESH
        {
            return Checks {
                // Known without asking anybody.
                clock: clock(broker),
                ..found.clone()
            };
        }
        let found = checks(broker).await;
        *checked = Some((Instant::now(), found.clone()));
        found
    }

    /// Looks again, if the last time is a while ago.
    pub(super) async fn look(&self, broker: &Broker) {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        // Before anything of this look's own takes a connection.
        let (idle, open, max) = broker.ledger.connections();
        for (state, count) in [("idle", idle), ("busy", open.saturating_sub(idle))] {
            self.connections.get_or_create(&[("state", state)]).set(count.into());
        }
        self.max_connections.set(max.into());
        let (checks, counts) = tokio::join!(self.checks(broker), timeout(PATIENCE, broker.ledger.counts()));
        for (check, outcome) in [
            ("ledger", &checks.ledger),
            ("store", &checks.store),
            ("clock", &checks.clock),
        ] {
            self.ready
                .get_or_create(&[("check", check)])
                .set(outcome.is_ok().into());
        }
        self.store_clock_ahead.set(broker.clock.store_ahead());
        if let Ok(Ok(counts)) = counts {
            for (state, count) in [
                ("open", counts.open),
                ("completing", counts.completing),
                ("clearing", counts.clearing),
            ] {
                self.uploads.get_or_create(&[("state", state)]).set(count);
            }
            for (state, count) in [("pending", counts.pending), ("dead", counts.dead)] {
                self.webhooks.get_or_create(&[("state", state)]).set(count);
            }
        } else {
            // What is not known is not told, rather than told as it was.
            self.uploads.clear();
            self.webhooks.clear();
        }
        *looked = Some(Instant::now());
    }
}

/// What a broker cannot do without, each with what is wrong with it.
#[derive(Clone, Debug)]
pub struct Checks {
    /// The ledger answers.
    pub ledger: Result<(), String>,
    /// The store answers, and the bucket is there.
    pub store: Result<(), String>,
    /// The clock can be trusted.
    pub clock: Result<(), String>,
}

/// Looks at all of it, and waits for none of it for long.
async fn checks(broker: &Broker) -> Checks {
    let late = |what: &str| {
        let waited = PATIENCE.as_secs_f32();
        Err(format!("{what} did not answer within {waited} s"))
    };
    let ledger = async {
        match timeout(PATIENCE, broker.ledger.ping()).await {
            Ok(answered) => answered.map_err(|error: LedgerError| error.to_string()),
            Err(_) => late("the ledger"),
        }
    };
    let store = async {
        let all = async {
            for bucket in broker.policy.buckets() {
                broker.store.check_bucket(bucket).await?;
            }
            Ok(())
        };
        match timeout(PATIENCE, all).await {
            Ok(answered) => answered.map_err(|error: StoreError| error.to_string()),
            Err(_) => late("the store"),
        }
    };
    let (ledger, store) = tokio::join!(ledger, store);
    let clock = clock(broker);
    Checks { ledger, store, clock }
}

fn clock(broker: &Broker) -> Result<(), String> {
    match broker.clock.store_ahead() {
        ahead if ahead.abs() > MAX_CLOCK_DIFFERENCE_SECONDS => Err(format!(
            "the store's clock is {ahead} s ahead of this machine's; set the clock by NTP"
        )),
        _ => Ok(()),
    }
}
