//! Sends a file to an S3 store in parts, each by a URL the broker has signed.
//!
//! ```text
//! source ─ plan ─▶ windows ─ hash ─▶ digests ─ sign ─▶ URLs ─ put ─▶ stored ─ complete ─▶ object
//!            └──────────── a window is hashed while the one before is sent ────────────┘
//! ```
//!
//! Each arrow is the module of that name; `transfer` runs them. `broker` asks the broker, `retry` and `limit` judge what
//! passes by itself and how much a store can take, `rate` how much the user spares, `body` reads a part from its file,
//! `hash` hashes sixteen at once. `small` sends many small files together. `fetch` is the way back, and `verify` holds
//! what came to its ETag. `resume` finds what an earlier run has left, in its `journal` and at the broker; `present` finds what
//! is at the store already, by `records` of earlier runs, and both keep their files in `frames`.
//! No credentials pass through here: all this process holds is URLs that soon expire.
//!
//! A source is a file, read by place from `source`; or a `stream` read once, whose parts are `held` until the store has them:
//! a reader such as standard input, or the content of a [`Link`], which `origin` asks its host for, `naming` finds a name
//! for, and `link_content` reads from as many connections as it takes.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let stack = tests::Stack::start().await;
//! # let broker = stack.broker.base();
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("backup.tar");
//! # std::fs::write(&path, vec![7; 20 << 20])?;
//! use uploader::{PutOptions, Silent, Uploader};
//!
//! let uploader = Uploader::builder().broker(broker).concurrency(8).build()?;
//! let uploaded = uploader.put(&path, &PutOptions::default(), Silent).await?;
//! println!("{} {}", uploaded.object.key, uploaded.object.etag);
//! # assert_eq!(stack.bucket.get("backup.tar").await.unwrap().bytes, vec![7; 20 << 20]);
//! # Ok(())
//! # }
//! ```
//!
//! [`Uploader::start`] has an upload run by itself: its [`UploadHandle`] is awaited, watched by a stream of [`Event`]s, and
//! cancelled. Dropping that, or the future of [`Uploader::put`], stops it; the upload stays open, and another call for the
//! same file continues it.
//!
//! There is no global state: connections, limits and the threads that hash belong to an [`Uploader`] and end with its last
//! clone. From the environment only proxies are taken (`HTTPS_PROXY`, `NO_PROXY` and their like), when it is built.

mod answer;
mod body;
mod broker;
mod budget;
mod complete;
mod error;
mod events;
mod fetch;
mod frames;
mod handle;
mod hash;
mod held;
mod identity;
mod journal;
mod limit;
mod link;
mod link_content;
mod mounts;
mod naming;
mod options;
mod origin;
mod plan;
mod present;
mod preview;
mod progress;
mod put;
mod rate;
mod records;
mod refused;
mod resume;
mod retry;
mod sign;
mod small;
mod source;
mod stream;
mod transfer;
mod trust;
mod verify;
mod walk;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::redirect::Policy;
use serde::Serialize;
use shared::api::{CompletedObject, ListObjects, Me, ObjectList, OpenUploads, UploadStatus};
use shared::{ObjectKey, UploadId};

use crate::body::BufferPool;
use crate::broker::Broker;
use crate::budget::Budget;
pub use crate::error::{ErrorKind, Refusal, TransportError, UploadError};
pub use crate::events::Events;
pub use crate::fetch::Downloaded;
pub use crate::handle::{Cancelled, Input, UploadHandle};
use crate::hash::Hashing;
use crate::journal::JournalDir;
use crate::limit::Limiter;
pub use crate::link::Link;
use crate::options::Settings;
pub use crate::options::{DEFAULT_BROKER, DEFAULT_CONCURRENCY, GetOptions, MAX_CONCURRENCY, PutOptions, check_broker};
pub use crate::present::{Checked, Named, Presence, Present};
pub use crate::preview::{Bound, Limit, Planned};
pub use crate::progress::{Anew, Event, Progress, Resumed, Silent};
use crate::rate::Rate;
pub use crate::retry::RetryPolicy;
pub use crate::small::SmallFile;
pub use crate::source::{Change, SourceError};
use crate::stream::Streaming;
pub use crate::walk::{Found, WalkOptions};

