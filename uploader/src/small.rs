//! Many small files together: read, hashed side by side, admitted in one request, sent whole, looked for in one request.
//!
//! Whatever is out of the ordinary about a file is left to the way of single files, which knows how to judge it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use shared::api::{BatchFile, BatchOutcome, BatchUpload, CompletedObject, MAX_BATCH, MAX_BATCH_FILE, SignedRequest};
use shared::md5_lanes::{Kernel, Md5Stream};
use shared::{Md5Digest, ObjectKey, UploadId};
use tokio::task::JoinSet;

use crate::broker::read_at_most;
use crate::budget::Cost;
use crate::error::UploadError;
use crate::options::PutOptions;
use crate::progress::{Event, Progress, Resumed};
use crate::retry::{self, Verdict};
use crate::source::Source;
use crate::{Engine, Uploaded, answer, transfer, verify};

/// Most files that go together.
pub(crate) const MOST_FILES: usize = MAX_BATCH;
/// Most bytes of a file that goes with others.
pub(crate) const SMALL: u64 = MAX_BATCH_FILE;
/// Longest answer of a store that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// A file to upload together with others.
#[derive(Clone)]
pub struct SmallFile {
    /// Where it is.
    pub path: std::path::PathBuf,
    /// How it is to be uploaded.
    pub options: PutOptions,
    /// Who watches it.
    pub progress: Arc<dyn Progress>,
}

/// A file that has been read.
struct Read {
    bytes: Bytes,
    asked: BatchFile,
}

/// What a file has become.
type Object = Result<(UploadId, CompletedObject), UploadError>;

/// A file that has been admitted.
struct Admitted {
    id: UploadId,
    key: ObjectKey,
    bytes: Bytes,
    request: Option<SignedRequest>,
}

/// Uploads the files; an outcome each, in their order.
pub(crate) async fn put_batch(
    engine: Arc<Engine>,
    files: &[SmallFile],
) -> Result<Vec<Result<Uploaded, UploadError>>, UploadError> {
    let started = Instant::now();
    let objects = together(&engine, files).await?;
    let mut outcomes = Vec::with_capacity(files.len());
    for (file, object) in files.iter().zip(objects) {
        outcomes.push(match object {
            Some(object) => {
                object.map(|(upload_id, object)| Uploaded::told(upload_id, object, 0, started, &*file.progress))
            }
            None => {
                Box::pin(transfer::put(
                    engine.clone(),
                    &file.path,
                    &file.options,
                    file.progress.clone(),
                ))
                .await
            }
        });
    }
    Ok(outcomes)
}

/// Of each file its object, or that it is another file's; nothing where it has to go alone.
async fn together(engine: &Arc<Engine>, files: &[SmallFile]) -> Result<Vec<Option<Object>>, UploadError> {
    let mut read = read(files.to_vec()).await;
    let digests: Vec<_> = read.iter().map(|read| Some(read.as_ref()?.asked.md5)).collect();
    let asked: Vec<_> = read.iter().flatten().map(|read| read.asked.clone()).collect();
    let mut objects: Vec<_> = files.iter().map(|_| None).collect();
    let Some(first) = files.first().filter(|_| !asked.is_empty()) else {
        return Ok(objects);
    };
    let created = engine.broker.create_batch(asked, &*first.progress).await?;
    let mut created = created.files.into_iter();
    let mut sending = JoinSet::new();
    let mut sent: Vec<Option<UploadId>> = files.iter().map(|_| None).collect();
    for (place, (file, slot)) in files.iter().zip(&mut read).enumerate() {
        let Some(Read { bytes, .. }) = slot.take() else {
            continue;
        };
        let Some(BatchUpload::Admitted {
            upload_id,
            key,
            request,
        }) = created.next()
        else {
            // Asked alone, it is refused again and says why.
            continue;
        };
        let admitted = Admitted {
            id: upload_id,
            key,
            bytes,
            request,
        };
        let permit = loop {
            tokio::select! {
                Some(done) = sending.join_next() => note(done, &mut sent),
                permit = engine.limiter.acquire() => break permit,
            }
        };
        let (engine, progress) = (engine.clone(), file.progress.clone());
        sending.spawn(async move {
            let id = send(&engine, admitted, &*progress).await;
            drop(permit);
            (place, id)
        });
    }
    while let Some(done) = sending.join_next().await {
        note(done, &mut sent);
    }
    let ids: Vec<_> = sent.iter().flatten().cloned().collect();
    if ids.is_empty() {
        return Ok(objects);
    }
    let completed = engine.broker.complete_batch(ids, &*first.progress).await?;
    let mut outcomes = completed.uploads.into_iter();
    let slots = objects.iter_mut().zip(digests).zip(&sent);
    for ((slot, digest), _) in slots.filter(|(_, id)| id.is_some()) {
        if let Some(BatchOutcome::Completed { upload_id, object }) = outcomes.next() {
            let held = verify::hold(&object, digest.as_slice());
            *slot = Some(held.map(|()| (upload_id, object)));
        }
    }
    Ok(objects)
}

