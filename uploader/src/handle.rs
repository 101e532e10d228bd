//! An upload that runs by itself: awaited for its object, watched by its events, cancelled so that it can be continued.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use shared::UploadId;
use tokio::task::{JoinError, JoinHandle};

use crate::error::UploadError;
use crate::events::{Events, Queue};
use crate::link::Link;
use crate::options::PutOptions;
use crate::progress::Silent;
use crate::{Engine, Uploaded, stream, transfer};

/// What is uploaded.
#[non_exhaustive]
pub enum Input {
    /// A file, whose upload can be continued.
    File(PathBuf),
    /// What a reader gives until it ends.
    Reader(Box<dyn Read + Send>),
    /// The content of a link.
    Link(Link),
}

impl Input {
    /// What `reader` gives until it ends, such as standard input.
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        Self::Reader(Box::new(reader))
    }

    const fn can_be_continued(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Reader(_) | Self::Link(_) => false,
        }
    }
}

impl<P: AsRef<Path>> From<P> for Input {
    fn from(path: P) -> Self {
        Self::File(path.as_ref().to_owned())
    }
}

impl From<Link> for Input {
    fn from(link: Link) -> Self {
        Self::Link(link)
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Reader(_) => f.write_str("Reader"),
            Self::Link(link) => f.debug_tuple("Link").field(link).finish(),
        }
    }
}

/// An upload under way. Awaiting it gives the object; dropping it stops the upload, as [`UploadHandle::cancel`] does, but
/// without waiting until it has stopped.
#[must_use = "dropping it stops the upload"]
pub struct UploadHandle {
    engine: Arc<Engine>,
    queue: Arc<Queue>,
    can_be_continued: bool,
    running: JoinHandle<Result<Uploaded, UploadError>>,
}

/// What a cancelled upload has come to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cancelled {
    /// It had been completed before it could be stopped.
    Completed(Box<Uploaded>),
    /// It stays open at the broker, and uploading the same file again continues it. Where every part had arrived, it may yet
    /// become an object by itself.
    Kept {
        /// What the broker names it by.
        upload_id: UploadId,
        /// Bytes of the file that the store has.
        kept_bytes: u64,
    },
    /// A stream that had been sent whole, and that the broker had been asked to complete: whether it has become an object,
    /// [`Uploader::status`](crate::Uploader::status) says.
    Completing {
        /// What the broker names it by.
        upload_id: UploadId,
    },
    /// The broker had been asked to open it, and had not answered: it may be open there, without a byte in it, until its time is
    /// over. Of a file, uploading it again continues it.
    Unanswered,
    /// Nothing is left of it: it had not begun, or nobody could have continued it.
    Nothing,
}

impl UploadHandle {
    pub(crate) fn start(engine: Arc<Engine>, input: Input, options: PutOptions) -> Self {
        let queue = Arc::<Queue>::default();
        let progress = Arc::new(queue.teller());
        let can_be_continued = input.can_be_continued();
        let at_work = engine.clone();
        let running = tokio::spawn(async move {
            match input {
                Input::File(path) => transfer::put(at_work, &path, &options, progress).await,
                Input::Reader(reader) => stream::put_reader(at_work, reader, &options, progress).await,
                Input::Link(link) => stream::put_link(at_work, &link, &options, progress).await,
            }
        });
        Self {
            engine,
            queue,
            can_be_continued,
            running,
        }
    }

    /// What happens, from the first event that nobody has read yet. Reading is up to the caller: nothing waits for it.
    pub fn events(&self) -> Events {
        self.queue.events()
    }

    /// What the broker names the upload by; nothing until it has admitted it.
    pub fn upload_id(&self) -> Option<UploadId> {
        self.queue.begun().id
    }

    /// Stops the upload and waits until no part of it is on its way. What arrived of a file is kept; a stream, which nobody
    /// could continue, is given up unless all of it had been sent.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let stack = tests::Stack::start().await;
    /// # let broker = stack.broker.base();
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("backup.tar");
    /// # std::fs::write(&path, vec![7; 40 << 20])?;
    /// use uploader::{Cancelled, Event, PutOptions, Uploader};
    ///
    /// let uploader = Uploader::builder().broker(broker).concurrency(1).build()?;
    /// let options = PutOptions::default();
    /// let upload = uploader.start(&path, &options);
    /// let mut events = upload.events();
    /// while !matches!(events.next().await, None | Some(Event::PartStored { .. })) {}
    /// match upload.cancel().await? {
    ///     Cancelled::Kept { kept_bytes, .. } => println!("the store has {kept_bytes} bytes of it"),
    ///     ended => println!("{ended:?}"),
    /// }
    ///
    /// let uploaded = uploader.start(&path, &options).await?;
    /// assert_eq!(uploaded.kept_bytes + uploaded.sent_bytes, uploaded.object.size);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The upload had failed before, or the broker could not be told that a stream is given up: it ends that in its time.
    pub async fn cancel(mut self) -> Result<Cancelled, UploadError> {
        self.running.abort();
        let ended = (&mut self.running).await;
        // Whatever sends, reads or waits for this upload holds its progress until it has stopped.
        self.queue.ended().await;
        match ended {
            Ok(Ok(uploaded)) => return Ok(Cancelled::Completed(Box::new(uploaded))),
            Ok(Err(error)) => return Err(error),
            Err(error) if error.is_cancelled() => {}
            Err(error) => return Err(ended_early(&error)),
        }
        let begun = self.queue.begun();
        match begun.id {
            None if begun.asked => Ok(Cancelled::Unanswered),
            None => Ok(Cancelled::Nothing),
            Some(upload_id) if self.can_be_continued => Ok(Cancelled::Kept {
                upload_id,
                kept_bytes: begun.stored,
            }),
            Some(upload_id) if self.engine.end_stream(&upload_id) => Ok(Cancelled::Completing { upload_id }),
            Some(upload_id) => {
                self.engine.broker.abort(&upload_id, &Silent).await?;
                Ok(Cancelled::Nothing)
            }
        }
    }
}

impl Future for UploadHandle {
    type Output = Result<Uploaded, UploadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(Pin::new(&mut self.running).poll(context));
        Poll::Ready(ended.unwrap_or_else(|error| Err(ended_early(&error))))
    }
}

impl Drop for UploadHandle {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl fmt::Debug for UploadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadHandle")
            .field("upload_id", &self.upload_id())
            .finish_non_exhaustive()
    }
}

fn ended_early(error: &JoinError) -> UploadError {
    UploadError::Contradiction(format!("the upload's task ended early: {error}"))
}
