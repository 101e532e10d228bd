//! What the person or the script sees: a bar, plain lines, JSON lines, or nothing.

// The one place that speaks to the user.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use uploader::{Event, Progress, UploadError, Uploaded};

/// How much is shown, and the bar if there is one. Clones show on the same screen.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    style: Style,
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    /// A bar on standard error, the result on standard output.
    Bar,
    /// Plain lines on standard error, the result on standard output.
    Lines,
    /// Events on standard output.
    Json,
    /// Errors only.
    Quiet,
}

impl Screen {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let style = match (json, quiet) {
            (true, _) => Style::Json,
            (false, true) => Style::Quiet,
            (false, false) if std::io::stderr().is_terminal() => Style::Bar,
            (false, false) => Style::Lines,
        };
        Self {
            style,
            bar: Arc::default(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }

    /// A line on standard error, above the bar if there is one.
    pub(crate) fn error(&self, text: &str) {
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(|| eprintln!("uploader: {text}")),
            None => eprintln!("uploader: {text}"),
        }
    }

    /// An error with its cause.
    pub(crate) fn failure(&self, error: &UploadError) {
        self.error(&with_cause(error));
    }

    /// The answer to a question, as lines or as JSON.
    pub(crate) fn answer(&self, json: &impl Serialize, lines: &[(&str, String)]) {
        match self.style {
            Style::Quiet => {}
            Style::Json => print_json(&json!(json)),
            Style::Bar | Style::Lines => {
                for (name, value) in lines {
                    print(&format!(
                        "{name:<12} {value}
"
                    ));
                }
            }
        }
    }
}

/// Writes to standard output; a reader that has gone away ends nothing here, since the upload itself goes on.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn print_json(value: &Value) {
    print(&format!("{value}\n"));
}

/// The error, and what lies at the bottom of it: the layers between repeat one or the other.
fn with_cause(error: &UploadError) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) => format!("{error}\n  because: {cause}"),
        None => error.to_string(),
    }
}

/// Shows one file's upload.
#[derive(Debug)]
pub(crate) struct Render {
    screen: Screen,
    file: String,
}

impl Render {
    pub(crate) fn new(screen: Screen, file: &Path) -> Self {
        Self {
            screen,
            file: file.display().to_string(),
        }
    }

    /// The upload failed.
    pub(crate) fn failed(&self, error: &UploadError, exit_status: u8) {
        self.screen.clear();
        if self.screen.style == Style::Json {
            let text = with_cause(error);
            print_json(&json!({
                "event": "failed", "file": self.file, "code": error.code(), "exit_status": exit_status, "error": text,
            }));
        }
        self.screen.failure(error);
    }

    fn bar(&self, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &*self.screen.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            act(bar);
        }
    }

    fn start_bar(&self, size: u64) {
        let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr_with_hz(10));
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(self.file.clone());
        *self.screen.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn as_json(&self, event: &Event<'_>) -> Option<Value> {
        let mut value = match *event {
            Event::Started {
                upload_id,
                key,
                size,
                part_size,
                part_count,
                stored,
            } => json!({
                "event": "started", "upload_id": upload_id, "key": key, "size": size, "part_size": part_size,
                "part_count": part_count, "stored_parts": stored,
            }),
            Event::PartKept { number, size } => json!({"event": "part", "number": number, "size": size, "kept": true}),
            Event::PartStored { number, size } => {
                json!({"event": "part", "number": number, "size": size, "kept": false})
            }
            Event::Retrying { what, after, attempt } => json!({
                "event": "retry", "what": what, "after_seconds": after.as_secs_f64(), "attempt": attempt,
            }),
            Event::Completing => json!({"event": "completing"}),
            Event::Completed(uploaded) => {
                let mut value = json!(uploaded);
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("event".into(), "completed".into());
                }
                value
            }
            _ => return None,
        };
        value.as_object_mut()?.insert("file".into(), self.file.as_str().into());
        Some(value)
    }
}

impl Progress for Render {
    fn event(&self, event: &Event<'_>) {
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
        match *event {
            Event::Started {
                size,
                stored,
                upload_id,
                ..
            } => {
                if self.screen.style == Style::Bar {
                    self.start_bar(size);
                }
                if stored > 0 {
                    let text = format!(
                        "{}: continuing upload {upload_id}, of which the store holds {stored} parts",
                        self.file
                    );
                    self.screen.error(&text);
                } else if self.screen.style == Style::Lines {
                    self.screen
                        .error(&format!("{}: sending {}", self.file, HumanBytes(size)));
                }
            }
            Event::Sent { bytes } => self.bar(|bar| bar.inc(bytes)),
            Event::Unsent { bytes } => self.bar(|bar| bar.set_position(bar.position().saturating_sub(bytes))),
            Event::PartKept { size, .. } => self.bar(|bar| {
                // Not sent now, so it must not count towards the rate.
                bar.set_position(bar.position() + size);
                bar.reset_eta();
            }),
            Event::Retrying { what, after, attempt } => {
                self.screen
                    .error(&format!("{what}; try {} in {:.1} s", attempt + 1, after.as_secs_f64()));
            }
            Event::Completing => self.bar(|bar| bar.set_message(format!("{} (joining parts)", self.file))),
            Event::Completed(uploaded) => {
                self.screen.clear();
                print(&summary(&self.file, uploaded));
            }
            _ => {}
        }
    }
}

fn summary(file: &str, uploaded: &Uploaded) -> String {
    let object = &uploaded.object;
    let seconds = uploaded.elapsed.max(Duration::from_micros(1)).as_secs_f64();
    // A rate is for people: the bits that a double loses do not show.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let rate = (uploaded.sent_bytes as f64 / seconds) as u64;
    let text = format!(
        "{file}\n  key   {}\n  size  {} bytes ({})\n  etag  {}\n  time  {seconds:.2} s ({}/s)\n",
        object.key,
        object.size,
        HumanBytes(object.size),
        object.etag,
        HumanBytes(rate),
    );
    match uploaded.kept_bytes {
        0 => text,
        kept => {
            text + &format!(
                "  kept  {kept} bytes that an earlier run had sent
"
            )
        }
    }
}
