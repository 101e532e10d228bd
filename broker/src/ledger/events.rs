//! What happened to each upload, by whom and from where: written in the transaction that makes it so, and never changed.

use std::collections::HashMap;
use std::net::IpAddr;

use shared::api::{EventDetail, EventKind, UploadEvent};
use shared::{EventId, UploadId};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use time::OffsetDateTime;

use super::digests::Window;
use super::insert::ROWS;
use super::session::StoredObject;
use super::{Ledger, LedgerError, instant, millis, placeholders};
use crate::policy::CreateGrant;
use crate::principal::SWEEPER;
use crate::random::random;

/// Who has something done, and from where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct By {
    /// A principal's name, or the broker's own.
    pub actor: String,
    /// Where the request came from; nothing if none led to it.
    pub address: Option<IpAddr>,
}

impl By {
    /// The broker itself, ending what nobody ends.
    pub fn sweeper() -> Self {
        Self {
            actor: SWEEPER.to_owned(),
            address: None,
        }
    }
}

/// What is about to happen to an upload.
pub(super) struct NewEvent<'a> {
    pub(super) upload: &'a UploadId,
    pub(super) kind: EventKind,
    pub(super) at: OffsetDateTime,
    pub(super) by: &'a By,
    pub(super) detail: EventDetail,
    /// What is declared with it, as [`Window::columns`] gives it.
    pub(super) declared: Option<(i64, &'a [u8])>,
}

/// That parts of an upload are signed together.
pub(super) fn signed<'a>(upload: &'a UploadId, window: &'a Window, at: OffsetDateTime, by: &'a By) -> NewEvent<'a> {
    NewEvent {
        upload,
        kind: EventKind::PartsSigned,
        at,
        by,
        detail: window.detail(),
        declared: window.columns(),
    }
}

/// That an upload was admitted.
pub(super) fn created<'a>(upload: &'a UploadId, grant: &CreateGrant, by: &'a By) -> NewEvent<'a> {
    NewEvent {
        upload,
        kind: EventKind::Created,
        at: grant.created_at,
        by,
        detail: EventDetail {
            size: grant.plan.size(),
            ..EventDetail::default()
        },
        declared: None,
    }
}

/// That an upload ended without an object.
pub(super) fn aborted<'a>(upload: &'a UploadId, by: &'a By, reason: Option<&str>, at: OffsetDateTime) -> NewEvent<'a> {
    NewEvent {
        upload,
        kind: EventKind::Aborted,
        at,
        by,
        detail: EventDetail {
            reason: reason.map(str::to_owned),
            ..EventDetail::default()
        },
        declared: None,
    }
}

/// What is told of the object that an upload became.
pub(super) fn completed(object: &StoredObject) -> EventDetail {
    EventDetail {
        size: Some(object.size),
        etag: Some(object.etag.clone()),
        version_id: object.version_id.clone(),
        ..EventDetail::default()
    }
}

