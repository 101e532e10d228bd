//! Where the person or the script sees what happens: bars, plain lines, JSON lines, or nothing.

// The one place that speaks to the user.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uploader::{Event, Progress, UploadError};

use crate::find::STDIN;
use crate::log::{self, Log};
use crate::render;
use crate::sum::Sum;
use crate::trouble::Troubles;

/// A run that was shorter tells nothing of the rate: most of it was asking and answering.
const LEAST_RATED: Duration = Duration::from_millis(500);

/// How much is shown, and the bars if there are any. Clones show on the same screen.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    pub(crate) style: Style,
    pub(crate) detail: Detail,
    /// Each retry and what is left out as it comes, rather than what they have in common.
    verbose: bool,
    pub(crate) bars: MultiProgress,
    /// Below the bars of single files, where there are several of them.
    total: Arc<Mutex<Option<ProgressBar>>>,
    troubles: Arc<Mutex<Troubles>>,
    log: Option<Arc<Log>>,
    started: Instant,
}

/// How much is said of each file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Detail {
    /// All that is known of it: there is no other.
    Whole,
    /// A line.
    Line,
    /// Nothing, unless it fails: there are many, and bars.
    Failures,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
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
        let target = match style {
            Style::Bar => ProgressDrawTarget::stderr_with_hz(10),
            Style::Lines | Style::Json | Style::Quiet => ProgressDrawTarget::hidden(),
        };
        Self {
            style,
            detail: Detail::Whole,
            verbose: false,
            bars: MultiProgress::with_draw_target(target),
            total: Arc::default(),
            troubles: Arc::default(),
            log: None,
            started: Instant::now(),
        }
    }

    /// The same screen, of whose events `log` gets its share.
    pub(crate) fn logging(&self, log: Log) -> Self {
        Self {
            log: Some(Arc::new(log)),
            ..self.clone()
        }
    }

    /// Writes a line to the log, if there is one.
    pub(crate) fn log(&self, line: impl FnOnce() -> Option<String>) {
        let Some((log, line)) = self.log.as_ref().and_then(|log| Some((log, line()?))) else {
            return;
        };
        if let Err(error) = log.line(OffsetDateTime::now_utc(), &line) {
            self.error(&format!(
                "the log cannot be written any more ({error}); the upload goes on"
            ));
        }
    }

    /// The same screen for several files: a line for each of them where they are few, where that is asked for, or where the
    /// lines go into a file or another program, and a sum in the end.
    pub(crate) fn of_several(&self, few: bool) -> Self {
        let for_people = self.style == Style::Bar && io::stdout().is_terminal();
        Self {
            detail: if few || self.verbose || !for_people {
                Detail::Line
            } else {
                Detail::Failures
            },
            ..self.clone()
        }
    }

    /// The same screen, which tells each retry if that is asked for.
    pub(crate) fn verbose(&self, verbose: bool) -> Self {
        Self {
            verbose,
            ..self.clone()
        }
    }

    /// Shows a line for all files below their bars.
    pub(crate) fn show_total(&self) {
        let total = self.bars.add(hidden(None));
        let template = "{spinner} {msg} {bytes} {binary_bytes_per_sec} {elapsed}";
        total.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
        total.set_message("all files");
        *self.total() = Some(total);
    }

    pub(crate) fn total(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bars away for good, whatever is still under way.
    pub(crate) fn clear(&self) {
        // What cannot be drawn on cannot be cleared.
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// A line on standard error, above the bars if there are any.
    pub(crate) fn error(&self, text: &str) {
        self.bars.suspend(|| eprintln!("uploader: {text}"));
    }

    /// A line on standard error for a person, where a script sees that there is nothing.
    pub(crate) fn note(&self, text: &str) {
        match self.style {
            Style::Quiet | Style::Json => {}
            Style::Bar | Style::Lines => self.error(&visible(text)),
        }
    }

    /// Something does not work that can be done without.
    pub(crate) fn warning(&self, what: &str) {
        match self.style {
            Style::Json => print_json(&json!({"event": "warning", "what": what})),
            Style::Bar | Style::Lines | Style::Quiet => {}
        }
        self.error(&visible(what));
    }

    /// Something is left out, and what it is; the sum says how much of it.
    pub(crate) fn skipped(&self, path: &Path, what: &str) {
        self.log(|| Some(log::skipped(path, what)));
        match self.style {
            Style::Json => print_json(&json!({"event": "skipped", "file": path.display().to_string(), "what": what})),
            Style::Bar | Style::Lines if self.verbose => {
                let path = visible(&path.display().to_string());
                self.error(&format!("{path}: left out: it is {what}"));
            }
            Style::Bar | Style::Lines | Style::Quiet => {}
        }
    }

    /// There is nothing to send in a directory.
    pub(crate) fn empty(&self, path: &Path) {
        let path = path.display().to_string();
        self.log(|| Some(log::empty(&path)));
        match self.style {
            Style::Quiet => {}
            Style::Json => print_json(&json!({"event": "empty", "file": path})),
            Style::Bar | Style::Lines => self.error(&format!("{}: there is no file in it to send", visible(&path))),
        }
    }

    /// Something failed and is tried again: each time, or once for all that fails for the same reason.
    pub(crate) fn retrying(&self, file: &str, what: &str, trouble: &Arc<str>, after: Duration, attempt: u32) {
        let text = if self.verbose {
            let seconds = after.as_secs_f64();
            Some(format!("{what}; try {} in {seconds:.1} s", attempt + 1))
        } else {
            let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            troubles.met(trouble, (file, what), after, Instant::now())
        };
        if let Some(text) = text {
            self.error(&visible(&text));
        }
    }

    /// Parts are sent at another rate from now on, or at any.
    pub(crate) fn rate_changed(&self, bytes_per_second: Option<u64>) {
        match self.style {
            Style::Quiet => {}
            Style::Json => print_json(&json!({"event": "rate", "bytes_per_second": bytes_per_second})),
            Style::Bar | Style::Lines => match bytes_per_second {
                Some(bytes) => self.error(&format!("at most {}/s from now on", HumanBytes(bytes))),
                None => self.error("as many bytes a second as the network takes from now on"),
            },
        }
    }

    /// What came of all files, if there were several.
    pub(crate) fn summary(&self, sum: &Sum) {
        let elapsed = self.started.elapsed();
        self.log(|| Some(log::summary(sum, elapsed)));
        if self.detail == Detail::Whole {
            return;
        }
        self.total().take();
        self.clear();
        if sum.untried > 0 {
            self.error("the other files were not tried for the same reason");
        }
        match self.style {
            Style::Quiet => {}
            Style::Json => {
                let mut value = json!(sum);
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("event".into(), "summary".into());
                    fields.insert("seconds".into(), elapsed.as_secs_f64().into());
                }
                print_json(&value);
            }
            Style::Bar | Style::Lines => print(&sum.told(elapsed)),
        }
    }

    /// An error with its cause.
    pub(crate) fn failure(&self, error: &UploadError) {
        self.error(&with_cause(error));
    }

    /// One entry of a listing, as a line or as JSON.
    ///
    /// # Errors
    /// It cannot be written: there is no use in more.
    pub(crate) fn entry(&self, json: &impl Serialize, line: &str) -> io::Result<()> {
        let text = match self.style {
            Style::Quiet => return Ok(()),
            Style::Json => format!("{}\n", json!(json)),
            Style::Bar | Style::Lines => format!("{}\n", visible(line)),
        };
        std::io::stdout().lock().write_all(text.as_bytes())
    }

    /// Something that is both: a JSON object, or text that ends its lines.
    pub(crate) fn tell(&self, json: &Value, text: &str) {
        match self.style {
            Style::Quiet => {}
            Style::Json => print_json(json),
            Style::Bar | Style::Lines => print(text),
        }
    }

    /// What was asked for as it is, whatever the style.
    #[allow(clippy::unused_self, reason = "only the screen prints")]
    pub(crate) fn print(&self, bytes: &[u8]) {
        // A reader that has seen enough may go.
        let _ = std::io::stdout().lock().write_all(bytes);
    }

    /// The answer to a question, as lines or as JSON.
    pub(crate) fn answer(&self, json: &impl Serialize, lines: &[(&str, String)]) {
        match self.style {
            Style::Quiet => {}
            Style::Json => print_json(&json!(json)),
            Style::Bar | Style::Lines => {
                for (name, value) in lines {
                    print(&format!("{name:<12} {}\n", visible(value)));
                }
            }
        }
    }
}

