//! Has the store join an upload's parts: the broker's own judgement, made once at a time, safe to ask for again.
//!
//! ```text
//! lease ─▶ [HEAD, if an earlier outcome is unknown] ─▶ ListParts ─▶ judge ─▶ Complete ─▶ HEAD ─▶ ledger
//!               └── our write token: done                  └── missing, wrong: open again     └── silent: HEAD decides
//! ```

use std::time::Duration;

use actix_web::web::Data;
use shared::api::{StoredPart, UploadState};
use shared::plan::PlanError;
use shared::{ETag, PartNumber, PartPlan};

use crate::admit::created;
use crate::app::{Broker, to_its_end};
use crate::error::ApiError;
use crate::judge::{Verdict, judge};
use crate::ledger::{By, Digests, GivenBack, Lease, LeaseOutcome, Plan, Session, StoredObject};
use crate::overwrite;
use crate::policy::Overwrite;
use crate::put_whole;
use crate::s3::{StoreError, StoreErrorKind};

/// How often the store is asked to join the parts before the caller is told to come back.
const ATTEMPTS: u32 = 3;
/// How often HEAD is asked after a Complete without an answer: about 15 s in all.
const LOOKS: u32 = 6;
/// How often the parts are listed once more where some are missing that the client has declared, and it says that all are sent:
/// a list may be late. 3.5 s in all.
const LATE_LISTS: u32 = 3;
/// Doubled before each further attempt, look or list.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// What came of asking to complete an upload.
#[derive(Debug)]
pub enum Completion {
    /// The object is there.
    Done(StoredObject),
    /// Another request is at it.
    Busy,
}

/// Who asks to complete an upload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asker {
    /// Its owner, who says by it that every part has been stored, and can send parts again.
    Owner(By),
    /// The sweeper, which says nothing.
    Sweeper,
}

impl Asker {
    /// As the trail tells it.
    fn by(&self) -> By {
        match self {
            Self::Owner(by) => by.clone(),
            Self::Sweeper => By::sweeper(),
        }
    }
}

/// Completes an upload for its owner. Asked again after success, answers the same object; `size` is needed for a growing upload only.
///
/// Runs to its end even if the caller goes away: a completion half asked for is the one thing not to leave behind.
///
/// # Errors
/// Why there is no object, and whether the upload can still be completed.
pub async fn complete(
    broker: Data<Broker>,
    session: Session,
    size: Option<u64>,
    by: By,
) -> Result<Completion, ApiError> {
    to_its_end(Box::pin(complete_here(broker, session, size, Asker::Owner(by)))).await
}

/// The same for as long as it is polled. Dropped, it leaves what a broker leaves that dies: whoever comes next takes it over.
///
/// # Errors
/// Why there is no object, and whether the upload can still be completed.
pub async fn complete_here(
    broker: Data<Broker>,
    session: Session,
    size: Option<u64>,
    asker: Asker,
) -> Result<Completion, ApiError> {
    if session.put_md5.is_some() && session.state == UploadState::Open {
        let found = put_whole::find_objects(&broker, vec![session], &asker.by())
            .await?
            .pop();
        let (_, object) = found.unwrap_or(Err(ApiError::Interrupted))?;
        return Ok(Completion::Done(object));
    }
    let completing = Completing { broker, session, asker };
    Box::pin(completing.run(size)).await
}

struct Completing {
    broker: Data<Broker>,
    session: Session,
    asker: Asker,
}

/// Where an attempt leaves the lease.
enum Leave {
    /// The store has not joined the parts: the upload is open again.
    Open,
    /// It may have: whoever comes next has to look.
    Unknown,
    /// The upload is gone, and there is no object.
    Lost,
}

