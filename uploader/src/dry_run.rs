//! `put --dry-run`: what would be sent, by the files' sizes and the broker's rules; nothing is sent, and nothing is read but what
//! `--if-changed` has to compare.

use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use serde::Serialize;
use serde_json::{Value, json};
use shared::PartSizes;
use shared::api::Me;
use tokio::sync::mpsc;
use uploader::{Bound, Limit, MAX_TOGETHER, Planned, PutOptions, UploadError, Uploader};

use crate::cli::Put;
use crate::commands::exit_code;
use crate::find::{Given, Next};
use crate::render::Render;
use crate::screen::{Detail, Screen, counted, title, visible};
use crate::sending::{BYTES_TOGETHER, exit_code_of_all, largest_small};
use crate::sum::LeftOut;

/// What all files would take; nothing where a stream is among them, which ends when it ends.
#[derive(Debug, Serialize)]
struct Total {
    files: u64,
    bytes: Option<u64>,
    parts: Option<u64>,
    broker_requests: Option<u64>,
    store_requests: Option<u64>,
    /// Files larger than the limit that bites first.
    beyond_limit: u64,
    /// Files that are at the store already.
    unchanged: u64,
    failed: u64,
    #[serde(rename = "skipped")]
    left_out: LeftOut,
    /// Files that would go together, and their bytes.
    #[serde(skip)]
    together: (u64, u64),
}

impl Total {
    /// Adds a file; one that would go together with others takes no requests to the broker of its own.
    fn add(&mut self, planned: &Planned, together: bool, bound: &Bound) {
        let sum = |total: &mut Option<u64>, more: Option<u64>| *total = total.zip(more).map(|(a, b)| a + b);
        self.files += 1;
        sum(&mut self.bytes, planned.size);
        sum(&mut self.parts, planned.part_count.map(u64::from));
        if let Some(size) = planned.size.filter(|_| together) {
            self.together.0 += 1;
            self.together.1 += size;
        } else {
            sum(&mut self.broker_requests, planned.broker_requests);
        }
        sum(&mut self.store_requests, planned.store_requests);
        self.beyond_limit += u64::from(planned.size.is_some_and(|size| size > bound.bytes));
    }

    /// Adds what the files that go together take: two requests for each full group.
    fn add_groups(&mut self) {
        let (files, bytes) = self.together;
        let most = u64::try_from(MAX_TOGETHER).unwrap_or(u64::MAX);
        let groups = files.div_ceil(most).max(bytes.div_ceil(BYTES_TOGETHER));
        self.broker_requests = self.broker_requests.map(|requests| requests + 2 * groups);
    }
}

/// Tells of every file what `put` would do with it; answers the exit code that it would end with, as far as that is known.
pub(crate) async fn explain(uploader: &Uploader, put: &Put, screen: &Screen, mut next: mpsc::Receiver<Next>) -> u8 {
    let (me, bound) = match ask(uploader, put).await {
        Ok(answer) => answer,
        Err(error) => {
            screen.failure(&error);
            return exit_code(&error);
        }
    };
    let (several, largest) = (screen.detail != Detail::Whole, largest_small(uploader));
    let mut codes = Vec::new();
    let mut total = Total {
        files: 0,
        bytes: Some(0),
        parts: Some(0),
        broker_requests: Some(0),
        store_requests: Some(0),
        beyond_limit: 0,
        unchanged: 0,
        failed: 0,
        left_out: LeftOut::default(),
        together: (0, 0),
    };
    while let Some(met) = next.recv().await {
        let (path, planned) = match met {
            Next::Send { given, name, .. } => {
                let mut options = PutOptions { name, ..put.options() };
                let planned = match &given {
                    Given::Path(path) => options.preview(path, &me),
                    Given::Stdin => options.preview_stream(&me),
                    Given::Link(link) => {
                        // Its host may give it another one, and is not asked.
                        options.name = options.name.or_else(|| link.own_name());
                        options.preview_stream(&me)
                    }
                };
                (given.shown(), planned)
            }
            Next::Skipped { path, what } => {
                total.left_out.add(&path, what);
                screen.skipped(&path, what);
                continue;
            }
            Next::Empty { path } => {
                screen.empty(&path);
                continue;
            }
            Next::Unchanged => {
                total.unchanged += 1;
                continue;
            }
            Next::Failed { path, error } => (path, Err(error)),
        };
        match planned {
            Ok(planned) => {
                let together = several && planned.size.is_some_and(|size| size <= largest);
                total.add(&planned, together, &bound);
                tell(screen, &path, &planned);
            }
            Err(error) => {
                let code = exit_code(&error);
                Render::new(screen.clone(), &path).failed(&error, code);
                total.failed += 1;
                codes.push(code);
            }
        }
    }
    total.add_groups();
    sum_up(screen, &total, &bound, uploader, &me);
    exit_code_of_all(&codes)
}

