//! Every way an upload or a download can fail: what happened to which thing, and what to do next.

use std::io;
use std::path::PathBuf;

use shared::api::{Problem, UploadState};
use shared::plan::PlanError;
use shared::{ETag, ObjectKey, PartNumber};

use crate::refused::{advice, said};
use crate::source::{Change, SourceError};

/// A failure below HTTP, without the URL it happened to: a part's URL is a secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TransportError(reqwest::Error);

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }
}

/// Trouble of a connection that does not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mistake {
    /// The other end's certificate is not trusted.
    Certificate,
    /// What came is no HTTP.
    Scheme,
}

impl TransportError {
    /// What is wrong, if it is something that waiting does not mend. The libraries tell it in words alone.
    pub(crate) fn mistake(&self) -> Option<Mistake> {
        let mut cause: Option<&dyn std::error::Error> = Some(&self.0);
        while let Some(error) = cause {
            let words = error.to_string();
            if words.contains("invalid peer certificate") {
                return Some(Mistake::Certificate);
            }
            if words.contains("invalid HTTP version") {
                return Some(Mistake::Scheme);
            }
            cause = error.source();
        }
        None
    }
}

/// Why a file was not uploaded, or a question not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// A setting cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The file cannot be sent.
    #[error(transparent)]
    Source(SourceError),
    /// The file changed while it was being sent; no object was made of it.
    #[error(
        "{path}: {change} while it was being sent; no object was made of it{}. Run the command again when the file is \
         at rest, or send a copy", if *aborted { ", and the upload was aborted" } else { "" }
    )]
    SourceChanged {
        /// As it was given.
        path: PathBuf,
        /// In what way.
        change: Change,
        /// Whether the broker could still be told; if not, it ends the upload when its time is over.
        aborted: bool,
    },
    /// Nothing answers at the broker's address, or only errors that should have passed.
    #[error(
        "could not {doing}: the broker at {broker} {trouble}. {}{}", to_do(.cause.as_ref()), resume(*.resumable)
    )]
    BrokerUnreachable {
        /// What was asked of it.
        doing: &'static str,
        /// Its address.
        broker: String,
        /// What it did instead of answering.
        trouble: String,
        /// Whether parts have been sent that a later run will find.
        resumable: bool,
        /// What the network said.
        #[source]
        cause: Option<TransportError>,
    },
    /// Something answers at the broker's address that does not speak its protocol.
    #[error(
        "could not {doing}: {broker} answered {what}, which no broker would. Check that --broker or UPLOADER_BROKER \
         is a broker's address, and that no proxy answers in its place"
    )]
    NotABroker {
        /// What was asked of it.
        doing: &'static str,
        /// Its address.
        broker: String,
        /// What came instead.
        what: String,
    },
    /// The broker said no.
    #[error("could not {doing}: {}{}", said(.problem), advice(.doing, .problem))]
    Refused {
        /// What was asked of it.
        doing: &'static str,
        /// Its reason.
        problem: Box<Problem>,
    },
    /// The store did not take a part although it was tried often enough.
    #[error(
        "part {number} did not reach the store at {store} in {tries} tries: {trouble}. What arrived of a file is kept: run \
         the same command again to continue"
    )]
    StoreUnreachable {
        /// The part's place.
        number: PartNumber,
        /// Scheme, host and port.
        store: String,
        /// How often it was sent.
        tries: u32,
        /// How the last try ended.
        trouble: String,
        /// What the network said.
        #[source]
        cause: Option<TransportError>,
    },
    /// The store refused a part, also by a fresh URL.
    #[error(
        "the store at {store} refused part {number}, also by a fresh URL: {answer}. The keys or the clock of the broker \
         may be wrong, or something between here and the store alters requests; ask whoever runs the broker"
    )]
    StoreRefused {
        /// The part's place.
        number: PartNumber,
        /// Scheme, host and port.
        store: String,
        /// Status, code and words.
        answer: String,
    },
    /// The store has no room for a part, or allows no more.
    #[error(
        "the store at {store} has no room for part {number}: {answer}. Make room there or have its quota raised, then run \
         the same command again: what arrived of a file is kept"
    )]
    StoreFull {
        /// The part's place.
        number: PartNumber,
        /// Scheme, host and port.
        store: String,
        /// Status, code and words.
        answer: String,
    },
    /// The store keeps finding other bytes than were sent, though the file is the same at every reading.
    #[error(
        "part {number} arrived damaged at the store at {store} {times} times, though the file reads the same each time: \
         something on the way alters it. Check the network, proxies and memory, then run the same command again"
    )]
    Damaged {
        /// The part's place.
        number: PartNumber,
        /// Scheme, host and port.
        store: String,
        /// How often.
        times: u32,
    },
    /// A link's host did not answer, or only by errors that should have passed.
    #[error(
        "{trouble}, in {tries} tries; no object was made of it. Check the link, or run the same command again later"
    )]
    OriginUnreachable {
        /// How often it was asked.
        tries: u32,
        /// Which link, and how the last try ended.
        trouble: String,
        /// What the network said.
        #[source]
        cause: Option<TransportError>,
    },
    /// A link's content broke off, and its host cannot give the rest of it.
    #[error(
        "{trouble}, and its host does not give parts of it (by `Accept-Ranges: bytes` with an ETag or Last-Modified); no \
         object was made of it. Run the same command again, or download it, and upload the file"
    )]
    OriginCut {
        /// Which link, what happened to it, and after how many bytes.
        trouble: String,
        /// What the network said.
        #[source]
        cause: Option<TransportError>,
    },
    /// A link's host said no.
    #[error("{url} answered HTTP {status}; no object was made of it. {}", at_origin(*.status))]
    OriginRefused {
        /// The link, without what could be secret in it, and where it redirected to.
        url: String,
        /// Its answer.
        status: u16,
    },
    /// A link's host answers what no right object could be made of.
    #[error("{url} cannot be uploaded: {why}")]
    OriginUnusable {
        /// The link, without what could be secret in it.
        url: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The object is there, and was not made of what was sent.
    #[error(
        "{key}: the object's ETag is not that of the bytes that were sent. It may hold another file's bytes, which were \
         uploaded by this name at the same time. The upload is over: run the same command again, which sends anew"
    )]
    OtherBytes {
        /// The object's key.
        key: ObjectKey,
    },
    /// The upload ended behind our back.
    #[error("the upload is no longer open at the broker: it {}. Run the same command again to begin anew", ended(*.0))]
    Gone(UploadState),
    /// The broker's plan or answer contradicts itself or the file.
    #[error("the broker's answer does not fit the file: {0}. Broker and uploader may be of different versions")]
    Contradiction(String),
    /// The broker was not asked, but by the rules it states it would say no.
    #[error("the broker would refuse this: {0}")]
    WouldBeRefused(Refusal),
    /// An object did not arrive although it was tried often enough, or the store does not give it out.
    #[error("could not download {key} from {store}: {trouble}{}", if *.passing { "; run the same command again later" } else { "" })]
    NotDownloaded {
        /// The object's key.
        key: ObjectKey,
        /// Scheme, host and port.
        store: String,
        /// How the last try ended.
        trouble: String,
        /// Whether it may pass by itself.
        passing: bool,
        /// What the network said.
        #[source]
        cause: Option<TransportError>,
    },
    /// The object is no longer the one that the download began with.
    #[error(
        "{key}: was replaced or deleted at the store while it was being downloaded; nothing was kept of it. Run the command again"
    )]
    ObjectChanged {
        /// The object's key.
        key: ObjectKey,
    },
    /// All bytes arrived, and they are not those of the object.
    #[error(
        "{key}: what arrived does not have the object's ETag {etag}, so it is not kept. Something on the way, or the store, \
         alters it; run the command again, and if that does not help ask whoever runs the store"
    )]
    WrongBytes {
        /// The object's key.
        key: ObjectKey,
        /// As the store tells it.
        etag: ETag,
    },
    /// There is a file where the download should go.
    #[error("{path}: is there already; move it away, name another place, or say --overwrite")]
    TargetExists {
        /// The file.
        path: PathBuf,
    },
    /// What is there is no file that could be replaced.
    #[error(
        "{path}: is there already, and is no regular file that could be replaced; move it away, or name another place"
    )]
    TargetNotRegular {
        /// The file.
        path: PathBuf,
    },
    /// The download cannot be written.
    #[error("{path}: could not be written; check that the directory is there, may be written to and has room")]
    Target {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The broker kept missing parts that the store had taken.
    #[error(
        "the store still misses {} of the parts it has taken, although they were sent again; run the same command again, \
         and if that does not help ask whoever runs the store", .0.len()
    )]
    PartsMissing(Vec<PartNumber>),
}

