//! The fields before the file, read and bounded; behind them the file, not read yet (RFC 7578).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyDataStream;
use multer::Multipart;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::file::File;

/// Most bytes of the fields, with the boundaries between them (S3 API, "POST Object").
pub(super) const MAX_FIELDS: usize = 20 * 1024;
/// Most bytes of a body that are not the file's, with all that stands around the fields, and what came with the last of
/// them in one read.
const MAX_AROUND: u64 = shared::MIB;

/// Stands for the file's name in any field.
const FILE_NAME: &str = "${filename}";

/// What a form says, by names in lower case: S3 does not tell them apart by case.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The field of this name, which has to be given in lower case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A field that has to be there.
    pub(super) fn need(&self, name: &str) -> S3Result<&str> {
        let missing = || {
            s3_error!(
                InvalidArgument,
                "Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of the fields."
            )
        };
        self.get(&name.to_ascii_lowercase()).ok_or_else(missing)
    }

    /// All of them, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Metadata of one name are one, their values separated by commas, as headers are. Any other field is there once: of two
    /// keys S3 takes neither, and what a policy was held against must not be left to doubt.
    fn add(&mut self, name: String, value: &str) -> S3Result<()> {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if name.starts_with("x-amz-meta-") => {
                known.push(',');
                known.push_str(value);
            }
            Some(_) => return Err(s3_error!(InvalidArgument, "the field {name:?} is there twice")),
            None => self.0.push((name, value.to_owned())),
        }
        Ok(())
    }

    /// Puts the file's name where fields ask for it.
    fn expand(&mut self, file_name: &str) {
        for (_, value) in &mut self.0 {
            if value.contains(FILE_NAME) {
                *value = value.replace(FILE_NAME, file_name);
            }
        }
    }
}

#[cfg(fuzzing)]
impl Fields {
    pub(super) fn of(fields: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(fields.iter().map(own).collect())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Fields {
    fn from(fields: [(&str, &str); N]) -> Self {
        Self(
            fields
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .into(),
        )
    }
}

/// Reads up to the file.
pub(super) async fn read<B>(headers: &HeaderMap, body: B) -> S3Result<(Fields, File)>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(|_| malformed())?;
    let allowance = Allowance(Arc::new(AtomicU64::new(MAX_AROUND)));
    // A boundary's line with what ends the value before it, an empty line, and what stands between a header's name and value.
    let around = boundary.len() + "\r\n--\r\n: \r\n\r\n".len();
    let mut form = Multipart::new(metered(body, allowance.clone()), boundary);
    let (mut fields, mut size) = (Fields::default(), 0);
    while let Some(mut field) = form.next_field().await.map_err(from_form)? {
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        if name == "file" {
            allowance.lift();
            let file = File::new(form, field, allowance);
            fields.expand(file.name());
            return Ok((fields, file));
        }
        let mut value = BytesMut::new();
        size += around;
        let headers = field.headers().iter();
        size += headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum::<usize>();
        while let Some(chunk) = field.chunk().await.map_err(from_form)? {
            size += chunk.len();
            if size > MAX_FIELDS {
                return Err(too_large());
            }
            value.extend_from_slice(&chunk);
        }
        let value =
            str::from_utf8(&value).map_err(|_| s3_error!(InvalidArgument, "the field {name:?} is not UTF-8"))?;
        fields.add(name, value)?;
    }
    Err(not_one_file())
}

/// How much of the body may still be read: little, but for the file.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    /// Until [`Allowance::renew`], any number of bytes.
    fn lift(&self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }

    /// As little as before the file.
    pub(super) fn renew(&self) {
        self.0.store(MAX_AROUND, Ordering::Relaxed);
    }

    fn spend(&self, bytes: usize) -> S3Result<()> {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => Ok(()),
            left => {
                let left = left.checked_sub(bytes as u64).ok_or_else(too_large)?;
                self.0.store(left, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// The body, one read at a time: the parser takes into memory what it can get before it looks at any of it.
fn metered<B>(body: B, allowance: Allowance) -> impl Stream<Item = S3Result<Bytes>> + Send
where
    B: Body<Data = Bytes> + Send + Unpin,
{
    let mut body = BodyDataStream::new(body);
    let mut pause = false;
    stream::poll_fn(move |context| {
        if std::mem::take(&mut pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = body.poll_next_unpin(context);
        pause = read.is_ready();
        read.map(|chunk| {
            let chunk = chunk?.map_err(|_| s3_error!(IncompleteBody, "the body ended early"));
            Some(chunk.and_then(|chunk| allowance.spend(chunk.len()).map(|()| chunk)))
        })
    })
}

/// What the parser found, in S3's words.
pub(super) fn from_form(failure: multer::Error) -> S3Error {
    match failure {
        multer::Error::StreamReadFailed(failure) => match failure.downcast::<S3Error>() {
            Ok(told) => *told,
            Err(_) => malformed(),
        },
        _ => malformed(),
    }
}

pub(super) fn not_one_file() -> S3Error {
    s3_error!(
        IncorrectNumberOfFilesInPostRequest,
        "POST requires exactly one file upload per request."
    )
}

fn malformed() -> S3Error {
    s3_error!(
        MalformedPOSTRequest,
        "The body of your POST request is not well-formed multipart/form-data."
    )
}

fn too_large() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::MaxPostPreDataLengthExceededError,
        "Your POST request fields preceding the upload file were too large.",
    )
}
