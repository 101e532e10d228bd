//! Ends what nobody ends: uploads that ran out, completions whose broker died, parts that an abort left behind.
//!
//! ```text
//! stranded ─▶ complete, by whoever takes the lease over
//! open, about to run out ─▶ put whole: look for the object │ in parts: complete, if the destination says so and all are there
//! open, run out ─▶ expired, Abort
//! aborted or expired a while ago ─▶ Abort ─▶ ListParts, in every round until nothing is left
//! ```
//!
//! Every step can be done twice and left undone, so a broker may die anywhere in it. Of those that share a ledger one at a time
//! sweeps. Uploads that the ledger does not know are somebody else's: they are only touched where the operator says so.

use std::time::Duration;

use actix_web::web::Data;
use shared::UploadId;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::app::Broker;
use crate::complete::{self, Asker, Completion};
use crate::error::ApiError;
use crate::ledger::{By, Duty, LedgerError, Session};
use crate::put_whole;
use crate::s3::{OpenAtStore, StoreError, StoreErrorKind};

/// From one round to the next.
pub const INTERVAL: Duration = Duration::from_mins(1);
/// How long before an upload runs out its parts are looked at for the last time: two rounds.
const LAST_CHANCE: Duration = Duration::from_mins(2);
/// How long after an upload's end a part may still be on its way to the store: what was begun before the end, on a slow line.
const STRAGGLE: Duration = Duration::from_mins(15);
/// Uploads taken from the ledger at once.
const PAGE: u16 = 500;
/// Calls to the store under way at once.
const AT_ONCE: usize = 8;
/// Where so many calls fail, and none does not, the store is left alone until the next round.
const ENOUGH: usize = 8;

/// What a round did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Swept {
    /// Uploads whose object is there now: their completion was taken over, or all that they needed was there.
    pub completed: u64,
    /// Open uploads that had run out.
    pub expired: u64,
    /// Ended uploads of which the store holds nothing any more.
    pub cleared: u64,
    /// What the store or the ledger did not do, and the next round tries again; the log says what.
    pub failed: u64,
}

/// What a round would do now.
#[derive(Debug)]
pub struct Due {
    /// To complete, if the store says that they can be: begun by a broker that is gone, or about to run out.
    pub completed: Vec<Session>,
    /// To expire.
    pub expired: Vec<Session>,
    /// To clear from the store.
    pub cleared: Vec<Session>,
}

/// Sweeps, in this broker's turns, for as long as it is polled: a round, a pause of `every`, the next.
pub async fn keep_sweeping(broker: Data<Broker>, every: Duration) {
    let holder = broker.random_name();
    let sweep = Sweep {
        broker: &broker,
        holder: Some(&holder),
        page: PAGE,
    };
    loop {
        tokio::time::sleep(every).await;
        match broker.ledger.take_turn(Duty::Sweep, &holder, broker.clock.now()).await {
            Ok(true) => match sweep.round().await {
                Ok(swept) if swept == Swept::default() => tracing::debug!("swept, with nothing to do"),
                Ok(swept) => tracing::info!(?swept, "swept"),
                Err(error) => tracing::warn!(error = %error, "the sweeper gave up for now"),
            },
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %error, "the sweeper cannot ask whose turn it is"),
        }
    }
}

/// Sweeps once, now, whoever's turn it is.
///
/// # Errors
/// The ledger did not answer.
pub async fn sweep_once(broker: &Data<Broker>) -> Result<Swept, ApiError> {
    let sweep = Sweep {
        broker,
        holder: None,
        page: PAGE,
    };
    sweep.round().await
}

/// What [`sweep_once`] would do now. Nothing is asked of the store.
///
/// # Errors
/// The ledger did not answer.
pub async fn due(broker: &Broker) -> Result<Due, ApiError> {
    let (ledger, now) = (&broker.ledger, broker.clock.now());
    let completed = all(async |after| ledger.stranded(now, after, PAGE).await).await?;
    let running_out = all(async |after| ledger.run_out_by(now + LAST_CHANCE, after, PAGE).await).await?;
    let (expired, soon): (Vec<_>, Vec<_>) = running_out.into_iter().partition(|session| session.expires_at <= now);
    let finished = |session: &Session| session.put_md5.is_some() || broker.policy.finishes_abandoned(session);
    Ok(Due {
        completed: completed.into_iter().chain(soon.into_iter().filter(finished)).collect(),
        expired,
        cleared: all(async |after| ledger.to_clear(now - STRAGGLE, after, PAGE).await).await?,
    })
}

