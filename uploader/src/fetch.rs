//! An object to a file: ranges of it, several at a time, into a file beside the target, which takes its place when it is
//! whole and right.

use std::fs::{File, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, IF_MATCH, RANGE};
use reqwest::{Response, Url};
use serde::Serialize;
use shared::api::{CreateDownload, Download};
use shared::{MIB, ObjectKey, PartSizes};
use tempfile::NamedTempFile;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::Engine;
use crate::answer;
use crate::broker::read_at_most;
use crate::budget::Cost;
use crate::error::{TransportError, UploadError};
use crate::options::GetOptions;
use crate::progress::{Event, Progress};
use crate::retry::{self, Verdict};
use crate::sign::Life;
use crate::source::Source;
use crate::verify::{self, Verdict as Compared};

/// Bytes asked for at a time.
const RANGE_SIZE: u64 = 8 * MIB;
/// Bytes collected before they are written.
const WRITE_SIZE: usize = 1 << 20;
/// Longest error document that is read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// An object that has become a file.
#[derive(Clone, Debug, Serialize)]
pub struct Downloaded {
    /// The object's key.
    pub key: ObjectKey,
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// The object's ETag.
    pub etag: shared::ETag,
    /// Whether the ETag is made of just these bytes; `false` where that cannot be told, since the ETag is no MD5 or made of
    /// parts of an unknown size.
    pub verified: bool,
    /// From asking for the object to the finished file.
    #[serde(rename = "seconds", serialize_with = "crate::seconds")]
    pub elapsed: Duration,
}

/// One download that is under way.
struct Fetch {
    engine: Arc<Engine>,
    progress: Arc<dyn Progress>,
    asked: CreateDownload,
    object: Download,
    /// The current URL, replaced when it is worn out.
    url: Mutex<(Url, Life)>,
    file: File,
    path: PathBuf,
}

/// How one range failed to arrive.
enum Failure {
    /// No answer from the store, or not all of it.
    Network(String, Cost, Option<TransportError>),
    /// An answer that is not the range.
    Refused {
        status: u16,
        document: String,
        retry_after: Option<Duration>,
    },
    /// The file cannot be written.
    Write(io::Error),
}

/// Downloads the object at `key` to the file `path`.
pub(crate) async fn fetch(
    engine: Arc<Engine>,
    key: &ObjectKey,
    path: &Path,
    options: &GetOptions,
    progress: Arc<dyn Progress>,
) -> Result<Downloaded, UploadError> {
    let started = Instant::now();
    let overwrite = options.overwrite;
    let mode = check_target(path, overwrite)?;
    let asked = CreateDownload {
        key: key.clone(),
        destination: options.destination.clone(),
    };
    let object = engine.broker.download(&asked, &*progress).await?;
    let (size, etag) = (object.size, object.etag.clone());
    progress.event(&Event::Fetching { key: key.clone(), size });
    let unwritable = |cause| UploadError::Target {
        path: path.to_owned(),
        cause,
    };
    let draft = draft(path, mode).map_err(unwritable)?;
    let fetch = Arc::new(Fetch {
        url: Mutex::new(usable(&object)?),
        file: draft.reopen().map_err(unwritable)?,
        path: path.to_owned(),
        engine,
        progress,
        asked,
        object,
    });
    fetch.file.set_len(size).map_err(unwritable)?;
    fetch.ranges().await?;
    fetch.progress.event(&Event::Verifying);
    let sizes = match fetch.object.part_size {
        Some(_) if fetch.object.growing_parts => Some(PartSizes::Growing),
        part_size => part_size.map(PartSizes::Equal),
    };
    let arrived = Arc::new(Source::open(draft.path())?);
    let compared = verify::compare(&fetch.engine.hashing, &arrived, &etag, sizes).await?;
    if compared == Compared::Other && fetch.object.etag_is_md5 {
        return Err(UploadError::WrongBytes { key: key.clone(), etag });
    }
    keep(draft, path, overwrite).await?;
    let downloaded = Downloaded {
        key: key.clone(),
        path: path.to_owned(),
        size,
        etag,
        verified: compared == Compared::Same,
        elapsed: started.elapsed(),
    };
    fetch.progress.event(&Event::Fetched(Arc::new(downloaded.clone())));
    Ok(downloaded)
}

/// Whether a file can be put there; if one is there that may be replaced, its permissions.
fn check_target(path: &Path, overwrite: bool) -> Result<Option<Permissions>, UploadError> {
    let path = path.to_owned();
    match path.symlink_metadata() {
        Ok(metadata) if overwrite && metadata.is_file() => Ok(Some(metadata.permissions())),
        // Neither is a device replaced, nor does a link decide where the file goes.
        Ok(_) if overwrite => Err(UploadError::TargetNotRegular { path }),
        Ok(_) => Err(UploadError::TargetExists { path }),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(UploadError::Target { path, cause }),
    }
}

