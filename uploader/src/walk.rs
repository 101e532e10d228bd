//! The files of a directory, found while others are being sent: however many there are, few are known at a time.

use std::path::{Path, PathBuf};

use ignore::overrides::{Override, OverrideBuilder};
use ignore::{DirEntry, WalkBuilder};

use crate::error::UploadError;
use crate::mounts::Mounts;
use crate::source::SourceError;

/// What desktops leave behind in every directory they show, and nobody wants to keep.
const LEFT_BEHIND: [&str; 5] = [".DS_Store", ".Trashes", ".fseventsd", ".Spotlight-V100", "desktop.ini"];

/// Which files of a directory are taken. Globs are those of `.gitignore` files, as seen from the directory.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// Only files that match one of these; none means all. Also brings back what is left out by default.
    pub include: Vec<String>,
    /// Neither files nor directories that match one of these, even if they are included.
    pub exclude: Vec<String>,
    /// Leave out what `.gitignore` and `.ignore` files there say.
    pub gitignore: bool,
    /// Take what symbolic links lead to, rather than leave them out.
    pub follow_links: bool,
    /// Stay on the file system that the directory is on.
    pub one_file_system: bool,
}

/// What was met in a directory.
#[derive(Debug)]
pub enum Found {
    /// A file to upload.
    File {
        /// Where it is.
        path: PathBuf,
        /// What to name it by: its path below the directory, with `/` between.
        name: String,
    },
    /// Neither a file nor a directory, or a file system that is not gone into.
    Skipped {
        /// Where it is.
        path: PathBuf,
        /// What it is, in words.
        what: &'static str,
    },
    /// Something could not be looked at; the rest goes on.
    Failed {
        /// Where it is, or the directory that it is in.
        path: PathBuf,
        /// Why.
        error: SourceError,
    },
}

impl WalkOptions {
    /// Passes what is in `directory` and below it to `found`, in no particular order, until that answers `false`. Pseudo file
    /// systems of the kernel (`/proc`, `/sys`) are left out where they begin below `directory`.
    ///
    /// `prefix` comes before every name, with a `/` between unless it is empty.
    ///
    /// # Errors
    /// [`UploadError::Settings`] if a glob cannot be understood; nothing was looked at.
    pub fn walk(
        &self,
        directory: &Path,
        prefix: &str,
        mut found: impl FnMut(Found) -> bool,
    ) -> Result<(), UploadError> {
        let mounts = Mounts::below(directory, self.one_file_system);
        let at_border = mounts.clone();
        let entries = WalkBuilder::new(directory)
            .standard_filters(false)
            .git_ignore(self.gitignore)
            .ignore(self.gitignore)
            .parents(self.gitignore)
            .require_git(false)
            .follow_links(self.follow_links)
            .overrides(self.globs(directory)?)
            .filter_entry(move |entry| at_border.lets_in(entry))
            .build();
        for entry in entries {
            let met = match entry {
                Ok(entry) => self.met(&entry, directory, prefix),
                Err(cause) => Some(unseen(directory, cause)),
            };
            let left_out = mounts.left_out().into_iter();
            let left_out = left_out.map(|(path, what)| Found::Skipped { path, what });
            if !left_out.chain(met).all(&mut found) {
                return Ok(());
            }
        }
        // What stands last in its directory is left out when there is no entry after it.
        let left_out = mounts.left_out().into_iter();
        left_out
            .map(|(path, what)| Found::Skipped { path, what })
            .all(&mut found);
        Ok(())
    }

    fn globs(&self, directory: &Path) -> Result<Override, UploadError> {
        let mut globs = OverrideBuilder::new(directory);
        let left_behind = LEFT_BEHIND.iter().map(|name| format!("!{name}"));
        let excluded = self.exclude.iter().map(|glob| format!("!{glob}"));
        // The last one that matches counts.
        for glob in left_behind.chain(self.include.iter().cloned()).chain(excluded) {
            let unusable =
                |error: ignore::Error| UploadError::Settings(format!("{error}; it is to be a glob such as *.jpg"));
            globs.add(&glob).map_err(unusable)?;
        }
        globs
            .build()
            .map_err(|error| UploadError::Settings(format!("the globs cannot be used together: {error}")))
    }

