//! Recording what clients declare for the parts that they are about to send: many requests in one transaction.
//!
//! A commit waits for the disk, and takes as long for one request as for many. So while one is under way, those that arrive
//! gather, and the next commit takes all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use shared::api::UploadState;
use shared::{Md5Digest, PartNumber, UploadId};
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use super::digests::Window;
use super::events::{self, By};
use super::session::state;
use super::{Ledger, LedgerError, Session, millis, placeholders};

/// Requests in one transaction.
const AT_ONCE: usize = 128;

/// What has been asked and not been committed.
#[derive(Debug, Default)]
pub(super) struct Declaring {
    waiting: Mutex<Vec<Waiting>>,
    /// Held by whoever commits.
    committing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Waiting {
    id: UploadId,
    store_upload_id: Option<String>,
    windows: Vec<Window>,
    by: By,
    now: OffsetDateTime,
    answer: oneshot::Sender<Result<Declared, LedgerError>>,
}

/// What came of declaring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Declared {
    /// It is recorded: the upload is open, and as it was recalled.
    Recorded,
    /// It is not, since the upload is in this state.
    NotOpen(UploadState),
    /// It is not, since the upload has been begun anew at the store since: it has to be recalled again.
    BegunAgain,
    /// There is no such upload.
    Unknown,
}

/// What the ledger says of an upload now.
pub(super) struct Standing {
    state: UploadState,
    store_upload_id: Option<String>,
}

impl Waiting {
    fn found(&self, standings: &HashMap<String, Standing>) -> Declared {
        match standings.get(self.id.as_str()) {
            None => Declared::Unknown,
            Some(standing) if standing.state != UploadState::Open => Declared::NotOpen(standing.state),
            Some(standing) if standing.store_upload_id != self.store_upload_id => Declared::BegunAgain,
            Some(_) => Declared::Recorded,
        }
    }
}

impl Declaring {
    fn push(&self, waiting: Waiting) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(waiting);
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let some = waiting.len().min(AT_ONCE);
        waiting.drain(..some).collect()
    }
}

impl Ledger {
    /// Records what a client declares for the parts that it is about to send, and that they are signed; other parts keep what
    /// was declared for them. `session` may be as [`Ledger::recall`] gave it.
    ///
    /// # Errors
    /// The database did not answer; it may have been recorded, which is harmless: it can be declared again.
    pub async fn declare(
        &self,
        session: &Session,
        parts: Vec<(PartNumber, Option<Md5Digest>)>,
        by: By,
        now: OffsetDateTime,
    ) -> Result<Declared, LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.declaring.push(Waiting {
            id: session.id.clone(),
            store_upload_id: session.store_upload_id.clone(),
            windows: Window::over(parts),
            by,
            now,
            answer,
        });
        let ledger = self.clone();
        // A task of its own: others' requests must not end with this one's client.
        tokio::spawn(async move { ledger.commit_declared().await });
        answered.await.unwrap_or(Err(LedgerError::GivenUp))
    }

    /// Commits what waits, unless whoever was before has taken it along.
    async fn commit_declared(&self) {
        let _turn = self.declaring.committing.lock().await;
        let batch = self.declaring.take();
        if batch.is_empty() {
            return;
        }
        match self.record(&batch).await {
            Ok(states) => {
                for waiting in batch {
                    let declared = waiting.found(&states);
                    if declared != Declared::Recorded {
                        self.forget(&waiting.id);
                    }
                    // Whoever has gone away needs no answer.
                    _ = waiting.answer.send(Ok(declared));
                }
            }
            Err(error) => {
                // One of them gets the cause, which is logged with its failure.
                let mut cause = Some(error);
                for Waiting { answer, .. } in batch {
                    _ = answer.send(Err(cause.take().unwrap_or(LedgerError::GivenUp)));
                }
            }
        }
    }

    /// How the uploads named stand; what is declared for those that are open is recorded.
    async fn record(&self, batch: &[Waiting]) -> Result<HashMap<String, Standing>, LedgerError> {
        let mut writing = self.begin().await?;
        let mut named: BTreeMap<&str, OffsetDateTime> = BTreeMap::new();
        named.extend(batch.iter().map(|waiting| (waiting.id.as_str(), waiting.now)));
        let states = self.states(&mut writing, &named).await?;
        let signed: Vec<_> = batch
            .iter()
            .filter(|waiting| waiting.found(&states) == Declared::Recorded)
            .flat_map(|waiting| {
                let windows = waiting.windows.iter();
                windows.map(|window| events::signed(&waiting.id, window, waiting.now, &waiting.by))
            })
            .collect();
        self.add_events(&mut writing, &signed).await?;
        writing.commit().await?;
        Ok(states)
    }

    /// How these uploads stand at these instants; nobody else changes them, or declares for them, before the transaction ends.
    pub(super) async fn states(
        &self,
        connection: &mut AnyConnection,
        named: &BTreeMap<&str, OffsetDateTime>,
    ) -> Result<HashMap<String, Standing>, LedgerError> {
        let statement = format!(
            "SELECT id, state, expires_at, store_upload_id FROM uploads WHERE id IN ({}) ORDER BY id{}",
            placeholders::values(0, named.len()),
            self.database.for_update()
        );
        let mut select = sqlx::query(AssertSqlSafe(statement));
        for id in named.keys() {
            select = select.bind(*id);
        }
        let mut states = HashMap::with_capacity(named.len());
        for row in select.fetch_all(connection).await? {
            let (id, expires_at): (String, i64) = (row.try_get("id")?, row.try_get("expires_at")?);
            let state = match state(&id, row.try_get("state")?)? {
                UploadState::Open if named.get(id.as_str()).is_some_and(|now| expires_at <= millis(*now)) => {
                    UploadState::Expired
                }
                state => state,
            };
            let store_upload_id = row.try_get("store_upload_id")?;
            states.insert(id, Standing { state, store_upload_id });
        }
        Ok(states)
    }
}
