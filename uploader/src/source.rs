//! What is being sent: a file, opened once, read by place, and watched for change; or the parts of a stream, held in memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::held::Held;
use crate::identity::{self, Identity};

/// Bytes that can be read by place, more than once.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A regular file, held open from plan to complete so that every read is of the same file.
    File { file: File, identity: Identity },
    /// Of a stream, the parts that the store does not have yet, and how long it will be if that is known.
    Stream { held: Held, size: Option<u64> },
}

/// A file that cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing has that name.
    #[error("{path}: there is no such file; check the spelling, and the directory it is meant from")]
    Missing {
        /// As it was given.
        path: PathBuf,
    },
    /// The file may not be read.
    #[error("{path}: may not be read by this user; change its permissions, or run as a user who may")]
    Forbidden {
        /// As it was given.
        path: PathBuf,
    },
    /// A directory.
    #[error("{path}: is a directory where a file was expected")]
    Directory {
        /// As it was given.
        path: PathBuf,
    },
    /// A pipe, a device, a socket.
    #[error("{path}: is not a regular file; only those are taken. Write its content to a file and send that")]
    NotRegular {
        /// As it was given.
        path: PathBuf,
    },
    /// Its name is no text that a key could be made from.
    #[error("{path}: its name is not UTF-8, and keys must be; rename it, or give another name with --name")]
    NameNotUtf8 {
        /// As it was given.
        path: PathBuf,
    },
    /// Another file of the same command has this name.
    #[error(
        "{path}: another file of this command has the name {name} too, and both would become one object, so only the first \
         one is sent. Send this one by a command of its own, with another --name"
    )]
    NameTaken {
        /// As it was given.
        path: PathBuf,
        /// The name of both.
        name: String,
    },
    /// A directory may not be looked into.
    #[error(
        "{path}: this directory may not be read by this user, so nothing in it was sent; change its permissions, run as a user \
         who may, or leave it out with --exclude"
    )]
    DirectoryForbidden {
        /// Where it is.
        path: PathBuf,
    },
    /// Something in a directory could not be looked at.
    #[error("{path}: could not be looked at, so nothing of it was sent")]
    Walk {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: ignore::Error,
    },
    /// Reading failed.
    #[error("{path}: could not be read at byte {offset}; check the disk or the network it is on, then run again")]
    Read {
        /// As it was given.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Opening failed for another reason.
    #[error("{path}: could not be opened")]
    Open {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It is no longer the file that the plan was made for.
    #[error("{path}: {change}")]
    Changed {
        /// As it was given.
        path: PathBuf,
        /// In what way.
        change: Change,
    },
}

/// How a file differs from what it was when it was opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// It has fewer bytes.
    Shrunk {
        /// Bytes it had.
        from: u64,
        /// Bytes it has.
        to: u64,
    },
    /// It has more bytes.
    Grown {
        /// Bytes it had.
        from: u64,
        /// Bytes it has.
        to: u64,
    },
    /// It was written to: its modification time is another.
    Modified,
    /// Its name now belongs to another file.
    Replaced,
    /// Its name is gone.
    Deleted,
    /// Its bytes differ though its size and times do not.
    Content,
    /// Behind a link there is other content now than that whose beginning was read.
    AtOrigin,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shrunk { from, to } => write!(f, "shrank from {from} to {to} bytes"),
            Self::Grown { from, to } => write!(f, "grew from {from} to {to} bytes"),
            Self::Modified => f.write_str("was written to"),
            Self::Replaced => f.write_str("was replaced by another file"),
            Self::Deleted => f.write_str("was deleted"),
            Self::Content => f.write_str("gave other bytes when it was read again"),
            Self::AtOrigin => f.write_str("became other content at its host"),
        }
    }
}

