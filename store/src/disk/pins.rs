//! Who uses which data just now: nothing is removed under a reader or a writer, and the last one out removes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::files::Files;

/// The data in use, by the file or directory that holds them.
#[derive(Debug)]
pub(super) struct Pins {
    files: Files,
    /// Shared by those who read a record and have not yet pinned what it names.
    looking: RwLock<()>,
    held: Mutex<HashMap<PathBuf, Held>>,
}

#[derive(Debug, Default)]
struct Held {
    holders: usize,
    doomed: bool,
}

/// As long as this is there, the data are.
#[derive(Debug)]
pub(super) struct Pin {
    pins: Arc<Pins>,
    path: PathBuf,
}

impl Pins {
    pub(super) fn new(files: Files) -> Self {
        Self {
            files,
            looking: RwLock::default(),
            held: Mutex::default(),
        }
    }

    /// To be held from before a record is read until what it names is pinned.
    pub(super) fn looking(&self) -> RwLockReadGuard<'_, ()> {
        self.looking.read()
    }

    /// Pins the data at `path`.
    pub(super) fn hold(self: &Arc<Self>, path: PathBuf) -> Pin {
        self.held.lock().entry(path.clone()).or_default().holders += 1;
        Pin {
            pins: Arc::clone(self),
            path,
        }
    }

    /// Removes the data at `path`, which no record names any more: at once, or once the last pin is gone.
    pub(super) fn condemn(&self, path: PathBuf) {
        // Whoever read the old record has pinned the data after this; whoever reads now reads the new record.
        drop(self.looking.write());
        match self.held.lock().get_mut(&path) {
            Some(held) => held.doomed = true,
            None => self.files.remove_later(path),
        }
    }

    /// Whether anybody uses the data at `path`.
    pub(super) fn is_held(&self, path: &Path) -> bool {
        drop(self.looking.write());
        self.held.lock().contains_key(path)
    }
}

impl Pin {
    /// The file or directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Has the data removed once the last pin is gone.
    pub(super) fn condemn(&self) {
        if let Some(held) = self.pins.held.lock().get_mut(&self.path) {
            held.doomed = true;
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut all = self.pins.held.lock();
        let Some(held) = all.get_mut(&self.path) else { return };
        held.holders -= 1;
        if held.holders == 0 {
            let doomed = held.doomed;
            all.remove(&self.path);
            drop(all);
            if doomed {
                self.pins.files.remove_later(std::mem::take(&mut self.path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    #[test]
    fn data_of_a_record_that_was_read_before_it_was_replaced_wait_for_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::write(&data, "old").unwrap();
        let pins = Arc::new(Pins::new(Files::new(dir.path(), false).unwrap()));
        thread::scope(|scope| {
            let looking = pins.looking();
            let remover = scope.spawn(|| pins.condemn(data.clone()));
            // The reader has the old record, and the remover is at it: it waits, or, if it were wrong, is done.
            while pins.looking.try_read().is_some() && !remover.is_finished() {
                thread::yield_now();
            }
            let pin = pins.hold(data.clone());
            drop(looking);
            remover.join().unwrap();
            assert!(pins.held.lock()[pin.path()].doomed, "the data went, or stay for ever");
            drop(pin);
        });
        assert!(!pins.is_held(&data));
    }
}
