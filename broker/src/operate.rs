//! What an operator does beside a running broker: look at the open uploads and what they cost, or at one of them closely; sweep
//! now; see to what the webhook's receiver has not taken.

mod credentials;
mod show;
mod tickets;
mod tokens;
mod webhooks;

use std::error::Error;
use std::io::Write as _;

use actix_web::web::Data;
use clap::{Args, Subcommand};
use serde::Serialize;
use shared::UploadId;
use shared::api::UploadState;
use time::{Duration, OffsetDateTime};

use crate::app::Broker;
use crate::error::ApiError;
use crate::ledger::Session;
use crate::s3::OpenAtStore;
use crate::sweep;

use self::credentials::instant;
use self::show::Show;
pub use self::tickets::Tickets;
pub use self::tokens::Tokens;
pub use self::webhooks::Webhooks;

/// Amazon S3 Standard's price in us-east-1, US dollars a GB and month.
const USUAL_PRICE: &str = "0.023";
/// Uploads taken from the ledger at once.
const PAGE: u16 = 500;

/// How `broker uploads` shows what is open, or one upload.
#[derive(Debug, Args)]
pub struct Uploads {
    #[command(subcommand)]
    one: Option<OneUpload>,
    /// What the store takes for a GB (10^9 bytes) and month, in whatever currency
    #[arg(long, value_name = "PRICE", default_value = USUAL_PRICE)]
    price: f64,
    /// One JSON object a line: instants in UTC, bytes as numbers
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum OneUpload {
    /// Show all that is known of one upload, open or ended, and what has happened to it
    Show(Show),
}

/// How `broker sweep` goes about it.
#[derive(Debug, Args)]
pub struct SweepNow {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Abort uploads in the bucket, too, that this ledger does not know and that were begun more than so many days ago.
    /// They are other programs' uploads: make sure that none needs them
    #[arg(long, value_name = "DAYS")]
    unknown_older_than: Option<u16>,
    /// One JSON object for the whole result
    #[arg(long)]
    json: bool,
}

/// An upload as `broker uploads` shows it.
#[derive(Serialize)]
struct Line {
    upload_id: UploadId,
    owner: String,
    key: String,
    state: UploadState,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// Parts and bytes that the store holds; nothing if it does not say.
    parts: Option<usize>,
    bytes: Option<u64>,
    /// Of these bytes, for a month.
    cost: Option<f64>,
}

/// What is open in the buckets, older than this, and unknown to the ledger; each with its bucket.
async fn unknown(broker: &Broker, age: Duration) -> Result<Vec<(String, OpenAtStore)>, ApiError> {
    let before = broker.clock.store_now() - age;
    let mut all = Vec::new();
    for bucket in broker.policy.buckets() {
        let found = sweep::unknown(broker, bucket, before).await?;
        all.extend(found.into_iter().map(|upload| (bucket.to_owned(), upload)));
    }
    Ok(all)
}

impl Uploads {
    /// Prints what was asked for.
    ///
    /// # Errors
    /// The ledger does not answer or has no such upload, or standard output is gone.
    pub async fn run(&self, broker: &Broker) -> Result<(), Box<dyn Error>> {
        match &self.one {
            Some(OneUpload::Show(show)) => show.print(broker, self.json).await,
            None => self.print(broker).await,
        }
    }

    /// Prints every open upload, what the store holds of it and what that costs.
    ///
    /// # Errors
    /// The ledger does not answer, or standard output is gone. What the store does not answer is shown as unknown.
    async fn print(&self, broker: &Broker) -> Result<(), Box<dyn Error>> {
        let mut out = std::io::stdout().lock();
        let now = broker.clock.now();
        if !self.json {
            writeln!(
                out,
                "{:<32} {:<12} {:>5} {:>5} {:<10} {:>6} {:>9} {:>9}  KEY",
                "UPLOAD", "OWNER", "AGE", "LEFT", "STATE", "PARTS", "STORED", "A MONTH"
            )?;
        }
        let (mut count, mut bytes, mut unanswered) = (0_u64, 0_u64, 0_u64);
        let mut last: Option<UploadId> = None;
        while let page = broker.ledger.all_open(last.as_ref(), PAGE).await?
            && let Some(end) = page.last()
        {
            last = Some(end.id.clone());
            for session in page {
                let line = self.look(broker, session).await;
                count += 1;
                bytes += line.bytes.unwrap_or_default();
                unanswered += u64::from(line.bytes.is_none());
                if self.json {
                    writeln!(out, "{}", serde_json::to_string(&line)?)?;
                } else {
                    writeln!(
                        out,
                        "{:<32} {:<12} {:>5} {:>5} {:<10} {:>6} {:>9} {:>9}  {}",
                        line.upload_id.as_str(),
                        line.owner,
                        span(now - line.created_at),
                        span(line.expires_at - now),
                        state(line.state),
                        line.parts.map_or("?".to_owned(), |parts| parts.to_string()),
                        line.bytes.map_or("?".to_owned(), size),
                        line.cost.map_or("?".to_owned(), |cost| format!("{cost:.4}")),
                        line.key
                    )?;
                }
            }
        }
        if !self.json {
            writeln!(
                out,
                "{count} open, {} stored, {:.4} a month at {} a GB",
                size(bytes),
                self.cost(bytes),
                self.price
            )?;
            if unanswered > 0 {
                writeln!(
                    out,
                    "{unanswered} of them not counted: the store did not say what it holds"
                )?;
            }
        }
        Ok(())
    }

