//! What can go wrong with a request where a test wants it to, by script or by chance.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use http::request::Parts;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::warn;

use crate::disk::Disk;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// One bit of the body is not what was sent. The store itself works: its checks see the damaged body.
    FlipOneBit,
    /// The connection closes without an answer, and nothing was done.
    CutConnection,
    /// The connection closes without an answer, but all was done.
    CutAfterEffect,
    /// `503 SlowDown`, nothing done; with a `Retry-After` of whole seconds if one is given.
    SlowDown {
        /// What `Retry-After` says.
        retry_after: Option<Duration>,
    },
    /// `500 InternalError`, nothing done.
    InternalError,
    /// `400 InvalidPart`, nothing done.
    InvalidPart,
    /// `403 AccessDenied`, nothing done: to HEAD, what a key that may not list is told of an object that is not there.
    AccessDenied,
    /// An answer that is not what S3's should be, after the request had its effect, or instead of it. Not to HEAD, whose answer
    /// has no body.
    Garbled {
        /// What comes.
        answer: Garbled,
        /// Whether the request had its effect.
        done: bool,
    },
    /// ETags in the answer, of parts or of the object, are none that the store has given.
    OtherEtags,
    /// A list of parts without its last one: as it was before that arrived.
    StaleList,
    /// A page of parts that says that another follows, by the marker that led to this one.
    RepeatMarker,
    /// The request waits, before or after its effect, until [`DevStore::release`](crate::DevStore::release).
    Hold {
        /// Whether it has had its effect by then.
        done: bool,
    },
    /// The request is served, after this time.
    Delay(Duration),
    /// The open uploads of the key vanish, as if a lifecycle rule had aborted them; the request is served thereafter. For a
    /// create they vanish after it too.
    Forget,
}

/// An answer that is not what S3's should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Garbled {
    /// `200` with an `<Error>` in the body; as S3 does when a Complete fails late.
    Error,
    /// `200` without a body.
    Empty,
    /// `200` with a web page, as a proxy may answer.
    Html,
    /// The right body, but white space before its XML declaration.
    SpaceBefore,
    /// The right body, and the connection cut after so many bytes of it.
    CutAt(usize),
}

/// Which requests, and how many of them.
#[derive(Clone, Copy, Debug)]
pub struct When {
    pub(crate) point: Point,
    after: u64,
    times: u64,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Point {
    Create,
    Part(u16),
    AnyPart,
    ListParts,
    Complete,
    Abort,
    Head,
    Get,
    Put,
}

impl When {
    const fn once(point: Point) -> Self {
        Self {
            point,
            after: 0,
            times: 1,
        }
    }

    /// Not the next `requests` of them, but those that come then.
    #[must_use]
    pub const fn after(self, requests: u64) -> Self {
        Self {
            after: requests,
            ..self
        }
    }

    /// The next `times` of them, rather than the next one.
    #[must_use]
    pub const fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// All of them.
    #[must_use]
    pub const fn always(self) -> Self {
        self.times(u64::MAX)
    }
}

/// CreateMultipartUpload.
pub const fn create() -> When {
    When::once(Point::Create)
}

/// UploadPart of this number, in whichever upload.
pub const fn part(number: u16) -> When {
    When::once(Point::Part(number))
}

/// UploadPart of any number.
pub const fn any_part() -> When {
    When::once(Point::AnyPart)
}

/// ListParts.
pub const fn list_parts() -> When {
    When::once(Point::ListParts)
}

/// CompleteMultipartUpload.
pub const fn complete() -> When {
    When::once(Point::Complete)
}

/// AbortMultipartUpload.
pub const fn abort() -> When {
    When::once(Point::Abort)
}

/// HeadObject.
pub const fn head() -> When {
    When::once(Point::Head)
}

/// GetObject.
pub const fn get() -> When {
    When::once(Point::Get)
}

/// PutObject.
pub const fn put() -> When {
    When::once(Point::Put)
}

/// Whether a held request may go on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Gate {
    /// None is held.
    #[default]
    Open,
    /// One is.
    Held,
    /// The one that is shall be cut.
    Cut,
}

/// Faults by chance.
#[derive(Debug)]
pub(crate) struct Storm {
    state: u64,
    per_mille: u16,
    faults: Vec<Fault>,
}

impl Storm {
    pub(crate) fn new(seed: u64, per_mille: u16, faults: &[Fault]) -> Self {
        Self {
            state: seed,
            per_mille,
            faults: faults.to_vec(),
        }
    }

