//! A stream of unknown length: equal parts until it ends, each held in memory until the store has it.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use shared::{MIB, PartNumber, PartPlan};
use tokio::sync::{Semaphore, mpsc};

use crate::error::UploadError;
use crate::options::PutOptions;
use crate::progress::{Event, Progress};
use crate::put::Part;
use crate::source::{Source, SourceError};
use crate::transfer::{Upload, Window};
use crate::{Engine, Uploaded, hash};

/// Bytes in a part unless others are asked for: room for 156 GiB.
pub(crate) const PART_SIZE: u64 = 16 * MIB;
/// Parts in memory at once: one that is read, and some on their way.
const HELD_PARTS: usize = 4;

/// Uploads what `reader` gives until it ends. What fails is aborted, since nobody can read the stream again.
pub(crate) async fn put(
    engine: Arc<Engine>,
    reader: Box<dyn Read + Send>,
    options: &PutOptions,
    progress: Arc<dyn Progress>,
) -> Result<Uploaded, UploadError> {
    let started = Instant::now();
    let source = Arc::new(Source::stream("standard input"));
    let mut asked = options.request(&source)?;
    asked.part_size = asked.part_size.or(Some(PART_SIZE));
    let created = engine.broker.create(&asked, &*progress).await?;
    let part_size = created.part_size;
    progress.event(&Event::Started {
        upload_id: &created.upload_id,
        key: &created.key,
        size: None,
        part_size,
        part_count: None,
        stored: 0,
    });
    let upload = Arc::new(Upload {
        engine,
        source,
        id: created.upload_id,
        progress,
    });
    let sent = upload
        .sending(|ready| upload.read_parts(reader, part_size, ready))
        .await;
    let completed = match sent {
        Ok(size) => match PartPlan::for_size(size, Some(part_size), u64::MAX) {
            Ok(plan) => upload.complete(&plan).await,
            Err(error) => Err(UploadError::Contradiction(error.to_string())),
        },
        Err(error) => Err(error),
    };
    match completed {
        Ok(object) => {
            let uploaded = Uploaded {
                upload_id: upload.id.clone(),
                sent_bytes: object.size,
                kept_bytes: 0,
                elapsed: started.elapsed(),
                object,
            };
            upload.progress.event(&Event::Completed(&uploaded));
            Ok(uploaded)
        }
        Err(error) => {
            upload.abort().await;
            Err(error)
        }
    }
}

impl Upload {
    /// Reads, hashes and signs part after part, as fast as the store takes them; how many bytes there were.
    async fn read_parts(
        &self,
        mut reader: Box<dyn Read + Send>,
        part_size: u64,
        ready: mpsc::Sender<Window>,
    ) -> Result<u64, UploadError> {
        let room = Arc::new(Semaphore::new(HELD_PARTS));
        let mut offset = 0;
        for number in PartNumber::up_to(PartNumber::MAX) {
            let Ok(share) = room.clone().acquire_owned().await else {
                break;
            };
            let bytes;
            (reader, bytes) = self.read(reader, part_size, offset).await?;
            let length = bytes.len() as u64;
            if length > 0 {
                if let Some(held) = self.source.held() {
                    held.hold(offset, bytes, share);
                }
                let range = offset..offset + length;
                let digests = hash::hash(self.source.clone(), vec![range.clone()]).await?;
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
        let (_, more) = self.read(reader, 1, offset).await?;
        if more.is_empty() {
            return Ok(offset);
        }
        Err(UploadError::Settings(format!(
            "the stream goes on after {} parts of {part_size} bytes, and a store takes no more; cut it into larger parts with \
             --part-size",
            PartNumber::MAX
        )))
    }

    /// Reads up to `length` bytes, fewer only where the stream ends; the reader comes back with them.
    async fn read(
        &self,
        mut reader: Box<dyn Read + Send>,
        length: u64,
        offset: u64,
    ) -> Result<(Box<dyn Read + Send>, Vec<u8>), UploadError> {
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            reader
                .by_ref()
                .take(length)
                .read_to_end(&mut bytes)
                .map(|_| (reader, bytes))
        });
        let read = reading.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let path = self.source.path().to_owned();
        read.map_err(|cause| SourceError::Read { path, offset, cause }.into())
    }
}