/// Most bytes of a file for [`Uploader::put_together`].
pub const MAX_SMALL: u64 = small::SMALL;
/// Most files for [`Uploader::put_together`].
pub const MAX_TOGETHER: usize = small::MOST_FILES;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Uploads files by way of one broker. Cheap to clone; clones share connections and the limits on parts under way and on bytes a second.
#[derive(Clone, Debug)]
pub struct Uploader(Arc<Engine>);

/// What every upload of one [`Uploader`] shares.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) settings: Settings,
    pub(crate) broker: Broker,
    pub(crate) store: Client,
    /// For the hosts of links, which get nothing that is meant for broker or store.
    pub(crate) origins: Client,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) rate: Arc<Rate>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) buffers: BufferPool,
    pub(crate) hashing: Hashing,
    /// Where runs leave what the next one should know.
    pub(crate) journals: Option<Arc<JournalDir>>,
    /// Uploads of streams that are under way: nobody could continue them.
    pub(crate) streams: Mutex<Vec<Streaming>>,
}

/// A file that has become an object.
#[derive(Clone, Debug, Serialize)]
pub struct Uploaded {
    /// What the broker named the upload by.
    pub upload_id: UploadId,
    /// The object, as the store describes it.
    #[serde(flatten)]
    pub object: CompletedObject,
    /// Bytes that this run sent, without those sent again.
    pub sent_bytes: u64,
    /// Bytes that an earlier run had sent.
    pub kept_bytes: u64,
    /// From opening the file to the finished object.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
}

impl Uploaded {
    /// An upload that has ended well, told to whoever watches it.
    pub(crate) fn told(
        upload_id: UploadId,
        object: CompletedObject,
        kept_bytes: u64,
        started: Instant,
        progress: &dyn Progress,
    ) -> Self {
        let uploaded = Self {
            upload_id,
            sent_bytes: object.size - kept_bytes,
            kept_bytes,
            elapsed: started.elapsed(),
            object,
        };
        progress.event(&Event::Completed(Arc::new(uploaded.clone())));
        uploaded
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

/// Settings of an [`Uploader`] to be.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    broker: String,
    token: Option<Secret>,
    concurrency: usize,
    retry: RetryPolicy,
    stall: Duration,
    limit_rate: Option<NonZeroU64>,
    ca_file: Option<PathBuf>,
    hash_threads: Option<NonZeroUsize>,
    journal_dir: Option<PathBuf>,
}

/// Text that `Debug` hides.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Builder {
    /// The broker's address; [`DEFAULT_BROKER`] if it is not given.
    pub fn broker(mut self, url: impl Into<String>) -> Self {
        self.broker = url.into();
        self
    }

