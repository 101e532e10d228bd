//! Files that are there whole or not at all, on the disk when we say so, and removed behind the request's back.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use serde::Serialize;
use shared::md5_lanes::Kernel;
use tracing::warn;

use super::error::{DiskError, IoContext as _};
use super::hashing::Hashing;
use super::reserve::Reserve;
use super::writeback;

/// How file names begin that are not finished; a start removes them.
pub(super) const DRAFT: &str = "draft-";

/// Writes with or without waiting for the disk; removes on a thread of its own.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    sync: bool,
    hashing: Arc<Hashing>,
    reserve: Arc<Reserve>,
    reaper: Sender<PathBuf>,
}

impl Files {
    /// Those of the store in `root`. `sync`: whether to wait for the disk.
    pub(super) fn new(root: &Path, sync: bool) -> io::Result<Self> {
        let (reaper, condemned) = channel::<PathBuf>();
        // Ends when the last sender is gone, after having removed all it was told of.
        thread::Builder::new()
            .name("store-reaper".to_owned())
            .spawn(move || condemned.iter().for_each(|path| remove(&path)))?;
        let hashing = Arc::new(Hashing::new(Kernel::widest()));
        let reserve = Arc::new(Reserve::open(root, sync));
        Ok(Self {
            sync,
            hashing,
            reserve,
            reaper,
        })
    }

    /// Without which nothing may come in.
    pub(super) fn reserve(&self) -> &Reserve {
        &self.reserve
    }

    /// Where all that comes in is hashed.
    pub(super) fn hashing(&self) -> &Arc<Hashing> {
        &self.hashing
    }

    /// Has the disk begin with these bytes of `file`, so that less is left to wait for.
    pub(super) fn begin_sync(&self, file: &File, range: &Range<u64>) {
        if self.sync {
            writeback::begin(file, range);
        }
    }

    /// Waits until the bytes of `file` are on the disk.
    pub(super) fn sync_data(&self, file: &File) -> io::Result<()> {
        if self.sync { file.sync_data() } else { Ok(()) }
    }

    /// Waits until the names in `dir` are on the disk.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        if self.sync {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .context("sync the directory", dir)?;
        }
        Ok(())
    }

    /// Makes `dir`, if it is not there, in a directory that is.
    pub(super) fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made.context("create the directory", dir)?,
        }
        dir.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }

    /// Puts `record` as JSON at `dir/name` by one rename: before it the old record is there, after it the new one.
    pub(super) fn publish(&self, dir: &Path, name: &str, record: &impl Serialize) -> Result<(), DiskError> {
        let draft = dir.join(format!("{DRAFT}{}", random_name()?));
        let target = dir.join(name);
        let written = (|| {
            let mut file = File::create_new(&draft)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            if self.sync {
                file.sync_all()?;
            }
            fs::rename(&draft, &target)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.context("write the record", &target)?;
        self.sync_dir(dir)
    }

    /// Removes a file, or a directory with all in it, soon.
    pub(super) fn remove_later(&self, path: PathBuf) {
        // The thread lives as long as this sender; were it gone, the next start removes what no record names.
        let _ = self.reaper.send(path);
    }
}

/// Removes a file, or a directory with all in it. What cannot be removed is in nobody's way.
pub(super) fn remove(path: &Path) {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "a deleted file stays on the disk until the next start");
        }
        Ok(()) | Err(_) => {}
    }
}

/// 128 random bits as 32 hexadecimal digits.
pub(crate) fn random_name() -> Result<String, DiskError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(io::Error::from)
        .context("draw random bytes for", Path::new("a file name"))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}
