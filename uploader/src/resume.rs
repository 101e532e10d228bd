//! An upload begins: what earlier runs have left is found, gone on with, or found to be of no use, and told.

use std::sync::Arc;

use shared::api::{CompletedObject, CreateUpload, ListObjects, UploadCreated, UploadState, UploadStatus};
use shared::{PartPlan, PartSizes, UploadId};
use time::OffsetDateTime;

use crate::error::UploadError;
use crate::identity::{self, Identity};
use crate::journal::{Begun, Journal};
use crate::options::{self, Settings};
use crate::progress::{Anew, Event, Progress, Resumed};
use crate::source::{Source, SourceError};
use crate::verify::{self, Verdict};
use crate::{Engine, plan};

/// What is to be done with a file.
pub(crate) enum Beginning {
    /// Send what is missing.
    Upload(Box<Open>),
    /// Nothing: an earlier run's upload of it has become this object, which that run did not live to tell.
    Done(UploadId, CompletedObject),
}

/// An upload that is open.
pub(crate) struct Open {
    pub(crate) created: UploadCreated,
    pub(crate) plan: PartPlan,
    pub(crate) journal: Option<Journal>,
}

/// What has become of an earlier run's upload.
enum Became {
    Known(Box<UploadStatus>),
    /// It was open at the broker, and the store no longer has it.
    Lost,
    /// It is none of the caller's, or has expired.
    NotFound,
}

/// A file with what is known of it before the broker is asked.
struct File<'a> {
    engine: &'a Engine,
    source: &'a Arc<Source>,
    asked: CreateUpload,
    progress: &'a dyn Progress,
}

/// Opens an upload of the file, or finds the one to continue.
pub(crate) async fn begin(
    engine: &Engine,
    source: &Arc<Source>,
    mut asked: CreateUpload,
    progress: &dyn Progress,
) -> Result<Beginning, UploadError> {
    asked.fingerprint = fingerprint(source, &asked).await?;
    let file = File {
        engine,
        source,
        asked,
        progress,
    };
    file.begin().await
}

/// Reads the samples, on a thread that may wait for a disk.
async fn fingerprint(source: &Arc<Source>, asked: &CreateUpload) -> Result<Option<String>, SourceError> {
    let (held, asked) = (source.clone(), asked.clone());
    let sampling = tokio::task::spawn_blocking(move || options::fingerprint(&held, &asked));
    let ended = |error| SourceError::Open {
        path: source.path().to_owned(),
        cause: std::io::Error::other(error),
    };
    sampling.await.map_err(ended)?
}

