//! `broker ticket`: by which others upload for a principal, made, listed and revoked by the operator.

use std::error::Error;
use std::io::Write as _;

use clap::{Args, Subcommand};
use shared::api::CreateTicket;

use super::credentials::{by, instant, name, say_revoked, state};
use crate::app::Shared;
use crate::auth::bearer::{Bearer, Kind};
use crate::give_up::end_uploads_of;
use crate::principal::Principal;

/// Tickets taken from the ledger at once.
const PAGE: u16 = 500;

/// What is to be done with tickets.
#[derive(Debug, Args)]
pub struct Tickets {
    #[command(subcommand)]
    command: TicketCommand,
}

#[derive(Debug, Subcommand)]
enum TicketCommand {
    /// Make a ticket, by which whoever has it uploads for a principal, and print it, this once
    Create {
        /// For whom: their grants have to allow what the ticket is used for, and `{principal}` in the key template is their name
        #[arg(long = "for", value_name = "NAME")]
        principal: String,
        /// A role that the principal's grants come from; several with commas between them
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        role: Vec<String>,
        /// Where to [default: the first destination that the principal may upload to]
        #[arg(long, value_name = "NAME")]
        destination: Option<String>,
        /// Most files in all [default: any number]
        #[arg(long, value_name = "FILES")]
        max_files: Option<u32>,
        /// Most bytes in all [default: any number]
        #[arg(long, value_name = "BYTES")]
        max_bytes: Option<u64>,
        /// Most bytes of one file [default: what the destination takes]
        #[arg(long, value_name = "BYTES")]
        max_size: Option<u64>,
        /// A media type that uploads have to have, image/* for all of a kind; several with commas between them [default: any]
        #[arg(long, value_name = "TYPE", value_delimiter = ',')]
        content_type: Vec<String>,
        /// Days until it ends, 1 to 365
        #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=365))]
        days: u16,
        /// What it is for, as lists show it
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// List all tickets: for whom, where to, until when, and what they were used for; never the tickets themselves
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Revoke a ticket, and abort the open uploads that were created with it, so that their part URLs stop working
    Revoke {
        /// Its id, as `broker ticket list` shows it
        #[arg(value_name = "ID")]
        id: String,
    },
}

impl Tickets {
    /// Does what was asked.
    ///
    /// # Errors
    /// What cannot be done and why; or the ledger does not answer, or standard output is gone.
    pub async fn run(&self, broker: &Shared) -> Result<(), Box<dyn Error>> {
        match &self.command {
            TicketCommand::Create {
                principal,
                role,
                destination,
                max_files,
                max_bytes,
                max_size,
                content_type,
                days,
                note,
                json,
            } => {
                let whose = Principal::named(name(principal)?).with_roles(role.clone());
                let asked = CreateTicket {
                    destination: destination.clone(),
                    max_files: *max_files,
                    max_bytes: *max_bytes,
                    max_size: *max_size,
                    content_types: content_type.clone(),
                    expires_in: Some(u64::from(*days) * 24 * 60 * 60),
                    note: note.clone(),
                };
                create_ticket(broker, &whose, asked, *json).await
            }
            TicketCommand::List { json } => list_tickets(broker, *json).await,
            TicketCommand::Revoke { id } => {
                let revoked = broker.ledger.revoke_ticket(id, broker.clock.now()).await?;
                let ended = end_uploads_of(broker, &format!("ticket:{id}"), &by()).await?;
                say_revoked("ticket", id, revoked, ended)
            }
        }
    }
}

async fn create_ticket(
    broker: &Shared,
    whose: &Principal,
    asked: CreateTicket,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let (bearer, ticket) = Bearer::make(Kind::Ticket, &broker.random);
    let terms = broker
        .policy
        .admit_ticket(whose, asked, bearer.id.clone(), broker.clock.now())?;
    // Made by command, so with no token that could have been revoked meanwhile.
    broker.ledger.add_ticket(&bearer, &terms).await?;
    let mut out = std::io::stdout().lock();
    if json {
        let result = serde_json::json!({
            "ticket": ticket, "id": terms.id, "for": terms.minted_by, "destination": terms.destination,
            "expires_at": instant(terms.expires_at),
        });
        writeln!(out, "{result}")?;
    } else {
        writeln!(out, "{ticket}")?;
    }
    tracing::info!(
        id = %terms.id,
        destination = %terms.destination,
        expires_at = instant(terms.expires_at),
        "ticket made; it is shown this once: used as a token, or in the path as /t/TICKET/v1/uploads"
    );
    Ok(())
}

async fn list_tickets(broker: &Shared, json: bool) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let now = broker.clock.now();
    if !json {
        writeln!(
            out,
            "{:<12} {:<20} {:<16} {:<8} {:<20} {:>11} {:>21}  NOTE",
            "ID", "FOR", "DESTINATION", "STATE", "ENDS", "FILES", "BYTES"
        )?;
    }
    let mut last: Option<String> = None;
    while let page = broker.ledger.tickets(None, last.as_deref(), PAGE).await?
        && let Some(end) = page.last()
    {
        last = Some(end.terms.id.clone());
        for ticket in page {
            let terms = &ticket.terms;
            let state = state(ticket.revoked_at, Some(terms.expires_at), now);
            if json {
                let line = serde_json::json!({
                    "id": terms.id, "for": terms.minted_by, "made_with": terms.made_with, "roles": terms.roles, "destination": terms.destination,
                    "state": state, "max_files": terms.max_files, "max_bytes": terms.max_bytes, "max_size": terms.max_size,
                    "content_types": terms.content_types, "note": terms.note, "files": ticket.files, "bytes": ticket.bytes,
                    "created_at": instant(terms.created_at), "expires_at": instant(terms.expires_at),
                    "revoked_at": ticket.revoked_at.map(instant),
                });
                writeln!(out, "{line}")?;
                continue;
            }
            let of = |used: u64, max: Option<u64>| match max {
                Some(max) => format!("{used}/{max}"),
                None => used.to_string(),
            };
            writeln!(
                out,
                "{:<12} {:<20} {:<16} {state:<8} {:<20} {:>11} {:>21}  {}",
                terms.id,
                terms.minted_by,
                terms.destination,
                instant(terms.expires_at),
                of(ticket.files, terms.max_files.map(u64::from)),
                of(ticket.bytes, terms.max_bytes),
                terms.note.as_deref().unwrap_or("-")
            )?;
        }
    }
    Ok(())
}
