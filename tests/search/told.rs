//! What clients are told when they ask to complete, and whether they may be.

use std::time::Duration;

use broker::complete::{Asker, Completion, complete_here};
use broker::error::ApiError;
use shared::PartNumber;
use shared::api::UploadState;

use crate::client::client;
use crate::history::Kind;
use crate::model::{owner, size};
use crate::run::{Outcome, Run};

/// Longer than a lease.
const LEASE_AND_MORE: Duration = Duration::from_secs(61);
/// How often a client asks in a healed world before it is let down.
const PATIENCE: usize = 8;

impl Run<'_> {
    /// Calls to the store for one completion, however it goes: three attempts of a HEAD, four lists of all pages, a Complete and
    /// a HEAD, each but Complete three times; then six looks, and an upload begun again or forgotten. So an upload of n parts
    /// costs at most n calls for each time that it is sent, and for each time that somebody asks for it n/page * 36 + c.
    pub(crate) fn most_calls(&self, place: usize) -> u64 {
        let parts = u64::from(self.uploads[place].shape.parts);
        let page = match self.scenario.page as u64 {
            0 => 1_000,
            page => page,
        };
        // One more page where a marker leads back.
        let pages = parts.div_ceil(page) + 1;
        3 * (3 + 4 * pages * 3 + 1 + 3) + 6 * 3 + 6
    }

    /// What the owner of a stream says at its end.
    pub(crate) fn stated(&self, place: usize) -> Option<u64> {
        let shape = &self.uploads[place].shape;
        (shape.kind == Kind::Stream).then(|| size(shape))
    }

    /// Asks to complete; the parts that the client is to send again.
    pub(crate) async fn complete(&mut self, place: usize, broker: usize) -> Result<Vec<PartNumber>, String> {
        let session = self.find(place).await;
        let alone = session.state != UploadState::Completed;
        let before = self.store().requests();
        let told = complete_here(
            self.brokers[broker].clone(),
            session,
            self.stated(place),
            Asker::Owner(client().by()),
        )
        .await;
        let calls = self.store().requests() - before;
        let most = self.most_calls(place);
        if calls > most {
            return Err(format!(
                "I6: {calls} calls to the store for one completion, where {most} can do"
            ));
        }
        self.allowed += most;
        let parts = match &told {
            Err(ApiError::PartsMissing(parts) | ApiError::PartsWrong(parts)) => parts.clone(),
            _ => Vec::new(),
        };
        self.told(place, told, alone).await?;
        Ok(parts)
    }

    /// Whether a client may be told this. `fresh` if the upload was not completed before, and nothing else happened meanwhile.
    pub(crate) async fn told(&mut self, place: usize, told: Result<Completion, ApiError>, fresh: bool) -> Outcome {
        let (etags_are_md5s, now) = (self.scenario.etags_are_md5s, self.clock.now());
        let expires_at = self.find(place).await.expires_at;
        let key = self.uploads[place].key.clone();
        let shares = self.uploads.iter().filter(|upload| upload.key == key).count() > 1;
        if shares {
            self.uploads[place].may_be_lost = true;
        }
        let upload = &self.uploads[place];
        let lost = |what: &str| Err(format!("told {what} of {key}, which nothing has brought about"));
        match told {
            Ok(Completion::Done(object)) => {
                self.allowed += 1;
                let Some(found) = self.world.bucket.get(&key).await else {
                    return Err(format!("I1: told success of {key}, and there is no object"));
                };
                let whose = owner(&self.uploads, &key, &found, etags_are_md5s)?;
                let own = whose.is_some_and(|whose| whose.id == upload.id);
                if !own && (fresh || !upload.may_be_lost) {
                    return Err(format!(
                        "I1: told success of {key}, whose object is another's: {found:?}"
                    ));
                }
                if own && object.size != found.bytes.len() as u64 {
                    return Err(format!("I1: told {} bytes of {}", object.size, found.bytes.len()));
                }
                if upload.done.as_ref().is_some_and(|before| *before != object) {
                    return Err(format!("told {object:?}, and before {:?}", upload.done));
                }
                self.uploads[place].done = Some(object);
            }
            // Whoever was overtaken by the one that completed it may be told to ask again.
            Err(error) if upload.done.is_some() && (fresh || !matches!(error, ApiError::UploadBusy)) => {
                return Err(format!("told success of {key}, and then {error}"));
            }
            Err(ApiError::UploadLost) if !upload.may_be_lost => return lost("upload_lost"),
            Err(ApiError::UploadLost) => self.uploads[place].ended = Some("lost"),
            Err(ApiError::UploadEnded(_) | ApiError::NoSuchUpload) => {
                if !upload.may_end && upload.ended.is_none() && now < expires_at {
                    // Another completion may have been told so.
                    if !upload.may_be_lost {
                        return lost("upload_ended");
                    }
                }
                self.uploads[place].ended = Some("ended");
            }
            Err(ApiError::ObjectWrong { .. } | ApiError::PartsUnplanned(_)) => return lost("that the object is wrong"),
            Err(error @ ApiError::Ledger(_)) if error.status() != 503 => {
                return lost("a failing ledger as something else");
            }
            Ok(Completion::Busy) | Err(_) => {}
        }
        Ok(())
    }

    /// In a world without faults, whoever was told to ask again, and does, gets the object.
    pub(crate) async fn persist(&mut self) -> Outcome {
        for place in 0..self.uploads.len() {
            if !self.uploads[place].shape.persists {
                continue;
            }
            let mut told = Vec::new();
            for _ in 0..PATIENCE {
                if self.uploads[place].done.is_some() || self.uploads[place].ended.is_some() {
                    break;
                }
                self.clock.advance(LEASE_AND_MORE);
                let parts = self.complete(place, 0).await?;
                for number in &parts {
                    let part = usize::from(number.get()) - 1;
                    let version = self.uploads[place].parts[part].version;
                    self.put(place, part, version).await;
                }
                told.push(parts);
            }
            let upload = &self.uploads[place];
            if upload.done.is_none() && upload.ended.is_none() {
                return Err(format!("{} is never completed; to be sent again: {told:?}", upload.key));
            }
        }
        Ok(())
    }
}
