//! A part's bytes on their way from the file to the network: read by a thread of their own, a few chunks ahead.

use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::progress::{Event, Progress};
use crate::rate::Pace;
use crate::source::{Source, SourceError};

/// Bytes of one read: large enough that reading costs little more than the copy.
const CHUNK: usize = 256 * 1024;
/// Chunks that wait between the reading thread and the network.
const AHEAD: usize = 2;
/// Bytes given to the network at a time: small enough that a slow link asks for the next within the stall time.
const FRAME: usize = 64 * 1024;

/// Buffers that go round between reading and sending, so that memory is taken once.
#[derive(Clone, Debug, Default)]
pub(crate) struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    fn take(&self) -> PooledBuffer {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = free.pop().unwrap_or_else(|| vec![0; CHUNK]);
        PooledBuffer {
            bytes,
            filled: 0,
            pool: self.clone(),
        }
    }
}

struct PooledBuffer {
    bytes: Vec<u8>,
    filled: usize,
    pool: BufferPool,
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// How far one sending of a part has come: written by its body, read by whoever waits for the answer.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    /// Nanoseconds from `started` to the last byte taken by the network.
    last: AtomicU64,
    sent: AtomicU64,
    /// Whether the body itself holds the next byte back, so that nobody else is slow.
    held_back: AtomicBool,
    failed: Mutex<Option<SourceError>>,
}

impl Meter {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            last: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            held_back: AtomicBool::new(false),
            failed: Mutex::default(),
        })
    }

    /// Bytes that the network has taken.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Why the file could not be read to the part's end, if that is what ended the body.
    pub(crate) fn source_error(&self) -> Option<SourceError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn took(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        let elapsed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
        // After the time of it: whoever sees that nothing is held back must not see an old time.
        self.held_back.store(false, Ordering::Release);
    }

    fn holds_back(&self) {
        self.held_back.store(true, Ordering::Relaxed);
    }

    /// Ends when the network has taken no byte for `allowed`, though it was offered one. After the last byte of `length` the answer may take as much
    /// again as the sending did, since the system's own buffers are still being sent.
    pub(crate) async fn stalled(&self, length: u64, allowed: Duration) {
        loop {
            let last = if self.held_back.load(Ordering::Acquire) {
                self.started.elapsed()
            } else {
                Duration::from_nanos(self.last.load(Ordering::Relaxed))
            };
            let extra = if self.sent() >= length {
                last.max(allowed)
            } else {
                Duration::ZERO
            };
            let end = self.started + last + allowed + extra;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end.into()).await;
        }
    }
}

/// The bytes of one part, of exactly known length, so that they are sent with a `Content-Length`.
pub(crate) struct PartBody {
    chunks: mpsc::Receiver<Result<Bytes, SourceError>>,
    current: Bytes,
    left: u64,
    meter: Arc<Meter>,
    progress: Arc<dyn Progress>,
    hold: Option<Pin<Box<Sleep>>>,
    pace: Pace,
}

/// The file ended the body early; the [`Meter`] has the reason.
#[derive(Debug, thiserror::Error)]
#[error("the file could not be read to the part's end")]
pub(crate) struct BodyCut;

impl PartBody {
    /// Begins to read `range`. With `hold` the first byte is held back for so long: a store that refuses the request
    /// by its head alone then answers before there is anything to send that could be cut off.
    pub(crate) fn start(
        source: Arc<Source>,
        range: Range<u64>,
        pool: BufferPool,
        progress: Arc<dyn Progress>,
        hold: Option<Duration>,
        pace: Pace,
    ) -> (Self, Arc<Meter>) {
        let (chunks_in, chunks) = mpsc::channel(AHEAD);
        let meter = Meter::new();
        let body = Self {
            chunks,
            current: Bytes::new(),
            left: range.end - range.start,
            meter: meter.clone(),
            progress,
            hold: hold.map(|hold| Box::pin(tokio::time::sleep(hold))),
            pace,
        };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&source, range, &pool, &chunks_in) {
                // Where the body is gone already, nobody asks why.
                let _ = chunks_in.blocking_send(Err(error));
            }
        });
        (body, meter)
    }
}

/// Reads `range` in chunks until it ends or the body is dropped. The last chunk leaves only when the file is still what it
/// was, so that no part of a changed file is ever whole.
fn read(
    source: &Source,
    mut range: Range<u64>,
    pool: &BufferPool,
    chunks: &mpsc::Sender<Result<Bytes, SourceError>>,
) -> Result<(), SourceError> {
    source.check()?;
    while !range.is_empty() {
        let mut buffer = pool.take();
        buffer.filled = CHUNK.min(usize::try_from(range.end - range.start).unwrap_or(CHUNK));
        let (filled, _) = buffer.bytes.split_at_mut(buffer.filled);
        source.read_exact_at(filled, range.start)?;
        range.start += filled.len() as u64;
        if range.is_empty() {
            source.check()?;
        }
        if chunks.blocking_send(Ok(Bytes::from_owner(buffer))).is_err() {
            break;
        }
    }
    Ok(())
}

impl Body for PartBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(hold) = &mut self.hold {
            ready!(hold.as_mut().poll(cx));
            self.hold = None;
        }
        if self.current.is_empty() {
            match ready!(self.chunks.poll_recv(cx)) {
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(error)) => {
                    *self.meter.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Poll::Ready(Some(Err(BodyCut)));
                }
                None => return Poll::Ready(Some(Err(BodyCut))),
            }
        }
        let most = FRAME.min(self.current.len());
        let Poll::Ready(length) = self.pace.poll_leave(cx, most) else {
            self.meter.holds_back();
            return Poll::Pending;
        };
        let frame = self.current.split_to(length);
        self.left = self.left.saturating_sub(length as u64);
        self.meter.took(length as u64);
        self.progress.event(&Event::Sent { bytes: length as u64 });
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
