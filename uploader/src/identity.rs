//! What tells one content of a file from another: without reading it, and by reading a little of it.

use std::fs::Metadata;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Bytes of one sample.
const SAMPLE: u64 = 4096;
/// Samples of a file, the first and the last of its bytes among them.
const SAMPLES: u64 = 16;
/// Within so much time after a change a file system may give a second one the same time.
const TICK: Duration = Duration::from_millis(100);
/// The same where it counts whole seconds, as FAT does by twos.
const COARSE_TICK: Duration = Duration::from_secs(2);
/// Within so much time after a change, a page that a program has mapped into its memory may be changed again without a trace:
/// times move at the first write to a page that has been written back, by default every 35 seconds.
const WRITE_BACK: Duration = Duration::from_mins(1);

/// A file as its metadata tell it. Two contents of one file have two of these, but for changes within one tick of the file
/// system's clock ([`Identity::is_settled`]) and through memory that is shared with it ([`Identity::is_written_back`]): a time
/// of change (`ctime`) cannot be set back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub(crate) struct Identity {
    pub(crate) size: u64,
    /// Nanoseconds since 1970, as the two after it: when its content was changed, by what programs say.
    pub(crate) modified_ns: i64,
    /// When it was changed in any way, by the system's clock.
    pub(crate) changed_ns: i64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl From<Metadata> for Identity {
    fn from(metadata: Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            size: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

impl Identity {
    /// Whether a change after `now` would show, but for one through shared memory. Until a tick has passed since the last one, it
    /// need not.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        let whole_seconds = self.changed_ns % 1_000_000_000 == 0;
        self.is_older(now, if whole_seconds { COARSE_TICK } else { TICK })
    }

    /// Whether a change after `now` would show, also one through shared memory, on file systems that are on a disk.
    pub(crate) fn is_written_back(&self, now: SystemTime) -> bool {
        self.is_older(now, WRITE_BACK)
    }

    fn is_older(&self, now: SystemTime, tick: Duration) -> bool {
        let changed = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.changed_ns).unwrap_or_default());
        now.duration_since(changed).is_ok_and(|age| age > tick)
    }

    /// In 16 bytes, without the device, which some file systems number anew at every mount.
    pub(crate) fn digest(&self) -> [u8; 16] {
        let Self {
            size,
            modified_ns,
            changed_ns,
            inode,
            device: _,
        } = self;
        short_hash(&[format!("{size} {modified_ns} {changed_ns} {inode}").as_bytes()])
    }
}

/// The places of a file of `size` bytes that a fingerprint looks at: all of it where that is as little.
pub(crate) fn samples(size: u64) -> Vec<Range<u64>> {
    if size <= SAMPLE * SAMPLES {
        return std::iter::once(0..size).filter(|range| !range.is_empty()).collect();
    }
    let last = size - SAMPLE;
    let starts = (0..SAMPLES - 1).map(|number| last / (SAMPLES - 1) * number);
    starts.chain([last]).map(|start| start..start + SAMPLE).collect()
}

/// SHA-256 over texts of which none can pass for a piece of its neighbour.
pub(crate) fn hash(texts: &[&[u8]]) -> [u8; 32] {
    let mut sha256 = Sha256::new();
    for text in texts {
        sha256.update((text.len() as u64).to_le_bytes());
        sha256.update(text);
    }
    sha256.finalize().into()
}

/// The first half of [`hash`].
pub(crate) fn short_hash(texts: &[&[u8]]) -> [u8; 16] {
    let mut short = [0; 16];
    for (byte, hashed) in short.iter_mut().zip(hash(texts)) {
        *byte = hashed;
    }
    short
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_few_inside_the_file_and_at_both_ends() {
        for size in [0, 1, SAMPLE, SAMPLE * SAMPLES] {
            let read: u64 = samples(size).iter().map(|range| range.end - range.start).sum();
            assert_eq!(read, size, "a small file is read whole");
        }
        for size in [SAMPLE * SAMPLES + 1, 100 << 30, u64::MAX] {
            let samples = samples(size);
            assert_eq!(samples.len() as u64, SAMPLES);
            assert_eq!((samples[0].start, samples[15].end), (0, size));
            assert!(samples.is_sorted_by(|a, b| a.end <= b.start), "{samples:?}");
        }
    }

    #[test]
    fn a_file_is_settled_once_another_change_would_have_another_time() {
        let at = |ns: i64| Identity {
            size: 0,
            modified_ns: 0,
            changed_ns: 1_000_000_000_000 + ns,
            device: 0,
            inode: 0,
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1002);
        assert!(at(1_500_000_000).is_settled(now) && !at(1_500_000_000).is_written_back(now));
        assert!(at(1_500_000_000).is_written_back(now + WRITE_BACK));
        assert!(!at(1_950_000_000).is_settled(now), "within a tick");
        assert!(
            !at(1_000_000_000).is_settled(now),
            "within a second that is counted whole"
        );
        assert!(
            !at(5_000_000_000).is_settled(now),
            "the file is of a clock that is ahead"
        );
    }

    #[test]
    fn texts_that_are_cut_at_another_place_hash_otherwise() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_eq!(hex(&short_hash(&[b"a"])).len(), 32);
    }
}
