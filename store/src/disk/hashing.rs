//! MD5 of bodies that arrive at the same time: what comes while other bytes are hashed is hashed along, in a lane of its own.
//!
//! A core takes as long for one stream of MD5 as for several in lanes. So there is one thread that leads: it hashes a slice of
//! each job, and before the next takes in those that have come meanwhile. It ends with the last of them; the next to come
//! finds nobody and needs one that leads. Only where all lanes are taken does another lead too. Nothing waits for company.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use shared::md5_lanes::{Kernel, Md5Stream};
use tokio::sync::oneshot;

/// Most bytes of each stream between two looks for what has come: a tenth of a millisecond.
const SLICE: usize = 64 * 1024;
/// What MD5 works on at a time (RFC 1321 section 3.4).
const BLOCK: usize = 64;

/// Where jobs come, and those who lead look for them.
#[derive(Debug)]
pub(super) struct Hashing {
    kernel: Kernel,
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: Vec<(Job, Md5Stream)>,
    /// Lanes of those who lead, less those that are taken and those that are waited for.
    free: usize,
}

/// Bytes to hash, and who is told.
#[derive(Debug)]
struct Job {
    left: VecDeque<Bytes>,
    answer: oneshot::Sender<Md5Stream>,
}

/// Jobs that go on in lockstep, each with the stream at its place.
#[derive(Debug, Default)]
struct Group {
    jobs: Vec<Job>,
    streams: Vec<Md5Stream>,
}

/// A group that nobody leads yet.
#[must_use = "what is not led is never hashed"]
#[derive(Debug)]
pub(crate) struct Leading {
    hashing: Arc<Hashing>,
    group: Group,
}

/// A stream that comes back once it has been fed.
#[derive(Debug)]
pub(crate) struct Hashed(oneshot::Receiver<Md5Stream>);

impl Hashed {
    /// Nothing, if the store is stopping.
    pub(crate) async fn stream(self) -> Option<Md5Stream> {
        self.0.await.ok()
    }
}

impl Hashing {
    /// By `kernel`; with one that has no lanes, everybody leads.
    pub(super) fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            desk: Mutex::default(),
        }
    }

    /// Has `chunks` fed to `stream` by one who leads; or by the caller, who has to find a thread for it.
    pub(super) fn feed(self: &Arc<Self>, stream: Md5Stream, chunks: &[Bytes]) -> (Hashed, Option<Leading>) {
        let (answer, hashed) = oneshot::channel();
        let left = chunks.iter().filter(|chunk| !chunk.is_empty()).cloned().collect();
        let job = Job { left, answer };
        let mut desk = self.desk.lock();
        if let Some(free) = desk.free.checked_sub(1) {
            desk.free = free;
            desk.waiting.push((job, stream));
            return (Hashed(hashed), None);
        }
        desk.free = self.kernel.lanes() - 1;
        let group = Group {
            jobs: vec![job],
            streams: vec![stream],
        };
        let hashing = Arc::clone(self);
        (Hashed(hashed), Some(Leading { hashing, group }))
    }

    /// Lets those in who wait, now that so many have left; without any, nobody leads this group any more.
    fn admit(&self, group: &mut Group, left: usize) {
        let mut desk = self.desk.lock();
        desk.free += left;
        let room = self.kernel.lanes() - group.jobs.len();
        let coming = desk.waiting.len().min(room);
        for (job, stream) in desk.waiting.drain(..coming) {
            group.jobs.push(job);
            group.streams.push(stream);
        }
        if group.jobs.is_empty() {
            desk.free -= self.kernel.lanes();
        }
    }
}

impl Leading {
    /// Hashes the group, and with it what comes, until nothing is left.
    pub(crate) fn lead(self) {
        let Self { hashing, mut group } = self;
        while !group.jobs.is_empty() {
            group.hash_slice(hashing.kernel);
            let done = group.take_done();
            hashing.admit(&mut group, done.len());
            for (job, stream) in done {
                // Whoever asked may have gone.
                let _ = job.answer.send(stream);
            }
        }
    }
}

impl Group {
    /// Hashes as much of each as there is of the shortest piece.
    fn hash_slice(&mut self, kernel: Kernel) {
        let piece = |job: &Job| job.left.front().map_or(0, Bytes::len);
        let shortest = self.jobs.iter().map(piece).min().unwrap_or_default();
        // A stream that goes on had better end with a whole block.
        let most = shortest.min(SLICE).next_multiple_of(BLOCK);
        let slices: Vec<&[u8]> = self
            .jobs
            .iter()
            .map(|job| {
                let piece = job.left.front().map_or(&[][..], |piece| piece);
                piece.get(..most).unwrap_or(piece)
            })
            .collect();
        kernel.update(&mut self.streams, &slices);
        for job in &mut self.jobs {
            if let Some(piece) = job.left.front_mut() {
                piece.advance(most.min(piece.len()));
                if piece.is_empty() {
                    job.left.pop_front();
                }
            }
        }
    }