impl File<'_> {
    async fn begin(self) -> Result<Beginning, UploadError> {
        let journal = self.journal();
        let earlier = journal.as_ref().and_then(Journal::earlier).cloned();
        let became = match &earlier {
            Some(earlier) => Some(self.became(&earlier.upload_id).await?),
            None => None,
        };
        if let (Some(earlier), Some(Became::Known(status))) = (&earlier, &became)
            && let Some(object) = &status.object
            && self.is_of(earlier, journal.as_ref(), object).await?
        {
            self.tell_done(earlier, object);
            if let Some(journal) = &journal {
                journal.remove(self.progress);
            }
            return Ok(Beginning::Done(earlier.upload_id.clone(), object.clone()));
        }
        self.progress.event(&Event::Creating);
        let (created, found) = self.engine.broker.create(&self.asked, self.progress).await?;
        let plan = plan::agreed(&created, self.source.size().unwrap_or_default())?;
        let left_open = |earlier: &Begun, became: &Became| {
            let open = matches!(became, Became::Known(status) if status.state == UploadState::Open);
            open && !self.is_meant_by(earlier)
        };
        let (resumed, of_no_use) = match earlier.zip(became) {
            _ if found => (Resumed::Continued, None),
            None => (Resumed::New, None),
            Some((earlier, became)) => (
                Resumed::Anew(self.why_anew(&earlier, &became, created.server_time)),
                left_open(&earlier, &became).then_some(earlier),
            ),
        };
        self.progress.event(&Event::Started {
            upload_id: created.upload_id.clone(),
            key: created.key.clone(),
            size: Some(plan.size()),
            part_size: plan.part_size(),
            part_count: Some(plan.part_count()),
            stored: created.parts.len(),
            resumed,
        });
        if let Some(earlier) = of_no_use {
            self.give_up(earlier).await;
        }
        let journal = journal.zip(self.asked.fingerprint.as_ref().zip(self.source.identity()));
        let journal = journal.map(|(mut journal, (fingerprint, identity))| {
            journal.begin(&Begun::new(&created, fingerprint, identity), self.progress);
            journal
        });
        Ok(Beginning::Upload(Box::new(Open { created, plan, journal })))
    }

    /// Has an earlier run's upload removed, of which nothing can be used: its parts take room that somebody pays for. No other
    /// run here sends to it, since this one holds its journal.
    async fn give_up(&self, earlier: Begun) {
        let ended = match self.engine.broker.abort(&earlier.upload_id, self.progress).await {
            Ok(()) => true,
            Err(UploadError::Refused { problem, .. }) => matches!(problem.status, 404 | 410),
            Err(_) => false,
        };
        self.progress.event(&Event::GaveUp {
            upload_id: earlier.upload_id,
            ends_at: (!ended).then_some(earlier.expires_at),
        });
    }

    /// Its journal, if it is to have one: of one part there is nothing to continue.
    fn journal(&self) -> Option<Journal> {
        let size = self.source.size()?;
        let plan = PartPlan::for_size(size, self.asked.part_size, u64::MAX).ok()?;
        let directory = self.engine.journals.as_ref().filter(|_| plan.part_count() > 1)?;
        Journal::open(directory, &self.journal_name(&self.engine.settings)?, self.progress)
    }

    /// One name for what is sent from one place to one place, which tells nothing of either.
    fn journal_name(&self, settings: &Settings) -> Option<String> {
        let path = std::path::absolute(self.source.path()).ok()?;
        let texts = [
            &settings.account()[..],
            self.asked.destination.as_deref().unwrap_or_default().as_bytes(),
            self.asked.name.as_bytes(),
            path.as_os_str().as_encoded_bytes(),
        ];
        Some(identity::hex(&identity::short_hash(&texts)))
    }

    /// What has become of an earlier run's upload.
    async fn became(&self, id: &UploadId) -> Result<Became, UploadError> {
        match self.engine.broker.status(id, self.progress).await {
            Ok(status) => Ok(Became::Known(Box::new(status))),
            Err(UploadError::Refused { problem, .. }) if problem.code == "upload_lost" => Ok(Became::Lost),
            Err(UploadError::Refused { problem, .. }) if problem.status == 404 => Ok(Became::NotFound),
            Err(error) => Err(error),
        }
    }

    /// Whether the object that an earlier run's upload has become is this file, and still there as far as one may look.
    async fn is_of(
        &self,
        earlier: &Begun,
        journal: Option<&Journal>,
        object: &CompletedObject,
    ) -> Result<bool, UploadError> {
        if !self.is_meant_by(earlier) {
            return Ok(false);
        }
        let is_same = self.source.identity().is_some_and(|identity| earlier.is_of(identity));
        // Of a file that has not been touched, what was hashed then still counts.
        let hashed = journal
            .filter(|_| is_same)
            .and_then(|journal| journal.all_known(earlier.part_count?));
        let verdict = match hashed {
            Some(digests) => verify::of_parts(&digests, &object.etag),
            None if is_same && !object.etag_is_md5 => Verdict::Unknown,
            None => {
                let sizes = Some(PartSizes::Equal(earlier.part_size));
                verify::compare(&self.engine.hashing, self.source, &object.etag, sizes).await?
            }
        };
        // Another machine may have had a share in that upload.
        let may_be_other = verdict == Verdict::Other && object.etag_is_md5;
        if may_be_other || !is_same && verdict != Verdict::Same {
            return Ok(false);
        }
        let query = ListObjects {
            destination: self.asked.destination.clone(),
            prefix: Some(object.key.as_str().to_owned()),
            limit: Some(1),
            ..ListObjects::default()
        };
        Ok(match self.engine.broker.objects(&query).await {
            Ok(list) => list.objects.first().is_some_and(|listed| {
                listed.key == object.key.as_str() && listed.etag.unquoted() == object.etag.unquoted()
            }),
            // Sending it again costs time; an object that is not there would cost the file.
            Err(_) => false,
        })
    }

    /// Whether it was begun with this content and these settings, as far as the fingerprint tells.
    fn is_meant_by(&self, earlier: &Begun) -> bool {
        self.asked.fingerprint.as_ref() == Some(&earlier.fingerprint)
    }

    fn tell_done(&self, earlier: &Begun, object: &CompletedObject) {
        self.progress.event(&Event::Started {
            upload_id: earlier.upload_id.clone(),
            key: object.key.clone(),
            size: Some(object.size),
            part_size: earlier.part_size,
            part_count: earlier.part_count,
            stored: earlier.part_count.unwrap_or_default().into(),
            resumed: Resumed::Continued,
        });
    }

    fn why_anew(&self, earlier: &Begun, became: &Became, now: OffsetDateTime) -> Anew {
        let content = |identity: Identity| (identity.size, identity.modified_ns);
        let changed = self.source.identity().map(content) != Some(content(earlier.identity));
        match became {
            Became::Lost => Anew::Aborted,
            Became::NotFound if earlier.expires_at <= now => Anew::Expired,
            Became::NotFound => Anew::NotFound,
            Became::Known(status) => match status.state {
                UploadState::Aborted => Anew::Aborted,
                UploadState::Expired => Anew::Expired,
                UploadState::Completed if self.is_meant_by(earlier) => Anew::Completed,
                // It has ended since it was looked at.
                UploadState::Open | UploadState::Completing if self.is_meant_by(earlier) => Anew::Aborted,
                UploadState::Open | UploadState::Completing | UploadState::Completed if changed => Anew::FileChanged,
                UploadState::Open | UploadState::Completing | UploadState::Completed => Anew::SettingsChanged,
            },
        }
    }
}
