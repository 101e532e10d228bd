//! Who asks, as the broker knows them, and from where.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev};

use crate::app::Broker;
use crate::auth::scope::Scope;
use crate::auth::ticket::Terms;
use crate::edge::rates::ClientAddress;
use crate::error::ApiError;
use crate::ledger::By;
use crate::policy::Right;

/// Name of the principal of requests without credentials.
pub const ANONYMOUS: &str = "anonymous";
/// Names that begin so are those of tickets' holders.
pub const TICKET_PREFIX: &str = "ticket:";
/// Name under which the broker itself stands in trails.
pub const SWEEPER: &str = "sweeper";
/// Name under which the operator's commands stand there.
pub const OPERATOR: &str = "operator";

/// Whoever makes a request, as the broker knows them. Owns uploads by its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    name: String,
    roles: Vec<String>,
    credential: Credential,
}

/// By what a principal is known, as far as it says what they may do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Credential {
    /// Nothing that narrows anything: settings, a token of another issuer, a proxy's word, or none.
    #[default]
    Plain,
    /// A token of the ledger's, which may allow less than its principal may.
    Token {
        /// Its id.
        id: String,
        /// What it is good for.
        scope: Scope,
    },
    /// A ticket, by which somebody uploads for whoever made it.
    Ticket(Arc<Terms>),
}

impl Principal {
    /// A principal by name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            roles: Vec::new(),
            credential: Credential::Plain,
        }
    }

    /// The same with these roles.
    #[must_use]
    pub fn with_roles(self, roles: Vec<String>) -> Self {
        Self { roles, ..self }
    }

    /// The same, known by this.
    #[must_use]
    pub fn by(self, credential: Credential) -> Self {
        Self { credential, ..self }
    }

    /// The holder of a ticket.
    pub fn of_ticket(terms: Arc<Terms>) -> Self {
        Self {
            name: format!("{TICKET_PREFIX}{}", terms.id),
            roles: Vec::new(),
            credential: Credential::Ticket(terms),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose grants count, and who `{principal}` in key templates is: for a ticket's holder whoever made the ticket.
    pub fn grantee(&self) -> &str {
        match &self.credential {
            Credential::Ticket(terms) => &terms.minted_by,
            Credential::Plain | Credential::Token { .. } => &self.name,
        }
    }

    /// The roles that rules may name.
    pub fn roles(&self) -> &[String] {
        match &self.credential {
            Credential::Ticket(terms) => &terms.roles,
            Credential::Plain | Credential::Token { .. } => &self.roles,
        }
    }

    /// Whether rules for this role are meant.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().iter().any(|own| own == role)
    }

    /// Whether the credential may be used for this there, whatever the rules say.
    pub fn covers(&self, right: Right, destination: &str) -> bool {
        match &self.credential {
            Credential::Plain => true,
            Credential::Token { scope, .. } => scope.covers(right, destination),
            Credential::Ticket(terms) => right == Right::Upload && terms.destination == destination,
        }
    }

    /// The ticket that is used.
    pub fn ticket(&self) -> Option<&Terms> {
        match &self.credential {
            Credential::Ticket(terms) => Some(terms),
            Credential::Plain | Credential::Token { .. } => None,
        }
    }

    /// What an upload is recorded to have been created by, so that it ends when that is revoked.
    pub fn revocable(&self) -> Option<String> {
        match &self.credential {
            Credential::Plain => None,
            Credential::Token { id, .. } => Some(format!("token:{id}")),
            Credential::Ticket(terms) => Some(format!("{TICKET_PREFIX}{}", terms.id)),
        }
    }
}

/// Whether a principal may have this name: it stands in keys, listings and logs, and nobody may pass for somebody else.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'@');
    (1..=64).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(TICKET_PREFIX)
        && !name.starts_with("role:")
        && !matches!(name, "." | ".." | ANONYMOUS | SWEEPER | OPERATOR)
}

/// Whoever asks for a change, and from where: what the trail of an upload keeps of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// Where the request comes from, where that is known.
    pub address: Option<IpAddr>,
}

impl Caller {
    /// As the trail tells it.
    pub fn by(&self) -> By {
        By {
            actor: self.principal.name().to_owned(),
            address: self.address,
        }
    }
}

/// Looking a credential up may need the ledger, or another issuer's keys.
type Looking<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>>>>;

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Looking<Self>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let broker = request.app_data::<Data<Broker>>().ok_or(ApiError::Interrupted)?;
            let ClientAddress(address) = request
                .extensions()
                .get::<ClientAddress>()
                .copied()
                .unwrap_or(ClientAddress(None));
            let principal = broker.principals.identify(broker, &request).await?;
            broker.rates.take_principal(principal.name(), address)?;
            // For the line that the log gets of every request.
            request.extensions_mut().insert(principal.clone());
            Ok(Self { principal, address })
        })
    }
}

impl FromRequest for Principal {
    type Error = ApiError;
    type Future = Looking<Self>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let caller = Caller::from_request(request, payload);
        Box::pin(async move { Ok(caller.await?.principal) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_named_like_the_broker_itself_or_like_a_ticket_s_holder() {
        for name in ["alice", "gh:123", "a@example.org", "a.b-c_d"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(65);
        for name in [
            "",
            ".",
            "..",
            "anonymous",
            "sweeper",
            "operator",
            "ticket:1",
            "role:x",
            "a/b",
            "a b",
            "ä",
            &long,
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