/// A file beside the target, which goes away unless it is kept. It has the rights of the file that it replaces, or those that
/// any new file here would have.
fn draft(path: &Path, mode: Option<Permissions>) -> io::Result<NamedTempFile> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let draft = tempfile::Builder::new()
        .prefix(".download-")
        .suffix(".part")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)?;
    if let Some(mode) = mode {
        draft.as_file().set_permissions(mode)?;
    }
    Ok(draft)
}

/// Gives the finished file its name, after its bytes are on the disk. The draft stays with the caller until then, so that it
/// goes away with the caller if it comes to that.
async fn keep(draft: NamedTempFile, path: &Path, overwrite: bool) -> Result<(), UploadError> {
    let unwritable = |cause: io::Error| match cause.kind() {
        io::ErrorKind::AlreadyExists => UploadError::TargetExists { path: path.to_owned() },
        _ => UploadError::Target {
            path: path.to_owned(),
            cause,
        },
    };
    let file = draft.as_file().try_clone().map_err(unwritable)?;
    let synced = tokio::task::spawn_blocking(move || file.sync_all());
    synced
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(unwritable)?;
    let kept = if overwrite {
        draft.persist(path)
    } else {
        draft.persist_noclobber(path)
    };
    kept.map(drop).map_err(|error| unwritable(error.error))
}

fn usable(object: &Download) -> Result<(Url, Life), UploadError> {
    let unusable = || UploadError::Contradiction("the URL to download by cannot be used".into());
    let url = Url::parse(&object.url).map_err(|_| unusable())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable());
    }
    Ok((url, Life::new(Instant::now(), object.expires_in)))
}

impl Fetch {
    /// Every range, as many at a time as the limit allows. The first that fails for good stops all.
    async fn ranges(self: &Arc<Self>) -> Result<(), UploadError> {
        let done = |done: Result<Result<(), UploadError>, tokio::task::JoinError>| {
            let ended = |error| UploadError::Contradiction(format!("a range's task ended early: {error}"));
            done.map_err(ended)?
        };
        let mut under_way = JoinSet::new();
        let mut start = 0;
        while start < self.object.size {
            let permit = tokio::select! {
                Some(ended) = under_way.join_next() => {
                    done(ended)?;
                    continue;
                }
                permit = self.engine.limiter.acquire() => permit,
            };
            let range = start..self.object.size.min(start + RANGE_SIZE);
            start = range.end;
            let fetch = self.clone();
            under_way.spawn(async move {
                fetch.range(range).await?;
                drop(permit);
                Ok(())
            });
        }
        while let Some(ended) = under_way.join_next().await {
            done(ended)?;
        }
        Ok(())
    }

