//! Everything that can keep a store from starting, each with what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the store did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else listens there.
    #[error("cannot listen on {address}: the port is taken; stop the other program, or choose another address")]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system does not allow listening there.
    #[error("cannot listen on {address}; choose an address of this machine and a port above 1023")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be used.
    #[error("cannot {doing} {}; the store needs a directory that it may read and write", path.display())]
    Directory {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file stands where the directory is to be.
    #[error("{} is a file; name the directory that the store shall keep its data in", path.display())]
    NotADirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// Another process serves the same directory.
    #[error("{} is served by another process; stop that one, or choose another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The data were written by a later version of this program.
    #[error("{} holds data of format {found:?}, this program knows {known:?}; use a newer version", dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What its `format` file says.
        found: String,
        /// What this program writes.
        known: &'static str,
    },
    /// The directory has buckets in it, but not the file that says they are a store's.
    #[error("{} holds a directory `buckets` that is not this program's; choose another directory", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
    },
    /// The index of all objects cannot be read or written.
    #[error("the store's index {} cannot be used; nothing was changed. If the disk is full or refuses it, make room; if the file is damaged or gone, bring the whole directory back from a backup", path.display())]
    Index {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// A record of the format before cannot be read, so that its object would be lost on the way to the index.
    #[error("{} is the record of an object and cannot be read, so the directory stays as it was; bring the file back from a backup, or move it away to go on without the object", path.display())]
    OldRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The data were written by an earlier version, and only serving brings them over.
    #[error("{} holds data of the format before; serve it once, which brings it over, and stop it again", dir.display())]
    OldFormat {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no store in the directory.
    #[error("{} is not the directory of a store: it has no file `format`", dir.display())]
    NoStore {
        /// The directory.
        dir: PathBuf,
    },
    /// A bucket asked for cannot have that name.
    #[error("{0:?} cannot be a bucket name: 3 to 63 of a-z, 0-9, - and ., beginning and ending with a letter or digit")]
    BucketName(String),
    /// A region cannot have that name.
    #[error("{0:?} cannot be a region: letters, digits and -, such as us-east-1")]
    Region(String),
    /// The credentials file does not hold credentials.
    #[error("{} does not hold credentials: {flaw}; `store serve --help` shows what it may hold", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with which entry, without its value.
        flaw: String,
    },
    /// The key pair of the settings is not one.
    #[error("the access key cannot be used: {0}")]
    AccessKey(&'static str),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random(#[source] getrandom::Error),
}