    /// The token that shows the broker who asks; none if it is not given.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret(token.into()));
        self
    }

    /// Parts on their way at once, 1 to [`MAX_CONCURRENCY`]; [`DEFAULT_CONCURRENCY`] if it is not given.
    pub fn concurrency(mut self, parts: usize) -> Self {
        self.concurrency = parts;
        self
    }

    /// How often to try again, and how long to wait between.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How long a part may go without a byte moving before it is sent anew; 30 seconds if it is not given.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall = timeout;
        self
    }

    /// Most bytes of files that are sent in a second, all parts together; as many as the network takes if it is not given.
    /// [`Uploader::set_limit_rate`] changes it later.
    pub fn limit_rate(mut self, bytes_per_second: NonZeroU64) -> Self {
        self.limit_rate = Some(bytes_per_second);
        self
    }

    /// A file of certificates in PEM: authorities that are trusted to vouch for broker and store, beside those that the
    /// system trusts. It is read by [`Builder::build`].
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Threads that hash parts, all uploads and downloads together; one for each of the machine's processors if it is not
    /// given. They are started when the first file comes that needs them, and end with the last clone of the uploader.
    pub fn hash_threads(mut self, threads: NonZeroUsize) -> Self {
        self.hash_threads = Some(threads);
        self
    }

    /// A directory for what the next run should know of uploads that this one does not bring to their end, and of files that
    /// have become objects; made if it is not there, for this user alone. Neither URLs nor tokens are kept in it. Where it
    /// cannot be used, a [`Event::Warning`] says so once, and uploads do without. If it is not given, nothing is kept.
    pub fn journal_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.journal_dir = Some(path.into());
        self
    }

    /// Checks the settings and makes the [`Uploader`]; nothing is connected to yet.
    ///
    /// # Errors
    /// [`UploadError::Settings`] names the setting that cannot be used.
    pub fn build(self) -> Result<Uploader, UploadError> {
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            return Err(UploadError::Settings(format!(
                "a concurrency of {} is outside 1 to {MAX_CONCURRENCY}",
                self.concurrency
            )));
        }
        if self.retry.tries == 0 || self.stall.is_zero() {
            let why = "there must be at least one try, and a stall time above zero";
            return Err(UploadError::Settings(why.into()));
        }
        let settings = Settings {
            broker: options::broker_url(&self.broker)?,
            token: self.token.map(|token| options::Token::new(&token.0)).transpose()?,
            concurrency: self.concurrency,
            retry: self.retry,
            stall: self.stall,
        };
        let authorities = match &self.ca_file {
            Some(path) => trust::certificates(path)?,
            None => Vec::new(),
        };
        let client = || {
            let builder = Client::builder()
                .tls_certs_merge(authorities.clone())
                .http1_only()
                .redirect(Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(CONNECT_TIMEOUT)
                .user_agent(concat!("uploader/", env!("CARGO_PKG_VERSION")));
            let trouble = |error: reqwest::Error| {
                UploadError::Settings(format!("HTTPS cannot be set up here: {}", error.without_url()))
            };
            (builder, trouble)
        };
        let (for_broker, trouble) = client();
        let budget = Arc::new(Budget::new());
        let broker = Broker::new(for_broker.build().map_err(trouble)?, settings.clone(), budget.clone());
        let (for_store, trouble) = client();
        // A dead path shows as bytes that stay unacknowledged, which only the system sees.
        #[cfg(target_os = "linux")]
        let for_store = for_store.tcp_user_timeout(settings.stall);
        let store = for_store
            .pool_max_idle_per_host(settings.concurrency)
            .build()
            .map_err(trouble)?;
        let (for_origins, trouble) = client();
        let origins = for_origins.build().map_err(trouble)?;
        Ok(Uploader(Arc::new(Engine {
            limiter: Limiter::new(settings.concurrency),
            rate: Arc::new(Rate::new(self.limit_rate)),
            budget,
            settings,
            broker,
            store,
            origins,
            buffers: BufferPool::default(),
            hashing: Hashing::new(self.hash_threads),
            journals: self.journal_dir.map(|path| Arc::new(JournalDir::new(path))),
            streams: Mutex::default(),
        })))
    }
}

impl Uploader {
    /// Begins with every setting at its default.
    pub fn builder() -> Builder {
        Builder {
            broker: DEFAULT_BROKER.into(),
            token: None,
            concurrency: DEFAULT_CONCURRENCY,
            retry: RetryPolicy::default(),
            stall: Duration::from_secs(30),
            limit_rate: None,
            ca_file: None,
            hash_threads: None,
            journal_dir: None,
        }
    }

    /// Most bytes of files that are sent in a second, all uploads of this uploader and its clones together; nothing where
    /// there is no limit.
    pub fn limit_rate(&self) -> Option<NonZeroU64> {
        self.0.rate.limit()
    }

    /// Sets another limit on bytes a second, or none; parts that are under way follow it at once.
    pub fn set_limit_rate(&self, bytes_per_second: Option<NonZeroU64>) {
        self.0.rate.set_limit(bytes_per_second);
    }

    /// Uploads a file, continuing an upload of it that is still open. To be awaited on a tokio runtime of several threads;
    /// a clone of an `Arc` serves as `progress` where it is to be looked at afterwards.
    ///
    /// # Errors
    /// See [`UploadError`]. Only [`UploadError::SourceChanged`] aborts the upload; after any other failure it stays open,
    /// until the broker's time for it is over, and calling again continues it.
    pub async fn put(
        &self,
        path: impl AsRef<Path>,
        options: &PutOptions,
        progress: impl Progress + 'static,
    ) -> Result<Uploaded, UploadError> {
        transfer::put(self.0.clone(), path.as_ref(), options, Arc::new(progress)).await
    }

