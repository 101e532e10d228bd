//! Events kept until somebody reads them, in bounded memory: a slow reader neither holds the upload up nor loses what counts.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use shared::UploadId;

use crate::progress::{Event, Progress};

/// Retries that are kept for a slow reader: there may be any number of them, where there are at most 10,000 parts.
const MOST_RETRIES: usize = 100;

/// What happens during one upload, as a stream that ends when nothing of the upload is under way any more.
///
/// It may be read as slowly as one likes. Byte counts that wait are added up, and of retries that wait the latest hundred are
/// kept. Clones share the events: each goes to one of them.
#[derive(Clone, Debug)]
pub struct Events(Arc<Queue>);

/// Between an upload and whoever watches it.
#[derive(Debug, Default)]
pub(crate) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Event>,
    sent: u64,
    unsent: u64,
    retries: usize,
    begun: Begun,
    /// Nothing comes any more.
    ended: bool,
    readers: Vec<Waker>,
}

/// What has come of the upload so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Begun {
    /// The broker has been asked for it.
    pub(crate) asked: bool,
    /// Once the broker has admitted it.
    pub(crate) id: Option<UploadId>,
    /// Bytes of the parts that the store has.
    pub(crate) stored: u64,
}

/// Puts events into a queue, and ends it when the last part of the upload that could tell anything is gone.
pub(crate) struct Teller(Arc<Queue>);

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere has not spoiled it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn teller(self: &Arc<Self>) -> Teller {
        Teller(self.clone())
    }

    pub(crate) fn events(self: &Arc<Self>) -> Events {
        Events(self.clone())
    }

    pub(crate) fn begun(&self) -> Begun {
        self.state().begun.clone()
    }

    /// Waits until nothing comes any more; what waits is left for others to read.
    pub(crate) async fn ended(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state();
            if state.ended {
                return Poll::Ready(());
            }
            state.wake_later(context.waker());
            Poll::Pending
        })
        .await;
    }
}

impl State {
    fn push(&mut self, event: &Event) {
        match event {
            Event::Sent { bytes } => self.sent += bytes,
            Event::Unsent { bytes } => self.unsent += bytes,
            other => {
                self.note(other);
                self.waiting.push_back(other.clone());
            }
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Creating => self.begun.asked = true,
            Event::Started { upload_id, .. } => self.begun.id = Some(upload_id.clone()),
            Event::PartKept { size, .. } | Event::PartStored { size, .. } => self.begun.stored += size,
            Event::Retrying { .. } if self.retries < MOST_RETRIES => self.retries += 1,
            Event::Retrying { .. } => {
                let is_retry = |event: &Event| matches!(event, Event::Retrying { .. });
                if let Some(oldest) = self.waiting.iter().position(is_retry) {
                    self.waiting.remove(oldest);
                }
            }
            _ => {}
        }
    }

    /// Byte counts first, but for the events with which all begins: bytes that have been sent have been sent by now.
    fn pop(&mut self) -> Option<Event> {
        if !matches!(self.waiting.front(), Some(Event::Creating | Event::Started { .. })) {
            for (bytes, event) in [
                (&mut self.sent, (|bytes| Event::Sent { bytes }) as fn(u64) -> Event),
                (&mut self.unsent, |bytes| Event::Unsent { bytes }),
            ] {
                if *bytes > 0 {
                    return Some(event(std::mem::take(bytes)));
                }
            }
        }
        let event = self.waiting.pop_front()?;
        self.retries -= usize::from(matches!(event, Event::Retrying { .. }));
        Some(event)
    }

    fn wake_later(&mut self, reader: &Waker) {
        if !self.readers.iter().any(|waiting| waiting.will_wake(reader)) {
            self.readers.push(reader.clone());
        }
    }
}

impl Progress for Teller {
    fn event(&self, event: &Event) {
        let mut state = self.0.state();
        state.push(event);
        let readers = std::mem::take(&mut state.readers);
        drop(state);
        readers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        let readers = std::mem::take(&mut state.readers);
        drop(state);
        readers.into_iter().for_each(Waker::wake);
    }
}

impl Events {
    /// The next event; nothing when the upload has ended.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.0.state();
        match state.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.ended => Poll::Ready(None),
            None => {
                state.wake_later(context.waker());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::{ObjectKey, PartNumber};

    use super::*;
    use crate::progress::Resumed;

    fn started() -> Event {
        Event::Started {
            upload_id: UploadId::from_random([7; 24]),
            key: ObjectKey::try_from("key".to_owned()).unwrap(),
            size: None,
            part_size: 5,
            part_count: None,
            stored: 0,
            resumed: Resumed::New,
        }
    }

    #[tokio::test]
    async fn a_million_events_that_nobody_reads_are_few_and_none_that_counts_is_lost() {
        let queue = Arc::<Queue>::default();
        let (teller, mut events) = (queue.teller(), queue.events());
        teller.event(&started());
        for attempt in 1..=100_000 {
            teller.event(&Event::Sent { bytes: 3 });
            teller.event(&Event::Unsent { bytes: 2 });
            let (what, after) = (Arc::<str>::from("it"), Duration::ZERO);
            teller.event(&Event::Retrying {
                trouble: what.clone(),
                what,
                after,
                attempt,
            });
        }
        let (number, size) = (PartNumber::FIRST, 5);
        teller.event(&Event::PartStored { number, size });
        assert_eq!(queue.state().waiting.len(), MOST_RETRIES + 2);
        assert_eq!(queue.begun().stored, 5);
        drop(teller);

        let mut read = Vec::new();
        while let Some(event) = events.next().await {
            read.push(event);
        }
        assert!(matches!(read[0], Event::Started { .. }), "{:?}", read[0]);
        assert!(matches!(read[1], Event::Sent { bytes: 300_000 }), "{:?}", read[1]);
        assert!(matches!(read[2], Event::Unsent { bytes: 200_000 }), "{:?}", read[2]);
        let attempts = read.iter().filter_map(|event| match event {
            Event::Retrying { attempt, .. } => Some(*attempt),
            _ => None,
        });
        assert_eq!(attempts.collect::<Vec<_>>(), (99_901..=100_000).collect::<Vec<_>>());
        assert!(matches!(read.last(), Some(Event::PartStored { .. })));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_an_event_and_by_the_end() {
        let queue = Arc::<Queue>::default();
        let teller = queue.teller();
        let (mut events, waiting) = (queue.events(), queue.clone());
        let read = tokio::spawn(async move { (events.next().await, events.next().await) });
        let ended = tokio::spawn(async move { waiting.ended().await });
        tokio::task::yield_now().await;
        teller.event(&Event::Completing);
        tokio::task::yield_now().await;
        drop(teller);
        let (first, second) = read.await.unwrap();
        assert!(matches!(first, Some(Event::Completing)) && second.is_none());
        ended.await.unwrap();
    }
}
