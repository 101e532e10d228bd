//! Room set aside, so that objects can be deleted on a full disk: taking a record off the index writes to the index.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::warn;

/// The file's name in the store's directory.
const RESERVE: &str = "reserve";
/// More than the largest group of changes that make room needs for itself.
const BYTES: u64 = 4 << 20;

/// A file of zeros, there as long as there is room for it.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    sync: bool,
    held: bool,
}

impl Reserve {
    /// That of the store in `root`, made if it is not there and there is room.
    pub(super) fn open(root: &Path, sync: bool) -> Self {
        let path = root.join(RESERVE);
        let held = fs::metadata(&path).is_ok_and(|meta| meta.len() == BYTES);
        let mut reserve = Self { path, sync, held };
        reserve.hold();
        reserve
    }

    /// Whether the room is set aside, now if not before. If it is not, nothing may come that takes more.
    pub(super) fn hold(&mut self) -> bool {
        if !self.held {
            self.held = self.write().is_ok();
            if !self.held {
                self.remove();
            }
        }
        self.held
    }

    /// Gives the room to those changes that make room.
    pub(super) fn release(&mut self) {
        self.held = false;
        self.remove();
        warn!("the disk is full: until there is room, objects can be deleted, but none can come");
    }

    fn write(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        let zeros = vec![0; 64 * 1024];
        for _ in 0..BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        // Some file systems take for granted that there is room until they are asked.
        if self.sync { file.sync_all() } else { Ok(()) }
    }

    fn remove(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %self.path.display(), %error, "the reserve cannot be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Whether a write failed for want of room.
pub(super) fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
