//! `broker webhooks`: what the receiver has not taken yet, and having it sent again.

use std::error::Error;
use std::io::Write as _;

use clap::{Args, Subcommand};
use shared::EventId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::app::Broker;
use crate::ledger::Delivery;

/// Events taken from the ledger at once.
const PAGE: u16 = 500;

/// What is to be done with the outbox.
#[derive(Debug, Args)]
pub struct Webhooks {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what is waiting to be sent, or was given up: how often it was sent, and why it was not taken
    List {
        /// One JSON object a line: instants in UTC
        #[arg(long)]
        json: bool,
    },
    /// Have events sent again by the running broker, as if for the first time: these, taken or not, or all that are dead
    Replay {
        /// Ids of events
        #[arg(value_name = "ID", required_unless_present = "dead", conflicts_with = "dead")]
        ids: Vec<EventId>,
        /// All that were given up
        #[arg(long)]
        dead: bool,
    },
}

impl Webhooks {
    /// Does what was asked.
    ///
    /// # Errors
    /// The ledger does not answer, standard output is gone, or there is no such event.
    pub async fn run(&self, broker: &Broker) -> Result<(), Box<dyn Error>> {
        match &self.command {
            Command::List { json } => list(broker, *json).await,
            Command::Replay { dead: true, .. } => {
                let replayed = broker.ledger.replay_dead(broker.clock.now()).await?;
                writeln!(std::io::stdout(), "{replayed} will be sent again")?;
                Ok(())
            }
            Command::Replay { ids, .. } => replay(broker, ids).await,
        }
    }
}

async fn list(broker: &Broker, json: bool) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    if !json {
        writeln!(
            out,
            "{:<28} {:<32} {:<9} {:>8} {:<7} {:<24} LAST ERROR",
            "EVENT", "UPLOAD", "TYPE", "ATTEMPTS", "STATE", "NEXT, OR DEAD SINCE"
        )?;
    }
    let (mut waiting, mut dead) = (0_u64, 0_u64);
    let mut last: Option<EventId> = None;
    while let page = broker.ledger.deliveries(last.as_ref(), PAGE).await?
        && let Some(end) = page.last()
    {
        last = Some(end.event_id.clone());
        for delivery in page {
            match delivery.dead_at {
                Some(_) => dead += 1,
                None => waiting += 1,
            }
            let line = if json {
                json_line(&delivery)
            } else {
                text_line(&delivery)
            };
            writeln!(out, "{line}")?;
        }
    }
    if !json {
        writeln!(out, "{waiting} waiting, {dead} dead")?;
    }
    Ok(())
}

fn json_line(delivery: &Delivery) -> String {
    serde_json::json!({
        "event_id": delivery.event_id, "upload_id": delivery.upload_id, "type": delivery.kind,
        "at": instant(delivery.at), "attempts": delivery.attempts,
        "state": state(delivery), "next_at": delivery.dead_at.is_none().then(|| instant(delivery.next_at)),
        "dead_at": delivery.dead_at.map(instant), "last_error": delivery.last_error,
    })
    .to_string()
}

fn text_line(delivery: &Delivery) -> String {
    format!(
        "{:<28} {:<32} {:<9} {:>8} {:<7} {:<24} {}",
        delivery.event_id.as_str(),
        delivery.upload_id.as_str(),
        delivery.kind.name(),
        delivery.attempts,
        state(delivery),
        instant(delivery.dead_at.unwrap_or(delivery.next_at)),
        delivery.last_error.as_deref().unwrap_or("-")
    )
}

fn state(delivery: &Delivery) -> &'static str {
    match delivery.dead_at {
        Some(_) => "dead",
        None => "waiting",
    }
}

fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

async fn replay(broker: &Broker, ids: &[EventId]) -> Result<(), Box<dyn Error>> {
    let (mut replayed, mut unknown) = (0_u64, Vec::new());
    for id in ids {
        if broker.ledger.replay(id, broker.clock.now()).await? {
            replayed += 1;
        } else {
            unknown.push(id.as_str());
        }
    }
    writeln!(std::io::stdout(), "{replayed} will be sent again")?;
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown = unknown.join(", ");
    Err(format!("the ledger has no event that is sent to webhooks of these ids: {unknown}").into())
}