impl Completing {
    async fn run(mut self, size: Option<u64>) -> Result<Completion, ApiError> {
        if let Some(object) = &self.session.object {
            return Ok(Completion::Done(object.clone()));
        }
        let plan = self.final_plan(size)?;
        let broker = self.broker.clone();
        let ledger = &broker.ledger;
        let now = broker.clock.now();
        let lease = match ledger
            .take_lease(&self.session.id, &self.broker.random_name(), size, now)
            .await?
        {
            LeaseOutcome::Taken(lease) => lease,
            LeaseOutcome::Busy => return Ok(Completion::Busy),
            LeaseOutcome::Ended(UploadState::Completed) => {
                let object = ledger.find(&self.session.id).await?.and_then(|session| session.object);
                return object.map(Completion::Done).ok_or(ApiError::NoSuchUpload);
            }
            LeaseOutcome::Ended(UploadState::Expired) => return Err(ApiError::NoSuchUpload),
            LeaseOutcome::Ended(state) => return Err(ApiError::UploadEnded(state)),
        };
        // The store's name for it may be another since it was looked up.
        self.session = ledger.find(&self.session.id).await?.ok_or(ApiError::NoSuchUpload)?;
        match self.while_held(&lease, Box::pin(self.join(&plan, &lease))).await {
            Ok(object) => {
                // The object is there whatever the ledger says now: it will be found again by its write token.
                ledger
                    .finish(&lease, &object, &self.asker.by(), self.broker.clock.now())
                    .await?;
                tracing::info!(upload = %self.session.id, key = %self.session.key, size = object.size, "upload completed");
                Ok(Completion::Done(object))
            }
            Err((error, then)) => {
                let now = self.broker.clock.now();
                let given_back = match then {
                    Leave::Unknown => {
                        ledger.leave_unknown(&lease, now).await?;
                        return Err(error);
                    }
                    Leave::Open | Leave::Lost => ledger.give_back(&lease, now).await?,
                };
                match (given_back, then) {
                    (GivenBack::Aborted, _) => {
                        self.forget_parts().await;
                        return Err(ApiError::UploadEnded(UploadState::Aborted));
                    }
                    (GivenBack::Open, Leave::Lost) => {
                        ledger
                            .abort(&self.session.id, &self.asker.by(), Some(error.code()), now)
                            .await?;
                        // One whose key is taken is still at the store, with all its parts.
                        if matches!(error, ApiError::KeyTaken { .. }) {
                            self.forget_parts().await;
                        }
                    }
                    // Whoever has taken the lease over judges for themselves.
                    (GivenBack::Open | GivenBack::NotHeld, _) => {}
                }
                Err(error)
            }
        }
    }

    /// Has the store forget an upload that is aborted.
    async fn forget_parts(&self) {
        let Some(id) = &self.session.store_upload_id else {
            return;
        };
        let Session { bucket, key, .. } = &self.session;
        if let Err(error) = self.broker.store.abort(bucket, key, id).await {
            tracing::warn!(upload = %self.session.id, %error, "the parts stay at the store until the sweeper clears them");
        }
    }

    /// The plan to judge by: a stream ends with the size that its owner now states, and that gives every part its size.
    fn final_plan(&self, size: Option<u64>) -> Result<Plan, ApiError> {
        match (self.session.plan, size) {
            (Plan::Stream(sizes), Some(size)) => {
                Ok(Plan::Sized(PartPlan::for_stream(size, sizes, self.session.reserved)?))
            }
            (Plan::Stream(_), None) => Err(ApiError::SizeNeeded),
            (Plan::Sized(plan), Some(size)) if plan.size() != size => Err(ApiError::SizeChanged {
                planned: plan.size(),
                given: size,
            }),
            (plan @ (Plan::Sized(_) | Plan::Counted { .. }), _) => Ok(plan),
        }
    }

