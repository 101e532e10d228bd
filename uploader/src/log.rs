//! `--log-dir`: a line for each event, in a file for each day of UTC.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::ObjectKey;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};
use uploader::{Event, Resumed, UploadError};

use crate::screen::visible;
use crate::sum::Sum;

/// Where the lines go. What cannot be written is lost, and told once: an upload does not fail for want of its log.
#[derive(Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    today: Mutex<Today>,
}

#[derive(Debug)]
struct Today {
    date: Date,
    file: File,
    trouble_told: bool,
}

impl Log {
    /// Opens the file of the day that `now` is in, and makes the directory if it is not there, so that a directory of no use is known before anything is sent.
    pub(crate) fn open(directory: &Path, now: OffsetDateTime) -> Result<Self, UploadError> {
        let date = now.to_utc().date();
        let unusable = |cause: io::Error| {
            let directory = directory.display();
            UploadError::Settings(format!(
                "the log cannot be written in {directory} ({cause}); --log-dir is to be a directory that this user may \
                 write to"
            ))
        };
        let make = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let file = make.and_then(|()| open(directory, date)).map_err(unusable)?;
        Ok(Self {
            directory: directory.to_owned(),
            today: Mutex::new(Today {
                date,
                file,
                trouble_told: false,
            }),
        })
    }

    /// Writes one line, with one call so that lines of several runs do not mix; the first time that it cannot, why.
    pub(crate) fn line(&self, now: OffsetDateTime, text: &str) -> Result<(), io::Error> {
        let now = now.to_utc();
        let time = now
            .truncate_to_millisecond()
            .format(&Rfc3339)
            .map_err(io::Error::other)?;
        let line = format!("{time} {}\n", visible(text));
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        let written = today.write(&self.directory, now.date(), &line);
        match written {
            Err(error) if !today.trouble_told => {
                today.trouble_told = true;
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

impl Today {
    fn write(&mut self, directory: &Path, date: Date, line: &str) -> io::Result<()> {
        if date != self.date {
            self.file = open(directory, date)?;
            self.date = date;
        }
        self.file.write_all(line.as_bytes())
    }
}

/// The file of one day: the user's alone, since names of files are their business.
fn open(directory: &Path, date: Date) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(directory.join(format!("uploader-{date}.log")))
}

/// What the log says of an event, if it is one for the log: not every part, and nothing that moves a bar.
pub(crate) fn told(file: &str, event: &Event) -> Option<String> {
    Some(match event {
        Event::Started {
            upload_id,
            key,
            size,
            stored,
            resumed,
            ..
        } => {
            let size = size.map_or("unknown".into(), |size| size.to_string());
            let resumed = match *resumed {
                Resumed::Anew(why) => format!("anew: {why}"),
                other => resumed_code(other).into(),
            };
            format!("started {file}: upload={upload_id} key={key} size={size} stored_parts={stored} resumed={resumed}")
        }
        Event::Unchanged { key, size, .. } => {
            let key = key.as_ref().map_or("unknown", ObjectKey::as_str);
            format!("unchanged {file}: key={key} size={size}")
        }
        Event::GaveUp { upload_id, ends_at } => match ends_at {
            None => format!("gave up {file}: upload={upload_id}"),
            Some(at) => format!("gave up {file}: upload={upload_id}, which could not be aborted and expires at {at}"),
        },
        Event::Warning { what } => format!("warning {file}: {what}"),
        Event::Retrying {
            what, after, attempt, ..
        } => {
            let seconds = after.as_secs_f64();
            format!("retried {file}: {what}; try {} in {seconds:.1} s", attempt + 1)
        }
        Event::Completed(uploaded) => {
            let object = &uploaded.object;
            format!(
                "completed {file}: upload={} key={} size={} etag={} sent_bytes={} kept_bytes={} seconds={:.3}",
                uploaded.upload_id,
                object.key,
                object.size,
                object.etag,
                uploaded.sent_bytes,
                uploaded.kept_bytes,
                uploaded.elapsed.as_secs_f64()
            )
        }
        _ => return None,
    })
}

/// A stable name for what an upload has to do with earlier runs.
pub(crate) const fn resumed_code(resumed: Resumed) -> &'static str {
    match resumed {
        Resumed::Continued => "continued",
        Resumed::Anew(_) => "anew",
        _ => "new",
    }
}

/// What it says of a file that could not be sent; causes stand on the same line.
pub(crate) fn failed(file: &str, code: &str, exit_status: u8, error: &str) -> String {
    let error = error.replace("\n  ", " ");
    format!("failed {file}: {error} [{code}, exit status {exit_status}]")
}

/// What it says of something left out.
pub(crate) fn skipped(path: &Path, what: &str) -> String {
    format!("skipped {}: it is {what}", path.display())
}

/// What it says of a directory in which there is nothing to send.
pub(crate) fn empty(path: &str) -> String {
    format!("empty {path}: there is no file in it to send")
}

/// What it says at the end.
pub(crate) fn summary(sum: &Sum, elapsed: Duration) -> String {
    format!(
        "summary files={} bytes={} sent_bytes={} kept_bytes={} unchanged={} failed={} skipped={} untried={} seconds={:.3}",
        sum.files,
        sum.bytes,
        sum.sent_bytes,
        sum.kept_bytes,
        sum.unchanged,
        sum.failed,
        sum.left_out.count(),
        sum.untried,
        elapsed.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_file_changes_at_midnight_utc_and_is_the_users_alone() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path(), datetime!(2026-03-01 00:59:58 +1)).unwrap();
        log.line(datetime!(2026-02-28 23:59:59.999_9 UTC), "before").unwrap();
        log.line(datetime!(2026-03-01 01:00:00 +1), "after").unwrap();
        let read = |name| {
            let path = directory.path().join(name);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::read_to_string(path).unwrap()
        };
        assert_eq!(read("uploader-2026-02-28.log"), "2026-02-28T23:59:59.999Z before\n");
        assert_eq!(read("uploader-2026-03-01.log"), "2026-03-01T00:00:00Z after\n");
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it_and_runs_append() {
        let directory = tempfile::tempdir().unwrap();
        let now = datetime!(2026-03-01 12:00 UTC);
        for text in ["a\n2026-03-01T12:00:00Z completed forged", "\u{1b}[2J"] {
            Log::open(directory.path(), now).unwrap().line(now, text).unwrap();
        }
        let written = std::fs::read_to_string(directory.path().join("uploader-2026-03-01.log")).unwrap();
        assert_eq!(
            written,
            "2026-03-01T12:00:00Z a\\n2026-03-01T12:00:00Z completed forged\n2026-03-01T12:00:00Z \\u{1b}[2J\n"
        );
    }

    #[test]
    fn a_directory_of_no_use_is_a_usage_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let below = file.path().join("logs");
        let error = Log::open(&below, OffsetDateTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.kind(), uploader::ErrorKind::Usage);
        assert!(error.to_string().contains(below.to_str().unwrap()), "{error}");
    }
}
