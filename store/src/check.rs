//! `store check DIR`: says what is not as its record says, for a person or as JSON, with a bar on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use store::{CheckEvent, CheckSummary, Problem, StoreError};

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Directory of the data. The store must be stopped.
    dir: PathBuf,

    /// One JSON object a line: each problem as it is found, and a summary at the end.
    #[arg(long)]
    json: bool,
}

pub(crate) const CHECK_HELP: &str = "\
Reads all data, and compares them with the records: that they are there, their size, the MD5 of every object and part,
ETags, and additional checksums where they were recorded. Nothing is repaired.

Output:
  On standard output, a line for each problem, with bucket and key; then how much was looked at. With --json the problems
  have the fields bucket, key, upload (of open uploads only) and problem; the summary has buckets, objects, uploads,
  parts, bytes and problems.

Exit status:
  0  everything is as its record says
  1  something is not, or the check could not be made: the message says what
  2  the command line is wrong

Examples:
  store check ./data
  store check ./data --json | jq -r 'select(.key) | .bucket + \"/\" + .key'";

/// Whether all is as it should be.
pub(crate) fn run(check: &Check) -> Result<bool, StoreError> {
    let bar = if io::stderr().is_terminal() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} objects, {msg}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut bytes = 0;
    let summary = store::check(&check.dir, |event| match event {
        CheckEvent::Objects(objects) => bar.set_length(objects),
        CheckEvent::Read(read) => {
            bytes += read;
            bar.set_message(HumanBytes(bytes).to_string());
        }
        CheckEvent::Object => bar.inc(1),
        CheckEvent::Problem(problem) => bar.suspend(|| {
            tell(check.json, &problem, || in_words(&problem));
        }),
    })?;
    bar.finish_and_clear();
    tell(check.json, &summary, || summed_up(&summary));
    Ok(summary.problems == 0)
}

/// One line; whoever stopped reading does not want the rest.
fn tell(json: bool, what: &impl Serialize, words: impl FnOnce() -> String) {
    let line = if json {
        serde_json::to_string(what).unwrap_or_default()
    } else {
        words()
    };
    let _ = writeln!(io::stdout(), "{line}");
}

fn in_words(problem: &Problem) -> String {
    let place = match (&problem.bucket, &problem.key) {
        (Some(bucket), Some(key)) => format!("{bucket}/{key}"),
        (Some(bucket), None) => bucket.clone(),
        (None, _) => "index".to_owned(),
    };
    match &problem.upload {
        Some(upload) => format!("{place} (upload {upload}): {}", problem.problem),
        None => format!("{place}: {}", problem.problem),
    }
}

fn summed_up(summary: &CheckSummary) -> String {
    let CheckSummary {
        buckets,
        objects,
        uploads,
        parts,
        bytes,
        problems,
    } = summary;
    format!(
        "{objects} objects in {buckets} buckets, {uploads} open uploads, {parts} parts, {}: {problems} problems",
        HumanBytes(*bytes)
    )
}
