//! Which file systems a walk goes into: what the kernel shows of itself is nobody's files, and has no end.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ignore::DirEntry;

/// What is said of another file system where one was asked for.
const ANOTHER: &str = "on another file system";

/// Where a walk stays. Clones share what has been left out.
#[derive(Clone, Debug)]
pub(crate) struct Mounts(Arc<Borders>);

#[derive(Debug)]
struct Borders {
    /// The file system that the walk begins on: it was asked for, whatever it is.
    home: Option<u64>,
    one_file_system: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Why each file system that was met is left out, by its device; nothing where it is not.
    verdicts: HashMap<u64, Option<&'static str>>,
    left_out: Vec<(PathBuf, &'static str)>,
}

impl Mounts {
    /// For a walk that begins at `directory`.
    pub(crate) fn below(directory: &Path, one_file_system: bool) -> Self {
        Self(Arc::new(Borders {
            home: std::fs::metadata(directory).ok().map(|metadata| metadata.dev()),
            one_file_system,
            seen: Mutex::default(),
        }))
    }

    /// Whether the walk takes the entry; if not, that is noted. What cannot be looked at is taken, and fails by itself.
    pub(crate) fn lets_in(&self, entry: &DirEntry) -> bool {
        let borders = &self.0;
        if !entry.file_type().is_some_and(|file_type| file_type.is_dir()) {
            return true;
        }
        // By the path: of a link that is followed, what it leads to counts.
        let Ok(device) = std::fs::metadata(entry.path()).map(|metadata| metadata.dev()) else {
            return true;
        };
        if Some(device) == borders.home {
            return true;
        }
        let mut seen = borders.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let why = *seen.verdicts.entry(device).or_insert_with(|| {
            let pseudo = pseudo(entry.path());
            pseudo.or(borders.one_file_system.then_some(ANOTHER))
        });
        if let Some(what) = why {
            seen.left_out.push((entry.path().to_owned(), what));
        }
        why.is_none()
    }

    /// What has been left out since this was last asked, and what it is.
    pub(crate) fn left_out(&self) -> Vec<(PathBuf, &'static str)> {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut seen.left_out)
    }
}

/// What the path is on, if that is a file system in which there are no files but what the kernel makes up.
#[cfg(target_os = "linux")]
fn pseudo(path: &Path) -> Option<&'static str> {
    // The field's type is another one on each processor; the numbers have 32 bits.
    let kind = u64::try_from(rustix::fs::statfs(path).ok()?.f_type).ok()? & 0xffff_ffff;
    // As in <linux/magic.h>.
    Some(match kind {
        0x9fa0 => "a pseudo file system (proc)",
        0x6265_6572 => "a pseudo file system (sysfs)",
        0x0027_e0eb => "a pseudo file system (cgroup)",
        0x6367_7270 => "a pseudo file system (cgroup2)",
        0x1cd1 => "a pseudo file system (devpts)",
        0x6462_6720 => "a pseudo file system (debugfs)",
        0x7472_6163 => "a pseudo file system (tracefs)",
        0x7363_6673 => "a pseudo file system (securityfs)",
        0xcafe_4a11 => "a pseudo file system (bpf)",
        0xf97c_ff8c => "a pseudo file system (selinux)",
        0x4341_5d53 => "a pseudo file system (smackfs)",
        0x6165_676c => "a pseudo file system (pstore)",
        0xde5e_81e4 => "a pseudo file system (efivarfs)",
        0x6265_6570 => "a pseudo file system (configfs)",
        0x1980_0202 => "a pseudo file system (mqueue)",
        0x4249_4e4d => "a pseudo file system (binfmt_misc)",
        0x9584_58f6 => "a pseudo file system (hugetlbfs)",
        0x6573_5543 => "a pseudo file system (fusectl)",
        0x6e73_6673 => "a pseudo file system (nsfs)",
        0x6759_6969 => "a pseudo file system (rpc_pipefs)",
        0x6e66_7364 => "a pseudo file system (nfsd)",
        0x0765_5821 => "a pseudo file system (resctrl)",
        0x6c6f_6f70 => "a pseudo file system (binder)",
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
fn pseudo(_: &Path) -> Option<&'static str> {
    None
}
