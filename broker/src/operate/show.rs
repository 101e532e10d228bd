//! `broker uploads show`: all that is known of one upload, and what has happened to it.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;

use clap::Args;
use serde::Serialize;
use shared::api::{EventDetail, UploadEvent, UploadState};
use shared::{ETag, ObjectKey, UploadId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{held, size, state};
use crate::app::Broker;
use crate::ledger::Session;

/// Events taken from the ledger at once.
const PAGE: u16 = 1000;

/// Which upload, and how it is shown.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The upload's id
    #[arg(value_name = "ID")]
    id: UploadId,
    /// One JSON object: instants in UTC, bytes as numbers
    #[arg(long)]
    json: bool,
}

/// An upload as it is shown: what the ledger has, but for what gives power over it.
#[derive(Serialize)]
struct Shown {
    upload_id: UploadId,
    state: UploadState,
    owner: String,
    name: String,
    destination: String,
    bucket: String,
    key: ObjectKey,
    size: Option<u64>,
    part_size: Option<u64>,
    part_count: Option<u16>,
    content_type: Option<String>,
    acl: Option<String>,
    metadata: BTreeMap<String, String>,
    store_upload_id: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// What the store holds of it while it is open; nothing if it does not say.
    parts_stored: Option<usize>,
    bytes_stored: Option<u64>,
    etag: Option<ETag>,
    version_id: Option<String>,
    object_size: Option<u64>,
    events: Vec<UploadEvent>,
}

impl Show {
    /// Prints the upload, as JSON also if `json` was asked for before `show`.
    ///
    /// # Errors
    /// The ledger does not answer or has no such upload, or standard output is gone.
    pub(super) async fn print(&self, broker: &Broker, json: bool) -> Result<(), Box<dyn Error>> {
        let session = broker.ledger.find(&self.id).await?;
        let session = session.ok_or_else(|| format!("the ledger has no upload {}", self.id))?;
        let shown = Shown::of(broker, session).await?;
        let mut out = std::io::stdout().lock();
        if json || self.json {
            writeln!(out, "{}", serde_json::to_string(&shown)?)?;
            return Ok(());
        }
        for (what, value) in shown.lines() {
            writeln!(out, "{what:<12} {value}")?;
        }
        writeln!(out, "\n{:<24} {:<12} {:<16} {:<15} DETAIL", "AT", "EVENT", "BY", "FROM")?;
        for event in &shown.events {
            let address = event.address.map(|address| address.to_string());
            writeln!(
                out,
                "{:<24} {:<12} {:<16} {:<15} {}",
                instant(event.at),
                event.kind.name(),
                event.actor,
                address.as_deref().unwrap_or("-"),
                detail(&event.detail)
            )?;
        }
        Ok(())
    }
}

impl Shown {
    async fn of(broker: &Broker, session: Session) -> Result<Self, Box<dyn Error>> {
        let state = session.state_at(broker.clock.now());
        let (parts_stored, bytes_stored) = match state {
            UploadState::Open | UploadState::Completing => held(broker, &session).await.unzip(),
            UploadState::Completed | UploadState::Aborted | UploadState::Expired => (None, None),
        };
        let mut events: Vec<UploadEvent> = Vec::new();
        loop {
            let last = events.last().map(|event| event.id.clone());
            let page = broker.ledger.events(&session.id, last.as_ref(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            events.extend(page);
        }
        let object = session.object;
        Ok(Self {
            upload_id: session.id,
            state,
            owner: session.owner.clone(),
            name: session.name,
            destination: session.destination,
            bucket: session.bucket,
            key: session.key,
            size: session.plan.size().or(session.stated_size),
            part_size: session.plan.part_size(),
            part_count: session.plan.part_count(),
            content_type: session.content_type,
            acl: session.acl,
            metadata: session.metadata,
            store_upload_id: session.store_upload_id,
            created_at: session.created_at,
            expires_at: session.expires_at,
            parts_stored,
            bytes_stored,
            etag: object.as_ref().map(|object| object.etag.clone()),
            version_id: object.as_ref().and_then(|object| object.version_id.clone()),
            object_size: object.as_ref().map(|object| object.size),
            events,
        })
    }

    /// What there is to say, a line each.
    fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let bytes = |bytes: u64| format!("{bytes} bytes ({})", size(bytes));
        let metadata = self.metadata.iter().map(|(name, value)| format!("{name}={value}"));
        let stored = self.parts_stored.zip(self.bytes_stored);
        let lines = [
            ("upload", Some(self.upload_id.to_string())),
            ("state", Some(state(self.state).to_owned())),
            ("owner", Some(self.owner.clone())),
            ("name", Some(self.name.clone())),
            ("destination", Some(self.destination.clone())),
            ("bucket", Some(self.bucket.clone())),
            ("key", Some(self.key.to_string())),
            ("size", self.size.map(bytes)),
            ("part size", self.part_size.map(bytes)),
            ("parts", self.part_count.map(|count| count.to_string())),
            ("type", self.content_type.clone()),
            ("acl", self.acl.clone()),
            (
                "metadata",
                Some(metadata.collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty()),
            ),
            ("store's id", self.store_upload_id.clone()),
            ("created", Some(instant(self.created_at))),
            ("expires", Some(instant(self.expires_at))),
            (
                "stored",
                stored.map(|(parts, held)| format!("{parts} parts, {}", bytes(held))),
            ),
            ("etag", self.etag.as_ref().map(ToString::to_string)),
            ("version", self.version_id.clone()),
            ("object", self.object_size.map(bytes)),
        ];
        lines.into_iter().filter_map(|(what, value)| Some((what, value?)))
    }
}

fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// What an event tells beside its kind, in words.
fn detail(detail: &EventDetail) -> String {
    let EventDetail {
        size: bytes,
        parts,
        first_part,
        last_part,
        etag,
        version_id,
        reason,
    } = detail;
    let range = first_part.zip(*last_part);
    [
        parts.map(|parts| format!("{parts} parts")),
        range.map(|(first, last)| format!("from {first} to {last}")),
        bytes.map(|bytes| format!("{bytes} bytes")),
        etag.as_ref().map(ToString::to_string),
        version_id.as_ref().map(|version| format!("version {version}")),
        reason.clone(),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(" ")
}
