//! What does not change of uploads that are open, kept in memory for the requests that follow one another by the thousand.

use std::sync::Arc;

use quick_cache::sync::Cache;
use shared::UploadId;
use shared::api::UploadState;

use super::{Ledger, LedgerError, Session};

/// Uploads kept in mind: about 1 KB each.
const UPLOADS: usize = 10_000;

/// Uploads that were open when they were last read.
#[derive(Debug)]
pub(super) struct Recall(Cache<UploadId, Arc<Session>>);

impl Default for Recall {
    fn default() -> Self {
        Self(Cache::new(UPLOADS))
    }
}

impl Ledger {
    /// The upload of this id as it was at some time: all of it as admitted, but it may have ended since, by this broker or
    /// another. Enough to judge what is asked of it by, where [`Ledger::declare`] then tells whether it still is open.
    ///
    /// # Errors
    /// The database did not answer, or the row is not readable.
    pub async fn recall(&self, id: &UploadId) -> Result<Option<Arc<Session>>, LedgerError> {
        if let Some(session) = self.recall.0.get(id) {
            return Ok(Some(session));
        }
        let Some(session) = self.find(id).await?.map(Arc::new) else {
            return Ok(None);
        };
        if session.state == UploadState::Open {
            self.recall.0.insert(id.clone(), Arc::clone(&session));
        }
        Ok(Some(session))
    }

    /// No longer recalls an upload.
    pub(super) fn forget(&self, id: &UploadId) {
        self.recall.0.remove(id);
    }
}
