//! Sends what is in the outbox to the webhook's receiver, at least once: what is not taken is sent again, less and less often.
//!
//! ```text
//! outbox ─▶ due ─▶ send, a few at a time ─┬─ taken ─▶ gone from the outbox
//!             ▲                           ├─ not taken ─▶ later
//!             └───────────────────────────┘     └── for the last time ─▶ dead, until an operator says otherwise
//! ```
//!
//! A broker may die anywhere in it: what it had not recorded as taken is sent again, with the same id. Of brokers that share a
//! ledger one at a time sends.

use std::time::Duration;

use actix_web::web::Data;
use tokio::task::JoinSet;

use crate::app::Broker;
use crate::ledger::{Due, Duty, LedgerError, Sent};
use crate::random::random;
use crate::webhook::{Refused, Webhook, body};

/// How often the outbox is looked into for what is due again, and for what brokers that are gone have put there.
const LOOK: Duration = Duration::from_secs(5);
/// Requests under way at once.
const AT_ONCE: usize = 16;
/// Events taken from the ledger at once: few enough to be done with before the turn is over.
const PAGE: u16 = 32;

/// How often an event is sent before it is dead: by the waits below, for half a day.
pub const ATTEMPTS: u32 = 20;
/// After the first attempt; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Longest wait by itself.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// Longest wait that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(24);

/// What a round did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Delivered {
    /// Events that were taken.
    pub taken: u64,
    /// Events that are to be sent again.
    pub later: u64,
    /// Events that were not taken for the last time.
    pub dead: u64,
}

