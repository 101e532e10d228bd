//! A store for tests: started in one line, gone when dropped, and failing where and how a test wants it to.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::request::Parts;
use parking_lot::Mutex;
use tempfile::TempDir;
use tracing::warn;

use crate::config::StoreConfig;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::keys::Credentials;
use crate::server::Store;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// One bit of the body is not what was sent. The store itself works: its checks see the damaged body.
    FlipOneBit,
    /// The connection closes without an answer, and nothing was done.
    CutConnection,
    /// The connection closes without an answer, but all was done.
    CutAfterEffect,
    /// `503 SlowDown`, nothing done; with a `Retry-After` of whole seconds if one is given.
    SlowDown {
        /// What `Retry-After` says.
        retry_after: Option<Duration>,
    },
    /// `500 InternalError`, nothing done.
    InternalError,
    /// `200` with an `<Error>` in the body, nothing done; as S3 does when a Complete fails late.
    ErrorIn200,
    /// The request is served, after this time.
    Delay(Duration),
    /// The open uploads of the key vanish, as if a lifecycle rule had aborted them; the request is served thereafter. For a
    /// create they vanish after it too.
    Forget,
}

/// Which requests, and how many of them.
#[derive(Clone, Copy, Debug)]
pub struct When {
    point: Point,
    times: u64,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Point {
    Create,
    Part(u16),
    AnyPart,
    ListParts,
    Complete,
    Abort,
    Head,
    Get,
    Put,
}

impl When {
    const fn once(point: Point) -> Self {
        Self { point, times: 1 }
    }

    /// The next `times` of them, rather than the next one.
    #[must_use]
    pub const fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// All of them.
    #[must_use]
    pub const fn always(self) -> Self {
        self.times(u64::MAX)
    }
}

/// CreateMultipartUpload.
pub const fn create() -> When {
    When::once(Point::Create)
}

/// UploadPart of this number, in whichever upload.
pub const fn part(number: u16) -> When {
    When::once(Point::Part(number))
}

/// UploadPart of any number.
pub const fn any_part() -> When {
    When::once(Point::AnyPart)
}

/// ListParts.
pub const fn list_parts() -> When {
    When::once(Point::ListParts)
}

/// CompleteMultipartUpload.
pub const fn complete() -> When {
    When::once(Point::Complete)
}

/// AbortMultipartUpload.
pub const fn abort() -> When {
    When::once(Point::Abort)
}

/// HeadObject.
pub const fn head() -> When {
    When::once(Point::Head)
}

/// GetObject.
pub const fn get() -> When {
    When::once(Point::Get)
}

/// PutObject.
pub const fn put() -> When {
    When::once(Point::Put)
}

/// What has been asked to go wrong, and what has arrived.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    waiting: Mutex<Vec<(Fault, When)>>,
    arrived: Mutex<HashMap<Point, u64>>,
}

impl Faults {
    /// Counts a request, and takes the first fault that waits for it.
    pub(crate) fn arrival(&self, head: &Parts) -> Option<Fault> {
        let points = points(head);
        let mut arrived = self.arrived.lock();
        for point in &points {
            *arrived.entry(*point).or_default() += 1;
        }
        drop(arrived);
        let mut waiting = self.waiting.lock();
        let (fault, when) = waiting
            .iter_mut()
            .find(|(_, when)| when.times > 0 && points.contains(&when.point))?;
        when.times = if when.times == u64::MAX {
            u64::MAX
        } else {
            when.times - 1
        };
        let fault = *fault;
        waiting.retain(|(_, when)| when.times > 0);
        Some(fault)
    }

    /// Aborts every upload of the key that the path names.
    pub(crate) async fn forget(disk: Arc<Disk>, path: String) {
        let forgotten = tokio::task::spawn_blocking(move || {
            let (bucket, key) = path.trim_start_matches('/').split_once('/')?;
            let key = percent_encoding::percent_decode_str(key).decode_utf8().ok()?;
            let bucket = disk.bucket(bucket).ok()?;
            let ids: Vec<_> = bucket.uploads().keys().filter(|(of, _)| *of == key).cloned().collect();
            for (key, id) in ids {
                bucket.abort_upload(&key, &id).ok()?;
            }
            Some(())
        });
        if let Err(error) = forgotten.await {
            warn!(%error, "a fault could not be done");
        }
    }
}