async fn ask(uploader: &Uploader, put: &Put) -> Result<(Me, Bound), UploadError> {
    let me = uploader.whoami().await?;
    let mut options = put.options();
    let mut most = u64::MAX;
    if put.reads_stdin() {
        options.name.clone_from(&put.name);
        let stream = options.preview_stream(&me)?;
        most = if stream.growing_parts {
            PartSizes::Growing.capacity()
        } else {
            PartSizes::Equal(stream.part_size).capacity()
        };
    }
    let mut bound = options.first_limit(&me, uploader.limit_rate(), put.concurrency)?;
    if most < bound.bytes {
        bound.by = Limit::PartCount;
        bound.bytes = most;
    }
    Ok((me, bound))
}

/// An object's fields with its kind in front.
fn event(kind: &str, fields: &impl Serialize, more: &[(&str, Value)]) -> Value {
    let mut value = json!(fields);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("event".into(), kind.into());
        fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    }
    value
}

fn tell(screen: &Screen, path: &Path, planned: &Planned) {
    let file = path.display().to_string();
    let json = event("planned", planned, &[("file", file.as_str().into())]);
    let part_size = HumanBytes(planned.part_size);
    let what = match (planned.size, planned.part_count, planned.broker_requests) {
        (Some(size), Some(parts), Some(requests)) => format!(
            "{} in {} of {part_size}; {} to the broker, {parts} to the store",
            HumanBytes(size),
            counted(parts.into(), "part"),
            counted(requests, "request"),
        ),
        _ if planned.growing_parts => format!("until it ends, in parts that grow from {part_size}"),
        _ => format!("until it ends, in parts of {part_size}"),
    };
    let text = format!("{} as {}: {what}\n", title(path), visible(&planned.name));
    screen.tell(&json, &text);
}

fn sum_up(screen: &Screen, total: &Total, bound: &Bound, uploader: &Uploader, me: &Me) {
    let rate = uploader.limit_rate();
    let least_time = rate.zip(total.bytes).map(|(rate, bytes)| bytes.div_ceil(rate.get()));
    let more = [
        ("dry_run", true.into()),
        ("seconds", least_time.into()),
        ("limit", json!(bound)),
    ];
    let text = match (total.bytes, total.parts, total.broker_requests) {
        (Some(bytes), Some(parts), Some(requests)) => format!(
            "{}, {} in {}; {} to the broker, {parts} to the store",
            counted(total.files, "file"),
            HumanBytes(bytes),
            counted(parts, "part"),
            counted(requests, "request"),
        ),
        _ => counted(total.files, "stream"),
    };
    let mut lines = vec![text];
    for (count, what) in [
        (total.unchanged, "unchanged at the store, which would not be sent"),
        (total.left_out.count(), "left out"),
        (total.failed, "WOULD FAIL"),
    ] {
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    }
    lines.extend(total.left_out.told().lines().map(str::to_owned));
    if let Some((seconds, rate)) = least_time.zip(rate) {
        let time = HumanDuration(Duration::from_secs(seconds));
        lines.push(format!("no sooner than in {time}, at {}/s", HumanBytes(rate.get())));
    }
    lines.push(format!(
        "largest file: {}, {}",
        HumanBytes(bound.bytes),
        why(bound.by, me)
    ));
    if total.beyond_limit > 0 {
        lines.push(format!("larger than that: {}", counted(total.beyond_limit, "file")));
    }
    lines.push("nothing was sent\n".into());
    screen.tell(&event("summary", total, &more), &lines.join("\n"));
}

fn why(limit: Limit, me: &Me) -> String {
    let life = |seconds| HumanDuration(Duration::from_secs(seconds));
    match limit {
        Limit::MaxSize => "which is all that the destination takes".into(),
        Limit::PartCount => "since there can be no more than 10000 parts".into(),
        Limit::UploadLife => format!(
            "since at this rate a larger one does not arrive within the life of an upload, {}",
            life(me.limits.upload_expires_in)
        ),
        Limit::UrlLife => format!(
            "since at this rate parts of a larger one are under way for longer than the life of a URL, {}; some stores \
             allow that, and fewer or smaller parts at once (--concurrency, --part-size) avoid it",
            life(me.limits.url_expires_in)
        ),
        _ => "by another rule".into(),
    }
}