/// What can be known to be refused before it is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A destination that it does not name.
    #[error("it has no destination {0:?}; `uploader whoami` lists those there are")]
    NoSuchDestination(String),
    /// An ACL that the destination does not grant.
    #[error("its policy does not grant the ACL {0:?}; `uploader whoami` lists those it does")]
    AclNotGranted(String),
    /// A file that cannot be cut into parts.
    #[error(transparent)]
    Plan(PlanError),
}

impl From<Refusal> for UploadError {
    fn from(refusal: Refusal) -> Self {
        Self::WouldBeRefused(refusal)
    }
}

impl Refusal {
    /// The code that the broker has for it.
    const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchDestination(_) => "no_such_destination",
            Self::AclNotGranted(_) => "acl_not_granted",
            Self::Plan(PlanError::TooLarge { .. }) => "file_too_large",
            Self::Plan(PlanError::PartSize(_) | PlanError::TooManyParts { .. }) => "invalid_part_size",
        }
    }
}

/// What to do about a broker that does not answer.
fn to_do(cause: Option<&TransportError>) -> &'static str {
    match cause.and_then(TransportError::mistake) {
        Some(Mistake::Certificate) => {
            "The certificate that is shown there is not trusted here: --ca-file names the authority that signed it, in PEM; it \
             may also have ended, or be for another name"
        }
        Some(Mistake::Scheme) => "It seems to speak TLS: begin its address with https://",
        None => "Is it running? `cargo run --release` starts one here; --broker or UPLOADER_BROKER names another",
    }
}

