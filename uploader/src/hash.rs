//! A window of parts to their digests: read once through small buffers, hashed in lanes, on threads of the uploader's own.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSlice as _;
use shared::Md5Digest;
use shared::md5_lanes::{Kernel, Md5Stream};
use tokio::sync::oneshot;

use crate::source::{Source, SourceError};

/// Bytes read for each lane at a time: sixteen of these stay in a core's own cache.
const CHUNK: usize = 64 * 1024;
/// Bytes of a cache line, which is also a block of MD5.
const LINE: usize = 64;
/// From one lane's buffer to the next.
const STRIDE: usize = CHUNK + LINE;

/// So few bytes are hashed sooner than threads are started.
const FEW: u64 = 8 << 20;

/// The threads that hash: started for the first window that is worth it.
#[derive(Debug)]
pub(crate) struct Hashing {
    threads: Option<NonZeroUsize>,
    pool: OnceLock<Result<ThreadPool, String>>,
}

impl Hashing {
    /// So many threads, or as many as there are processors.
    pub(crate) const fn new(threads: Option<NonZeroUsize>) -> Self {
        let pool = OnceLock::new();
        Self { threads, pool }
    }

    /// Hashes `ranges` of the file, one digest each, without holding up the caller's thread. Dropping the future stops the
    /// work at the next chunk.
    pub(crate) async fn hash(
        &self,
        source: Arc<Source>,
        ranges: Vec<Range<u64>>,
    ) -> Result<Vec<Md5Digest>, SourceError> {
        let (answer, digests) = oneshot::channel();
        let path = source.path().to_owned();
        let few = matches!(&*ranges, [range] if range.end - range.start <= FEW);
        let work = move || {
            let result = hash_here(&source, &ranges, &|| answer.is_closed());
            // Nobody waits any more: nothing to tell.
            let _ = answer.send(result);
        };
        match self.pool.get() {
            None if few => drop(tokio::task::spawn_blocking(work)),
            _ => self.pool(&path)?.spawn(work),
        }
        digests
            .await
            .unwrap_or_else(|_| Err(no_digest(&path, "the hashing thread ended without an answer".into())))
    }

    fn pool(&self, path: &Path) -> Result<&ThreadPool, SourceError> {
        let started = self.pool.get_or_init(|| {
            rayon::ThreadPoolBuilder::new()
                // 0 stands for as many as there are processors.
                .num_threads(self.threads.map_or(0, NonZeroUsize::get))
                .thread_name(|number| format!("uploader-hash-{number}"))
                .build()
                .map_err(|error| error.to_string())
        });
        let failed = |why: &String| no_digest(path, format!("no threads to hash it could be started: {why}"));
        started.as_ref().map_err(failed)
    }
}

fn no_digest(path: &Path, why: String) -> SourceError {
    SourceError::Open {
        path: path.to_owned(),
        cause: std::io::Error::other(why),
    }
}

/// Hashes `ranges` on as many threads of the pool it is called in as there are groups of lanes to fill.
fn hash_here(
    source: &Source,
    ranges: &[Range<u64>],
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Md5Digest>, SourceError> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let kernel = Kernel::best_for(ranges.len());
    // Outside of a pool, rayon would start one for the whole process.
    if ranges.len() <= kernel.lanes() {
        return hash_group(source, ranges, kernel, cancelled);
    }
    let groups: Vec<_> = ranges
        .par_chunks(kernel.lanes())
        .with_max_len(1)
        .map(|group| hash_group(source, group, kernel, cancelled))
        .collect::<Result<_, _>>()?;
    Ok(groups.into_iter().flatten().collect())
}

/// Hashes up to a kernel's lanes of ranges in lockstep.
fn hash_group(
    source: &Source,
    ranges: &[Range<u64>],
    kernel: Kernel,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Md5Digest>, SourceError> {
    let mut streams = vec![Md5Stream::new(); ranges.len()];
    let mut left = ranges.to_vec();
    // Each lane's buffer begins a cache line later than the one before, or all sixteen would contend for the same places.
    let mut memory = vec![0; ranges.len() * STRIDE + LINE];
    let aligned = memory.as_ptr().align_offset(LINE).min(LINE);
    let (_, buffers) = memory.split_at_mut(aligned);
    while left.iter().any(|range| !range.is_empty()) && !cancelled() {
        let mut chunks = Vec::with_capacity(ranges.len());
        for (range, buffer) in left.iter_mut().zip(buffers.chunks_mut(STRIDE)) {
            let length = CHUNK.min(usize::try_from(range.end - range.start).unwrap_or(CHUNK));
            let (chunk, _) = buffer.split_at_mut(length);
            source.read_exact_at(chunk, range.start)?;
            range.start += length as u64;
            chunks.push(&*chunk);
        }
        kernel.update(&mut streams, &chunks);
    }
    Ok(streams.into_iter().map(Md5Stream::finish).collect())
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};

    use super::*;

    #[tokio::test]
    async fn each_range_of_a_file_gets_its_own_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..1_000_003_u32)
            .map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        std::fs::write(&path, &bytes).unwrap();
        let source = Arc::new(Source::open(&path).unwrap());
        let hashing = Hashing::new(None);
        for part in [33_000, 70_000, 400_000, 2_000_000] {
            let starts = (0..bytes.len()).step_by(part);
            let ranges: Vec<_> = starts.map(|start| start..bytes.len().min(start + part)).collect();
            let asked = ranges
                .iter()
                .map(|range| range.start as u64..range.end as u64)
                .collect();
            let digests = hashing.hash(source.clone(), asked).await.unwrap();
            let expected: Vec<_> = ranges
                .into_iter()
                .map(|range| Md5Digest::from_bytes(Md5::digest(&bytes[range]).into()))
                .collect();
            assert_eq!(digests, expected, "parts of {part} bytes");
        }
    }

    #[tokio::test]
    async fn threads_are_started_for_the_first_window_that_is_worth_it_and_as_many_as_were_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "some bytes").unwrap();
        let source = Arc::new(Source::open(&path).unwrap());
        let hashing = Hashing::new(NonZeroUsize::new(3));
        let alone = hashing
            .hash(source.clone(), std::iter::once(0..4).collect())
            .await
            .unwrap();
        assert!(hashing.pool.get().is_none());
        let two = hashing.hash(source, vec![0..4, 4..10]).await.unwrap();
        assert_eq!(two[..1], alone);
        let pool = hashing.pool.get().unwrap().as_ref().unwrap();
        assert_eq!(pool.current_num_threads(), 3);
    }

    #[tokio::test]
    async fn a_range_past_a_new_end_is_a_change_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "short").unwrap();
        let source = Arc::new(Source::open(&path).unwrap());
        std::fs::write(&path, "sho").unwrap();
        let hashing = Hashing::new(NonZeroUsize::new(1));
        let error = hashing.hash(source, vec![0..3, 3..5]).await.unwrap_err();
        assert!(matches!(error, SourceError::Changed { .. }), "{error}");
    }
}
