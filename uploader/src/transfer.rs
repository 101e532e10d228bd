//! One file through every stage: a window is hashed and signed while the one before it is sent.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use shared::api::{CompletedObject, PartToSign, StoredPart, UploadState};
use shared::{Md5Digest, PartNumber, PartPlan, PartSizes, UploadId};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::error::UploadError;
use crate::journal::Journal;
use crate::options::PutOptions;
use crate::progress::{Event, Progress};
use crate::put::Part;
use crate::resume::{self, Beginning};
use crate::sign::{PartUrl, UnusableUrl};
use crate::source::Source;
use crate::verify::{self, Verdict};
use crate::{Engine, Uploaded, plan};

/// Parts that are hashed and signed together, and then sent.
pub(crate) type Window = Vec<(Part, PartUrl)>;

/// One upload that is under way.
pub(crate) struct Upload {
    pub(crate) engine: Arc<Engine>,
    pub(crate) source: Arc<Source>,
    pub(crate) id: UploadId,
    /// What the parts that were sent or kept hash to: the object is held to it.
    pub(crate) digests: Mutex<BTreeMap<PartNumber, Md5Digest>>,
    /// What the next run will know of it, if this one does not come to its end.
    pub(crate) journal: Option<Journal>,
    pub(crate) progress: Arc<dyn Progress>,
}

/// Uploads the file at `path`.
pub(crate) async fn put(
    engine: Arc<Engine>,
    path: &Path,
    options: &PutOptions,
    progress: Arc<dyn Progress>,
) -> Result<Uploaded, UploadError> {
    let started = Instant::now();
    let source = Arc::new(Source::open(path)?);
    let asked = options.request(&source)?;
    let begun = match resume::begin(&engine, &source, asked, &*progress).await? {
        Beginning::Upload(begun) => begun,
        Beginning::Done(upload_id, object) => {
            let kept_bytes = object.size;
            return Ok(Uploaded::told(upload_id, object, kept_bytes, started, &*progress));
        }
    };
    let (plan, created) = (begun.plan, begun.created);
    let upload = Arc::new(Upload {
        engine,
        source,
        id: created.upload_id,
        digests: Mutex::default(),
        journal: begun.journal,
        progress,
    });
    let result = match created.state {
        // Every part had arrived, and an earlier run's completion was cut short.
        UploadState::Completing => upload.complete_unread(&plan).await,
        _ => upload.run(&plan, created.parts).await,
    };
    let result = match result {
        // Whoever it was has sent what has this file's fingerprint.
        Err(error) if is_ended_elsewhere(&error) => upload.complete_unread(&plan).await,
        other => other,
    };
    match result {
        Ok((object, kept_bytes)) => {
            upload.forget();
            let id = upload.id.clone();
            Ok(Uploaded::told(id, object, kept_bytes, started, &*upload.progress))
        }
        Err(changed @ UploadError::SourceChanged { .. }) => Err(upload.give_up(changed).await),
        Err(over @ UploadError::OtherBytes { .. }) => {
            upload.forget();
            Err(over)
        }
        Err(other) => Err(other),
    }
}

/// Whether another run has completed the upload, or is about to.
fn is_ended_elsewhere(error: &UploadError) -> bool {
    match error {
        UploadError::Gone(state) => matches!(state, UploadState::Completing | UploadState::Completed),
        UploadError::Refused { problem, .. } => matches!(problem.code.as_str(), "upload_busy" | "upload_ended"),
        _ => false,
    }
}

impl Upload {
    /// Completes an upload whose parts this run has not compared, and holds the file to the object; also says how many bytes
    /// there were.
    async fn complete_unread(self: &Arc<Self>, plan: &PartPlan) -> Result<(CompletedObject, u64), UploadError> {
        let object = self.complete(plan).await?;
        let sizes = Some(PartSizes::Equal(plan.part_size()));
        match verify::compare(&self.engine.hashing, &self.source, &object.etag, sizes).await? {
            Verdict::Same | Verdict::Unknown => Ok((object, plan.size())),
            Verdict::Other if object.etag_is_md5 => Err(UploadError::OtherBytes { key: object.key }),
            Verdict::Other => Err(UploadError::Gone(UploadState::Completed)),
        }
    }

