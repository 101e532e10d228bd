//! A stream, which is read once: part after part until it ends, each held in memory until the store has it.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::api::CreateUpload;
use shared::{MIB, PartNumber, PartPlan, PartSizes, UploadId};
use tokio::sync::{Semaphore, mpsc};

use crate::error::UploadError;
use crate::link::Link;
use crate::link_content::LinkContent;
use crate::options::PutOptions;
use crate::origin::Origin;
use crate::progress::{Event, Progress, Resumed};
use crate::put::Part;
use crate::source::{Source, SourceError};
use crate::transfer::{Upload, Window};
use crate::{Engine, Uploaded, plan};

/// Bytes in a part unless others are asked for; in the first ones of those that grow, where the store lets them.
pub(crate) const PART_SIZE: u64 = 16 * MIB;
/// Shares of the memory for parts: with one each, there is a part that is read, and some on their way.
const SHARES: usize = 4;
/// Shares of a part that has grown: one is read while another is on its way.
const SHARES_OF_GROWN: u32 = 2;

/// Where a stream's bytes come from.
enum Feed {
    /// Reading blocks, so it is done on a thread that may.
    Reader(Box<dyn Read + Send>),
    /// The network, which does not.
    Link(Box<LinkContent>),
}

/// A stream that has been asked for, and not read yet.
struct Stream {
    source: Source,
    feed: Feed,
    asked: CreateUpload,
}

/// Uploads what `reader` gives until it ends.
pub(crate) async fn put_reader(
    engine: Arc<Engine>,
    reader: Box<dyn Read + Send>,
    options: &PutOptions,
    progress: Arc<dyn Progress>,
) -> Result<Uploaded, UploadError> {
    let started = Instant::now();
    let source = Source::stream("standard input", None);
    let stream = Stream {
        asked: options.request(&source)?,
        feed: Feed::Reader(reader),
        source,
    };
    put(engine, stream, started, progress).await
}

/// Uploads the content of `link`.
pub(crate) async fn put_link(
    engine: Arc<Engine>,
    link: &Link,
    options: &PutOptions,
    progress: Arc<dyn Progress>,
) -> Result<Uploaded, UploadError> {
    let started = Instant::now();
    let origin = Origin::new(engine.clone(), link.clone(), progress.clone());
    let content = LinkContent::open(origin).await?;
    let Some(name) = options.name.as_deref().or(content.name()) else {
        return Err(UploadError::Settings(format!(
            "{link}: neither its host nor its end gives it a name; give it one with --name"
        )));
    };
    let options = PutOptions {
        name: Some(name.to_owned()),
        ..options.clone()
    };
    let source = Source::stream(&link.to_string(), content.size());
    let mut asked = options.request(&source)?;
    asked.content_type = asked.content_type.or(content.content_type().map(str::to_owned));
    let stream = Stream {
        source,
        feed: Feed::Link(Box::new(content)),
        asked,
    };
    put(engine, stream, started, progress).await
}

/// Uploads a stream until it ends. What fails is aborted, since nobody can read the stream again.
async fn put(
    engine: Arc<Engine>,
    stream: Stream,
    started: Instant,
    progress: Arc<dyn Progress>,
) -> Result<Uploaded, UploadError> {
    let Stream {
        source,
        feed,
        mut asked,
    } = stream;
    let has_room = |size| size <= PART_SIZE * u64::from(PartNumber::MAX);
    // What is known to be longer gets parts as large as it needs.
    let usual = asked.size.is_none_or(has_room).then_some(PART_SIZE);
    asked.growing_parts = asked.size.is_none() && asked.part_size.is_none();
    asked.part_size = asked.part_size.or(usual);
    progress.event(&Event::Creating);
    let (created, _) = engine.broker.create(&asked, &*progress).await?;
    let sizes = if created.growing_parts {
        PartSizes::Growing
    } else {
        PartSizes::Equal(created.part_size)
    };
    let planned = match source.size() {
        Some(size) => Some(plan::agreed(&created, size)?),
        None => None,
    };
    engine.begin_stream(&created.upload_id);
    progress.event(&Event::Started {
        upload_id: created.upload_id.clone(),
        key: created.key,
        size: source.size(),
        part_size: created.part_size,
        part_count: planned.map(|plan| plan.part_count()),
        stored: 0,
        resumed: Resumed::New,
    });
    let upload = Arc::new(Upload {
        engine,
        source: Arc::new(source),
        id: created.upload_id,
        digests: Mutex::default(),
        journal: None,
        progress,
    });
    let sent = upload.sending(|ready| upload.read_parts(feed, sizes, ready)).await;
    let completed = match sent {
        Ok(size) => match PartPlan::for_stream(size, sizes, u64::MAX) {
            Ok(plan) => {
                upload.engine.stream_completes(&upload.id);
                upload.complete_sent(&plan).await
            }
            Err(error) => Err(UploadError::Contradiction(error.to_string())),
        },
        Err(error) => Err(error),
    };
    upload.engine.end_stream(&upload.id);
    match completed {
        Ok(object) => {
            let id = upload.id.clone();
            Ok(Uploaded::told(id, object, 0, started, &*upload.progress))
        }
        // There is an object, if not the right one: nothing is left to give up.
        Err(over @ UploadError::OtherBytes { .. }) => Err(over),
        Err(error) => Err(upload.give_up(error).await),
    }
}