    /// Those of which nothing is left to hash.
    fn take_done(&mut self) -> Vec<(Job, Md5Stream)> {
        let (done, going_on) = mem::take(&mut self.jobs)
            .into_iter()
            .zip(mem::take(&mut self.streams))
            .partition::<Vec<_>, _>(|(job, _)| job.left.is_empty());
        (self.jobs, self.streams) = going_on.into_iter().unzip();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use md5::{Digest as _, Md5};
    use shared::Md5Digest;

    use super::*;

    /// A body in pieces of these lengths, and its MD5.
    fn body(seed: usize, lengths: &[usize]) -> (Vec<Bytes>, Md5Digest) {
        let piece = |(place, length): (usize, &usize)| {
            let byte = |at: usize| (at * 31 + (at >> 8) + place * 7 + seed).to_le_bytes()[0];
            (0..*length).map(byte).collect::<Bytes>()
        };
        let chunks: Vec<_> = lengths.iter().enumerate().map(piece).collect();
        let digest = Md5::digest(chunks.concat());
        (chunks, Md5Digest::from_bytes(digest.into()))
    }

    fn digest(mut hashed: Hashed) -> Md5Digest {
        hashed.0.try_recv().expect("not hashed yet").finish()
    }

    #[test]
    fn what_comes_while_another_leads_is_hashed_along() {
        for kernel in Kernel::available().into_iter().filter(|kernel| kernel.lanes() > 1) {
            let hashing = Arc::new(Hashing::new(kernel));
            let bodies = [
                body(1, &[SLICE, 100, 7]),
                body(2, &[1, 3 * SLICE, 0, 65, 5 * SLICE]),
                body(3, &[2 * SLICE + 63]),
                body(4, &[]),
            ];
            let (first, leading) = hashing.feed(Md5Stream::new(), &bodies[0].0);
            let others = bodies.iter().skip(1).map(|(chunks, _)| {
                let (hashed, leading) = hashing.feed(Md5Stream::new(), chunks);
                assert!(leading.is_none(), "there was a lane to spare");
                hashed
            });
            let others: Vec<_> = others.collect();
            leading.expect("the first finds nobody").lead();
            let all = [first].into_iter().chain(others);
            for (hashed, (_, expected)) in all.zip(&bodies) {
                assert_eq!(digest(hashed), *expected, "by {}", kernel.name());
            }
            assert_eq!(hashing.desk.lock().free, 0, "somebody still leads");
        }
    }

    #[test]
    fn who_finds_no_lane_leads_too() {
        for kernel in Kernel::available() {
            let hashing = Arc::new(Hashing::new(kernel));
            let (chunks, expected) = body(5, &[1000]);
            let fed: Vec<_> = (0..=kernel.lanes())
                .map(|_| hashing.feed(Md5Stream::new(), &chunks))
                .collect();
            let lead: Vec<_> = fed.iter().map(|(_, leading)| leading.is_some()).collect();
            assert!(lead[0] && lead[kernel.lanes()], "{lead:?}");
            assert_eq!(lead.iter().filter(|leads| **leads).count(), 2, "{lead:?}");
            let (hashed, leading): (Vec<_>, Vec<_>) = fed.into_iter().unzip();
            leading.into_iter().flatten().for_each(Leading::lead);
            for hashed in hashed {
                assert_eq!(digest(hashed), expected);
            }
            assert_eq!(hashing.desk.lock().free, 0, "somebody still leads");
        }
    }

    #[test]
    fn many_at_once_get_what_each_would_get_alone() {
        let hashing = Arc::new(Hashing::new(Kernel::widest()));
        let threads = (0..40).map(|seed| {
            let hashing = Arc::clone(&hashing);
            thread::spawn(move || {
                let (chunks, expected) = body(seed, &[seed * 97, SLICE + 1, 64 * (seed % 5), 3 * SLICE - 5, 0]);
                let mut stream = Md5Stream::new();
                for batch in chunks.chunks(2) {
                    let (hashed, leading) = hashing.feed(stream, batch);
                    if let Some(leading) = leading {
                        leading.lead();
                    }
                    stream = hashed.0.blocking_recv().unwrap();
                }
                assert_eq!(stream.finish(), expected, "body {seed}");
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
        let desk = hashing.desk.lock();
        assert!(desk.waiting.is_empty() && desk.free == 0, "{desk:?}");
    }
}
