//! The files that a command's sources stand for.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use unicode_normalization::UnicodeNormalization as _;
use uploader::{Checked, Found, Link, Named, SourceError, UploadError, WalkOptions};

/// Standard input, among the sources.
pub(crate) const STDIN: &str = "-";
/// What a link counts for as long as its size is not known: what is held of it in memory, about.
const BYTES_OF_LINK: u64 = 32 << 20;

/// A source, told apart by how it is written.
#[derive(Clone, Debug)]
pub(crate) enum Given {
    Stdin,
    Link(Link),
    Path(PathBuf),
}

impl Given {
    pub(crate) fn read(source: &Path) -> Result<Self, UploadError> {
        match source.to_str() {
            Some(STDIN) => Ok(Self::Stdin),
            Some(text) if Link::is_meant(text) => Ok(Self::Link(text.parse()?)),
            Some(_) | None => Ok(Self::Path(source.to_owned())),
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Path(path) if path.is_dir())
    }

    /// As it may be shown.
    pub(crate) fn shown(&self) -> PathBuf {
        match self {
            Self::Stdin => STDIN.into(),
            Self::Link(link) => link.to_string().into(),
            Self::Path(path) => path.clone(),
        }
    }

    /// Bytes to take into account before it is sent.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::Stdin => 0,
            Self::Link(_) => BYTES_OF_LINK,
            Self::Path(path) => std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
        }
    }
}

/// What the finder has come upon.
pub(crate) enum Next {
    /// To be sent, by its own name if no other is given; once it has been looked for at the store, with what was found.
    Send {
        given: Given,
        name: Option<String>,
        checked: Option<Checked>,
    },
    /// At the store already.
    Unchanged,
    /// Left out.
    Skipped { path: PathBuf, what: &'static str },
    /// A directory in which there is nothing to send.
    Empty { path: PathBuf },
    /// Not to be looked at.
    Failed { path: PathBuf, error: UploadError },
}

/// Finds the files of all sources, as fast as they are taken; whether all that it found were.
pub(crate) fn find(sources: Vec<Given>, name: Option<&str>, walk: &WalkOptions, found: &mpsc::Sender<Next>) -> bool {
    let mut taken = true;
    let mut names = Names::of(sources.len());
    for given in sources {
        let path = match given {
            Given::Path(path) if path.is_dir() => path,
            // Also what is not there: sending it says so.
            given => {
                let name = name.map(str::to_owned);
                let next = Next::Send {
                    given,
                    name,
                    checked: None,
                };
                if found.blocking_send(names.check(next)).is_err() {
                    return false;
                }
                continue;
            }
        };
        let mut empty = true;
        let walked = match prefix(&path, name) {
            Ok(prefix) => walk.walk(&path, &prefix, |met| {
                empty &= matches!(met, Found::Skipped { .. });
                taken = found.blocking_send(names.check(met.into())).is_ok();
                taken
            }),
            Err(error) => Err(error),
        };
        let last = match walked {
            Err(error) => Some(Next::Failed { path, error }),
            Ok(()) => empty.then_some(Next::Empty { path }),
        };
        if let Some(last) = last.filter(|_| taken) {
            taken = found.blocking_send(last).is_ok();
        }
        if !taken {
            return false;
        }
    }
    true
}

/// The names that the files of all sources will be sent by, as far as that is known before they are found.
pub(crate) fn named(sources: &[Given], name: Option<&str>) -> Vec<Named> {
    let mut all = Vec::with_capacity(sources.len());
    for given in sources {
        let Given::Path(path) = given else { continue };
        let below = |prefix: String| Named::Below(if prefix.is_empty() { prefix } else { prefix + "/" });
        if path.is_dir() {
            // What cannot be named fails when it is found.
            all.extend(prefix(path, name).ok().filter(|name| can_be_listed(name)).map(below));
        } else if let Some(name) = name.or_else(|| path.file_name()?.to_str())
            && can_be_listed(name)
        {
            all.push(Named::Exactly(name.to_owned()));
        }
    }
    all
}

/// Whether there can be objects of this name: the broker admits none with control characters.
fn can_be_listed(name: &str) -> bool {
    !name.chars().any(char::is_control)
}

/// The names that files have, by their hashes: two of one name would become one object.
struct Names {
    met: HashSet<u64>,
    /// Whether all of them count. Within one source a name comes twice only if it can be spelt in two ways, which the broker
    /// makes one of (Unicode's form C).
    all: bool,
}

impl Names {
    fn of(sources: usize) -> Self {
        Self {
            met: HashSet::new(),
            all: sources > 1,
        }
    }

    /// A file whose name another one has already had fails.
    fn check(&mut self, next: Next) -> Next {
        let Next::Send {
            given: Given::Path(path),
            name,
            ..
        } = &next
        else {
            return next;
        };
        let Some(name) = name.as_deref().or_else(|| path.file_name()?.to_str()) else {
            return next;
        };
        if !self.all && name.is_ascii() {
            return next;
        }
        let mut hasher = DefaultHasher::new();
        name.nfc().collect::<String>().hash(&mut hasher);
        if self.met.insert(hasher.finish()) {
            return next;
        }
        let taken = SourceError::NameTaken {
            path: path.clone(),
            name: name.to_owned(),
        };
        Next::Failed {
            path: path.clone(),
            error: taken.into(),
        }
    }
}

impl From<Found> for Next {
    fn from(met: Found) -> Self {
        match met {
            Found::File { path, name } => Self::Send {
                given: Given::Path(path),
                name: Some(name),
                checked: None,
            },
            Found::Skipped { path, what } => Self::Skipped { path, what },
            Found::Failed { path, error } => Self::Failed {
                path,
                error: error.into(),
            },
        }
    }
}

/// What stands before the names of a directory's files: another name if one is given, or its own, or nothing for its
/// content alone (`photos/`, `.`).
fn prefix(directory: &Path, name: Option<&str>) -> Result<String, UploadError> {
    if let Some(name) = name {
        return Ok(name.trim_end_matches('/').to_owned());
    }
    let bytes = directory.as_os_str().as_encoded_bytes();
    match directory.file_name() {
        Some(own) if !bytes.ends_with(b"/") && !bytes.ends_with(b"/.") => {
            let path = directory.to_owned();
            let not_utf8 = || SourceError::NameNotUtf8 { path };
            Ok(own.to_str().map(str::to_owned).ok_or_else(not_utf8)?)
        }
        Some(_) | None => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_name_unless_its_content_or_another_name_is_meant() {
        let of = |path: &str, name| prefix(Path::new(path), name).unwrap();
        for (path, expected) in [
            ("photos", "photos"),
            ("/srv/photos", "photos"),
            ("../photos", "photos"),
            ("photos/", ""),
            ("photos/.", ""),
            (".", ""),
            ("..", ""),
            ("/", ""),
        ] {
            assert_eq!(of(path, None), expected, "{path}");
        }
        assert_eq!(of("photos/", Some("a/b/")), "a/b");
        assert_eq!(of("photos", Some("")), "");
    }
}