/// All uploads of a list that the ledger gives page by page, each after the last of the one before.
async fn all(
    page: impl AsyncFn(Option<&UploadId>) -> Result<Vec<Session>, LedgerError>,
) -> Result<Vec<Session>, LedgerError> {
    let mut sessions: Vec<Session> = Vec::new();
    loop {
        let next = page(sessions.last().map(|session| &session.id)).await?;
        if next.is_empty() {
            return Ok(sessions);
        }
        sessions.extend(next);
    }
}

/// The multipart uploads in the bucket that the ledger does not know and that were begun before `before`.
///
/// # Errors
/// The store or the ledger did not answer.
pub async fn unknown(broker: &Broker, bucket: &str, before: OffsetDateTime) -> Result<Vec<OpenAtStore>, ApiError> {
    let (mut unknown, mut marker) = (Vec::new(), None);
    loop {
        let (page, next) = broker.store.open_uploads(bucket, marker).await?;
        let keys: Vec<_> = page.iter().map(|upload| &upload.key).collect();
        let known = broker.ledger.known(bucket, &keys).await?;
        unknown.extend(
            page.into_iter()
                .filter(|upload| upload.initiated < before && !known.contains(&upload.store_upload_id)),
        );
        marker = next;
        if marker.is_none() {
            return Ok(unknown);
        }
    }
}

/// How a round is gone about.
#[derive(Clone, Copy)]
pub struct Sweep<'a> {
    /// Whose uploads.
    pub broker: &'a Data<Broker>,
    /// Whose turn it is, if turns are taken: who has lost it ends a step after the page that is being worked on.
    pub holder: Option<&'a str>,
    /// Uploads taken from the ledger at once.
    pub page: u16,
}