    /// Sends what the store does not hold, and completes; also says how many bytes it held.
    async fn run(
        self: &Arc<Self>,
        plan: &PartPlan,
        stored: Vec<StoredPart>,
    ) -> Result<(CompletedObject, u64), UploadError> {
        let parts: Vec<_> = plan.parts().collect();
        let kept_bytes = self.send_parts(plan, &parts, stored).await?;
        Ok((self.complete_sent(plan).await?, kept_bytes))
    }

    /// Sends `parts` but for those that are rightly among `stored`; the bytes of these are the answer.
    pub(crate) async fn send_parts(
        self: &Arc<Self>,
        plan: &PartPlan,
        parts: &[PartNumber],
        stored: Vec<StoredPart>,
    ) -> Result<u64, UploadError> {
        self.sending(|ready| self.prepare(plan, parts, stored, ready)).await
    }

    /// Runs `prepare`, and meanwhile sends the windows that it makes.
    pub(crate) async fn sending<T, F: Future<Output = Result<T, UploadError>>>(
        self: &Arc<Self>,
        prepare: impl FnOnce(mpsc::Sender<Window>) -> F,
    ) -> Result<T, UploadError> {
        // One window waits here while another is sent and a third is not begun: memory and URLs stay few.
        let (ready, windows) = mpsc::channel(1);
        let mut under_way = JoinSet::new();
        let sent = tokio::try_join!(prepare(ready), self.send_windows(windows, &mut under_way));
        // After a failure: whoever aborts the upload now should not meet a part that is still on its way.
        under_way.shutdown().await;
        let (prepared, ()) = sent?;
        Ok(prepared)
    }

    /// Hashes and signs window after window, as fast as they are taken.
    async fn prepare(
        &self,
        plan: &PartPlan,
        parts: &[PartNumber],
        stored: Vec<StoredPart>,
        ready: mpsc::Sender<Window>,
    ) -> Result<u64, UploadError> {
        let stored: HashMap<_, _> = stored.into_iter().map(|part| (part.number, part)).collect();
        let mut kept_bytes = 0;
        let mut keep = |number, size| {
            kept_bytes += size;
            self.progress.event(&Event::PartKept { number, size });
        };
        let mut unknown = Vec::with_capacity(parts.len());
        for number in parts {
            let known = self
                .journal
                .as_ref()
                .zip(stored.get(number))
                .zip(plan.part_len(*number));
            match known.and_then(|((journal, held), size)| Some((journal.kept(held, size)?, size))) {
                Some((digest, size)) => {
                    self.note([(*number, digest)]);
                    keep(*number, size);
                }
                None => unknown.push(*number),
            }
        }
        for window in plan::windows(plan, &unknown) {
            let Ok(place) = ready.reserve().await else { break };
            let mut todo = self.hash_window(plan, &window).await?;
            todo.retain(|part| {
                let size = part.range.end - part.range.start;
                let kept = stored
                    .get(&part.number)
                    .is_some_and(|held| plan::is_kept(held, size, &part.digest));
                if kept {
                    keep(part.number, size);
                }
                !kept
            });
            if !todo.is_empty() {
                place.send(self.sign_window(todo).await?);
            }
        }
        Ok(kept_bytes)
    }

    /// Notes what parts hash to.
    pub(crate) fn note(&self, digests: impl IntoIterator<Item = (PartNumber, Md5Digest)>) {
        let mut known = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(digests);
    }

    /// The upload has ended: no other run has to know of it.
    pub(crate) fn forget(&self) {
        if let Some(journal) = &self.journal {
            journal.remove(&*self.progress);
        }
    }