/// The upload of a stream that is under way.
#[derive(Debug)]
pub(crate) struct Streaming {
    id: UploadId,
    /// The broker has been asked to complete it: it may be an object.
    completing: bool,
}

impl Engine {
    fn streams(&self) -> MutexGuard<'_, Vec<Streaming>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_stream(&self, id: &UploadId) {
        self.streams().push(Streaming {
            id: id.clone(),
            completing: false,
        });
    }

    fn stream_completes(&self, id: &UploadId) {
        let mut streams = self.streams();
        for stream in streams.iter_mut().filter(|stream| stream.id == *id) {
            stream.completing = true;
        }
    }

    /// Forgets the stream's upload; whether the broker had been asked to complete it.
    pub(crate) fn end_stream(&self, id: &UploadId) -> bool {
        let mut streams = self.streams();
        let place = streams.iter().position(|stream| stream.id == *id);
        place.is_some_and(|place| streams.swap_remove(place).completing)
    }

    /// The uploads of streams that the broker had been asked to complete, and with `false` the others; they are forgotten.
    pub(crate) fn take_streams(&self, completing: bool) -> Vec<UploadId> {
        let taken = self
            .streams()
            .extract_if(.., |stream| stream.completing == completing)
            .collect::<Vec<_>>();
        taken.into_iter().map(|stream| stream.id).collect()
    }
}

impl Upload {
    /// Reads, hashes and signs part after part, as fast as the store takes them; how many bytes there were.
    async fn read_parts(
        &self,
        mut feed: Feed,
        sizes: PartSizes,
        ready: mpsc::Sender<Window>,
    ) -> Result<u64, UploadError> {
        let room = Arc::new(Semaphore::new(SHARES));
        let mut offset = 0;
        for number in PartNumber::up_to(PartNumber::MAX) {
            let part_size = sizes.part_size(number);
            let shares = match sizes {
                PartSizes::Growing if part_size > PART_SIZE => SHARES_OF_GROWN,
                PartSizes::Growing | PartSizes::Equal(_) => 1,
            };
            let Ok(share) = room.clone().acquire_many_owned(shares).await else {
                break;
            };
            let bytes;
            (feed, bytes) = self.read(feed, part_size, offset).await?;
            let length = bytes.len() as u64;
            if length > 0 {
                if let Some(held) = self.source.held() {
                    held.hold(offset, bytes, share);
                }
                let range = offset..offset + length;
                let digests = self
                    .engine
                    .hashing
                    .hash(self.source.clone(), vec![range.clone()])
                    .await?;
                self.note(digests.iter().map(|digest| (number, *digest)));
                let parts = digests.into_iter().map(|digest| Part {
                    number,
                    range: range.clone(),
                    digest,
                });
                let window = self.sign_window(parts.collect()).await?;
                offset += length;
                // Whoever sends has failed, and says so.
                if ready.send(window).await.is_err() {
                    return Ok(offset);
                }
            }
            if length < part_size {
                return Ok(offset);
            }
        }
        let (_, more) = self.read(feed, 1, offset).await?;
        if more.is_empty() {
            return Ok(offset);
        }
        Err(UploadError::Settings(format!(
            "the stream goes on after {} parts and {offset} bytes, and a store takes no more parts; ask for larger ones (with \
             --part-size)",
            PartNumber::MAX
        )))
    }

    /// Reads up to `length` bytes, fewer only where the stream ends; the feed comes back with them.
    async fn read(&self, feed: Feed, length: u64, offset: u64) -> Result<(Feed, Vec<u8>), UploadError> {
        let mut reader = match feed {
            Feed::Reader(reader) => reader,
            Feed::Link(mut content) => {
                let bytes = content.read(length).await?;
                return Ok((Feed::Link(content), bytes));
            }
        };
        let reading = tokio::task::spawn_blocking(move || {
            // Room for just the part; memory is taken as it fills.
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            reader
                .by_ref()
                .take(length)
                .read_to_end(&mut bytes)
                .map(|_| (Feed::Reader(reader), bytes))
        });
        let read = reading.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let path = self.source.path().to_owned();
        read.map_err(|cause| SourceError::Read { path, offset, cause }.into())
    }
}
