//! What one broker at a time does for all that share the ledger: whose turn it is, by compare-and-set, for a bounded time.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Ledger, LedgerError, millis};

/// Something that one broker at a time does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Duty {
    /// Ending what has run out.
    Sweep,
    /// Sending what is in the outbox.
    Deliver,
}

impl Duty {
    /// How long a turn lasts unless it is taken again. A broker that dies in its turn holds the others up for so long.
    pub fn turn(self) -> Duration {
        match self {
            Self::Sweep => Duration::from_mins(2),
            Self::Deliver => Duration::from_secs(30),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Deliver => "deliver",
        }
    }
}

impl Ledger {
    /// Takes a turn, or makes the one that `holder` has last longer. Answers whether it is `holder`'s turn now.
    ///
    /// # Errors
    /// The database did not answer; a turn that was taken all the same runs out by itself.
    pub async fn take_turn(&self, duty: Duty, holder: &str, now: OffsetDateTime) -> Result<bool, LedgerError> {
        let now = self.database.lease_time(&self.pool, now).await?;
        let mut writing = self.begin().await?;
        let taken = sqlx::query(
            "INSERT INTO duties (name, holder, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
             SET holder = excluded.holder, until = excluded.until \
             WHERE duties.holder = excluded.holder OR duties.until <= $4",
        )
        .bind(duty.name())
        .bind(holder)
        .bind(millis(now + duty.turn()))
        .bind(millis(now))
        .execute(&mut *writing)
        .await?;
        writing.commit().await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Ends a turn early, if it still is `holder`'s.
    ///
    /// # Errors
    /// The database did not answer; the turn runs out by itself.
    pub async fn end_turn(&self, duty: Duty, holder: &str) -> Result<(), LedgerError> {
        let mut writing = self.begin().await?;
        sqlx::query("DELETE FROM duties WHERE name = $1 AND holder = $2")
            .bind(duty.name())
            .bind(holder)
            .execute(&mut *writing)
            .await?;
        writing.commit().await
    }
}
