//! What becomes of one file, as the screen shows it.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar};
use serde::Serialize;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uploader::{Downloaded, Event, Progress, Resumed, UploadError, Uploaded};

use crate::screen::{Detail, Screen, Style, at_rate, counted, print, print_json, title, visible, with_cause};
use crate::{bar, log};

/// A smaller file, among several, is gone before its bar could be read.
const LEAST_BAR: u64 = 4 << 20;

/// Shows one file's upload.
#[derive(Debug)]
pub(crate) struct Render {
    screen: Screen,
    /// As it was given.
    path: String,
    /// As it is shown.
    file: String,
    bar: Mutex<Option<ProgressBar>>,
}

impl Drop for Render {
    fn drop(&mut self) {
        if let Some(bar) = self.own_bar().take() {
            bar.finish_and_clear();
        }
    }
}

impl Render {
    pub(crate) fn new(screen: Screen, file: &Path) -> Self {
        Self {
            screen,
            path: file.display().to_string(),
            file: title(file),
            bar: Mutex::default(),
        }
    }

    fn own_bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upload failed.
    pub(crate) fn failed(&self, error: &UploadError, exit_status: u8) {
        self.failed_event(error, exit_status);
        let text = with_cause(error);
        // Most errors name the file; those of the broker and the store do not know it.
        if text.contains(&self.file) {
            self.screen.error(&text);
        } else {
            self.screen.error(&format!("{}: {text}", self.file));
        }
    }

    /// The event of a failure that is told in words elsewhere.
    pub(crate) fn failed_event(&self, error: &UploadError, exit_status: u8) {
        let text = || log::failed(&self.path, error.code(), exit_status, &with_cause(error));
        self.screen.log(|| Some(text()));
        if self.screen.style == Style::Json {
            let text = with_cause(error);
            print_json(&json!({
                "event": "failed", "file": self.path, "code": error.code(), "exit_status": exit_status, "error": text,
            }));
        }
    }

    /// Moves this file's bar and the one of all files.
    fn bars(&self, act: impl Fn(&ProgressBar)) {
        if let Some(bar) = &*self.own_bar() {
            act(bar);
        }
        if let Some(total) = &*self.screen.total() {
            act(total);
        }
    }

    fn start_bar(&self, size: Option<u64>) {
        let bar = bar::bar(size);
        bar.set_message(bar::message(&self.file, None));
        let bar = match &*self.screen.total() {
            Some(_) if size.is_some_and(|size| size < LEAST_BAR) => return,
            Some(total) => self.screen.bars.insert_before(total, bar),
            None => self.screen.bars.add(bar),
        };
        *self.own_bar() = Some(bar);
    }

    /// Says beside the file's name what is being done with it.
    fn bar_says(&self, what: &str) {
        if let Some(bar) = &*self.own_bar() {
            bar.set_message(bar::message(&self.file, Some(what)));
        }
    }

    fn as_json(&self, event: &Event) -> Option<Value> {
        let mut value = match event {
            Event::Started {
                upload_id,
                key,
                size,
                part_size,
                part_count,
                stored,
                resumed,
            } => {
                let mut started = json!({
                    "event": "started", "upload_id": upload_id, "key": key, "size": size, "part_size": part_size,
                    "part_count": part_count, "stored_parts": stored, "resumed": log::resumed_code(*resumed),
                });
                if let (Resumed::Anew(why), Some(fields)) = (resumed, started.as_object_mut()) {
                    fields.insert("why".into(), why.code().into());
                }
                started
            }
            Event::Unchanged { key, size, etag } => {
                json!({"event": "unchanged", "key": key, "size": size, "etag": etag})
            }
            Event::GaveUp { upload_id, ends_at } => {
                let ends_at = ends_at.and_then(|at| at.format(&Rfc3339).ok());
                json!({"event": "gave_up", "upload_id": upload_id, "ends_at": ends_at})
            }
            Event::Warning { what } => json!({"event": "warning", "what": &**what}),
            Event::PartKept { number, size } => json!({"event": "part", "number": number, "size": size, "kept": true}),
            Event::PartStored { number, size } => {
                json!({"event": "part", "number": number, "size": size, "kept": false})
            }
            Event::Retrying {
                what, after, attempt, ..
            } => retry(what, *after, *attempt),
            Event::Completing => json!({"event": "completing"}),
            Event::Completed(uploaded) => named("completed", &**uploaded),
            Event::Fetching { key, size } => json!({"event": "fetching", "key": key, "size": size}),
            Event::Verifying => json!({"event": "verifying"}),
            Event::Fetched(downloaded) => named("fetched", &**downloaded),
            _ => return None,
        };
        value.as_object_mut()?.insert("file".into(), self.path.as_str().into());
        Some(value)
    }
}