    /// One range, again and again until it is there or will not come.
    async fn range(&self, range: Range<u64>) -> Result<(), UploadError> {
        let (mut tries, mut had_fresh_url, mut spent) = (0, false, None);
        loop {
            let url = self.current_url().await?;
            let failure = match self.range_once(&url, range.clone()).await {
                Ok(()) => {
                    self.engine.limiter.succeeded();
                    self.engine.budget.succeeded(spent);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            let (trouble, cost, cause, asked) = match failure {
                Failure::Write(cause) => {
                    return Err(UploadError::Target {
                        path: self.path.clone(),
                        cause,
                    });
                }
                Failure::Refused {
                    status: 404 | 412 | 416,
                    ..
                } => {
                    let key = self.object.key.clone();
                    return Err(UploadError::ObjectChanged { key });
                }
                Failure::Network(trouble, cost, cause) => (trouble, cost, cause, None),
                Failure::Refused {
                    status,
                    document,
                    retry_after,
                } => {
                    let code = retry::s3_code(&document);
                    let answer = answer::describe(status, &document);
                    match retry::judge(status, code) {
                        Verdict::Again | Verdict::Reread => {}
                        Verdict::Overloaded => self.engine.limiter.overloaded(),
                        Verdict::FreshUrl | Verdict::AskBroker | Verdict::Full if had_fresh_url => {
                            return Err(self.failed(&url, answer, None, false));
                        }
                        Verdict::FreshUrl | Verdict::AskBroker | Verdict::Full => {
                            had_fresh_url = true;
                            self.renew_url(&url).await?;
                            continue;
                        }
                    }
                    (answer, Cost::Retry, None, retry_after)
                }
            };
            tries += 1;
            let Some(after) = self.engine.settings.retry.wait(tries, retry::random(), asked) else {
                return Err(self.failed(&url, trouble, cause, true));
            };
            let what = format!(
                "bytes {}-{} of {} did not arrive: {trouble}",
                range.start,
                range.end - 1,
                self.object.key
            );
            let told = (what, answer::of_store(&url.origin().ascii_serialization(), &trouble));
            let budget = &self.engine.budget;
            budget.wait_and_spend(cost, after, tries, told, &*self.progress).await;
            spent = Some(cost);
        }
    }

    fn failed(&self, url: &Url, trouble: String, cause: Option<TransportError>, passing: bool) -> UploadError {
        UploadError::NotDownloaded {
            key: self.object.key.clone(),
            store: url.origin().ascii_serialization(),
            trouble,
            passing,
            cause,
        }
    }

    async fn current_url(&self) -> Result<Url, UploadError> {
        let (url, life) = self.url.lock().await.clone();
        if life.is_old(Instant::now()) {
            return self.renew_url(&url).await;
        }
        Ok(url)
    }

    /// Gets a fresh URL in place of this one, unless another range just did.
    async fn renew_url(&self, worn_out: &Url) -> Result<Url, UploadError> {
        let mut current = self.url.lock().await;
        if current.0 == *worn_out {
            let object = self.engine.broker.download(&self.asked, &*self.progress).await?;
            if (&object.etag, object.size) != (&self.object.etag, self.object.size) {
                let key = self.object.key.clone();
                return Err(UploadError::ObjectChanged { key });
            }
            *current = usable(&object)?;
        }
        Ok(current.0.clone())
    }

    /// Asks for the range once, and writes what comes.
    async fn range_once(&self, url: &Url, range: Range<u64>) -> Result<(), Failure> {
        let stall = self.engine.settings.stall;
        let request = self
            .engine
            .store
            .get(url.clone())
            .header(RANGE, format!("bytes={}-{}", range.start, range.end - 1))
            .header(IF_MATCH, self.object.etag.as_str());
        let response = tokio::time::timeout(stall, request.send()).await;
        let response = response
            .map_err(|_| Failure::Network("no answer in time".into(), Cost::Timeout, None))?
            .map_err(network)?;
        let status = response.status().as_u16();
        if status != 206 {
            let retry_after = retry::retry_after(response.headers());
            // A refusal whose reason does not come is still one.
            let document = tokio::time::timeout(stall, read_at_most(response, LONGEST_ANSWER)).await;
            let document = document.unwrap_or(Ok(Vec::new())).unwrap_or_default();
            return Err(Failure::Refused {
                status,
                document: String::from_utf8_lossy(&document).into_owned(),
                retry_after,
            });
        }
        let expected = format!("bytes {}-{}/{}", range.start, range.end - 1, self.object.size);
        let given = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        if given != Some(expected.as_str()) {
            return Err(Failure::Network(
                "another range came than was asked for".into(),
                Cost::Retry,
                None,
            ));
        }
        let mut written = 0;
        let result = self.write(response, &range, &mut written).await;
        if result.is_err() {
            self.progress.event(&Event::Unreceived { bytes: written });
        }
        result
    }

    async fn write(&self, mut response: Response, range: &Range<u64>, written: &mut u64) -> Result<(), Failure> {
        let stall = self.engine.settings.stall;
        let length = range.end - range.start;
        let mut collected = Vec::with_capacity(WRITE_SIZE.min(usize::try_from(length).unwrap_or(WRITE_SIZE)));
        loop {
            let chunk = tokio::time::timeout(stall, response.chunk()).await;
            let chunk = chunk
                .map_err(|_| Failure::Network(format!("nothing came for {} s", stall.as_secs()), Cost::Timeout, None))?
                .map_err(network)?;
            if let Some(chunk) = &chunk {
                collected.extend_from_slice(chunk);
            }
            let bytes = collected.len() as u64;
            if *written + bytes > length {
                return Err(Failure::Network(
                    "more came than was asked for".into(),
                    Cost::Retry,
                    None,
                ));
            }
            if collected.len() >= WRITE_SIZE || chunk.is_none() {
                let place = range.start + *written;
                let file = self.file.try_clone().map_err(Failure::Write)?;
                let writing = tokio::task::spawn_blocking(move || {
                    file.write_all_at(&collected, place).map(|()| {
                        collected.clear();
                        collected
                    })
                });
                collected = writing
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error)))
                    .map_err(Failure::Write)?;
                *written += bytes;
                self.progress.event(&Event::Received { bytes });
            }
            if chunk.is_none() {
                break;
            }
        }
        if *written < length {
            return Err(Failure::Network("the connection was cut".into(), Cost::Retry, None));
        }
        Ok(())
    }
}

fn network(error: reqwest::Error) -> Failure {
    Failure::Network(answer::trouble(&error).into(), Cost::of(&error), Some(error.into()))
}