    async fn hash_window(&self, plan: &PartPlan, window: &[PartNumber]) -> Result<Vec<Part>, UploadError> {
        let ranges: Vec<_> = window
            .iter()
            .map(|number| {
                let beyond = || UploadError::Contradiction(format!("part {number} is beyond the plan"));
                plan.range(*number).ok_or_else(beyond)
            })
            .collect::<Result<_, _>>()?;
        let digests = self.engine.hashing.hash(self.source.clone(), ranges.clone()).await?;
        self.note(window.iter().copied().zip(digests.iter().copied()));
        if let Some(journal) = &self.journal {
            let hashed = window.iter().copied().zip(digests.iter().copied()).collect();
            journal.hashed(hashed, &*self.progress);
        }
        let parts = window.iter().zip(ranges).zip(digests);
        Ok(parts
            .map(|((number, range), digest)| Part {
                number: *number,
                range,
                digest,
            })
            .collect())
    }

    /// Gets a URL for each part, in one request.
    pub(crate) async fn sign_window(&self, parts: Vec<Part>) -> Result<Window, UploadError> {
        let asked = parts
            .iter()
            .map(|part| PartToSign {
                number: part.number,
                md5: Some(part.digest),
                // The plan says it, but for a stream.
                size: self.source.held().map(|_| part.range.end - part.range.start),
            })
            .collect();
        let answer = self.engine.broker.sign(&self.id, asked, &*self.progress).await?;
        let now = Instant::now();
        let mut urls: HashMap<_, _> = answer.parts.into_iter().map(|part| (part.number, part)).collect();
        parts
            .into_iter()
            .map(|part| {
                let missing = || UploadError::Contradiction(format!("no URL came for part {}", part.number));
                let signed = urls.remove(&part.number).ok_or_else(missing)?;
                let unusable = |error: UnusableUrl| UploadError::Contradiction(error.to_string());
                let url = PartUrl::new(&signed, now).map_err(unusable)?;
                Ok((part, url))
            })
            .collect()
    }

    /// Gets a fresh URL for one part.
    pub(crate) async fn sign_part(&self, part: &Part) -> Result<PartUrl, UploadError> {
        let signed = self.sign_window(vec![part.clone()]).await?;
        let missing = || UploadError::Contradiction(format!("no URL came for part {}", part.number));
        signed.into_iter().next().map(|(_, url)| url).ok_or_else(missing)
    }

    /// Sends the parts of each window, as many at a time as the limit allows. The first part that fails for good stops all.
    async fn send_windows(
        self: &Arc<Self>,
        mut windows: mpsc::Receiver<Window>,
        under_way: &mut JoinSet<Result<(), UploadError>>,
    ) -> Result<(), UploadError> {
        loop {
            let window = tokio::select! {
                Some(done) = under_way.join_next() => {
                    part_done(done)?;
                    continue;
                }
                window = windows.recv() => window,
            };
            let Some(window) = window else { break };
            for (part, url) in window {
                let bytes = part.range.end - part.range.start;
                let most = || {
                    self.engine
                        .rate
                        .limit()
                        .map_or(usize::MAX, |rate| parts_at_once(rate, bytes))
                };
                let permit = loop {
                    tokio::select! {
                        Some(done) = under_way.join_next() => part_done(done)?,
                        permit = self.engine.limiter.acquire_within(most) => break permit,
                    }
                };
                let upload = self.clone();
                under_way.spawn(async move {
                    let start = part.range.start;
                    upload.send_part(part, url).await?;
                    if let Some(held) = upload.source.held() {
                        held.release(start);
                    }
                    drop(permit);
                    Ok(())
                });
            }
        }
        while let Some(done) = under_way.join_next().await {
            part_done(done)?;
        }
        Ok(())
    }
}

/// A part's result; a part whose task ended otherwise has failed too.
fn part_done(done: Result<Result<(), UploadError>, JoinError>) -> Result<(), UploadError> {
    done.unwrap_or_else(|error| {
        Err(UploadError::Contradiction(format!(
            "a part's task ended early: {error}"
        )))
    })
}

/// How many parts of so many bytes are worth sending at once at this rate: as many as are done within a few seconds. More
/// would all be under way for long, and an interruption would lose them all.
fn parts_at_once(rate: NonZeroU64, bytes: u64) -> usize {
    const SECONDS: u64 = 4;
    usize::try_from(rate.get().saturating_mul(SECONDS) / bytes.max(1))
        .unwrap_or(usize::MAX)
        .max(1)
}