    fn met(&self, entry: &DirEntry, directory: &Path, prefix: &str) -> Option<Found> {
        let path = entry.path().to_owned();
        let skipped = |what| {
            Some(Found::Skipped {
                path: path.clone(),
                what,
            })
        };
        let file_type = entry.file_type()?;
        if file_type.is_dir() {
            return None;
        }
        if file_type.is_symlink() && !self.follow_links {
            return skipped("a symbolic link");
        }
        if !file_type.is_file() {
            return skipped("a pipe, a socket or a device");
        }
        Some(match name(&path, directory, prefix) {
            Some(name) => Found::File { path, name },
            None => Found::Failed {
                path: path.clone(),
                error: SourceError::NameNotUtf8 { path },
            },
        })
    }
}

/// What could not be looked at, and why.
fn unseen(directory: &Path, cause: ignore::Error) -> Found {
    let path = place(&cause).unwrap_or(directory).to_owned();
    let forbidden = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    let error = if cause.io_error().is_some_and(forbidden) {
        SourceError::DirectoryForbidden { path: path.clone() }
    } else {
        SourceError::Walk {
            path: path.clone(),
            cause,
        }
    };
    Found::Failed { path, error }
}

/// Where the walk failed, as far as the error tells.
fn place(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => place(err),
        ignore::Error::Loop { child, .. } => Some(child),
        ignore::Error::Partial(errors) => errors.iter().find_map(place),
        _ => None,
    }
}