/// Sends, in this broker's turns, for as long as it is polled; nothing where there is no receiver.
pub async fn keep_delivering(broker: Data<Broker>) {
    let Some(webhook) = broker.webhook.clone() else { return };
    let holder = Some(broker.random_name());
    let delivering = Delivering {
        broker,
        webhook,
        holder,
    };
    loop {
        match delivering.turn().await {
            Ok(()) => tokio::select! {
                () = delivering.broker.ledger.put_out_here() => {}
                () = tokio::time::sleep(LOOK) => {}
            },
            Err(error) => {
                tracing::warn!(error = %error, "no webhooks are sent for now");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Sends what is due now, whoever's turn it is; nothing where there is no receiver.
///
/// # Errors
/// The ledger did not answer; what was sent meanwhile may be sent again.
pub async fn deliver_once(broker: &Data<Broker>) -> Result<Delivered, LedgerError> {
    let Some(webhook) = broker.webhook.clone() else {
        return Ok(Delivered::default());
    };
    let delivering = Delivering {
        broker: broker.clone(),
        webhook,
        holder: None,
    };
    delivering.round().await
}

struct Delivering {
    broker: Data<Broker>,
    webhook: Webhook,
    /// Whose turn it is, if turns are taken.
    holder: Option<String>,
}

impl Delivering {
    /// A round, if there is something to send and nobody else is at it.
    async fn turn(&self) -> Result<(), LedgerError> {
        let (ledger, now) = (&self.broker.ledger, self.broker.clock.now());
        // Asked first, so that nothing is written while there is nothing to send.
        if ledger.due(now, 1).await?.is_empty() || !self.goes_on().await? {
            return Ok(());
        }
        let done = self.round().await;
        if let Some(holder) = &self.holder {
            ledger.end_turn(Duty::Deliver, holder).await?;
        }
        done.map(|delivered| tracing::debug!(?delivered, "webhooks sent"))
    }

    /// Makes this turn last. Answers whether it still is one.
    async fn goes_on(&self) -> Result<bool, LedgerError> {
        let (ledger, now) = (&self.broker.ledger, self.broker.clock.now());
        match &self.holder {
            Some(holder) => ledger.take_turn(Duty::Deliver, holder, now).await,
            None => Ok(true),
        }
    }

    async fn round(&self) -> Result<Delivered, LedgerError> {
        let mut delivered = Delivered::default();
        loop {
            let page = self.broker.ledger.due(self.broker.clock.now(), PAGE).await?;
            if page.is_empty() {
                return Ok(delivered);
            }
            self.send_all(page, &mut delivered).await?;
            if !self.goes_on().await? {
                return Ok(delivered);
            }
        }
    }

    /// Sends these, a few at a time. Those that end while others are being recorded are recorded together.
    async fn send_all(&self, page: Vec<Due>, delivered: &mut Delivered) -> Result<(), LedgerError> {
        let (mut running, mut page) = (JoinSet::new(), page.into_iter());
        loop {
            while running.len() < AT_ONCE
                && let Some(due) = page.next()
            {
                running.spawn(attempt(self.broker.clone(), self.webhook.clone(), due));
            }
            let Some(first) = running.join_next().await else {
                return Ok(());
            };
            let mut ended = vec![first];
            ended.extend(std::iter::from_fn(|| running.try_join_next()));
            let mut sent = Vec::with_capacity(ended.len());
            for end in ended {
                sent.push(end.map_err(|_| LedgerError::GivenUp)??);
            }
            self.broker.ledger.settle(&sent).await?;
            for (_, sent) in &sent {
                match sent {
                    Sent::Taken => delivered.taken += 1,
                    Sent::Later { .. } => delivered.later += 1,
                    Sent::Dead { .. } => delivered.dead += 1,
                }
            }
        }
    }
}

/// Sends one event, and says what is to become of it.
async fn attempt(broker: Data<Broker>, webhook: Webhook, due: Due) -> Result<(Due, Sent), LedgerError> {
    let Err(refused) = send(&broker, &webhook, &due).await? else {
        return Ok((due, Sent::Taken));
    };
    let (now, failed) = (broker.clock.now(), due.attempts.saturating_add(1));
    let Refused { why, retry_after } = refused;
    let sent = if failed < ATTEMPTS {
        tracing::info!(event = %due.id, attempts = failed, error = why, "a webhook was not taken; it is sent again later");
        Sent::Later {
            next_at: now + wait(failed, u8::from_be_bytes(random()), retry_after),
            error: why,
        }
    } else {
        tracing::warn!(event = %due.id, attempts = failed, error = why, "a webhook was never taken; broker webhooks replay sends it again");
        Sent::Dead { at: now, error: why }
    };
    Ok((due, sent))
}

/// What cannot be told is refused like what is not taken, so that it does not hold up all others.
async fn send(broker: &Broker, webhook: &Webhook, due: &Due) -> Result<Result<(), Refused>, LedgerError> {
    let told = async {
        let Some((upload, event)) = broker.ledger.event(&due.id).await? else {
            return Ok(None);
        };
        let session = broker.ledger.find(&upload).await?;
        Ok(session.map(|session| body(&event, &session)))
    };
    let lost = |why: String| Refused { why, retry_after: None };
    match told.await {
        Ok(Some(body)) => Ok(webhook.send(&due.id, broker.clock.now(), body).await),
        Ok(None) => Ok(Err(lost("the ledger no longer has the event's upload".to_owned()))),
        Err(error @ LedgerError::Row { .. }) => Ok(Err(lost(error.to_string()))),
        Err(error) => Err(error),
    }
}

/// How long to wait after so many failed attempts: doubled each time, up to a fifth longer by `chance`, so that those who
/// failed together do not come back together; and as long as the receiver asks for.
fn wait(failed: u32, chance: u8, retry_after: Option<Duration>) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
    let usual = doubled.min(LONGEST_WAIT);
    let longer = usual / 5 * u32::from(chance) / u32::from(u8::MAX);
    (usual + longer).max(retry_after.unwrap_or_default().min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_sent_for_half_a_day_and_no_more_often_than_the_receiver_asks() {
        let all = |chance| (1..ATTEMPTS).map(|failed| wait(failed, chance, None)).sum::<Duration>();
        assert!(all(0) > Duration::from_hours(10), "{:?}", all(0));
        assert!(all(255) < Duration::from_hours(13), "{:?}", all(255));
        let seconds = [1, 2, 3, 11, 19, 99].map(|failed| wait(failed, 0, None).as_secs());
        assert_eq!(seconds, [5, 10, 20, 3600, 3600, 3600]);
        let asked = |seconds| wait(1, 255, Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!([asked(1), asked(60), asked(1 << 40)], [6, 60, 24 * 60 * 60]);
    }
}