/// Notes which file has been sent.
fn note(done: Result<(usize, Option<UploadId>), tokio::task::JoinError>, sent: &mut [Option<UploadId>]) {
    if let Ok((place, id)) = done
        && let Some(slot) = sent.get_mut(place)
    {
        *slot = id;
    }
}

/// Reads the files and hashes them in lanes; nothing of one that cannot be read, or has changed or grown meanwhile.
async fn read(files: Vec<SmallFile>) -> Vec<Option<Read>> {
    let count = files.len();
    let reading = tokio::task::spawn_blocking(move || {
        let mut read: Vec<_> = files.iter().map(read_one).collect();
        let kernel = Kernel::best_for(read.iter().flatten().count());
        let mut found: Vec<_> = read.iter_mut().flatten().collect();
        // Those of like length side by side: a lane that has ended idles.
        found.sort_by_key(|read| read.bytes.len());
        for group in found.chunks_mut(kernel.lanes()) {
            let mut streams = vec![Md5Stream::new(); group.len()];
            kernel.update(&mut streams, &group.iter().map(|read| &*read.bytes).collect::<Vec<_>>());
            for (read, stream) in group.iter_mut().zip(streams) {
                read.asked.md5 = stream.finish();
            }
        }
        read
    });
    reading.await.unwrap_or_else(|_| (0..count).map(|_| None).collect())
}

fn read_one(file: &SmallFile) -> Option<Read> {
    let source = Source::open(&file.path).ok()?;
    let asked = file.options.request(&source).ok()?;
    let size = source.size().filter(|size| *size <= SMALL)?;
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    source.read_exact_at(&mut bytes, 0).ok()?;
    source.check().ok()?;
    Some(Read {
        bytes: bytes.into(),
        asked: BatchFile {
            name: asked.name,
            size,
            md5: Md5Digest::EMPTY,
            content_type: asked.content_type,
            acl: asked.acl,
            metadata: asked.metadata,
            destination: asked.destination,
        },
    })
}

/// Sends one file until the store has it; nothing where it will not have it, for whatever reason.
async fn send(engine: &Engine, file: Admitted, progress: &dyn Progress) -> Option<UploadId> {
    let size = file.bytes.len() as u64;
    progress.event(&Event::Started {
        upload_id: file.id.clone(),
        key: file.key.clone(),
        size: Some(size),
        part_size: size,
        part_count: Some(1),
        stored: 0,
        resumed: Resumed::New,
    });
    let Some(request) = file.request else {
        return Some(file.id);
    };
    let (method, url, headers) = usable(&request)?;
    let mut spent = None;
    for attempt in 1.. {
        engine.rate.leave_all(size).await;
        let sending = engine
            .store
            .request(method.clone(), url.clone())
            .headers(headers.clone())
            // Signed, and otherwise left out where there are no bytes.
            .header(CONTENT_LENGTH, size)
            .body(file.bytes.clone())
            .send();
        let (trouble, asked, cost) = match tokio::time::timeout(engine.settings.stall, sending).await {
            Err(_) => ("no answer in time".to_owned(), None, Cost::Timeout),
            Ok(Err(error)) => (answer::trouble(&error).to_owned(), None, Cost::of(&error)),
            Ok(Ok(response)) if response.status().is_success() => {
                // Read to its end, so that the connection can be used again.
                let _ = tokio::time::timeout(engine.settings.stall, read_at_most(response, LONGEST_ANSWER)).await;
                engine.limiter.succeeded();
                engine.budget.succeeded(spent);
                progress.event(&Event::Sent { bytes: size });
                return Some(file.id);
            }
            Ok(Ok(response)) => {
                let status = response.status().as_u16();
                let asked = retry::retry_after(response.headers());
                let document =
                    tokio::time::timeout(engine.settings.stall, read_at_most(response, LONGEST_ANSWER)).await;
                let document = document.unwrap_or(Ok(Vec::new())).unwrap_or_default();
                let document = String::from_utf8_lossy(&document);
                match retry::judge(status, retry::s3_code(&document)) {
                    Verdict::Again => {}
                    Verdict::Overloaded => engine.limiter.overloaded(),
                    Verdict::Full | Verdict::FreshUrl | Verdict::Reread | Verdict::AskBroker => return None,
                }
                (answer::describe(status, &document), asked, Cost::Retry)
            }
        };
        let after = engine.settings.retry.wait(attempt, retry::random(), asked)?;
        let store = url.origin().ascii_serialization();
        let what = format!("{} did not reach {store}: {trouble}", file.key);
        let told = (what, answer::of_store(&store, &trouble));
        engine.budget.wait_and_spend(cost, after, attempt, told, progress).await;
        spent = Some(cost);
    }
    None
}

/// The request as the client library takes it.
fn usable(request: &SignedRequest) -> Option<(Method, Url, HeaderMap)> {
    let url = Url::parse(&request.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.insert(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    Some((Method::try_from(request.method.as_str()).ok()?, url, headers))
}
