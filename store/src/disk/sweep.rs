//! What a crash left behind: data that no record names, found beside the requests and removed.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tracing::{info, warn};

use super::bucket::Shared;
use super::error::{DiskError, IoContext as _};
use super::files::remove;
use super::index::{Owner, Tables};
use super::object::parts;
use super::record::Part;

/// The directory of the records in format 1.
pub(super) const OLD_RECORDS: &str = "objects";

/// Looks through the store's directories once, on a thread of its own.
#[derive(Debug)]
pub(super) struct Sweeper {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Where to look.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) trash: PathBuf,
    pub(super) buckets: Vec<(PathBuf, Arc<Tables>)>,
}

impl Sweeper {
    pub(super) fn start(places: Places, shared: Shared) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::Builder::new().name("store-sweeper".to_owned()).spawn(move || {
            let mut sweep = Sweep {
                shared,
                stop,
                removed: 0,
            };
            match sweep.all(&places) {
                Ok(()) => info!(
                    leftovers_removed = sweep.removed,
                    "looked for data that no record names"
                ),
                Err(failure) => warn!(
                    error = &failure as &dyn std::error::Error,
                    leftovers_removed = sweep.removed,
                    "data that no record names stay until the next start"
                ),
            }
        })?;
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }

    /// Ends it, wherever it is.
    pub(super) fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.wait();
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Sweep {
    shared: Shared,
    stop: Arc<AtomicBool>,
    removed: usize,
}

impl Sweep {
    fn all(&mut self, Places { trash, buckets }: &Places) -> Result<(), DiskError> {
        self.each(trash, |sweep, entry| {
            sweep.remove(&entry.path());
            Ok(())
        })?;
        for (bucket, tables) in buckets {
            let old = bucket.join(OLD_RECORDS);
            if old.exists() {
                self.remove(&old);
            }
            self.each(&bucket.join("data"), |sweep, entry| {
                if let Owner::Nobody = sweep.owner(tables, &entry)? {
                    sweep.remove(&entry.path());
                }
                Ok(())
            })?;
            self.each(&bucket.join("uploads"), |sweep, entry| {
                match sweep.owner(tables, &entry)? {
                    Owner::Nobody => sweep.remove(&entry.path()),
                    Owner::Object(record) => {
                        let listed: HashSet<_> = parts(&record).iter().map(Part::file_name).collect();
                        sweep.each(&entry.path(), |sweep, part| {
                            if !listed.contains(&*part.file_name().to_string_lossy()) {
                                sweep.remove(&part.path());
                            }
                            Ok(())
                        })?;
                    }
                    Owner::OpenUpload | Owner::InUse => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whose the file or directory is. What is in use is somebody's, whatever the index says.
    fn owner(&self, tables: &Tables, entry: &DirEntry) -> Result<Owner, DiskError> {
        let path = entry.path();
        let name = entry.file_name();
        // A writer holds it from before the file is there until the index names it, so it is looked for in this order. A
        // reader may hold it after that.
        if self.shared.pins.is_held(&path) {
            return Ok(Owner::InUse);
        }
        match self.shared.index.owner(tables, &name.to_string_lossy())? {
            Owner::Nobody if self.shared.pins.is_held(&path) => Ok(Owner::InUse),
            owner => Ok(owner),
        }
    }

    fn each(
        &mut self,
        dir: &Path,
        mut look: impl FnMut(&mut Self, DirEntry) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let entries = match fs::read_dir(dir) {
            // Its bucket was deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.context("read the directory", dir)?,
        };
        for entry in entries {
            if self.stop.load(Ordering::Acquire) {
                break;
            }
            look(self, entry.context("read the directory", dir)?)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) {
        remove(path);
        self.removed += 1;
    }
}