    /// Begins to upload a file (a path), the content of a [`Link`], or what a reader gives ([`Input::reader`]), and returns at
    /// once. The handle is awaited for the outcome, tells what happens as a stream, and cancels. To be called on a tokio
    /// runtime of several threads.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let stack = tests::Stack::start().await;
    /// # let broker = stack.broker.base();
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("backup.tar");
    /// # std::fs::write(&path, vec![7; 20 << 20])?;
    /// use uploader::{Event, PutOptions, Uploader};
    ///
    /// let uploader = Uploader::builder().broker(broker).build()?;
    /// let upload = uploader.start(&path, &PutOptions::default());
    /// let mut events = upload.events();
    /// let mut sent = 0;
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::Sent { bytes } => sent += bytes,
    ///         Event::Unsent { bytes } => sent -= bytes,
    ///         Event::Retrying { what, .. } => eprintln!("{what}"),
    ///         _ => {}
    ///     }
    /// }
    /// let uploaded = upload.await?;
    /// assert_eq!(sent, uploaded.object.size);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Awaiting the handle fails as [`Uploader::put`], [`Uploader::put_link`] and [`Uploader::put_reader`] do.
    pub fn start(&self, input: impl Into<Input>, options: &PutOptions) -> UploadHandle {
        UploadHandle::start(self.0.clone(), input.into(), options.clone())
    }

    /// Finds out what is at the store already under the keys that uploads of these names with `options` would have, so that
    /// files that are there can be left out: [`Present::check`] tells of each. `progress` hears where that has to be done by
    /// what earlier runs have recorded alone.
    ///
    /// # Errors
    /// The broker cannot be reached, does not know the token, or has no such destination.
    pub async fn present(
        &self,
        named: &[Named],
        options: &PutOptions,
        progress: &dyn Progress,
    ) -> Result<Present, UploadError> {
        Present::find(self.0.clone(), named, options, true, progress).await
    }

    /// As [`Uploader::present`], for a run that sends nothing: what earlier runs have recorded counts, and nothing is recorded.
    ///
    /// # Errors
    /// As for [`Uploader::present`].
    pub async fn preview_present(
        &self,
        named: &[Named],
        options: &PutOptions,
        progress: &dyn Progress,
    ) -> Result<Present, UploadError> {
        Present::find(self.0.clone(), named, options, false, progress).await
    }

    /// Uploads files of at most [`MAX_SMALL`] bytes together, up to [`MAX_TOGETHER`] of them: two requests to the broker for all,
    /// and one to the store for each. All their bytes are in memory at once. An outcome each, in their order; a file that
    /// something is special about goes the way of [`Uploader::put`]. To be awaited as that.
    ///
    /// # Errors
    /// What concerns all of them: the broker cannot be reached, or does not know the token. Files may have been sent; sending
    /// them again does no harm.
    pub async fn put_together(&self, files: &[SmallFile]) -> Result<Vec<Result<Uploaded, UploadError>>, UploadError> {
        small::put_batch(self.0.clone(), files).await
    }

    /// Uploads what `reader` gives until it ends, however much that is, under the name in `options`. A few parts of it are in
    /// memory, 64 MiB until 156 GiB have come and more beyond, where parts have to grow; with [`PutOptions::part_size`] four
    /// of those. To be awaited as [`Uploader::put`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let stack = tests::Stack::start().await;
    /// # let broker = stack.broker.base();
    /// use uploader::{PutOptions, Silent, Uploader};
    ///
    /// let uploader = Uploader::builder().broker(broker).build()?;
    /// let options = PutOptions {
    ///     name: Some("greetings/hello.txt".into()),
    ///     ..PutOptions::default()
    /// };
    /// let uploaded = uploader.put_reader("Hello".as_bytes(), &options, Silent).await?;
    /// assert_eq!(uploaded.object.size, 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`UploadError`]; [`UploadError::Settings`] where `options` has no name. The upload is aborted, since nobody could
    /// continue it.
    pub async fn put_reader(
        &self,
        reader: impl std::io::Read + Send + 'static,
        options: &PutOptions,
        progress: impl Progress + 'static,
    ) -> Result<Uploaded, UploadError> {
        stream::put_reader(self.0.clone(), Box::new(reader), options, Arc::new(progress)).await
    }

