//! The file of a form on its way to the disk: as large as the policy allows, and the last thing of a form that is whole.

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures::stream;
use multer::{Field, Multipart};
use s3s::dto::StreamingBlob;
use s3s::{S3Result, s3_error};

use super::fields::{Allowance, from_form, not_one_file};

/// The file, and the rest of the form behind it.
pub(super) struct File {
    form: Multipart<'static>,
    field: Field<'static>,
    allowance: Allowance,
}

/// A file that is being read.
struct Reading {
    form: Multipart<'static>,
    field: Option<Field<'static>>,
    allowance: Allowance,
    size: u64,
    bounds: RangeInclusive<u64>,
}

impl File {
    pub(super) fn new(form: Multipart<'static>, field: Field<'static>, allowance: Allowance) -> Self {
        Self { form, field, allowance }
    }

    /// Its name without the directories that some clients send along; empty if it has none (S3 API, "POST Object": key).
    pub(super) fn name(&self) -> &str {
        let name = self.field.file_name().unwrap_or_default();
        name.rsplit(['/', '\\']).next().unwrap_or_default()
    }

    /// Its bytes. They end well only if there were as many as `bounds` allow, and the form too ended well.
    pub(super) fn stream(self, bounds: RangeInclusive<u64>) -> StreamingBlob {
        let reading = Reading {
            form: self.form,
            field: Some(self.field),
            allowance: self.allowance,
            size: 0,
            bounds,
        };
        StreamingBlob::wrap(Box::pin(stream::try_unfold(reading, async |mut reading| {
            let next: S3Result<_> = reading.next().await;
            next.map(|chunk| chunk.map(|chunk| (chunk, reading)))
        })))
    }
}

impl Reading {
    async fn next(&mut self) -> S3Result<Option<Bytes>> {
        let Some(field) = &mut self.field else { return Ok(None) };
        if let Some(chunk) = field.chunk().await.map_err(from_form)? {
            self.size = self.size.saturating_add(chunk.len() as u64);
            if self.size > *self.bounds.end() {
                return Err(s3_error!(
                    EntityTooLarge,
                    "Your proposed upload exceeds the maximum allowed object size."
                ));
            }
            return Ok(Some(chunk));
        }
        self.field = None;
        if self.size < *self.bounds.start() {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed object size."
            ));
        }
        // Fields behind the file count for nothing, but a second file would be lost without a word.
        self.allowance.renew();
        while let Some(field) = self.form.next_field().await.map_err(from_form)? {
            if field.name().is_some_and(|name| name.eq_ignore_ascii_case("file")) {
                return Err(not_one_file());
            }
        }
        Ok(None)
    }
}
