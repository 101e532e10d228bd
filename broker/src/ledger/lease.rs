//! Who may complete an upload: one request at a time, for a bounded time, on however many brokers share the ledger.
//!
//! ```text
//! open ──take──▶ completing ──finish──▶ completed
//!   ▲                │  ▲
//!   └───give back────┘  └─take over, once the lease has run out (holder died, or left it with an unknown outcome)
//! ```

use std::time::{Duration, Instant};

use shared::UploadId;
use shared::api::{EventKind, UploadState};
use sqlx::Row;
use time::OffsetDateTime;

use super::events::{self, By, NewEvent};
use super::quota::settle;
use super::session::{StoredObject, state};
use super::{ABORT, Ledger, LedgerError, millis};

/// The right to complete one upload, until it runs out.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The upload.
    pub id: UploadId,
    /// Random name of the holder.
    holder: String,
    /// When it was asked for, by two clocks: one may be set, and the other stand still with the machine.
    asked_at: (OffsetDateTime, Instant),
    /// Whether an earlier holder may have had the store join the parts already.
    pub outcome_unknown: bool,
}

/// The answer to asking for a lease.
#[derive(Debug)]
pub enum LeaseOutcome {
    /// The asker may go on.
    Taken(Lease),
    /// Somebody else is at it.
    Busy,
    /// Nothing is left to complete: the state says why.
    Ended(UploadState),
}

/// What came of giving a lease back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GivenBack {
    /// The upload is open again.
    Open,
    /// It is aborted: the token or ticket that it was created by does not hold any more, or somebody has asked for that.
    Aborted,
    /// Somebody else has taken the lease over, or the upload has ended.
    NotHeld,
}

impl Lease {
    /// How long a lease holds unless it is renewed.
    pub const LIFE: Duration = Duration::from_secs(30);
    /// How often an upload that the store loses is begun there anew: more is a store that keeps nothing.
    pub const BEGUN_AGAIN: i64 = 3;

    /// Whether it has most of its time still before it, without asking the ledger.
    pub fn is_fresh(&self, now: OffsetDateTime) -> bool {
        let (asked_at, instant) = self.asked_at;
        asked_at <= now && now - asked_at < Self::LIFE / 3 && instant.elapsed() < Self::LIFE / 3
    }
}