impl Progress for Render {
    fn event(&self, event: &Event) {
        self.screen.log(|| log::told(&self.path, event));
        if let Event::Warning { what } = event {
            self.screen.error(&visible(what));
        }
        match self.screen.style {
            Style::Quiet => return,
            Style::Json => {
                if let Some(value) = self.as_json(event) {
                    print_json(&value);
                }
                return;
            }
            Style::Bar | Style::Lines => {}
        }
        match event {
            Event::Started {
                size,
                stored,
                upload_id,
                resumed,
                ..
            } => {
                if self.screen.style == Style::Bar {
                    self.start_bar(*size);
                }
                if *resumed == Resumed::Continued && self.screen.detail != Detail::Failures {
                    let text = format!(
                        "{}: continuing upload {upload_id}, of which the store holds {}",
                        self.file,
                        match stored {
                            0 => "no part yet".to_owned(),
                            _ => counted(*stored as u64, "part"),
                        }
                    );
                    self.screen.error(&text);
                } else if let Resumed::Anew(why) = resumed {
                    self.screen.error(&format!("{}: beginning anew: {why}", self.file));
                } else if self.screen.style == Style::Lines && self.screen.detail == Detail::Whole {
                    self.screen.error(&match size {
                        Some(size) => format!("{}: sending {}", self.file, HumanBytes(*size)),
                        None => format!("{}: sending until it ends", self.file),
                    });
                }
            }
            Event::Unchanged { size, .. } if self.screen.detail == Detail::Whole => {
                let size = HumanBytes(*size);
                let text = format!("{}\n  unchanged at the store: {size}, not sent\n", self.file);
                self.screen.bars.suspend(|| print(&text));
            }
            Event::Fetching { key, size } => match self.screen.style {
                Style::Bar => self.start_bar(Some(*size)),
                _ => self
                    .screen
                    .error(&format!("{}: downloading {}", visible(key.as_str()), HumanBytes(*size))),
            },
            Event::Sent { bytes } | Event::Received { bytes } => self.bars(|bar| bar.inc(*bytes)),
            Event::Unsent { bytes } | Event::Unreceived { bytes } => {
                self.bars(|bar| bar.set_position(bar.position().saturating_sub(*bytes)));
            }
            Event::PartKept { size, .. } => {
                if let Some(bar) = &*self.own_bar() {
                    // Not sent now, so it must not count towards the rate.
                    bar.set_position(bar.position() + size);
                    bar.reset_eta();
                }
            }
            Event::Retrying {
                what,
                trouble,
                after,
                attempt,
            } => self.screen.retrying(&self.path, what, trouble, *after, *attempt),
            Event::GaveUp { upload_id, ends_at } => {
                let text = match ends_at {
                    None => "is aborted, and its parts are removed".to_owned(),
                    Some(at) => {
                        let day = format!("{} {:02}:{:02}Z", at.date(), at.hour(), at.minute());
                        format!("could not be aborted; it expires at {day} UTC, or by `uploader abort {upload_id}`")
                    }
                };
                self.screen
                    .error(&format!("{}: the earlier upload {upload_id} {text}", self.file));
            }
            Event::Completing => self.bar_says("joining parts"),
            Event::Verifying => self.bar_says("verifying"),
            Event::Fetched(downloaded) => {
                if let Some(bar) = self.own_bar().take() {
                    bar.finish_and_clear();
                }
                let text = fetched(&self.file, downloaded);
                self.screen.bars.suspend(|| print(&text));
            }
            Event::Completed(uploaded) => {
                if let Some(bar) = self.own_bar().take() {
                    bar.finish_and_clear();
                }
                let text = match self.screen.detail {
                    Detail::Whole => block(&self.file, uploaded),
                    Detail::Line => line(&self.file, uploaded),
                    Detail::Failures => return,
                };
                self.screen.bars.suspend(|| print(&text));
            }
            _ => {}
        }
    }
}

/// A retry as an event.
pub(crate) fn retry(what: &str, after: Duration, attempt: u32) -> Value {
    json!({"event": "retry", "what": what, "after_seconds": after.as_secs_f64(), "attempt": attempt})
}

/// An outcome as an event.
fn named(event: &str, outcome: &impl Serialize) -> Value {
    let mut value = json!(outcome);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("event".into(), event.into());
    }
    value
}

/// A file that was downloaded.
fn fetched(file: &str, downloaded: &Downloaded) -> String {
    let Downloaded {
        key,
        size,
        etag,
        verified,
        elapsed,
        ..
    } = downloaded;
    format!(
        "{file}\n  key   {}\n  size  {size} bytes ({})\n  etag  {}{}\n  time  {}\n",
        visible(key.as_str()),
        HumanBytes(*size),
        visible(etag.as_str()),
        if *verified {
            ", verified"
        } else {
            ", which cannot be verified from here"
        },
        at_rate(*size, *elapsed),
    )
}

/// One of several files.
fn line(file: &str, uploaded: &Uploaded) -> String {
    let object = &uploaded.object;
    format!(
        "{file} -> {} ({})\n",
        visible(object.key.as_str()),
        HumanBytes(object.size)
    )
}

/// The only file.
fn block(file: &str, uploaded: &Uploaded) -> String {
    let (object, elapsed) = (&uploaded.object, uploaded.elapsed);
    let text = format!(
        "{file}\n  key   {}\n  size  {} bytes ({})\n  etag  {}\n  time  {}\n",
        visible(object.key.as_str()),
        object.size,
        HumanBytes(object.size),
        visible(object.etag.as_str()),
        at_rate(uploaded.sent_bytes, elapsed),
    );
    match uploaded.kept_bytes {
        0 => text,
        kept => format!("{text}  kept  {} that an earlier run had sent\n", HumanBytes(kept)),
    }
}
