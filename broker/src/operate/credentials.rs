//! What the commands for tokens and for tickets have in common.

use std::error::Error;
use std::io::Write as _;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::give_up::Ended;
use crate::ledger::By;
use crate::principal::{OPERATOR, is_name};

/// As the trail of an upload tells who ended it.
pub(super) fn by() -> By {
    By {
        actor: OPERATOR.to_owned(),
        address: None,
    }
}

pub(super) fn name(text: &str) -> Result<&str, Box<dyn Error>> {
    if is_name(text) {
        return Ok(text);
    }
    let text: String = text.chars().take(64).collect();
    Err(format!(
        "{text:?} is no name of a principal: at most 64 letters, digits and . - _ : @, and none of anonymous, sweeper, operator"
    )
    .into())
}

pub(super) fn say_revoked(kind: &str, id: &str, revoked: bool, ended: Ended) -> Result<(), Box<dyn Error>> {
    let Ended { aborted, left, .. } = ended;
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

pub(super) fn state(
    revoked_at: Option<OffsetDateTime>,
    expires_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> &'static str {
    match (revoked_at, expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        _ => "holds",
    }
}

pub(super) fn instant(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}