    /// Uploads the content of a link as it comes, without a file in between; at most four parts of it are in memory. Its name
    /// is the one in `options`, else the one that its host gives (RFC 6266) or its URL ends with. Where the connection breaks
    /// off and the host can give the rest of the same content, it is asked for that (RFC 9110 section 14); otherwise the upload
    /// fails, and never is what came taken for all. To be awaited as [`Uploader::put`].
    ///
    /// ```no_run
    /// # async fn example(uploader: uploader::Uploader) -> Result<(), uploader::UploadError> {
    /// use uploader::{PutOptions, Silent};
    ///
    /// let link = "https://example.org/db.dump?signature=secret".parse()?;
    /// uploader.put_link(&link, &PutOptions::default(), Silent).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`UploadError`]: [`UploadError::Settings`] where nothing gives a name, `Origin…` for what is wrong at the link's
    /// host, [`UploadError::SourceChanged`] where the content became another while it was read. None of them holds the link's
    /// query, user or password. The upload is aborted; another call begins anew.
    pub async fn put_link(
        &self,
        link: &Link,
        options: &PutOptions,
        progress: impl Progress + 'static,
    ) -> Result<Uploaded, UploadError> {
        stream::put_link(self.0.clone(), link, options, Arc::new(progress)).await
    }

    /// Downloads the object at `key` to the file `path`, in ranges of 8 MiB, as many at once as parts would be, and compares
    /// what arrived with the object's ETag. The file has its name only when it is whole; the options say whether it may
    /// take the place of another. To be awaited as [`Uploader::put`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let stack = tests::Stack::with_downloads().await;
    /// # let broker = stack.broker.base();
    /// # let directory = tempfile::tempdir()?;
    /// # std::fs::write(directory.path().join("source"), "Hello")?;
    /// use uploader::{GetOptions, PutOptions, Silent, Uploader};
    ///
    /// let uploader = Uploader::builder().broker(broker).build()?;
    /// # let source = directory.path().join("source");
    /// let object = uploader.put(source, &PutOptions::default(), Silent).await?.object;
    /// let target = directory.path().join("copy");
    /// let downloaded = uploader.get(&object.key, &target, &GetOptions::default(), Silent).await?;
    /// assert!(downloaded.verified);
    /// assert_eq!(std::fs::read(target)?, b"Hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`UploadError`]. Nothing is left of the file, and what was there before is as it was.
    pub async fn get(
        &self,
        key: &ObjectKey,
        path: impl AsRef<Path>,
        options: &GetOptions,
        progress: impl Progress + 'static,
    ) -> Result<Downloaded, UploadError> {
        fetch::fetch(self.0.clone(), key, path.as_ref(), options, Arc::new(progress)).await
    }

    /// One page of the objects that the caller may see.
    ///
    /// # Errors
    /// The broker cannot be reached, or does not let the caller look.
    pub async fn objects(&self, query: &ListObjects) -> Result<ObjectList, UploadError> {
        self.0.broker.objects(query).await
    }

    /// One page of the caller's uploads that have not ended; `cursor` is the page before's.
    ///
    /// # Errors
    /// The broker cannot be reached, or does not know the token.
    pub async fn open_uploads(&self, cursor: Option<String>) -> Result<OpenUploads, UploadError> {
        self.0.broker.open_uploads(cursor).await
    }

    /// The uploads of streams whose futures were dropped after the broker had been asked to complete them, each told once: they
    /// may have become objects, as [`Uploader::status`] says.
    pub fn completing_streams(&self) -> Vec<UploadId> {
        self.0.take_streams(true)
    }

    /// Gives up the uploads of streams whose futures were dropped before their end, and before the broker was asked to complete
    /// them: nobody could continue them. How many there were, and how many of them the broker could be told of.
    pub async fn abort_streams(&self) -> (usize, usize) {
        let streams = self.0.take_streams(false);
        let mut told = 0;
        for id in &streams {
            told += usize::from(self.0.broker.abort(id, &Silent).await.is_ok());
        }
        (streams.len(), told)
    }

    /// Where an upload stands.
    ///
    /// # Errors
    /// The broker cannot be reached, or knows no such upload of this caller.
    pub async fn status(&self, id: &UploadId) -> Result<UploadStatus, UploadError> {
        self.0.broker.status(id, &Silent).await
    }

    /// Gives an upload up and has the store remove its parts. Done twice, it is done.
    ///
    /// # Errors
    /// The broker cannot be reached, or knows no such upload of this caller, or the upload is being completed.
    pub async fn abort(&self, id: &UploadId) -> Result<(), UploadError> {
        self.0.broker.abort(id, &Silent).await
    }

    /// Who the broker takes the caller for, and what they may do.
    ///
    /// # Errors
    /// The broker cannot be reached, or does not know the token.
    pub async fn whoami(&self) -> Result<Me, UploadError> {
        self.0.broker.me(&Silent).await
    }
}
