//! `broker token`: who may upload, made, listed and revoked by the operator.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::credentials::{by, instant, name, say_revoked, state};
use crate::app::Shared;
use crate::auth::bearer::{Bearer, Kind};
use crate::auth::scope::Scope;
use crate::give_up::end_uploads_of;
use crate::ledger::TOKENS_AT_ONCE;
use crate::principal::Principal;

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
        /// delete, tickets or admin; several with commas between them [default: everything]
        #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
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
        /// Revoke the tickets that were made with it too, and abort what was uploaded by them: for a token that somebody else
        /// has got hold of
        #[arg(long)]
        tickets: bool,
    },
}

impl Tokens {
    /// Does what was asked.
    ///
    /// # Errors
    /// What cannot be done and why; or the ledger does not answer, or standard output is gone.
    pub async fn run(&self, broker: &Shared) -> Result<(), Box<dyn Error>> {
        match &self.command {
            TokenCommand::Create {
                principal,
                scope,
                days,
                json,
            } => create_token(broker, principal, scope, *days, *json).await,
            TokenCommand::List { json } => list_tokens(broker, *json).await,
            TokenCommand::Revoke { id, tickets } => revoke_token(broker, id, *tickets).await,
        }
    }
}

async fn create_token(
    broker: &Shared,
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
    let there: Vec<_> = broker.policy.destinations.iter().map(|one| one.name.as_str()).collect();
    for name in scope.destinations().filter(|name| !there.contains(name)) {
        tracing::warn!(
            name,
            "there is no such destination yet, which the scope names; there are {}",
            there.join(", ")
        );
    }
    if broker.policy.destinations_of(&whose).next().is_none() {
        tracing::warn!(
            principal,
            "no rule allows this principal anything yet; name it in a [[grant]], unless its role comes later"
        );
    }
    Ok(())
}

async fn list_tokens(broker: &Shared, json: bool) -> Result<(), Box<dyn Error>> {
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

async fn revoke_token(broker: &Shared, id: &str, with_tickets: bool) -> Result<(), Box<dyn Error>> {
    let now = broker.clock.now();
    let mut revoked = broker.ledger.revoke_token(id, now).await?;
    let mut ended = end_uploads_of(broker, &format!("token:{id}"), &by()).await?;
    let tickets = broker.ledger.tickets_made_with(id, now).await?;
    let holding = tickets.iter().filter(|(_, holds)| *holds).count();
    if with_tickets {
        for (ticket, _) in &tickets {
            revoked |= broker.ledger.revoke_ticket(ticket, now).await?;
            ended += end_uploads_of(broker, &format!("ticket:{ticket}"), &by()).await?;
        }
    }
    say_revoked("token", id, revoked, ended)?;
    let mut out = std::io::stdout();
    match holding {
        0 => {}
        tickets if with_tickets => writeln!(out, "tickets made with it, revoked too: {tickets}")?,
        tickets => writeln!(
            out,
            "tickets made with it, which hold on: {tickets}; if it leaked, end them too: broker token revoke {id} --tickets"
        )?,
    }
    Ok(())
}
