//! Whether an upload may take the place of an object that is there, where a destination's rule says that not every one may.
//!
//! Looked at when the upload is created and again before it is completed. Between that look and the store's joining of the parts
//! another upload may come first; where the store compares by itself (`If-None-Match: *` on Complete), not even then. The only
//! rule without a gap on every store is a key that is never there: `{uuid}` in the key template.

use shared::ObjectKey;

use crate::app::Broker;
use crate::error::ApiError;
use crate::ledger::Session;
use crate::policy::{CreateGrant, Overwrite, shortened};
use crate::principal::TICKET_PREFIX;

/// Whether an upload may be created.
///
/// # Errors
/// [`ApiError::KeyTaken`], or it cannot be found out.
pub async fn before_create(broker: &Broker, grant: &CreateGrant) -> Result<(), ApiError> {
    let place = (grant.bucket.as_str(), &grant.key);
    check(broker, grant.overwrite, place, (&grant.owner, &grant.grantee), None)
        .await
        .map(|_| ())
}

/// Whether the parts of an upload may be joined, and where they may, whether only as long as nothing else comes to the key: with
/// an object of the same owner there, nobody else can take its place meanwhile; where nothing is, anybody may come first.
///
/// # Errors
/// As [`before_create`].
pub async fn before_complete(broker: &Broker, session: &Session) -> Result<bool, ApiError> {
    let place = (session.bucket.as_str(), &session.key);
    let own = Some(session.write_token.as_str());
    let whose = (session.owner.as_str(), session.grantee.as_str());
    check(broker, broker.policy.overwrites(session), place, whose, own).await
}

async fn check(
    broker: &Broker,
    rule: Overwrite,
    (bucket, key): (&str, &ObjectKey),
    (owner, grantee): (&str, &str),
    own_token: Option<&str>,
) -> Result<bool, ApiError> {
    if rule == Overwrite::Always {
        return Ok(false);
    }
    let Some(there) = broker.store.head(bucket, key).await? else {
        return Ok(true);
    };
    let allowed = match (&there.write_token, rule) {
        (Some(token), _) if own_token == Some(token) => true,
        (Some(token), Overwrite::SameOwner) => {
            // A ticket's holder owns what was uploaded with it; its maker that and all of their own.
            let of = broker.ledger.whose(bucket, key, token).await?;
            of.is_some_and(|(its_owner, its_grantee)| {
                if owner.starts_with(TICKET_PREFIX) {
                    its_owner == owner
                } else {
                    its_grantee.as_deref() == Some(grantee)
                }
            })
        }
        _ => false,
    };
    if allowed {
        Ok(rule == Overwrite::Never)
    } else {
        Err(key_taken(key, rule))
    }
}

/// What is told of an upload whose key an object has that it must not replace.
pub fn key_taken(key: &ObjectKey, rule: Overwrite) -> ApiError {
    ApiError::KeyTaken {
        key: shortened(key.as_str()),
        rule,
    }
}
