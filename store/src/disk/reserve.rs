//! Room set aside, so that objects can be deleted on a full disk: taking a record off the index writes to the index.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
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
    held: AtomicBool,
    /// Locked by whoever writes the file or has its room.
    room: Mutex<()>,
}

/// The room, lent: as long as this is there, nobody sets it aside again.
pub(super) type Room<'a> = MutexGuard<'a, ()>;

impl Reserve {
    /// That of the store in `root`, made if it is not there and there is room.
    pub(super) fn open(root: &Path, sync: bool) -> Self {
        let path = root.join(RESERVE);
        let held = fs::metadata(&path).is_ok_and(|meta| meta.len() == BYTES).into();
        let reserve = Self {
            path,
            sync,
            held,
            room: Mutex::default(),
        };
        reserve.hold();
        reserve
    }

    /// Whether the room is set aside, now if not before. If it is not, nothing may come that takes more: neither records
    /// nor bytes, which would be written into it.
    pub(super) fn hold(&self) -> bool {
        if self.held.load(Ordering::Acquire) {
            return true;
        }
        let Some(_room) = self.room.try_lock() else {
            return false;
        };
        let held = self.held.load(Ordering::Acquire) || self.write().is_ok();
        if !held {
            self.remove();
        }
        self.held.store(held, Ordering::Release);
        held
    }

    /// [`Reserve::hold`], or the failure of a full disk.
    pub(super) fn require(&self) -> io::Result<()> {
        if self.hold() {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    /// Lends the room to those changes that make room.
    pub(super) fn lend(&self) -> Room<'_> {
        let room = self.room.lock();
        self.held.store(false, Ordering::Release);
        self.remove();
        warn!("the disk is full: until there is room, objects can be deleted, but none can come");
        room
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
