//! Where the person or the script sees what happens: bars, plain lines, JSON lines, or nothing.

// The one place that speaks to the user.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uploader::{Event, Progress, UploadError, Uploaded};

use crate::log::{self, Log};
use crate::render;
use crate::trouble::Troubles;

/// A run that was shorter tells nothing of the rate: most of it was asking and answering.
const LEAST_RATED: Duration = Duration::from_millis(500);

/// How much is shown, and the bars if there are any. Clones show on the same screen.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    pub(crate) style: Style,
    pub(crate) detail: Detail,
    /// Each retry as it comes, rather than what they have in common.
    verbose: bool,
    pub(crate) bars: MultiProgress,
    /// Below the bars of single files, where there are several of them.
    total: Arc<Mutex<Option<ProgressBar>>>,
    troubles: Arc<Mutex<Troubles>>,
    log: Option<Arc<Log>>,
    started: Instant,
}

/// What came of all files.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sum {
    /// Files that became objects.
    pub(crate) files: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
    /// Bytes that this run sent.
    pub(crate) sent_bytes: u64,
    /// Bytes that an earlier run had sent.
    pub(crate) kept_bytes: u64,
    /// Files that were at the store already.
    pub(crate) unchanged: u64,
    /// Files, and directories, that failed.
    pub(crate) failed: u64,
    /// Neither files nor directories.
    pub(crate) skipped: u64,
    /// Files given up, or not begun, because nothing could be sent any more; there may be more of them than are known.
    pub(crate) untried: u64,
    /// What was left out, by what it is: how often, and the first of it.
    #[serde(skip)]
    left_out: BTreeMap<&'static str, (u64, PathBuf)>,
}

impl Sum {
    pub(crate) fn add(&mut self, uploaded: &Uploaded) {
        self.files += 1;
        self.bytes += uploaded.object.size;
        self.sent_bytes += uploaded.sent_bytes;
        self.kept_bytes += uploaded.kept_bytes;
    }

    pub(crate) fn skip(&mut self, path: &Path, what: &'static str) {
        self.skipped += 1;
        self.left_out.entry(what).or_insert_with(|| (0, path.to_owned())).0 += 1;
    }

    /// The sum in words, and below it what was left out.
    fn told(&self, elapsed: Duration) -> String {
        let mut text = if self.files + self.unchanged + self.failed == 0 {
            "no file was found to send".to_owned()
        } else {
            let files = if self.files == 1 { "file" } else { "files" };
            let bytes = HumanBytes(self.bytes);
            let in_time = at_rate(self.sent_bytes, elapsed);
            format!("{} {files}, {bytes} in {in_time}", HumanCount(self.files))
        };
        if self.kept_bytes > 0 {
            text += &format!("; {} sent by an earlier run", HumanBytes(self.kept_bytes));
        }
        for (count, what) in [
            (self.unchanged, "unchanged"),
            (self.skipped, "left out"),
            (self.failed, "FAILED"),
        ] {
            if count > 0 {
                text += &format!("; {} {what}", HumanCount(count));
            }
        }
        for (what, (count, first)) in &self.left_out {
            let first = visible(&first.display().to_string());
            text += &match count {
                1 => format!("\n  left out: {what}: {first}"),
                _ => format!("\n  left out: {what}, {} times, such as {first}", HumanCount(*count)),
            };
        }
        text + "\n"
    }
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
    pub(crate) fn of_several(&self, few: bool, verbose: bool) -> Self {
        let for_people = self.style == Style::Bar && io::stdout().is_terminal();
        Self {
            detail: if few || verbose || !for_people {
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

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        // What cannot be drawn on cannot be cleared.
        let _ = self.bars.clear();
    }

    /// A line on standard error, above the bars if there are any.
    pub(crate) fn error(&self, text: &str) {
        self.bars.suspend(|| eprintln!("uploader: {text}"));
    }

    /// Something does not work that can be done without.
    pub(crate) fn warning(&self, what: &str) {
        match self.style {
            Style::Json => print_json(&json!({"event": "warning", "what": what})),
            Style::Bar | Style::Lines | Style::Quiet => {}
        }
        self.error(&visible(what));
    }

    /// Something is left out, and what it is.
    pub(crate) fn skipped(&self, path: &Path, what: &str) {
        self.log(|| Some(log::skipped(path, what)));
        match self.style {
            Style::Quiet => {}
            Style::Json => print_json(&json!({"event": "skipped", "file": path.display().to_string(), "what": what})),
            Style::Bar | Style::Lines if self.detail == Detail::Failures => {}
            Style::Bar | Style::Lines => {
                self.error(&format!(
                    "{}: left out: it is {what}",
                    visible(&path.display().to_string())
                ));
            }
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
    fn the_sum_says_what_was_left_out_and_where() {
        let mut sum = Sum::default();
        let none = |sum: &Sum| sum.told(Duration::ZERO);
        assert_eq!(none(&sum), "no file was found to send\n");
        for path in ["a/link", "b/link"] {
            sum.skip(Path::new(path), "a symbolic link");
        }
        sum.skip(Path::new("/proc"), "a pseudo file system (proc)");
        (sum.files, sum.bytes, sum.failed) = (1, 5, 1);
        assert_eq!(
            none(&sum),
            "1 file, 5 B in 0.00 s; 3 left out; 1 FAILED\n  left out: a pseudo file system (proc): /proc\n  left out: a symbolic link, \
             2 times, such as a/link\n"
        );
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
