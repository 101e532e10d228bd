//! A request's body lent to the protocol layer: what it did not read comes back, to be read away before a refusal.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::timeout;

/// Most bytes read away for one refusal, how long that may take, and how long it waits for the next of them. Past that
/// the answer goes out and the connection closes.
const DRAIN_SIZE: u64 = 64 * shared::MIB;
const DRAIN_TIME: Duration = Duration::from_secs(20);
const DRAIN_PAUSE: Duration = Duration::from_secs(2);

/// Where an unread body comes back to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Home {
    unread: Arc<Mutex<Option<Incoming>>>,
    cut: Arc<AtomicBool>,
}

/// A body on loan.
#[derive(Debug)]
pub(crate) struct LentBody {
    inner: Option<Incoming>,
    home: Home,
    /// Turn one bit of the first byte that comes.
    flip: bool,
}

impl Home {
    /// Lends `body` out; `flip` damages it on the way.
    pub(crate) fn lend(&self, body: Incoming, flip: bool) -> LentBody {
        LentBody {
            inner: Some(body),
            home: self.clone(),
            flip,
        }
    }

    /// Whether the body ended before its end.
    pub(crate) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Reads away what is left of the body, so that a client which sends first and reads then gets to read the answer.
    pub(crate) async fn drain(&self) {
        let Some(mut body) = self.unread.lock().take() else {
            return;
        };
        if body.size_hint().lower() > DRAIN_SIZE {
            return;
        }
        let read_away = async {
            let mut left = DRAIN_SIZE;
            while let Ok(Some(Ok(frame))) = timeout(DRAIN_PAUSE, body.frame()).await {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        };
        // Whether all was read or not, the answer goes out next.
        let _ = timeout(DRAIN_TIME, read_away).await;
    }
}

impl Body for LentBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            self.home.cut.store(true, Ordering::Relaxed);
        }
        if !self.flip {
            return polled;
        }
        polled.map_ok(|frame| match frame.into_data() {
            Ok(data) if !data.is_empty() => {
                self.flip = false;
                let mut damaged = BytesMut::from(data);
                if let Some(first) = damaged.first_mut() {
                    *first ^= 1;
                }
                Frame::data(damaged.freeze())
            }
            Ok(data) => Frame::data(data),
            Err(frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for LentBody {
    fn drop(&mut self) {
        if let Some(body) = self.inner.take().filter(|body| !body.is_end_stream()) {
            *self.home.unread.lock() = Some(body);
        }
    }
}
