//! How changes are committed.
//!
//! PostgreSQL takes many transactions at once. SQLite has one writer, and each of its commits waits for the disk, as long for one
//! change as for many. So there the changes of this process go through one connection, one after the other, and those that arrive
//! while a commit is under way share the next:
//!
//! ```text
//! BEGIN ─▶ change ─▶ change ─▶ change ─▶ COMMIT ─▶ all three are answered
//!            │ each after a savepoint, back to which the next one goes if this one was not ended by `commit`
//! ```

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor, Transaction};
use tokio::sync::{OwnedMappedMutexGuard, OwnedMutexGuard, watch};

use super::database::Database;
use super::{Ledger, LedgerError};

/// How long a change waits for its turn.
const PATIENCE: Duration = Duration::from_secs(8);

/// The changes of this process that share a transaction.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Not of the pool: one that is dropped in the middle is closed, which rolls back.
    idle: Option<AnyConnection>,
    open: Option<Open>,
}

/// A transaction that is not yet committed.
#[derive(Debug)]
pub(super) struct Open {
    connection: AnyConnection,
    /// What its commit came to, once it has.
    outcome: watch::Sender<Option<bool>>,
    /// Whether the last change was ended by [`Writing::commit`].
    ended: bool,
}

/// A change that is being made. It is made once [`Writing::commit`] says so, and not at all if that is never asked.
pub(super) enum Writing {
    /// In a transaction of its own.
    Alone(Transaction<'static, Any>),
    /// In the one of its group; the next one waits.
    InTurn(OwnedMappedMutexGuard<Group, Open>),
}

impl Ledger {
    /// Begins a change, which may read what it goes by first.
    ///
    /// # Errors
    /// The database did not answer, or the change did not get its turn in time.
    pub(super) async fn begin(&self) -> Result<Writing, LedgerError> {
        let asked = Instant::now();
        let begun = self.turn().await;
        self.series.waited(asked.elapsed());
        begun
    }

    async fn turn(&self) -> Result<Writing, LedgerError> {
        if self.database == Database::Postgres {
            return Ok(Writing::Alone(self.pool.begin().await?));
        }
        let (group, pool) = (Arc::clone(&self.group), self.pool.clone());
        // Tasks of their own, which go on if the request is dropped in the middle: others share what they do.
        let entering = tokio::spawn(async move {
            let mut turn = Arc::clone(&group).lock_owned().await;
            if turn.enter(&pool).await? {
                // It waits behind those who wait already, and before all who come later: their changes are what it commits.
                tokio::spawn(async move { group.lock_owned().await.commit().await });
            }
            Ok::<_, sqlx::Error>(turn)
        });
        let entered = tokio::time::timeout(PATIENCE, entering).await;
        let entered = entered.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let group = entered.map_err(|_| LedgerError::GivenUp)??;
        match OwnedMutexGuard::try_map(group, |group| group.open.as_mut()) {
            Ok(open) => Ok(Writing::InTurn(open)),
            Err(_) => Err(LedgerError::GivenUp),
        }
    }
}

impl Group {
    /// Makes ready for the next change. Answers whether it is the first of a transaction.
    async fn enter(&mut self, pool: &AnyPool) -> Result<bool, sqlx::Error> {
        if let Some(open) = &mut self.open {
            match open
                .step("RELEASE change; SAVEPOINT change", "ROLLBACK TO change")
                .await
            {
                Ok(()) => {
                    open.ended = false;
                    return Ok(false);
                }
                // SQLite ends a transaction by itself where it cannot go on, on a full disk for one.
                Err(error) => self.give_up(&error),
            }
        }
        let mut connection = match self.idle.take() {
            Some(connection) => connection,
            None => pool.acquire().await?.detach(),
        };
        connection.execute("BEGIN IMMEDIATE; SAVEPOINT change").await?;
        self.open = Some(Open {
            connection,
            outcome: watch::Sender::default(),
            ended: false,
        });
        Ok(true)
    }

    async fn commit(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        match open.step("COMMIT", "ROLLBACK TO change; COMMIT").await {
            Ok(()) => {
                if let Some(open) = self.open.take() {
                    open.outcome.send_replace(Some(true));
                    self.idle = Some(open.connection);
                }
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Nothing of this transaction is recorded.
    fn give_up(&mut self, error: &sqlx::Error) {
        if let Some(open) = self.open.take() {
            tracing::error!(%error, "the ledger did not commit");
            open.outcome.send_replace(Some(false));
        }
    }

    /// Commits what is under way, and closes the connection.
    pub(super) async fn close(&mut self) {
        self.commit().await;
        if let Some(connection) = self.idle.take() {
            // It is closed anyway.
            _ = connection.close().await;
        }
    }
}

impl Open {
    /// What follows a change that was ended, or one that was not.
    async fn step(&mut self, after_ended: &'static str, after_unended: &'static str) -> Result<(), sqlx::Error> {
        let step = if self.ended { after_ended } else { after_unended };
        self.connection.execute(step).await.map(|_| ())
    }
}

impl Writing {
    /// Makes the change: it is recorded, or is not, together with others'. To be asked for before anything is answered, also
    /// where there was nothing to change: that may have been seen in what others are still to commit.
    ///
    /// # Errors
    /// It is not recorded, or that is not known since the database no longer answers.
    pub(super) async fn commit(self) -> Result<(), LedgerError> {
        let mut outcome = match self {
            Self::Alone(transaction) => return Ok(transaction.commit().await?),
            Self::InTurn(mut open) => {
                open.ended = true;
                open.outcome.subscribe()
            }
        };
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(true)) => Ok(()),
            Ok(_) | Err(_) => Err(LedgerError::GivenUp),
        }
    }
}

impl Deref for Writing {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Alone(transaction) => transaction,
            Self::InTurn(open) => &open.connection,
        }
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Alone(transaction) => transaction,
            Self::InTurn(open) => &mut open.connection,
        }
    }
}
