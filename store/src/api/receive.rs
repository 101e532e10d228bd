//! A request's body on its way to the disk: hashed as it comes, checked before anything of it can be seen.

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use s3s::checksum::ChecksumHasher;
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};
use shared::Md5Digest;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::disk::{Algorithm, Checksums, DiskError, Draft, Hashed, Written, hasher};

use super::error::{blocking, from_stream};

/// Bytes handed to the disk at once. Two such batches are in memory for each body: one arriving, one being written.
const BATCH: usize = 512 * 1024;
/// So few bytes at the end of a body are hashed where they are written, sooner than other threads are woken for them.
const FEW: usize = 128 * 1024;
/// How long a body may stand still.
pub(crate) const STALL: Duration = Duration::from_mins(1);

/// What the request says of its body.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// Bytes, after any chunk framing.
    pub(super) length: Option<u64>,
    pub(super) md5: Option<Md5Digest>,
    pub(super) checksums: Checksums,
    /// Where the checksums named by `x-amz-trailer` will be found.
    pub(super) trailers: Option<TrailingHeaders>,
    /// Names of the trailing headers that `x-amz-trailer` announced, in lower case.
    announced: Vec<String>,
    /// Algorithms of what was declared or announced.
    algorithms: Vec<Algorithm>,
    /// One more to compute, whatever was said.
    also: Option<Algorithm>,
}

impl Declared {
    /// Reads it off the headers.
    pub(super) fn of(
        headers: &http::HeaderMap,
        content_length: Option<i64>,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        // The protocol layer takes an empty one for none.
        let md5 = text("content-md5").map(str::parse).transpose();
        let md5 = md5.map_err(|error: shared::part::Md5DigestError| {
            S3Error::with_message(S3ErrorCode::InvalidDigest, format!("Content-MD5: {error}"))
        })?;
        let announced = text("x-amz-trailer").unwrap_or_default().split(',');
        let announced = announced.map(|name| name.trim().to_ascii_lowercase());
        let mut declared = Self {
            length: content_length.and_then(|length| u64::try_from(length).ok()),
            md5,
            trailers,
            announced: announced.filter(|name| !name.is_empty()).collect(),
            ..Self::default()
        };
        let unknown = |name: &&str| {
            name.strip_prefix("x-amz-checksum-").is_some_and(|kind| {
                let header = |algorithm: &Algorithm| algorithm.header() == *name;
                !["algorithm", "mode", "type"].contains(&kind) && !Algorithm::ALL.iter().any(header)
            })
        };
        let mut named = headers.keys().map(http::HeaderName::as_str);
        let named = named.find(unknown).map(str::to_owned);
        // What is declared and not verified would be taken for verified.
        if let Some(name) = named.or_else(|| declared.announced.iter().find(|name| unknown(&name.as_str())).cloned()) {
            return Err(s3_error!(
                NotImplemented,
                "this store does not know the checksum {name}"
            ));
        }
        for algorithm in Algorithm::ALL {
            if let Some(value) = text(algorithm.header()) {
                if !algorithm.could_be(value) {
                    return Err(s3_error!(
                        InvalidRequest,
                        "Value for {} header is invalid.",
                        algorithm.header()
                    ));
                }
                declared
                    .checksums
                    .insert(algorithm.header().to_owned(), value.to_owned());
            } else if !declared.announced.iter().any(|name| name == algorithm.header()) {
                continue;
            }
            declared.algorithms.push(algorithm);
        }
        Ok(declared)
    }

    /// Has this checksum computed and told too, if there is one to compute.
    pub(super) fn and(mut self, also: Option<Algorithm>) -> Self {
        self.also = also;
        self
    }

    /// The first algorithm declared or announced that is not this one.
    pub(super) fn other_than(&self, algorithm: Algorithm) -> Option<Algorithm> {
        self.algorithms.iter().copied().find(|other| *other != algorithm)
    }

    /// What computes the checksums besides MD5.
    pub(super) fn hasher(&self) -> ChecksumHasher {
        let all: Vec<_> = self.algorithms.iter().copied().chain(self.also).collect();
        hasher(&all)
    }

