//! Who may make which tickets.

use std::time::Duration;

use shared::api::{CreateTicket, MAX_TICKET_LIFE};
use time::OffsetDateTime;

use super::destination::is_type;
use super::{Policy, Right};
use crate::auth::ticket::Terms;
use crate::error::ApiError;
use crate::principal::Principal;

/// Life of a ticket unless it is asked for another: a week, in seconds.
const USUAL_LIFE: u64 = 7 * 24 * 60 * 60;
/// Characters of a note.
const MAX_NOTE: usize = 200;
/// Types in a ticket.
const MAX_TYPES: usize = 50;

impl Policy {
    /// The terms of a ticket that this principal asks for.
    ///
    /// What they may upload themselves holds for whoever uses the ticket too, also where it changes later.
    ///
    /// # Errors
    /// [`ApiError::NotGranted`], [`ApiError::NoSuchDestination`], or a field that cannot be.
    pub fn admit_ticket(
        &self,
        principal: &Principal,
        asked: CreateTicket,
        id: String,
        now: OffsetDateTime,
    ) -> Result<Terms, ApiError> {
        let CreateTicket {
            destination,
            max_files,
            max_bytes,
            max_size,
            content_types,
            expires_in,
            note,
        } = asked;
        let (destination, _) = self.destination_for(principal, destination.as_deref(), Right::Tickets)?;
        let (destination, _) = self.destination_for(principal, Some(&destination.name), Right::Upload)?;
        let refuse = |field, reason: String| Err(ApiError::InvalidField { field, reason });
        if max_files == Some(0) {
            return refuse("max_files", "is 0, so that the ticket would be good for nothing".into());
        }
        if content_types.len() > MAX_TYPES {
            return refuse("content_types", format!("has more than {MAX_TYPES} entries"));
        }
        if let Some(text) = content_types.iter().find(|text| text.len() > 127 || !is_type(text)) {
            let text = super::shortened(text);
            return refuse(
                "content_types",
                format!("has {text:?}, which is no media type such as image/png or image/*"),
            );
        }
        let expires_in = expires_in.unwrap_or(USUAL_LIFE);
        if !(1..=MAX_TICKET_LIFE).contains(&expires_in) {
            return refuse(
                "expires_in",
                format!("is {expires_in}; expected 1 to {MAX_TICKET_LIFE} seconds"),
            );
        }
        if let Some(note) = &note
            && (note.chars().count() > MAX_NOTE || note.chars().any(char::is_control))
        {
            return refuse(
                "note",
                format!("has more than {MAX_NOTE} characters, or control characters"),
            );
        }
        Ok(Terms {
            id,
            minted_by: principal.name().to_owned(),
            made_with: principal.revocable(),
            roles: principal.roles().to_vec(),
            destination: destination.name.clone(),
            max_files,
            max_bytes,
            max_size,
            content_types,
            note,
            created_at: now,
            expires_at: now + Duration::from_secs(expires_in),
        })
    }
}
