//! Parts of a stream, held in memory from the time they are read until the store has them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// Parts by the place of their first byte, each with its share of the memory that there is for them.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<BTreeMap<u64, (Vec<u8>, OwnedSemaphorePermit)>>);

impl Held {
    /// Keeps a part that begins at `offset`.
    pub(crate) fn hold(&self, offset: u64, bytes: Vec<u8>, room: OwnedSemaphorePermit) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(offset, (bytes, room));
    }

    /// Lets go of the part that begins at `offset`, and so makes room for another.
    pub(crate) fn release(&self, offset: u64) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.remove(&offset);
    }

    /// Fills `buffer` with the bytes from `offset`, all of which are of one part.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = parts.range(..=offset).next_back().and_then(|(start, (bytes, _))| {
            let start = usize::try_from(offset - start).ok()?;
            bytes.get(start..start.checked_add(buffer.len())?)
        });
        match held {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "this part of the stream is no longer held",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_part_is_read_by_place_until_it_is_released_which_makes_room() {
        let room = Arc::new(Semaphore::new(2));
        let held = Held::default();
        for (offset, bytes) in [(0, b"abc"), (3, b"def")] {
            held.hold(offset, bytes.to_vec(), room.clone().try_acquire_owned().unwrap());
        }
        assert_eq!(room.available_permits(), 0);
        let read = |offset, length| {
            let mut buffer = vec![0; length];
            held.read_exact_at(&mut buffer, offset).map(|()| buffer).ok()
        };
        assert_eq!(read(1, 2).as_deref(), Some(b"bc".as_slice()));
        assert_eq!(read(3, 3).as_deref(), Some(b"def".as_slice()));
        assert_eq!(read(2, 2), None, "across parts");
        assert_eq!(read(5, 2), None, "beyond the end");
        held.release(0);
        assert_eq!((read(1, 1), room.available_permits()), (None, 1));
    }
}