    /// Renews the lease for as long as the work takes.
    async fn while_held<T>(&self, lease: &Lease, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(Lease::LIFE / 3) => {
                    if let Err(error) = self.broker.ledger.renew_lease(lease, self.broker.clock.now()).await {
                        tracing::warn!(upload = %lease.id, error = %error, "the lease could not be renewed");
                    }
                }
            }
        }
    }

    async fn join(&self, plan: &Plan, lease: &Lease) -> Result<StoredObject, (ApiError, Leave)> {
        let mut outcome_unknown = lease.outcome_unknown;
        let undone = |outcome_unknown| if outcome_unknown { Leave::Unknown } else { Leave::Open };
        let digests = match self.broker.ledger.digests(&self.session.id).await {
            Ok(digests) => digests,
            Err(error) => return Err((error.into(), undone(outcome_unknown))),
        };
        let mut last = ApiError::Interrupted;
        let mut suspect = Vec::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.broker.clock.pause(FIRST_PAUSE * 2_u32.pow(attempt)).await;
            }
            if outcome_unknown {
                match self.own_object(plan.size()).await {
                    Ok(Found::Own(object)) => return Ok(object),
                    Ok(Found::Wrong(error)) => return Err((error, Leave::Lost)),
                    // Where the key may not list the bucket, HEAD of what is not there is refused, not answered with 404: an
                    // upload that is still listed has not been joined.
                    Ok(Found::None)
                    | Err(StoreError {
                        kind: StoreErrorKind::Denied(_),
                        ..
                    }) => {}
                    Err(error) => {
                        last = error.into();
                        continue;
                    }
                }
            }
            match self.attempt(plan, &digests, lease).await {
                Ok(object) => return Ok(object),
                Err(Failed::For(error)) => return Err((error, undone(outcome_unknown))),
                Err(Failed::NotJoined(error)) => return Err((error, Leave::Open)),
                Err(Failed::Before(error)) => last = error.into(),
                // Once: a part was sent again after the list was made. Twice with one and the same list: the store lists a part
                // that it does not take, as Garage does after one that was damaged on its way, and which one it does not say.
                Err(Failed::Refused(_, listed)) if listed == suspect => {
                    let parts = listed.iter().map(|part| part.number).collect();
                    return Err((ApiError::PartsWrong(parts), Leave::Open));
                }
                Err(Failed::Refused(error, listed)) => {
                    suspect = listed;
                    last = error.into();
                }
                // The store has answered: it is not at it any more, and may be asked again once HEAD has found nothing.
                Err(Failed::Answered(error)) => {
                    outcome_unknown = true;
                    last = error.into();
                }
                Err(Failed::Silent(error)) => return self.wait_for_object(plan.size(), error.into()).await,
                Err(Failed::Gone) => match self.own_object(plan.size()).await {
                    Ok(Found::Own(object)) => return Ok(object),
                    Ok(Found::Wrong(error)) => return Err((error, Leave::Lost)),
                    Ok(Found::None) if outcome_unknown => return Err((ApiError::UploadLost, Leave::Lost)),
                    Ok(Found::None) => return Err(self.begin_again(plan, lease).await),
                    Err(error) => {
                        outcome_unknown = true;
                        last = error.into();
                    }
                },
                // What is there may be what an attempt before has made.
                Err(Failed::Taken) => match self.own_object(plan.size()).await {
                    Ok(Found::Own(object)) => return Ok(object),
                    Ok(Found::Wrong(error)) => return Err((error, Leave::Lost)),
                    Ok(Found::None) => {
                        let rule = self.broker.policy.overwrites(&self.session);
                        last = overwrite::key_taken(&self.session.key, rule);
                        // Whose it is that has come in between is looked up before the next try.
                        if rule != Overwrite::SameOwner {
                            return Err((last, Leave::Lost));
                        }
                    }
                    Err(error) => {
                        outcome_unknown = true;
                        last = error.into();
                    }
                },
                Err(Failed::Wrong(error)) => return Err((error, Leave::Lost)),
            }
        }
        Err((last, undone(outcome_unknown)))
    }

    /// The store has lost an upload that nobody has asked it to join: begins it there anew, for its owner to send all parts again.
    async fn begin_again(&self, plan: &Plan, lease: &Lease) -> (ApiError, Leave) {
        let Completing { broker, session, .. } = self;
        let all = ApiError::PartsMissing(PartNumber::up_to(plan.part_count().unwrap_or_default()).collect());
        let Some(lost) = session
            .store_upload_id
            .as_deref()
            .filter(|_| matches!(self.asker, Asker::Owner(_)))
        else {
            return (all, Leave::Open);
        };
        let begun = match broker.store.create_again(session).await {
            Ok(begun) => begun,
            Err(error) => return (created(error), Leave::Open),
        };
        let refused = match broker.ledger.begin_again(lease, lost, &begun).await {
            Ok(true) => {
                tracing::warn!(upload = %session.id, key = %session.key, "the store has lost an open upload; it is begun there anew");
                return (all, Leave::Open);
            }
            Ok(false) => match broker.ledger.renew_lease(lease, broker.clock.now()).await {
                Ok(true) => (ApiError::UploadLost, Leave::Lost),
                Ok(false) => (ApiError::UploadBusy, Leave::Open),
                Err(error) => (error.into(), Leave::Open),
            },
            Err(error) => (error.into(), Leave::Open),
        };
        if let Err(error) = broker.store.abort(&session.bucket, &session.key, &begun).await {
            tracing::warn!(upload = %session.id, error = %error, "an unrecorded multipart upload without parts stays behind");
        }
        refused
    }

    /// After a Complete without an answer, the store may still be at it. Asking it again meanwhile has cost data on more than
    /// one store, so this only looks; who comes after the quiet time may ask again.
    async fn wait_for_object(&self, size: Option<u64>, error: ApiError) -> Result<StoredObject, (ApiError, Leave)> {
        for look in 0..LOOKS {
            if look > 0 {
                self.broker.clock.pause(FIRST_PAUSE * 2_u32.pow(look)).await;
            }
            match self.own_object(size).await {
                Ok(Found::Own(object)) => return Ok(object),
                Ok(Found::Wrong(error)) => return Err((error, Leave::Lost)),
                Ok(Found::None) => {}
                Err(error) => tracing::debug!(error = %error, "HEAD after a Complete without an answer"),
            }
        }
        Err((error, Leave::Unknown))
    }

    /// List, judge, complete, once.
    async fn attempt(&self, plan: &Plan, digests: &Digests, lease: &Lease) -> Result<StoredObject, Failed> {
        let store = &self.broker.store;
        let mut late = 0;
        let (listed, size) = loop {
            let listed = match &self.session.store_upload_id {
                Some(id) => store.list_parts(&self.session, id).await.map_err(Failed::before)?,
                None => Vec::new(),
            };
            match judge(plan, digests, &listed, self.broker.profile.etag_is_md5) {
                Verdict::Join(size) => break (listed, size),
                Verdict::Missing(parts) if late < LATE_LISTS && self.may_be_late(&parts, digests) => {
                    late += 1;
                    self.broker.clock.pause(FIRST_PAUSE * 2_u32.pow(late)).await;
                }
                Verdict::Missing(parts) => return Err(Failed::NotJoined(ApiError::PartsMissing(parts))),
                Verdict::Wrong(parts) => return Err(Failed::NotJoined(ApiError::PartsWrong(parts))),
                Verdict::Unplanned(parts) => return Err(Failed::NotJoined(ApiError::PartsUnplanned(parts))),
            }
        };
        if size > self.session.reserved {
            let max = self.session.reserved;
            return Err(Failed::NotJoined(PlanError::TooLarge { size, max }.into()));
        }
        // What has been revoked or given up since this began shall become no object.
        match self.broker.ledger.is_to_end(&self.session.id).await {
            Ok(false) => {}
            Ok(true) => return Err(Failed::NotJoined(ApiError::UploadEnded(UploadState::Aborted))),
            Err(error) => return Err(Failed::For(error.into())),
        }
        // The store is to compare by itself, if it can.
        let only_new = match overwrite::before_complete(&self.broker, &self.session).await {
            Ok(only_new) => only_new && self.broker.profile.conditional_complete,
            Err(error @ ApiError::KeyTaken { .. }) => return Err(Failed::Wrong(error)),
            Err(error) => return Err(Failed::For(error)),
        };
        // A holder that was held up past its lease must not complete beside the next one.
        let now = self.broker.clock.now();
        let renewed = async || self.broker.ledger.renew_lease(lease, now).await;
        if !lease.is_fresh(now) && !renewed().await.map_err(|error| Failed::For(error.into()))? {
            return Err(Failed::For(ApiError::UploadBusy));
        }
        match &self.session.store_upload_id {
            Some(id) if !listed.is_empty() => {
                let etag = store
                    .complete(&self.session, id, &listed, only_new)
                    .await
                    .map_err(|error| Failed::during(error, &listed))?;
                self.confirmed(StoredObject {
                    etag,
                    size,
                    version_id: None,
                })
                .await
            }
            begun => {
                let put = store.put_empty(&self.session, only_new).await;
                put.map_err(|error| Failed::during(error, &listed))?;
                if let Some(id) = begun
                    && let Err(error) = store.abort(&self.session.bucket, &self.session.key, id).await
                {
                    tracing::warn!(upload = %self.session.id, error = %error, "a multipart upload without parts stays behind");
                }
                let empty = ETag::new(format!("\"{}\"", shared::Md5Digest::EMPTY.to_hex()));
                self.confirmed(StoredObject {
                    etag: empty,
                    size,
                    version_id: None,
                })
                .await
            }
        }
    }

    /// Whether the list may lack these parts only because it is late.
    fn may_be_late(&self, missing: &[PartNumber], digests: &Digests) -> bool {
        matches!(self.asker, Asker::Owner(_)) && missing.iter().all(|number| digests.get(*number).is_some())
    }

    /// The object as HEAD tells it. The store has said that it is there: if HEAD cannot be had, or another upload has
    /// already taken the key, what is known from completing stands.
    async fn confirmed(&self, known: StoredObject) -> Result<StoredObject, Failed> {
        match self.own_object(Some(known.size)).await {
            Ok(Found::Own(object)) => Ok(object),
            Ok(Found::Wrong(error)) => Err(Failed::Wrong(error)),
            Ok(Found::None) => {
                tracing::warn!(upload = %self.session.id, key = %self.session.key, "completed, and already overwritten or deleted");
                Ok(known)
            }
            Err(error) => {
                tracing::warn!(upload = %self.session.id, error = %error, "completed, but HEAD failed");
                Ok(known)
            }
        }
    }

    /// Whether the object at the key is this upload's, and of the right size.
    async fn own_object(&self, size: Option<u64>) -> Result<Found, StoreError> {
        let head = self.broker.store.head(&self.session.bucket, &self.session.key).await?;
        let own = head.filter(|head| head.write_token.as_ref() == Some(&self.session.write_token));
        Ok(match (own, size) {
            (None, _) => Found::None,
            (Some(head), Some(planned)) if head.object.size != planned => Found::Wrong(ApiError::ObjectWrong {
                stored: head.object.size,
                planned,
            }),
            (Some(head), _) => Found::Own(head.object),
        })
    }
}

