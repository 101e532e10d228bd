//! Tickets: by which others upload, without credentials of their own, in the name of whoever made them.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Asks for a ticket.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateTicket {
    /// Which of the broker's destinations; left out, the first to which the caller may upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Most files in all; those that were given up do not count. Left out, any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = u32::MAX)))]
    pub max_files: Option<u32>,
    /// Most bytes in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(max = u64::MAX)))]
    pub max_bytes: Option<u64>,
    /// Most bytes of one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(max = u64::MAX)))]
    pub max_size: Option<u64>,
    /// Media types that uploads have to have, `image/*` for all of a kind; any where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "openapi",
        schemars(length(max = 50), with = "Vec<crate::schema::TypeRange>")
    )]
    pub content_types: Vec<String>,
    /// Seconds until it ends, 1 to [`MAX_TICKET_LIFE`]; a week if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = MAX_TICKET_LIFE)))]
    pub expires_in: Option<u64>,
    /// What it is for, at most 200 characters; shown in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schemars(length(max = 200), regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"))
    )]
    pub note: Option<String>,
}

/// Longest life of a ticket: a year, in seconds.
pub const MAX_TICKET_LIFE: u64 = 365 * 24 * 60 * 60;

/// A ticket that was made.
#[derive(Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TicketCreated {
    /// The ticket: sent as a bearer token, or in the path as `/t/TICKET/…`. A secret, shown this once: never logged.
    pub ticket: String,
    /// What the broker has taken down.
    #[serde(flatten)]
    pub info: TicketInfo,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
}

impl fmt::Debug for TicketCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketCreated")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What a ticket allows, and what it has been used for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct TicketInfo {
    /// Names it, and is no secret.
    pub ticket_id: String,
    /// Where it is for.
    pub destination: String,
    /// Most files in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u32>,
    /// Most bytes in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Most bytes of one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Media types that uploads have to have; any where there are none.
    #[serde(default)]
    pub content_types: Vec<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Files uploaded by it or under way.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub created_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub expires_at: OffsetDateTime,
    /// When it was revoked.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<crate::schema::Instant>"))]
    pub revoked_at: Option<OffsetDateTime>,
}

/// Asks, as a query, for tickets that the caller has made.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListTickets {
    /// `next_cursor` of the page before; left out for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(regex(pattern = r"^[0-9A-Za-z]{12}$")))]
    pub cursor: Option<String>,
    /// Most entries on the page, 1 to [`MAX_PAGE`](super::MAX_PAGE); that many if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(range(min = 1, max = super::MAX_PAGE)))]
    pub limit: Option<u16>,
}

/// One page of tickets, in the order of their ids.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Tickets {
    /// The tickets.
    pub tickets: Vec<TicketInfo>,
    /// Where the next page begins; none on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// The broker's clock.
    #[serde(with = "time::serde::rfc3339")]
    #[cfg_attr(feature = "openapi", schemars(with = "crate::schema::Instant"))]
    pub server_time: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_does_not_show_itself() {
        let info = r#"{"ticket": "ubk_secret", "ticket_id": "1", "destination": "d", "files": 0, "bytes": 0,
            "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:00:00Z", "server_time": "2026-01-01T00:00:00Z"}"#;
        let created: TicketCreated = serde_json::from_str(info).unwrap();
        assert!(!format!("{created:?}").contains("secret"));
    }
}