    /// Holds what arrived against what was said; the checksums, if all is as it was said.
    fn check(mut self, written: &Written) -> Result<Checksums, DiskError> {
        if let Some(declared) = self.length.filter(|length| *length != written.size) {
            return Err(DiskError::IncompleteBody {
                received: written.size,
                declared,
            });
        }
        if self.md5.is_some_and(|md5| md5 != written.md5) {
            return Err(DiskError::BadDigest);
        }
        if let Some(trailers) = &self.trailers {
            let trailers = trailers.take().unwrap_or_default();
            let once = |name: &String| trailers.get_all(name).iter().count() == 1;
            // One that was not announced is another than the one that was: nothing would go by it.
            if trailers.keys_len() != self.announced.len() || !self.announced.iter().all(once) {
                return Err(DiskError::MalformedTrailer);
            }
            for algorithm in &self.algorithms {
                if let Some(value) = trailers.get(algorithm.header()).and_then(|value| value.to_str().ok()) {
                    self.checksums.insert(algorithm.header().to_owned(), value.to_owned());
                }
            }
        }
        if let Some((also, value)) = self
            .also
            .and_then(|also| Some((also, also.computed(&written.checksums)?)))
        {
            self.checksums
                .entry(also.header().to_owned())
                .or_insert_with(|| value.clone());
        }
        for algorithm in self.algorithms {
            if self.checksums.get(algorithm.header()) != algorithm.computed(&written.checksums) {
                return Err(DiskError::BadChecksum(algorithm.header()));
            }
        }
        Ok(self.checksums)
    }
}

/// Streams `body` into `draft`; once all of it is on the disk and as declared, `publish` makes it what it shall be.
pub(super) async fn receive<T: Send + 'static>(
    body: Option<StreamingBlob>,
    draft: Draft,
    declared: Declared,
    publish: impl FnOnce(Written, Checksums) -> Result<T, DiskError> + Send + 'static,
) -> S3Result<T> {
    let mut writer = Writer::Idle(Box::new(draft));
    let (mut batch, mut batched, mut received) = (Vec::new(), 0, 0_u64);
    let mut stream = body;
    while let Some(body) = &mut stream {
        let next = timeout(STALL, body.next())
            .await
            .map_err(|_| s3_error!(RequestTimeout, "no byte of the body arrived for a minute"))?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(from_stream)?;
        batched += chunk.len();
        received += chunk.len() as u64;
        batch.push(chunk);
        if batched >= BATCH {
            writer = writer.write(mem::take(&mut batch)).await?;
            batched = 0;
        }
        if declared.length.is_some_and(|length| received > length) {
            break; // More than was said: refused below without reading on.
        }
    }
    if batched >= FEW {
        writer = writer.write(mem::take(&mut batch)).await?;
    }
    let mut draft = writer.idle().await?;
    blocking(move || {
        draft.write(&batch)?;
        let written = draft.finish()?;
        let checksums = declared.check(&written)?;
        publish(written, checksums)
    })
    .await
}

/// Writes and hashes one batch, each on a thread, while the next one arrives. No thread waits for a slow client.
enum Writer {
    Idle(Box<Draft>),
    Busy {
        written: JoinHandle<Result<Box<Draft>, DiskError>>,
        hashed: Hashed,
    },
}

impl Writer {
    async fn write(self, batch: Vec<Bytes>) -> S3Result<Self> {
        let mut draft = self.idle().await?;
        let (hashed, leading) = draft.hash(&batch);
        if let Some(leading) = leading {
            tokio::task::spawn_blocking(move || leading.lead());
        }
        let written = tokio::task::spawn_blocking(move || {
            draft.append(&batch)?;
            Ok(draft)
        });
        Ok(Self::Busy { written, hashed })
    }

    async fn idle(self) -> S3Result<Box<Draft>> {
        match self {
            Self::Idle(draft) => Ok(draft),
            Self::Busy { written, hashed } => match written.await {
                Ok(Ok(mut draft)) => {
                    let stream = hashed.stream().await;
                    draft.hashed(stream.ok_or_else(|| s3_error!(InternalError, "the store is stopping"))?);
                    Ok(draft)
                }
                Ok(Err(failure)) => blocking(move || Err(failure)).await,
                Err(stopped) => Err(S3Error::with_source(S3ErrorCode::InternalError, Box::new(stopped))),
            },
        }
    }
}
