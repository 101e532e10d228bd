//! `/v1/tickets`: makes tickets, lists them, revokes them.

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use shared::api::{CreateTicket, ListTickets, TicketCreated, TicketInfo, Tickets};

use super::body;
use super::query::{page_size, query};
use crate::admit::revoked;
use crate::app::Shared;
use crate::auth::bearer::{Bearer, Kind, is_id};
use crate::error::ApiError;
use crate::give_up::end_uploads_of;
use crate::ledger::Ticket;
use crate::policy::Right;
use crate::principal::Caller;

/// Answers `201` with a new ticket, whose text is shown this once.
///
/// # Errors
/// The caller may not make it, or the ledger does not answer.
pub async fn create(
    broker: Shared,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let asked: CreateTicket = body::json(&request, payload).await?;
    let now = broker.clock.now();
    let (bearer, ticket) = Bearer::make(Kind::Ticket, &broker.random);
    let terms = broker
        .policy
        .admit_ticket(&caller.principal, asked, bearer.id.clone(), now)?;
    if !broker.ledger.add_ticket(&bearer, &terms).await? {
        return Err(revoked());
    }
    tracing::info!(ticket = %terms.id, by = caller.principal.name(), destination = %terms.destination, "ticket made");
    let info = info(Ticket {
        terms,
        revoked_at: None,
        files: 0,
        bytes: 0,
    });
    Ok(HttpResponse::Created().json(TicketCreated {
        ticket,
        info,
        server_time: now,
    }))
}

/// Answers with one page of the caller's tickets.
///
/// # Errors
/// The query cannot be used, or the ledger does not answer.
pub async fn list(broker: Shared, caller: Caller, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let ListTickets { cursor, limit } = query(&request)?;
    let limit = page_size(limit)?;
    if cursor.as_deref().is_some_and(|cursor| !is_id(cursor)) {
        return Err(ApiError::InvalidQuery(
            "the cursor is not one that a page before gave".into(),
        ));
    }
    may_make(&broker, &caller)?;
    // One more than is shown tells whether there is a next page.
    let mut page = broker
        .ledger
        .tickets(Some(caller.principal.name()), cursor.as_deref(), limit + 1)
        .await?;
    let more = page.len() > usize::from(limit);
    page.truncate(limit.into());
    let next_cursor = page.last().filter(|_| more).map(|last| last.terms.id.clone());
    // A token that is good for one place does not show what was made for others.
    page.retain(|ticket| makes(&broker, &caller, &ticket.terms.destination));
    Ok(HttpResponse::Ok().json(Tickets {
        tickets: page.into_iter().map(info).collect(),
        next_cursor,
        server_time: broker.clock.now(),
    }))
}

/// Revokes a ticket and ends what is under way by it. Answers `204`, and `204` again.
///
/// # Errors
/// The ticket is not the caller's, or the ledger does not answer.
pub async fn revoke(broker: Shared, caller: Caller, id: Path<String>) -> Result<HttpResponse, ApiError> {
    may_make(&broker, &caller)?;
    if !is_id(&id) {
        return Err(ApiError::NoSuchTicket);
    }
    let ticket = broker.ledger.ticket(&id).await?.ok_or(ApiError::NoSuchTicket)?;
    let policy = &broker.policy;
    let own = ticket.terms.minted_by == caller.principal.name()
        && policy.allows(&caller.principal, &ticket.terms.destination, Right::Tickets);
    if !own && !policy.allows(&caller.principal, &ticket.terms.destination, Right::Admin) {
        return Err(ApiError::NoSuchTicket);
    }
    let revoked = broker.ledger.revoke_ticket(&id, broker.clock.now()).await?;
    broker.principals.forget(&id);
    let ended = end_uploads_of(&broker, &format!("ticket:{id}"), &caller.by()).await?;
    if revoked {
        tracing::info!(
            ticket = *id,
            by = caller.principal.name(),
            aborted = ended.aborted,
            "ticket revoked"
        );
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Who may make no ticket anywhere has none.
fn may_make(broker: &Shared, caller: &Caller) -> Result<(), ApiError> {
    let policy = &broker.policy;
    let mut places = policy.destinations.iter();
    if places.any(|destination| makes(broker, caller, &destination.name)) {
        return Ok(());
    }
    policy
        .destination_for(&caller.principal, None, Right::Tickets)
        .map(|_| ())
}

/// Whether the caller may make tickets for this destination, or see to everybody's.
fn makes(broker: &Shared, caller: &Caller, destination: &str) -> bool {
    [Right::Tickets, Right::Admin]
        .into_iter()
        .any(|right| broker.policy.allows(&caller.principal, destination, right))
}

fn info(ticket: Ticket) -> TicketInfo {
    let Ticket {
        terms,
        revoked_at,
        files,
        bytes,
    } = ticket;
    TicketInfo {
        ticket_id: terms.id,
        destination: terms.destination,
        max_files: terms.max_files,
        max_bytes: terms.max_bytes,
        max_size: terms.max_size,
        content_types: terms.content_types,
        note: terms.note,
        files,
        bytes,
        created_at: terms.created_at,
        expires_at: terms.expires_at,
        revoked_at,
    }
}