/// What HEAD finds at an upload's key.
enum Found {
    /// The object that this upload became.
    Own(StoredObject),
    /// That object, of another size than its parts.
    Wrong(ApiError),
    /// Nothing, or another upload's object.
    None,
}

/// How one attempt failed.
enum Failed {
    /// For a reason that another attempt does not change.
    For(ApiError),
    /// The same, and whatever came before, the parts are not joined: the store still lists them, after the time that it was
    /// left in peace, or has said no.
    NotJoined(ApiError),
    /// Before the store was asked to join the parts.
    Before(StoreError),
    /// The store has not joined these parts, of which it does not take one.
    Refused(StoreError, Vec<StoredPart>),
    /// The store answered with a failure that leaves open whether it joined the parts.
    Answered(StoreError),
    /// The store was asked and has not answered: it may still be at it.
    Silent(StoreError),
    /// The store does not know the upload.
    Gone,
    /// The store was to join the parts only if nothing is at the key, and something is.
    Taken,
    /// The upload can become no object, or the wrong one has been made of it.
    Wrong(ApiError),
}

impl Failed {
    fn before(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::NoSuchUpload => Self::Gone,
            StoreErrorKind::Busy(_) | StoreErrorKind::Unknown(_) => Self::Before(error),
            StoreErrorKind::NoSuchBucket
            | StoreErrorKind::InvalidPart
            | StoreErrorKind::EntityTooSmall
            | StoreErrorKind::Denied(_)
            | StoreErrorKind::ClockSkew
            | StoreErrorKind::PreconditionFailed
            | StoreErrorKind::Refused(_) => Self::For(error.into()),
        }
    }

    fn during(error: StoreError, listed: &[StoredPart]) -> Self {
        match error.kind {
            StoreErrorKind::PreconditionFailed => Self::Taken,
            StoreErrorKind::NoSuchUpload => Self::Gone,
            StoreErrorKind::InvalidPart => Self::Refused(error, listed.to_vec()),
            StoreErrorKind::Busy(_) => Self::Answered(error),
            StoreErrorKind::Unknown(_) => Self::Silent(error),
            StoreErrorKind::NoSuchBucket
            | StoreErrorKind::EntityTooSmall
            | StoreErrorKind::Denied(_)
            | StoreErrorKind::ClockSkew
            | StoreErrorKind::Refused(_) => Self::NotJoined(error.into()),
        }
    }
}
