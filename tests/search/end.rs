//! After its time every upload is an object or nothing, and the ledger says which.

use std::time::Duration;

use broker::sweep::{Swept, sweep_once, unknown};
use shared::api::UploadState;

use crate::client::client;
use crate::model::owner;
use crate::run::{LIFE, Outcome, Run};

/// After this nothing can be on its way any more.
const STRAGGLE: Duration = Duration::from_secs(15 * 60 + 1);

impl Run<'_> {
    /// After its time every upload is an object or nothing, and the ledger says which.
    pub(crate) async fn end(&mut self) -> Outcome {
        self.clock.advance(LIFE);
        for broker in [0, 1, 0, 1] {
            self.allow_sweep();
            // Neither broker's sweeper can need more: completions taken over, expiry, and twice the stragglers.
            sweep_once(&self.brokers[broker])
                .await
                .map_err(|error| error.to_string())?;
            self.clock.advance(STRAGGLE);
        }
        self.allow_sweep();
        let swept = sweep_once(&self.brokers[0]).await.map_err(|error| error.to_string())?;
        if swept != Swept::default() {
            return Err(format!("I4: the sweeper finds no end: {swept:?}"));
        }
        let calls = self.store().requests() - self.began_at;
        if calls > self.allowed {
            return Err(format!(
                "I6: {calls} calls to the store for a history of at most {}",
                self.allowed
            ));
        }
        self.ledger.audit(&self.uploads, self.unheard).await?;
        let prefix = format!("{}/{}/", client().principal.name(), self.number);
        // A create whose answer was lost, or whose broker died, leaves an upload without parts that only the operator can tell.
        let later = self.clock.now() + Duration::from_hours(1);
        let broker = &self.brokers[0];
        let mut orphans = unknown(broker, broker.policy.buckets()[0], later)
            .await
            .map_err(|error| error.to_string())?;
        // Of a run that failed before this one nothing is to be seen.
        orphans.retain(|orphan| orphan.key.as_str().starts_with(&prefix));
        if let Some(orphan) = orphans.first().filter(|_| !self.orphans) {
            return Err(format!(
                "I4: an upload to {} that no ledger knows, where no broker died nor the store failed",
                orphan.key
            ));
        }
        for orphan in orphans {
            let parts = self
                .world
                .bucket
                .parts(orphan.key.as_str(), &orphan.store_upload_id)
                .await;
            if parts > 0 {
                return Err(format!(
                    "I4: an upload to {} with parts that no ledger knows",
                    orphan.key
                ));
            }
            let bucket = broker.policy.buckets()[0];
            let aborted = broker.store.abort(bucket, &orphan.key, &orphan.store_upload_id).await;
            aborted.map_err(|error| error.to_string())?;
        }
        let open = self.world.bucket.open_uploads(&prefix).await;
        if !open.is_empty() {
            return Err(format!("I4: still open at the store: {open:?}"));
        }
        for place in 0..self.uploads.len() {
            let (session, upload) = (self.find(place).await, &self.uploads[place]);
            let found = self.world.bucket.get(&upload.key).await;
            let whose = match &found {
                Some(object) => owner(&self.uploads, &upload.key, object, self.scenario.etags_are_md5s)?,
                None => None,
            };
            let own = whose.is_some_and(|whose| whose.id == upload.id);
            let shares = self.uploads.iter().filter(|other| other.key == upload.key).count() > 1;
            let right = match session.state {
                UploadState::Completed => own || (upload.may_be_lost || shares) && found.is_some(),
                // Who has the URL of a whole PUT may put the object until that expires, whatever is done meanwhile.
                UploadState::Aborted | UploadState::Expired => (!own || upload.whole) && upload.done.is_none(),
                UploadState::Open | UploadState::Completing => false,
            };
            if !right {
                return Err(format!(
                    "I4: {} is {:?} in the ledger; its client was told {:?} {:?}; its object is there: {own}",
                    upload.key, session.state, upload.done, upload.ended
                ));
            }
        }
        let keys = self.world.bucket.keys(&prefix).await;
        if let Some(stray) = keys
            .iter()
            .find(|key| !self.uploads.iter().any(|upload| upload.key == **key))
        {
            return Err(format!("I2: an object at {stray}"));
        }
        Ok(())
    }
}