impl Ledger {
    /// Asks for the right to complete an upload. `holder` must be unique to the asker; `size` is what the owner of a stream
    /// says that it came to, which whoever takes the lease over goes by.
    ///
    /// # Errors
    /// The database did not answer. A lease that was taken all the same runs out by itself.
    pub async fn take_lease(
        &self,
        id: &UploadId,
        holder: &str,
        size: Option<u64>,
        now: OffsetDateTime,
    ) -> Result<LeaseOutcome, LedgerError> {
        self.forget(id);
        let asked_at = (now, Instant::now());
        let lease_time = self.database.lease_time(&self.pool, now).await?;
        // Taken while open, or taken over from a holder whose time has run out.
        let statements = [
            (
                "UPDATE uploads SET state = 'completing', lease_holder = $2, lease_until = $3, \
                 stated_size = COALESCE($5, stated_size) WHERE id = $1 AND state = 'open' AND expires_at > $4",
                false,
                now,
            ),
            (
                "UPDATE uploads SET lease_holder = $2, lease_until = $3, stated_size = COALESCE($5, stated_size) \
                 WHERE id = $1 AND state = 'completing' AND lease_until <= $4",
                true,
                lease_time,
            ),
        ];
        let mut writing = self.begin().await?;
        for (statement, outcome_unknown, at) in statements {
            let taken = sqlx::query(statement)
                .bind(id.as_str())
                .bind(holder)
                .bind(millis(lease_time + Lease::LIFE))
                .bind(millis(at))
                .bind(size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)))
                .execute(&mut *writing)
                .await?;
            if taken.rows_affected() == 1 {
                writing.commit().await?;
                return Ok(LeaseOutcome::Taken(Lease {
                    id: id.clone(),
                    holder: holder.to_owned(),
                    asked_at,
                    outcome_unknown,
                }));
            }
        }
        let row = sqlx::query("SELECT state FROM uploads WHERE id = $1")
            .bind(id.as_str())
            .fetch_one(&mut *writing)
            .await?;
        writing.commit().await?;
        Ok(match state(id.as_str(), row.try_get("state")?)? {
            UploadState::Completing => LeaseOutcome::Busy,
            // Neither statement above matched: an open upload is one that has expired.
            UploadState::Open | UploadState::Expired => LeaseOutcome::Ended(UploadState::Expired),
            ended @ (UploadState::Completed | UploadState::Aborted) => LeaseOutcome::Ended(ended),
        })
    }

    /// Holds a lease for longer. Answers whether it was still held.
    ///
    /// # Errors
    /// The database did not answer; the lease may run out.
    pub async fn renew_lease(&self, lease: &Lease, now: OffsetDateTime) -> Result<bool, LedgerError> {
        let lease_time = self.database.lease_time(&self.pool, now).await?;
        self.hold_until(lease, lease_time + Lease::LIFE).await
    }

    /// Gives a lease back: the upload is open again, since the store has not joined its parts. One whose token or ticket was
    /// revoked meanwhile, or that somebody wanted to abort, is aborted instead: they could not end it then.
    ///
    /// # Errors
    /// The database did not answer; the lease runs out by itself.
    pub async fn give_back(&self, lease: &Lease, now: OffsetDateTime) -> Result<GivenBack, LedgerError> {
        let mut writing = self.begin().await?;
        let ends = self.why_to_end(&mut writing, &lease.id).await?;
        let given_back = sqlx::query(
            "UPDATE uploads SET state = 'open', lease_until = NULL \
             WHERE id = $1 AND state = 'completing' AND lease_holder = $2",
        )
        .bind(lease.id.as_str())
        .bind(lease.holder.as_str())
        .execute(&mut *writing)
        .await?;
        let outcome = match (given_back.rows_affected(), ends) {
            (0, _) => GivenBack::NotHeld,
            (_, None) => GivenBack::Open,
            (_, Some((by, reason))) => {
                let event = events::aborted(&lease.id, &by, reason, now);
                self.end_within(&mut writing, ABORT, event).await?;
                GivenBack::Aborted
            }
        };
        writing.commit().await?;
        if outcome == GivenBack::Aborted {
            self.forget(&lease.id);
            self.has_ended(EventKind::Aborted);
        }
        Ok(outcome)
    }

    /// Leaves a lease whose outcome is not known: the next one to complete finds out, but not before the store has had the
    /// time of a lease to end what it may still be doing.
    ///
    /// # Errors
    /// The database did not answer; the lease runs out by itself, which comes to the same.
    pub async fn leave_unknown(&self, lease: &Lease, now: OffsetDateTime) -> Result<bool, LedgerError> {
        let lease_time = self.database.lease_time(&self.pool, now).await?;
        self.hold_until(lease, lease_time + Lease::LIFE).await
    }

    async fn hold_until(&self, lease: &Lease, until: OffsetDateTime) -> Result<bool, LedgerError> {
        let mut writing = self.begin().await?;
        let done = sqlx::query(
            "UPDATE uploads SET lease_until = $3 WHERE id = $1 AND state = 'completing' AND lease_holder = $2",
        )
        .bind(lease.id.as_str())
        .bind(lease.holder.as_str())
        .bind(millis(until))
        .execute(&mut *writing)
        .await?;
        writing.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that the upload, which the store had lost under its name `lost`, was begun there anew as `begun`. Answers whether
    /// it did: only for the lease's holder, and at most [`Lease::BEGUN_AGAIN`] times for one upload.
    ///
    /// # Errors
    /// The database did not answer; the upload is as it was.
    pub async fn begin_again(&self, lease: &Lease, lost: &str, begun: &str) -> Result<bool, LedgerError> {
        self.forget(&lease.id);
        let mut writing = self.begin().await?;
        let done = sqlx::query(
            "UPDATE uploads SET store_upload_id = $4, begun_again = begun_again + 1 WHERE id = $1 AND state = 'completing' \
             AND lease_holder = $2 AND store_upload_id = $3 AND begun_again < $5",
        )
        .bind(lease.id.as_str())
        .bind(lease.holder.as_str())
        .bind(lost)
        .bind(begun)
        .bind(Lease::BEGUN_AGAIN)
        .execute(&mut *writing)
        .await?;
        writing.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records the object. What was declared for its parts is no longer needed.
    ///
    /// Any holder may do this, even one whose lease has run out: the object is there. The first one counts.
    ///
    /// # Errors
    /// The database did not answer; the next one to complete finds the object by its write token.
    pub async fn finish(
        &self,
        lease: &Lease,
        object: &StoredObject,
        by: &By,
        now: OffsetDateTime,
    ) -> Result<(), LedgerError> {
        let mut writing = self.begin().await?;
        let finished = sqlx::query(
            "UPDATE uploads SET state = 'completed', resume_key = NULL, lease_holder = NULL, lease_until = NULL, \
             etag = $2, object_size = $3, version_id = $4 WHERE id = $1 AND state <> 'completed'",
        )
        .bind(lease.id.as_str())
        .bind(object.etag.as_str())
        .bind(i64::try_from(object.size).unwrap_or(i64::MAX))
        .bind(object.version_id.as_deref())
        .execute(&mut *writing)
        .await?;
        if finished.rows_affected() == 0 {
            return writing.commit().await;
        }
        settle(&mut writing, &[&lease.id]).await?;
        sqlx::query("UPDATE events SET digests = NULL WHERE upload_id = $1 AND digests IS NOT NULL")
            .bind(lease.id.as_str())
            .execute(&mut *writing)
            .await?;
        let event = NewEvent {
            upload: &lease.id,
            kind: EventKind::Completed,
            at: now,
            by,
            detail: events::completed(object),
            declared: None,
        };
        self.add_events(&mut writing, &[event]).await?;
        writing.commit().await?;
        self.series.ended(EventKind::Completed, 1, object.size);
        self.ring();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_fresh_for_a_third_of_its_life_by_both_clocks() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let third = Lease::LIFE / 3;
        let of = |asked_at| Lease {
            id: UploadId::from_random([7; 24]),
            holder: "holder".to_owned(),
            asked_at: (now, asked_at),
            outcome_unknown: false,
        };
        let lease = of(Instant::now());
        assert!(lease.is_fresh(now));
        assert!(lease.is_fresh(now + third - Duration::from_millis(1)));
        assert!(!lease.is_fresh(now + third));
        assert!(
            !lease.is_fresh(now - Duration::from_millis(1)),
            "the clock was set back"
        );
        // The clock was set back by as much as has passed.
        let passed = |time| of(Instant::now().checked_sub(time).unwrap());
        assert!(passed(third / 2).is_fresh(now));
        assert!(!passed(third).is_fresh(now));
    }
}