    fn strike(&mut self) -> Option<Fault> {
        let struck = self.next() % 1000 < u64::from(self.per_mille);
        let which = usize::try_from(self.next())
            .unwrap_or_default()
            .checked_rem(self.faults.len())?;
        self.faults.get(which).copied().filter(|_| struck)
    }

    /// SplitMix64 (Steele, Lea and Flood 2014): enough for choosing.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) & (u64::MAX >> 1)
    }
}

/// What has been asked to go wrong, and what has arrived.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) waiting: Mutex<Vec<(Fault, When)>>,
    pub(crate) storm: Mutex<Option<Storm>>,
    pub(crate) arrived: Mutex<HashMap<Point, u64>>,
    pub(crate) requests: AtomicU64,
    /// Parts in a page of ListParts; 0 for as many as are asked for.
    pub(crate) page: AtomicUsize,
    pub(crate) gate: watch::Sender<Gate>,
}

impl Faults {
    /// Counts a request, and takes the first fault that waits for it, or one by chance.
    pub(crate) fn arrival(&self, head: &Parts) -> Option<Fault> {
        let points = points(head);
        if points.is_empty() {
            return None;
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut arrived = self.arrived.lock();
        for point in &points {
            *arrived.entry(*point).or_default() += 1;
        }
        drop(arrived);
        if let Some(fault) = self.scripted(&points) {
            return Some(fault);
        }
        // Whoever looks at objects and puts them beside the uploads under test is left alone.
        let spared = points.iter().any(|point| matches!(point, Point::Get | Point::Put));
        if spared {
            None
        } else {
            self.storm.lock().as_mut()?.strike()
        }
    }

    fn scripted(&self, points: &[Point]) -> Option<Fault> {
        let mut waiting = self.waiting.lock();
        let mut struck = None;
        for (fault, when) in waiting.iter_mut().filter(|(_, when)| points.contains(&when.point)) {
            if when.after > 0 {
                when.after -= 1;
            } else if struck.is_none() && when.times > 0 {
                when.times = if when.times == u64::MAX {
                    u64::MAX
                } else {
                    when.times - 1
                };
                struck = Some(*fault);
            }
        }
        waiting.retain(|(_, when)| when.times > 0);
        struck
    }

    /// Holds a request until it is released. Answers whether it may go on.
    pub(crate) async fn hold(&self) -> bool {
        let mut gate = self.gate.subscribe();
        self.gate.send_replace(Gate::Held);
        let released = gate.wait_for(|gate| *gate != Gate::Held).await;
        let cut = released.is_ok_and(|gate| *gate == Gate::Cut);
        self.gate.send_replace(Gate::Open);
        !cut
    }

    /// Aborts every upload of the key that the path names.
    pub(crate) async fn forget(disk: Arc<Disk>, path: String) {
        let forgotten = tokio::task::spawn_blocking(move || {
            let (bucket, key) = path.trim_start_matches('/').split_once('/')?;
            let key = percent_encoding::percent_decode_str(key).decode_utf8().ok()?;
            let bucket = disk.bucket(bucket).ok()?;
            let ids: Vec<_> = bucket.uploads().keys().filter(|(of, _)| *of == key).cloned().collect();
            for (key, id) in ids {
                bucket.abort_upload(&key, &id).ok()?;
            }
            Some(())
        });
        if let Err(error) = forgotten.await {
            warn!(%error, "a fault could not be done");
        }
    }
}

/// What a request is, told by its method and query alone.
fn points(head: &Parts) -> Vec<Point> {
    let query: Vec<(String, String)> =
        serde_urlencoded::from_str(head.uri.query().unwrap_or_default()).unwrap_or_default();
    let value = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let of_upload = value("uploadId").is_some();
    let path = head.uri.path().trim_start_matches('/');
    let of_object = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    match head.method {
        Method::POST if value("uploads").is_some() => vec![Point::Create],
        Method::POST if of_upload => vec![Point::Complete],
        Method::PUT if of_upload => {
            let number = value("partNumber").and_then(|number| number.parse().ok());
            number.map_or(vec![Point::AnyPart], |number| vec![Point::Part(number), Point::AnyPart])
        }
        Method::GET if of_upload => vec![Point::ListParts],
        Method::DELETE if of_upload => vec![Point::Abort],
        Method::HEAD if of_object => vec![Point::Head],
        Method::GET if of_object => vec![Point::Get],
        Method::PUT if of_object => vec![Point::Put],
        _ => Vec::new(),
    }
}