impl Source {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let failed = |cause: io::Error| {
            let path = path.to_owned();
            match cause.kind() {
                io::ErrorKind::NotFound => SourceError::Missing { path },
                io::ErrorKind::PermissionDenied => SourceError::Forbidden { path },
                _ => SourceError::Open { path, cause },
            }
        };
        // Asked before opening, since opening a pipe waits for its writer.
        let file_type = std::fs::metadata(path).map_err(failed)?.file_type();
        if file_type.is_dir() {
            return Err(SourceError::Directory { path: path.to_owned() });
        }
        if !file_type.is_file() {
            return Err(SourceError::NotRegular { path: path.to_owned() });
        }
        let file = File::open(path).map_err(failed)?;
        let identity: Identity = file.metadata().map_err(failed)?.into();
        // Files of /proc and their like say that they are empty, and are not.
        if identity.size == 0 && file.read_at(&mut [0], 0).map_err(failed)? > 0 {
            return Err(SourceError::NotRegular { path: path.to_owned() });
        }
        Ok(Self {
            path: path.to_owned(),
            content: Content::File { file, identity },
        })
    }

    /// A stream of this name and, if it is known, this size, of which nothing has been read yet.
    pub(crate) fn stream(name: &str, size: Option<u64>) -> Self {
        let held = Held::default();
        Self {
            path: name.into(),
            content: Content::Stream { held, size },
        }
    }

    /// What is held of a stream; nothing of a file.
    pub(crate) fn held(&self) -> Option<&Held> {
        match &self.content {
            Content::File { .. } => None,
            Content::Stream { held, .. } => Some(held),
        }
    }

    /// As it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes when it was opened; nothing for a stream that does not say when it will end.
    pub(crate) const fn size(&self) -> Option<u64> {
        match &self.content {
            Content::File { identity, .. } => Some(identity.size),
            Content::Stream { size, .. } => *size,
        }
    }

    /// The file as it was when it was opened; nothing for a stream.
    pub(crate) const fn identity(&self) -> Option<Identity> {
        match &self.content {
            Content::File { identity, .. } => Some(*identity),
            Content::Stream { .. } => None,
        }
    }

    /// Names this content together with `settings`, so that another run, on another machine too, can find its upload: by
    /// size, time of change and samples of the bytes, which are read for it. Nothing for a stream, which no other run can
    /// read again.
    pub(crate) fn fingerprint(&self, settings: &str) -> Result<Option<String>, SourceError> {
        let Some(Identity { size, modified_ns, .. }) = self.identity() else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        for range in identity::samples(size) {
            let start = bytes.len();
            bytes.resize(start + usize::try_from(range.end - range.start).unwrap_or_default(), 0);
            let (_, sample) = bytes.split_at_mut(start);
            self.read_exact_at(sample, range.start)?;
        }
        let stated = format!("{size} {modified_ns} {settings}");
        let hash = identity::hash(&[stated.as_bytes(), &bytes]);
        Ok(Some(format!("sampled-{}", identity::hex(&hash))))
    }

    /// Finds out whether it is still what it was, without reading it.
    pub(crate) fn check(&self) -> Result<(), SourceError> {
        let changed = |change| {
            Err(SourceError::Changed {
                path: self.path.clone(),
                change,
            })
        };
        let failed = |cause| SourceError::Open {
            path: self.path.clone(),
            cause,
        };
        let Content::File { file, identity: before } = &self.content else {
            return Ok(());
        };
        let now = Identity::from(file.metadata().map_err(failed)?);
        let named = match std::fs::metadata(&self.path) {
            Ok(metadata) => Identity::from(metadata),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return changed(Change::Deleted),
            Err(cause) => return Err(failed(cause)),
        };
        if (named.device, named.inode) != (before.device, before.inode) {
            return changed(Change::Replaced);
        }
        let (from, to) = (before.size, now.size);
        match to.cmp(&from) {
            std::cmp::Ordering::Less => changed(Change::Shrunk { from, to }),
            std::cmp::Ordering::Greater => changed(Change::Grown { from, to }),
            std::cmp::Ordering::Equal if now.modified_ns != before.modified_ns => changed(Change::Modified),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Fills `buffer` with the bytes from `offset`, or says why it cannot: the file is shorter than planned, or
    /// reading failed.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let path = || self.path.clone();
        let (file, identity) = match &self.content {
            Content::File { file, identity } => (file, identity),
            Content::Stream { held, .. } => {
                let gone = |cause| SourceError::Read {
                    path: path(),
                    offset,
                    cause,
                };
                return held.read_exact_at(buffer, offset).map_err(gone);
            }
        };
        file.read_exact_at(buffer, offset).map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => match file.metadata().map(|now| now.size()) {
                // Files of /sys say that they have 4096 bytes, and have not.
                Ok(size) if size == identity.size => SourceError::NotRegular { path: path() },
                size => SourceError::Changed {
                    path: path(),
                    change: Change::Shrunk {
                        from: identity.size,
                        to: size.unwrap_or_default(),
                    },
                },
            },
            _ => SourceError::Read {
                path: path(),
                offset,
                cause,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf, Source) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        let source = Source::open(&path).unwrap();
        (directory, path, source)
    }

    fn change(source: &Source) -> Option<Change> {
        match source.check() {
            Ok(()) => None,
            Err(SourceError::Changed { change, .. }) => Some(change),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_file_at_rest_is_unchanged() {
        let (_directory, _path, source) = file();
        assert_eq!(change(&source), None);
    }

    #[test]
    fn each_kind_of_change_is_told_apart() {
        let (_directory, path, source) = file();
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"!")
            .unwrap();
        assert_eq!(change(&source), Some(Change::Grown { from: 10, to: 11 }));

        let (_directory, path, source) = file();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4)
            .unwrap();
        assert_eq!(change(&source), Some(Change::Shrunk { from: 10, to: 4 }));
        let error = source.read_exact_at(&mut [0; 8], 0).unwrap_err();
        assert!(error.to_string().ends_with("shrank from 10 to 4 bytes"), "{error}");

        let (_directory, path, source) = file();
        let earlier = std::time::SystemTime::UNIX_EPOCH;
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(earlier)
            .unwrap();
        assert_eq!(change(&source), Some(Change::Modified));

        let (directory, path, source) = file();
        let other = directory.path().join("other");
        fs::write(&other, "0123456789").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(change(&source), Some(Change::Replaced));

        let (_directory, path, source) = file();
        fs::remove_file(&path).unwrap();
        assert_eq!(change(&source), Some(Change::Deleted));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_its_reason() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            Source::open(directory.path()),
            Err(SourceError::Directory { .. })
        ));
        assert!(matches!(
            Source::open(&directory.path().join("none")),
            Err(SourceError::Missing { .. })
        ));
        assert!(matches!(
            Source::open(Path::new("/dev/null")),
            Err(SourceError::NotRegular { .. })
        ));
    }

    #[test]
    fn the_fingerprint_is_of_content_time_and_settings_wherever_the_file_is() {
        let print = |path: &Path, settings| Source::open(path).unwrap().fingerprint(settings).unwrap().unwrap();
        let (directory, path, _) = file();
        let copy = directory.path().join("copy");
        fs::copy(&path, &copy).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let keep_time = |path: &Path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_modified(modified).unwrap();
        };
        keep_time(&copy);
        assert_eq!(print(&path, "a"), print(&copy, "a"));
        assert_ne!(print(&path, "a"), print(&path, "b"));
        assert!(print(&path, "a").len() <= 128);

        fs::write(&copy, "012345678!").unwrap();
        keep_time(&copy);
        assert_ne!(print(&path, "a"), print(&copy, "a"), "other bytes, the same time");
    }

    #[test]
    fn a_hundred_gibibytes_are_sampled_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sparse");
        let file = fs::File::create(&path).unwrap();
        file.set_len(100 << 30).unwrap();
        let before = Source::open(&path).unwrap().fingerprint("").unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"!", (100 << 30) - 1).unwrap();
        file.set_modified(modified).unwrap();
        assert_ne!(Source::open(&path).unwrap().fingerprint("").unwrap(), before);
    }
}