    async fn look(&self, broker: &Broker, session: Session) -> Line {
        let (parts, bytes) = held(broker, &session).await.unzip();
        Line {
            upload_id: session.id,
            owner: session.owner.clone(),
            key: session.key.to_string(),
            state: session.state,
            created_at: session.created_at,
            expires_at: session.expires_at,
            parts,
            bytes,
            cost: bytes.map(|bytes| self.cost(bytes)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a price needs no more than 52 bits")]
    fn cost(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e9 * self.price
    }
}

impl SweepNow {
    /// Sweeps, or says what that would do.
    ///
    /// # Errors
    /// The ledger or, where unknown uploads are looked for, the store does not answer; or something could not be done.
    pub async fn run(&self, broker: &Data<Broker>) -> Result<(), Box<dyn Error>> {
        let unknown = match self.unknown_older_than {
            Some(days) => unknown(broker, Duration::days(days.into())).await?,
            None => Vec::new(),
        };
        if self.dry_run {
            return self.say(broker, &unknown).await;
        }
        let mut swept = sweep::sweep_once(broker).await?;
        let mut aborted = 0_u64;
        for (bucket, upload) in &unknown {
            match broker.store.abort(bucket, &upload.key, &upload.store_upload_id).await {
                Ok(()) => aborted += 1,
                Err(error) => {
                    tracing::warn!(key = %upload.key, error = %error, "an unknown upload stays at the store");
                    swept.failed += 1;
                }
            }
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            let result = serde_json::json!({
                "completed": swept.completed, "expired": swept.expired, "cleared": swept.cleared,
                "unknown_aborted": aborted, "failed": swept.failed,
            });
            writeln!(out, "{result}")?;
        } else {
            writeln!(
                out,
                "{} completed, {} expired, {} cleared from the store, {aborted} unknown ones aborted, {} failed",
                swept.completed, swept.expired, swept.cleared, swept.failed
            )?;
        }
        if swept.failed > 0 {
            return Err(format!("{} could not be done; the log says why; sweep again", swept.failed).into());
        }
        Ok(())
    }

    async fn say(&self, broker: &Broker, unknown: &[(String, OpenAtStore)]) -> Result<(), Box<dyn Error>> {
        let due = sweep::due(broker).await?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let ids = |sessions: &[Session]| {
                sessions
                    .iter()
                    .map(|session| session.id.to_string())
                    .collect::<Vec<_>>()
            };
            let keys: Vec<_> = unknown.iter().map(|(_, upload)| upload.key.as_str()).collect();
            let result = serde_json::json!({
                "complete": ids(&due.completed), "expire": ids(&due.expired), "clear": ids(&due.cleared),
                "abort_unknown": keys,
            });
            writeln!(out, "{result}")?;
            return Ok(());
        }
        for (what, sessions) in [
            ("try to complete", &due.completed),
            ("expire", &due.expired),
            ("clear from the store", &due.cleared),
        ] {
            for session in sessions {
                writeln!(
                    out,
                    "would {what}: {} of {}, {}",
                    session.id, session.owner, session.key
                )?;
            }
        }
        for (_, upload) in unknown {
            writeln!(
                out,
                "would abort: an upload to {:?} begun {}, not in the ledger",
                upload.key.as_str(),
                instant(upload.initiated)
            )?;
        }
        if due.completed.is_empty() && due.expired.is_empty() && due.cleared.is_empty() && unknown.is_empty() {
            writeln!(out, "nothing to do")?;
        }
        Ok(())
    }
}

/// Parts and bytes that the store holds of an open upload; nothing if it does not say.
async fn held(broker: &Broker, session: &Session) -> Option<(usize, u64)> {
    let Some(id) = &session.store_upload_id else {
        return Some((0, 0));
    };
    match broker.store.list_parts(session, id).await {
        Ok(parts) => Some((parts.len(), parts.iter().map(|part| part.size).sum())),
        Err(error) => {
            tracing::debug!(upload = %session.id, error = %error, "the parts cannot be listed");
            None
        }
    }
}

fn state(state: UploadState) -> &'static str {
    match state {
        UploadState::Open => "open",
        UploadState::Completing => "completing",
        UploadState::Completed => "completed",
        UploadState::Aborted => "aborted",
        UploadState::Expired => "expired",
    }
}

/// Two digits or so of a time span: `35s`, `12m`, `5h`, `7d`.
fn span(span: Duration) -> String {
    match span.whole_seconds() {
        ..0 => "over".to_owned(),
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Bytes for people: `17 B`, `4.5 MB`, `1.2 TB`; powers of ten, as stores bill them.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_short() {
        assert_eq!(
            [0, 999, 4_500_000, 1_234_000_000_000].map(size),
            ["0 B", "999 B", "4.5 MB", "1.2 TB"]
        );
        let spans = [-1, 59, 720, 18_000, 604_800].map(|seconds| span(Duration::seconds(seconds)));
        assert_eq!(spans, ["over", "59s", "12m", "5h", "7d"]);
    }
}
