//! `broker token` and `broker ticket`: who may upload, made, listed and revoked by the operator.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use shared::api::CreateTicket;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::app::Broker;
use crate::auth::bearer::{Bearer, Kind};
use crate::auth::scope::Scope;
use crate::give_up::{Ended, end_uploads_of};
use crate::ledger::{By, TOKENS_AT_ONCE};
use crate::principal::{Principal, is_name};

/// Tickets taken from the ledger at once.
const PAGE: u16 = 500;
/// Longest life of a token.
const MAX_DAYS: u16 = 3650;

/// What is to be done with tokens.
#[derive(Debug, Args)]
pub struct Tokens {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it, this once; a principal has two at the most, so that one can take the other's place
    Create {
        /// Whose it is: at most 64 letters, digits and . - _ : @
        #[arg(value_name = "NAME")]
        principal: String,
        /// What it is good for, of what its principal may do: RIGHT or RIGHT:DESTINATION, where RIGHT is upload, list, download,
        /// delete, tickets or admin; several times for several [default: everything]
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        /// Days until it ends, up to 3650; 0: never
        #[arg(long, value_name = "DAYS", default_value_t = 365)]
        days: u16,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// List all tokens: whose, what for, until when; never the tokens themselves
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token, and abort the open uploads that were created with it, so that their part URLs stop working
    Revoke {
        /// Its id, as `broker token list` shows it: the characters between the first and the second underscore of the token
        #[arg(value_name = "ID")]
        id: String,
    },
}

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
        /// A role that the principal's grants come from; several times for several
        #[arg(long, value_name = "ROLE")]
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
        /// A media type that uploads have to have, image/* for all of a kind; several times for several [default: any]
        #[arg(long, value_name = "TYPE")]
        content_type: Vec<String>,
        /// Days until it ends, 1 to 365
        #[arg(long, value_name = "DAYS", default_value_t = 7)]
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

impl Tokens {
    /// Does what was asked.
    ///
    /// # Errors
    /// What cannot be done and why; or the ledger does not answer, or standard output is gone.
    pub async fn run(&self, broker: &Broker) -> Result<(), Box<dyn Error>> {
        match &self.command {
            TokenCommand::Create {
                principal,
                scope,
                days,
                json,
            } => create_token(broker, principal, scope, *days, *json).await,
            TokenCommand::List { json } => list_tokens(broker, *json).await,
            TokenCommand::Revoke { id } => {
                let revoked = broker.ledger.revoke_token(id, broker.clock.now()).await?;
                let ended = end_uploads_of(broker, &format!("token:{id}"), &by()).await?;
                say_revoked("token", id, revoked, ended)
            }
        }
    }
}

impl Tickets {
    /// Does what was asked.
    ///
    /// # Errors
    /// As [`Tokens::run`].
    pub async fn run(&self, broker: &Broker) -> Result<(), Box<dyn Error>> {
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

/// As the trail of an upload tells who ended it.
fn by() -> By {
    By {
        actor: "operator".to_owned(),
        address: None,
    }
}

fn name(text: &str) -> Result<&str, Box<dyn Error>> {
    if is_name(text) {
        return Ok(text);
    }
    let text: String = text.chars().take(64).collect();
    Err(format!(
        "{text:?} is no name of a principal: at most 64 letters, digits and . - _ : @, and none of anonymous, sweeper"
    )
    .into())
}

async fn create_token(
    broker: &Broker,
    principal: &str,
    scope: &[String],
    days: u16,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let principal = name(principal)?;
    let scope = Scope::try_from(scope.to_vec())?;
    if days > MAX_DAYS {
        return Err(format!("--days {days}: expected 0 to {MAX_DAYS}").into());
    }
    let now = broker.clock.now();
    let expires_at = (days > 0).then(|| now + Duration::from_hours(24 * u64::from(days)));
    let whose = Principal::named(principal);
    let (bearer, token) = Bearer::make(Kind::Token, &broker.random);
    if !broker
        .ledger
        .add_token(&bearer, principal, &scope, expires_at, now)
        .await?
    {
        return Err(format!(
            "{principal} has {TOKENS_AT_ONCE} tokens already, which is all that one has at once: revoke one \
             (broker token list, broker token revoke ID)"
        )
        .into());
    }
    let mut out = std::io::stdout().lock();
    if json {
        let result = serde_json::json!({
            "token": token, "id": bearer.id, "principal": principal, "scope": scope, "expires_at": expires_at.map(instant),
        });
        writeln!(out, "{result}")?;
    } else {
        writeln!(out, "{token}")?;
    }
    // Standard output has the token alone, to be caught by a script.
    tracing::info!(
        id = %bearer.id,
        principal,
        %scope,
        expires_at = expires_at.map(instant),
        "token made; it is shown this once, and only its SHA-256 is kept"
    );
    if broker.policy.destinations_of(&whose).next().is_none() {
        tracing::warn!(
            principal,
            "no rule allows this principal anything yet; name it in a [[grant]], unless its role comes later"
        );
    }
    Ok(())
}

async fn list_tokens(broker: &Broker, json: bool) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let now = broker.clock.now();
    if !json {
        writeln!(
            out,
            "{:<12} {:<24} {:<8} {:<20} {:<20} SCOPE",
            "ID", "PRINCIPAL", "STATE", "CREATED", "ENDS"
        )?;
    }
    for token in broker.ledger.tokens().await? {
        let state = state(token.revoked_at, token.expires_at, now);
        if json {
            let line = serde_json::json!({
                "id": token.id, "principal": token.principal, "state": state, "scope": token.scope,
                "created_at": instant(token.created_at), "expires_at": token.expires_at.map(instant),
                "revoked_at": token.revoked_at.map(instant),
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(
                out,
                "{:<12} {:<24} {state:<8} {:<20} {:<20} {}",
                token.id,
                token.principal,
                instant(token.created_at),
                token.expires_at.map_or_else(|| "never".to_owned(), instant),
                token.scope
            )?;
        }
    }
    Ok(())
}

async fn create_ticket(
    broker: &Broker,
    whose: &Principal,
    asked: CreateTicket,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let (bearer, ticket) = Bearer::make(Kind::Ticket, &broker.random);
    let terms = broker
        .policy
        .admit_ticket(whose, asked, bearer.id.clone(), broker.clock.now())?;
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

async fn list_tickets(broker: &Broker, json: bool) -> Result<(), Box<dyn Error>> {
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
                    "id": terms.id, "for": terms.minted_by, "roles": terms.roles, "destination": terms.destination,
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

fn say_revoked(kind: &str, id: &str, revoked: bool, ended: Ended) -> Result<(), Box<dyn Error>> {
    let Ended { aborted, left } = ended;
    if !revoked && ended == Ended::default() {
        let id: String = id.chars().take(64).collect();
        return Err(format!("there is no {kind} {id:?} that holds; broker {kind} list shows all").into());
    }
    writeln!(
        std::io::stdout(),
        "revoked; {aborted} open uploads aborted, {left} left to the sweeper"
    )?;
    if left > 0 {
        return Err(format!(
            "{left} uploads could not be ended at once, since they are being completed or the store does not answer; run the \
             command again"
        )
        .into());
    }
    Ok(())
}

fn state(revoked_at: Option<OffsetDateTime>, expires_at: Option<OffsetDateTime>, now: OffsetDateTime) -> &'static str {
    match (revoked_at, expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        _ => "holds",
    }
}

fn instant(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}