impl Ledger {
    /// Writes these down, in this order, and into the outbox what is to be sent of them. Whoever commits then calls
    /// [`Ledger::ring`].
    pub(super) async fn add_events(
        &self,
        connection: &mut AnyConnection,
        events: &[NewEvent<'_>],
    ) -> Result<(), sqlx::Error> {
        for events in events.chunks(ROWS) {
            // The rows are all made before the first is added: each counts on from the last that was there before them.
            let statement = format!(
                "INSERT INTO events (upload_id, number, id, at, kind, actor, address, detail, first_part, digests) \
                 SELECT column1, column2 + COALESCE((SELECT MAX(number) FROM events WHERE upload_id = column1), 0), \
                 column3, column4, column5, column6, column7, column8, column9, column10 FROM (VALUES {}) AS added",
                placeholders::rows(events.len(), 10)
            );
            let mut insert = sqlx::query(AssertSqlSafe(statement));
            let mut to_send = Vec::new();
            let mut of_each: HashMap<&UploadId, i64> = HashMap::new();
            for event in events {
                let number = of_each.entry(event.upload).or_default();
                *number += 1;
                let at = millis(event.at);
                let id = EventId::new(u64::try_from(at).unwrap_or_default(), u64::from_be_bytes(random()));
                if self.outbox.is_some() && is_sent(event.kind) {
                    to_send.push((id.clone(), at));
                }
                insert = insert
                    .bind(event.upload.as_str())
                    .bind(*number)
                    .bind(String::from(id))
                    .bind(at)
                    .bind(event.kind.name())
                    .bind(event.by.actor.as_str())
                    .bind(event.by.address.map(|address| address.to_string()))
                    .bind(serde_json::to_string(&event.detail).unwrap_or_else(|_| "{}".into()))
                    .bind(event.declared.map(|(first_part, _)| first_part))
                    .bind(event.declared.map(|(_, digests)| digests));
            }
            insert.execute(&mut *connection).await?;
            self.put_out(connection, &to_send).await?;
        }
        Ok(())
    }

    /// At most `limit` events of an upload in the order in which they were recorded, after this one.
    ///
    /// # Errors
    /// The database did not answer, or a row is not readable.
    pub async fn events(
        &self,
        upload: &UploadId,
        after: Option<&EventId>,
        limit: u16,
    ) -> Result<Vec<UploadEvent>, LedgerError> {
        let rows = sqlx::query(
            "SELECT id, at, kind, actor, address, detail FROM events WHERE upload_id = $1 AND number > \
             COALESCE((SELECT number FROM events WHERE upload_id = $1 AND id = $2), -1000) ORDER BY number LIMIT $3",
        )
        .bind(upload.as_str())
        .bind(after.map_or("", EventId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// An event that a webhook is told of, and the upload that it happened to.
    ///
    /// # Errors
    /// The database did not answer, or the row is not readable.
    pub async fn event(&self, id: &EventId) -> Result<Option<(UploadId, UploadEvent)>, LedgerError> {
        let row = sqlx::query(
            "SELECT upload_id, id, at, kind, actor, address, detail FROM events \
             WHERE id = $1 AND kind IN ('completed', 'aborted', 'expired')",
        )
        .bind(id.as_str())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let upload: String = row.try_get("upload_id")?;
            let upload = upload.try_into().map_err(|_| unreadable(id.as_str(), "upload_id"))?;
            Ok((upload, from_row(&row)?))
        })
        .transpose()
    }
}

/// Whether the webhook is told of such events.
pub(super) fn is_sent(kind: EventKind) -> bool {
    match kind {
        EventKind::Completed | EventKind::Aborted | EventKind::Expired => true,
        EventKind::Created | EventKind::PartsSigned => false,
    }
}

fn from_row(row: &AnyRow) -> Result<UploadEvent, LedgerError> {
    let id: String = row.try_get("id")?;
    let unreadable = |what| unreadable(&id, what);
    let (kind, detail): (String, String) = (row.try_get("kind")?, row.try_get("detail")?);
    let address: Option<String> = row.try_get("address")?;
    Ok(UploadEvent {
        kind: event_kind(&kind).ok_or_else(|| unreadable("kind"))?,
        at: instant(row.try_get("at")?).ok_or_else(|| unreadable("at"))?,
        actor: row.try_get("actor")?,
        address: address
            .map(|address| address.parse().map_err(|_| unreadable("address")))
            .transpose()?,
        detail: serde_json::from_str(&detail).map_err(|_| unreadable("detail"))?,
        id: id.clone().try_into().map_err(|_| unreadable("id"))?,
    })
}

pub(super) fn event_kind(name: &str) -> Option<EventKind> {
    use EventKind::{Aborted, Completed, Created, Expired, PartsSigned};
    [Created, PartsSigned, Completed, Aborted, Expired]
        .into_iter()
        .find(|kind| kind.name() == name)
}

pub(super) fn unreadable(id: &str, what: &str) -> LedgerError {
    LedgerError::Row {
        id: id.to_owned(),
        what: what.to_owned(),
    }
}