fn resume(resumable: bool) -> &'static str {
    if resumable {
        ". What arrived of a file is kept: run the same command again to continue"
    } else {
        ""
    }
}

fn ended(state: UploadState) -> &'static str {
    match state {
        UploadState::Open => "is open, but the store does not know it",
        UploadState::Completing => "is being completed by another run",
        UploadState::Completed => "was completed by another run",
        UploadState::Aborted => "was aborted",
        UploadState::Expired => "was not completed in time and expired",
    }
}

fn at_origin(status: u16) -> &'static str {
    match status {
        401 => "It asks for a user and a password: write them as https://USER:PASSWORD@HOST/PATH",
        403 => "The link may have expired, or be meant for somebody else: get a fresh one",
        404 | 410 => "Nothing is there, or not any more: check the link",
        _ => "Check the link in a browser",
    }
}

/// The kinds of failure that a caller may want to tell apart: the command line's exit codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot be used.
    Usage,
    /// The broker does not know or not allow the caller: 401, 403.
    Auth,
    /// The file changed while it was being sent.
    SourceChanged,
    /// The same command may succeed later.
    Temporary,
    /// Anything else.
    Failed,
}

impl UploadError {
    /// Which kind it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Settings(_) => ErrorKind::Usage,
            Self::SourceChanged { .. } | Self::ObjectChanged { .. } => ErrorKind::SourceChanged,
            Self::NotDownloaded { passing: true, .. }
            | Self::BrokerUnreachable { .. }
            | Self::StoreUnreachable { .. }
            | Self::StoreFull { .. }
            | Self::OriginUnreachable { .. }
            | Self::OriginCut { .. }
            | Self::OtherBytes { .. }
            | Self::Gone(_)
            | Self::PartsMissing(_) => ErrorKind::Temporary,
            Self::Refused { problem, .. } => match problem.status {
                401 | 403 => ErrorKind::Auth,
                408 | 429 | 503 | 504 => ErrorKind::Temporary,
                _ => ErrorKind::Failed,
            },
            Self::WouldBeRefused(Refusal::NoSuchDestination(_) | Refusal::AclNotGranted(_)) => ErrorKind::Auth,
            Self::Source(_)
            | Self::WouldBeRefused(Refusal::Plan(_))
            | Self::NotABroker { .. }
            | Self::StoreRefused { .. }
            | Self::Damaged { .. }
            | Self::OriginRefused { .. }
            | Self::OriginUnusable { .. }
            | Self::NotDownloaded { .. }
            | Self::WrongBytes { .. }
            | Self::TargetExists { .. }
            | Self::TargetNotRegular { .. }
            | Self::Target { .. }
            | Self::Contradiction(_) => ErrorKind::Failed,
        }
    }

    /// A stable name for machines.
    pub fn code(&self) -> &str {
        match self {
            Self::Settings(_) => "settings",
            Self::Source(_) => "source_unusable",
            Self::SourceChanged { .. } => "source_changed",
            Self::BrokerUnreachable { .. } => "broker_unreachable",
            Self::NotABroker { .. } => "not_a_broker",
            Self::Refused { problem, .. } => &problem.code,
            Self::StoreUnreachable { .. } => "store_unreachable",
            Self::StoreRefused { .. } => "store_refused",
            Self::StoreFull { .. } => "store_full",
            Self::Damaged { .. } => "damaged_on_the_way",
            Self::OriginUnreachable { .. } => "origin_unreachable",
            Self::OriginCut { .. } => "origin_cut",
            Self::OriginRefused { .. } => "origin_refused",
            Self::OriginUnusable { .. } => "origin_unusable",
            Self::OtherBytes { .. } => "other_bytes",
            Self::Gone(_) => "upload_gone",
            Self::Contradiction(_) => "contradiction",
            Self::WouldBeRefused(refusal) => refusal.code(),
            Self::PartsMissing(_) => "parts_missing",
            Self::NotDownloaded { .. } => "not_downloaded",
            Self::ObjectChanged { .. } => "object_changed",
            Self::WrongBytes { .. } => "wrong_bytes",
            Self::TargetExists { .. } => "target_exists",
            Self::TargetNotRegular { .. } => "target_not_regular",
            Self::Target { .. } => "target_unusable",
        }
    }
}

impl From<SourceError> for UploadError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Changed { path, change } => Self::SourceChanged {
                path,
                change,
                aborted: false,
            },
            other => Self::Source(other),
        }
    }
}