impl Sweep<'_> {
    /// Takes every step once.
    ///
    /// # Errors
    /// The ledger did not answer.
    pub async fn round(&self) -> Result<Swept, ApiError> {
        let outcome = self.all_steps().await;
        self.broker.metrics.swept(&outcome, self.broker.clock.now());
        outcome
    }

    async fn all_steps(&self) -> Result<Swept, ApiError> {
        let mut swept = Swept::default();
        self.take_over(&mut swept).await?;
        self.last_chance(&mut swept).await?;
        self.expire(&mut swept).await?;
        self.clear(&mut swept).await?;
        Ok(swept)
    }

    /// Makes this turn last. Answers whether it still is one.
    async fn goes_on(&self) -> Result<bool, ApiError> {
        match self.holder {
            Some(holder) => Ok(self
                .broker
                .ledger
                .take_turn(Duty::Sweep, holder, self.broker.clock.now())
                .await?),
            None => Ok(true),
        }
    }

    /// Completes what a broker left in the middle.
    async fn take_over(&self, swept: &mut Swept) -> Result<(), ApiError> {
        let mut last: Option<UploadId> = None;
        loop {
            let now = self.broker.clock.now();
            let page = self.broker.ledger.stranded(now, last.as_ref(), self.page).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.id.clone());
            for session in page {
                self.complete(session, swept).await;
            }
            if !self.goes_on().await? {
                return Ok(());
            }
        }
    }

    /// Looks for the last time at what is about to run out.
    async fn last_chance(&self, swept: &mut Swept) -> Result<(), ApiError> {
        let until = self.broker.clock.now() + LAST_CHANCE;
        let mut last: Option<UploadId> = None;
        loop {
            let page = self.broker.ledger.run_out_by(until, last.as_ref(), self.page).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.id.clone());
            let (whole, parts): (Vec<_>, Vec<_>) = page.into_iter().partition(|session| session.put_md5.is_some());
            if !whole.is_empty() {
                // Nothing but the PUT makes such an object: where it is, only the ledger lacks it.
                match put_whole::find_objects(self.broker, whole, &By::sweeper()).await {
                    Ok(found) => swept.completed += found.iter().flatten().count() as u64,
                    Err(error) => failed(
                        swept,
                        "the objects of uploads that run out cannot be looked for",
                        &error,
                    ),
                }
            }
            for session in parts {
                // Who may not upload there any more has no object made for them.
                if self.broker.policy.finishes_abandoned(&session) && self.broker.policy.may_still_upload(&session) {
                    self.complete(session, swept).await;
                }
            }
            if !self.goes_on().await? {
                return Ok(());
            }
        }
    }

    async fn complete(&self, session: Session, swept: &mut Swept) {
        let (id, size) = (session.id.clone(), session.stated_size);
        match complete::complete_here(self.broker.clone(), session, size, Asker::Sweeper).await {
            Ok(Completion::Done(_)) => swept.completed += 1,
            Ok(Completion::Busy) => {}
            // What its owner would be told: it stays open, or has ended.
            Err(
                error @ (ApiError::PartsMissing(_)
                | ApiError::PartsWrong(_)
                | ApiError::PartsUnplanned(_)
                | ApiError::SizeNeeded
                | ApiError::NoSuchUpload
                | ApiError::UploadEnded(_)
                | ApiError::KeyTaken { .. }
                | ApiError::UploadLost),
            ) => tracing::debug!(upload = %id, error = %error, "not completed by the sweeper"),
            Err(error) => {
                tracing::warn!(upload = %id, error = %error, "the sweeper could not complete an upload");
                swept.failed += 1;
            }
        }
    }

    /// Records what has run out, and has the store forget it.
    async fn expire(&self, swept: &mut Swept) -> Result<(), ApiError> {
        let mut last: Option<UploadId> = None;
        loop {
            let now = self.broker.clock.now();
            let page = self.broker.ledger.run_out_by(now, last.as_ref(), self.page).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.id.clone());
            let mut expired = Vec::with_capacity(page.len());
            for session in page {
                if self.broker.ledger.expire(&session.id, now).await? {
                    swept.expired += 1;
                    tracing::info!(upload = %session.id, owner = session.owner, key = %session.key, "upload expired");
                    expired.push(session);
                }
            }
            // What the store does not do now, it is asked again when the stragglers' time is over.
            self.each(expired, forget, swept).await;
            if !self.goes_on().await? {
                return Ok(());
            }
        }
    }

    /// Looks whether the store has forgotten what ended a while ago, and has it do so again where it has not.
    async fn clear(&self, swept: &mut Swept) -> Result<(), ApiError> {
        let mut last: Option<UploadId> = None;
        loop {
            let until = self.broker.clock.now() - STRAGGLE;
            let page = self.broker.ledger.to_clear(until, last.as_ref(), self.page).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.id.clone());
            let (all, before) = (page.len(), swept.failed);
            swept.cleared += self.each(page, clear, swept).await;
            let store_is_down = swept.failed - before == all as u64 && all >= ENOUGH;
            if store_is_down || !self.goes_on().await? {
                return Ok(());
            }
        }
    }

    /// Does `work` to each, a few at a time; answers for how many it said yes.
    async fn each<F>(&self, sessions: Vec<Session>, work: fn(Data<Broker>, Session) -> F, swept: &mut Swept) -> u64
    where
        F: Future<Output = Result<bool, ApiError>> + Send + 'static,
    {
        let (mut running, mut sessions, mut yes) = (JoinSet::new(), sessions.into_iter(), 0);
        loop {
            while running.len() < AT_ONCE
                && let Some(session) = sessions.next()
            {
                running.spawn(work(self.broker.clone(), session));
            }
            match running.join_next().await {
                None => return yes,
                Some(Ok(Ok(said))) => yes += u64::from(said),
                Some(Ok(Err(error))) => failed(swept, "an ended upload stays at the store for now", &error),
                Some(Err(broke)) => failed(swept, "an ended upload stays at the store for now", &broke),
            }
        }
    }
}

fn failed(swept: &mut Swept, what: &str, error: &dyn std::fmt::Display) {
    swept.failed += 1;
    tracing::warn!(error = %error, "{what}");
}

/// Has the store forget an upload.
async fn forget(broker: Data<Broker>, session: Session) -> Result<bool, ApiError> {
    if let Some(store_upload_id) = &session.store_upload_id {
        broker
            .store
            .abort(&session.bucket, &session.key, store_upload_id)
            .await?;
    }
    Ok(true)
}

/// The same, and looks whether it has: a part that was on its way may have come after the first time.
async fn clear(broker: Data<Broker>, session: Session) -> Result<bool, ApiError> {
    forget(broker.clone(), session.clone()).await?;
    let gone = match &session.store_upload_id {
        None => true,
        Some(store_upload_id) => match broker.store.list_parts(&session, store_upload_id).await {
            Ok(parts) => parts.is_empty(),
            Err(StoreError {
                kind: StoreErrorKind::NoSuchUpload,
                ..
            }) => true,
            Err(error) => return Err(error.into()),
        },
    };
    if gone {
        broker.ledger.cleared(&session.id, broker.clock.now()).await?;
    }
    Ok(gone)
}