/// Writes to standard output; a reader that has gone away ends nothing here, since the upload itself goes on.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

pub(crate) fn print_json(value: &Value) {
    print(&format!("{value}\n"));
}

/// What a source is called where people read it.
pub(crate) fn title(source: &Path) -> String {
    match source.to_str() {
        Some(STDIN) => "standard input".into(),
        _ => visible(&source.display().to_string()),
    }
}

/// Text from outside as a terminal may show it: what would move the cursor, turn the direction of the text or begin a line of
/// its own is spelt out.
pub(crate) fn visible(text: &str) -> String {
    let turns = |c| {
        let marks = '\u{200b}'..='\u{200f}';
        marks.contains(&c) || matches!(c, '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The error, and what lies at the bottom of it: the layers between repeat one or the other.
pub(crate) fn with_cause(error: &UploadError) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(Error::source) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) => format!(
            "{}\n  because: {}",
            visible(&error.to_string()),
            visible(&cause.to_string())
        ),
        None => visible(&error.to_string()),
    }
}

/// For what concerns no single file.
impl Progress for Screen {
    fn event(&self, event: &Event) {
        match event {
            Event::Warning { what } => self.warning(what),
            Event::Retrying {
                what,
                trouble,
                after,
                attempt,
            } => match self.style {
                Style::Quiet => {}
                Style::Json => print_json(&render::retry(what, *after, *attempt)),
                Style::Bar | Style::Lines => self.retrying("", what, trouble, *after, *attempt),
            },
            _ => {}
        }
    }
}

/// A bar that is not drawn before it has its place among the others: drawn on its own, it would stay on the screen.
pub(crate) fn hidden(size: Option<u64>) -> ProgressBar {
    ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden())
}

/// A number of things.
pub(crate) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// How long something took, and how fast it was if that can be said.
pub(crate) fn at_rate(bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if elapsed < LEAST_RATED {
        return format!("{seconds:.2} s");
    }
    format!("{seconds:.2} s ({}/s)", HumanBytes(rate(bytes, elapsed)))
}

/// Bytes a second.
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    // A rate is for people: the bits that a double loses do not show.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let rate = (bytes as f64 / elapsed.max(Duration::from_micros(1)).as_secs_f64()) as u64;
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_of_what_took_long_enough_to_have_one() {
        assert_eq!(at_rate(3 << 20, Duration::from_millis(10)), "0.01 s");
        assert_eq!(at_rate(3 << 20, Duration::from_secs(2)), "2.00 s (1.50 MiB/s)");
    }

    #[test]
    fn what_would_drive_the_terminal_is_spelt_out() {
        assert_eq!(visible("ünï cödé +&=%.bin"), "ünï cödé +&=%.bin");
        assert_eq!(
            visible("\u{1b}[2J\r\nok \u{202e}gnp.exe"),
            "\\u{1b}[2J\\r\\nok \\u{202e}gnp.exe"
        );
    }
}