/// What a request is, told by its method and query alone.
fn points(head: &Parts) -> Vec<Point> {
    let query: Vec<(String, String)> =
        serde_urlencoded::from_str(head.uri.query().unwrap_or_default()).unwrap_or_default();
    let value = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let of_upload = value("uploadId").is_some();
    let path = head.uri.path().trim_start_matches('/');
    let of_object = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    match head.method {
        Method::POST if value("uploads").is_some() => vec![Point::Create],
        Method::POST if of_upload => vec![Point::Complete],
        Method::PUT if of_upload => {
            let number = value("partNumber").and_then(|number| number.parse().ok());
            number.map_or(vec![Point::AnyPart], |number| vec![Point::Part(number), Point::AnyPart])
        }
        Method::GET if of_upload => vec![Point::ListParts],
        Method::DELETE if of_upload => vec![Point::Abort],
        Method::HEAD if of_object => vec![Point::Head],
        Method::GET if of_object => vec![Point::Get],
        Method::PUT if of_object => vec![Point::Put],
        _ => Vec::new(),
    }
}

/// A store in a temporary directory, on a free port of 127.0.0.1, with random credentials, the bucket `uploads`, and no
/// waiting for the disk. Dropped, it stops and takes its directory with it.
#[derive(Debug)]
pub struct DevStore {
    store: Store,
    credentials: Credentials,
    region: String,
    faults: Arc<Faults>,
    // Below the store: fields are dropped in order, and the directory goes last.
    dir: TempDir,
}

impl DevStore {
    /// The bucket that is there.
    pub const BUCKET: &str = "uploads";

    /// Starts one.
    ///
    /// # Errors
    /// There is no temporary directory to be had, or what [`Store::start`] says.
    pub async fn start() -> Result<Self, StoreError> {
        Self::start_with(|_| ()).await
    }

    /// Starts one whose settings `change` has been over, such as `min_part_size`.
    ///
    /// # Errors
    /// As [`DevStore::start`].
    pub async fn start_with(change: impl FnOnce(&mut StoreConfig)) -> Result<Self, StoreError> {
        let dir = tempfile::tempdir().map_err(|source| StoreError::Directory {
            doing: "create a directory in",
            path: std::env::temp_dir(),
            source,
        })?;
        let mut config = StoreConfig::new(dir.path().join("store"), Credentials::random()?);
        config.buckets = vec![Self::BUCKET.to_owned()];
        config.sync = false;
        change(&mut config);
        let (credentials, region) = (config.keys.owner().clone(), config.region.clone());
        let faults = Arc::new(Faults::default());
        Ok(Self {
            store: Store::start_with(config, Some(Arc::clone(&faults))).await?,
            credentials,
            region,
            faults,
            dir,
        })
    }

    /// Who may do everything.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The bucket that is there.
    pub fn bucket(&self) -> &'static str {
        Self::BUCKET
    }

    /// The region that V4 signatures must name.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The directory that goes with it.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Has `fault` strike the requests that `when` names. Of several that fit, the one injected first strikes.
    pub fn inject(&self, fault: Fault, when: When) {
        self.faults.waiting.lock().push((fault, when));
    }

    /// Forgets the faults that have not struck.
    pub fn clear_faults(&self) {
        self.faults.waiting.lock().clear();
    }

    /// How many such requests have arrived, struck or not, refused or not.
    #[allow(clippy::needless_pass_by_value)] // `attempts(part(3))` reads as it is meant.
    pub fn attempts(&self, when: When) -> u64 {
        self.faults.arrived.lock().get(&when.point).copied().unwrap_or_default()
    }
}

impl Deref for DevStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