/// The path below `directory` as a name, if it is text.
fn name(path: &Path, directory: &Path, prefix: &str) -> Option<String> {
    let mut name = prefix.to_owned();
    for component in path.strip_prefix(directory).ok()?.components() {
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(component.as_os_str().to_str()?);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    fn names(options: &WalkOptions, root: &Path, prefix: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let collect = |found| {
            if let Found::File { name, .. } = found {
                names.insert(name);
            }
            true
        };
        options.walk(root, prefix, collect).unwrap();
        names
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn globs(globs: &[&str]) -> Vec<String> {
        globs.iter().map(|glob| (*glob).to_owned()).collect()
    }

    #[test]
    fn files_are_named_by_their_path_below_the_directory_hidden_ones_too() {
        let root = tree(&["a", "b/c", "b/d/ünï +.bin", ".hidden/e", "b\\f"]);
        let all = WalkOptions::default();
        assert_eq!(
            names(&all, root.path(), ""),
            set(&["a", "b/c", "b/d/ünï +.bin", ".hidden/e", "b\\f"])
        );
        assert_eq!(
            names(&all, &root.path().join("b"), "x/y"),
            set(&["x/y/c", "x/y/d/ünï +.bin"])
        );
    }

    #[test]
    fn what_desktops_leave_behind_stays_unless_it_is_asked_for() {
        let root = tree(&["a", "b/.DS_Store", ".Trashes/501/old", "desktop.ini"]);
        assert_eq!(names(&WalkOptions::default(), root.path(), ""), set(&["a"]));
        let asked = WalkOptions {
            include: globs(&["a", "desktop.ini"]),
            ..WalkOptions::default()
        };
        assert_eq!(names(&asked, root.path(), ""), set(&["a", "desktop.ini"]));
    }

    #[test]
    fn exclude_wins_over_include_and_takes_whole_directories() {
        let root = tree(&["a.jpg", "b.txt", "cache/c.jpg", "d/e.jpg", "d/draft.jpg"]);
        let options = WalkOptions {
            include: globs(&["*.jpg"]),
            exclude: globs(&["cache/", "draft*"]),
            ..WalkOptions::default()
        };
        assert_eq!(names(&options, root.path(), ""), set(&["a.jpg", "d/e.jpg"]));
    }

    #[test]
    fn ignore_files_count_on_request_only() {
        let root = tree(&["a", "b.log"]);
        fs::write(root.path().join(".gitignore"), "*.log\n").unwrap();
        assert_eq!(
            names(&WalkOptions::default(), root.path(), ""),
            set(&[".gitignore", "a", "b.log"])
        );
        let heeding = WalkOptions {
            gitignore: true,
            ..WalkOptions::default()
        };
        assert_eq!(names(&heeding, root.path(), ""), set(&[".gitignore", "a"]));
    }

    #[test]
    fn links_are_left_out_or_followed_and_never_round_in_a_circle() {
        let root = tree(&["real/a"]);
        symlink(root.path().join("real"), root.path().join("link")).unwrap();
        symlink(root.path(), root.path().join("real/loop")).unwrap();
        assert_eq!(names(&WalkOptions::default(), root.path(), ""), set(&["real/a"]));
        let following = WalkOptions {
            follow_links: true,
            ..WalkOptions::default()
        };
        assert_eq!(names(&following, root.path(), ""), set(&["link/a", "real/a"]));
    }

    #[test]
    fn what_cannot_be_named_or_is_no_file_is_told_and_the_rest_goes_on() {
        let root = tree(&["a"]);
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        let (mut files, mut skipped, mut failed) = (0, 0, 0);
        let count = |found| {
            match found {
                Found::File { .. } => files += 1,
                Found::Skipped { .. } => skipped += 1,
                Found::Failed {
                    error: SourceError::NameNotUtf8 { .. },
                    ..
                } => failed += 1,
                Found::Failed { error, .. } => panic!("{error}"),
            }
            true
        };
        WalkOptions::default().walk(root.path(), "", count).unwrap();
        assert_eq!((files, skipped, failed), (1, 1, 1));
    }

    /// What is left out and why, among it every path that is told.
    fn left_out(options: &WalkOptions, root: &Path) -> Vec<(PathBuf, &'static str)> {
        let mut all = Vec::new();
        let collect = |found| {
            if let Found::Skipped { path, what } = found {
                all.push((path, what));
            }
            true
        };
        options.walk(root, "", collect).unwrap();
        all
    }

    #[test]
    fn file_systems_of_the_kernel_are_left_out_where_they_begin_and_not_where_they_were_asked_for() {
        let root = tree(&["a"]);
        symlink("/proc/self", root.path().join("proc")).unwrap();
        let following = WalkOptions {
            follow_links: true,
            ..WalkOptions::default()
        };
        assert_eq!(names(&following, root.path(), ""), set(&["a"]));
        let proc = (root.path().join("proc"), "a pseudo file system (proc)");
        assert_eq!(left_out(&following, root.path()), [proc]);
        let asked = names(&WalkOptions::default(), Path::new("/proc/self/net"), "");
        assert!(asked.contains("dev"), "{asked:?}");
    }

    #[test]
    fn other_file_systems_are_left_out_on_request() {
        use std::os::unix::fs::MetadataExt as _;
        let (root, other) = (tree(&["a"]), Path::new("/dev/shm"));
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        if !other.is_dir() || device(other) == device(root.path()) {
            return;
        }
        symlink(other, root.path().join("other")).unwrap();
        let following = |one_file_system| WalkOptions {
            follow_links: true,
            one_file_system,
            ..WalkOptions::default()
        };
        let border = (root.path().join("other"), "on another file system");
        assert!(!left_out(&following(false), root.path()).contains(&border));
        assert!(left_out(&following(true), root.path()).contains(&border));
    }

    #[test]
    fn a_bad_glob_is_named() {
        let options = WalkOptions {
            exclude: globs(&["a[b"]),
            ..WalkOptions::default()
        };
        let error = options.walk(Path::new("/"), "", |_| panic!("walked")).unwrap_err();
        assert!(error.to_string().contains("a[b"), "{error}");
    }
}
