//! Who may do what where: rules, of which the first that fits decides, and without which nothing is allowed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Destination, Overwrite, Policy, shortened};
use crate::error::{ApiError, RuleOf};
use crate::ledger::Session;
use crate::principal::{ANONYMOUS, Principal, TICKET_PREFIX, is_name};

/// Something that a rule or the scope of a token allows at a destination.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Create uploads, and go on with them until they end.
    Upload,
    /// List objects.
    List,
    /// Download objects.
    Download,
    /// Delete objects.
    Delete,
    /// Make tickets, by which others upload.
    Tickets,
    /// See, and end, everybody's uploads; list, download and delete everybody's objects where these rights are there too.
    Admin,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Upload,
        Self::List,
        Self::Download,
        Self::Delete,
        Self::Tickets,
        Self::Admin,
    ];

    /// As settings and messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::List => "list",
            Self::Download => "download",
            Self::Delete => "delete",
            Self::Tickets => "tickets",
            Self::Admin => "admin",
        }
    }
}

/// Whom a rule is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Grantee {
    /// `*`: everybody that the broker knows; not those without credentials, who are known by nothing.
    Everybody,
    /// `role:NAME`: whoever's credentials give them the role.
    Role(String),
    /// One principal, `anonymous` for those without credentials.
    Named(String),
}

impl Grantee {
    fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Everybody => principal.grantee() != ANONYMOUS,
            Self::Role(role) => principal.has_role(role),
            Self::Named(name) => name == principal.grantee(),
        }
    }
}

impl std::fmt::Display for Grantee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl std::str::FromStr for Grantee {
    type Err = GranteeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            _ if text == "*" => Ok(Self::Everybody),
            Some(("role", role)) if is_role(role) => Ok(Self::Role(role.to_owned())),
            _ if text == ANONYMOUS || is_name(text) => Ok(Self::Named(text.to_owned())),
            _ => Err(GranteeError(shortened(text))),
        }
    }
}

/// The text names nobody that a rule could be for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} can be nobody; expected a principal's name (at most 64 letters, digits and . - _ : @), role:NAME, anonymous or *"
)]
pub struct GranteeError(String);

/// Whether a role may have this name: lists of roles have commas or blanks between them.
pub fn is_role(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|one| one.is_whitespace() || one == ',')
}

/// One line of the rules: these may do this there, within these limits.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whom it is for.
    pub to: Vec<Grantee>,
    /// Names of destinations; all where there are none.
    pub destinations: Vec<String>,
    /// What they may do.
    pub may: Vec<Right>,
    /// Limits of uploads beside the destination's own.
    pub limits: RuleLimits,
}

/// Limits of whoever may upload by a rule.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct RuleLimits {
    /// Most bytes of one object.
    pub max_size: Option<u64>,
    /// Most uploads that one principal has open at the destination at once.
    pub open_uploads: Option<u32>,
    /// Most bytes that one principal uploads to the destination on one day (UTC).
    pub bytes_per_day: Option<u64>,
}

/// What is done to an upload that is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Touch {
    /// Look at it.
    Look,
    /// Send parts of it, or complete it.
    GoOn,
    /// Abort it.
    End,
}

impl Policy {
    /// The destination of this name, the first one where there is no name.
    pub fn find_destination(&self, name: Option<&str>) -> Option<&Destination> {
        match name {
            None => self.destinations.first(),
            Some(name) => self.destinations.iter().find(|destination| destination.name == name),
        }
    }

    /// The destination that this principal means, which for one that has no right there is none: the first at which they have
    /// this right if they name none.
    ///
    /// # Errors
    /// [`ApiError::NoSuchDestination`], [`ApiError::NotGranted`]
    pub fn destination_for(
        &self,
        principal: &Principal,
        name: Option<&str>,
        right: Right,
    ) -> Result<(&Destination, RuleLimits), ApiError> {
        let Some(name) = name else {
            let mut granted = self.destinations.iter().filter_map(|destination| {
                let limits = self.limits_of(principal, &destination.name, right)?;
                Some((destination, limits))
            });
            return granted.next().ok_or_else(|| refused(principal, None, right));
        };
        let destination = self.find_destination(Some(name));
        let seen = destination.filter(|destination| self.has_any_right(principal, &destination.name));
        let destination = seen.ok_or_else(|| ApiError::NoSuchDestination {
            name: super::fields::shortened(name),
        })?;
        match self.limits_of(principal, &destination.name, right) {
            Some(limits) => Ok((destination, limits)),
            None => Err(refused(principal, Some(&destination.name), right)),
        }
    }

    /// The destinations at which this principal may do something.
    pub fn destinations_of(&self, principal: &Principal) -> impl Iterator<Item = &Destination> {
        self.destinations
            .iter()
            .filter(|destination| self.has_any_right(principal, &destination.name))
    }

    fn has_any_right(&self, principal: &Principal, destination: &str) -> bool {
        Right::ALL
            .into_iter()
            .any(|right| self.allows(principal, destination, right))
    }

    /// The destination that this principal means by naming none: the first to which they may upload, else the first at all at
    /// which they may do something.
    pub fn default_of(&self, principal: &Principal) -> Option<&Destination> {
        let uploads = |destination: &&Destination| self.allows(principal, &destination.name, Right::Upload);
        self.destinations
            .iter()
            .find(uploads)
            .or_else(|| self.destinations_of(principal).next())
    }

    /// What this principal may do at a destination, by name.
    pub fn rights_of(&self, principal: &Principal, destination: &str) -> Vec<Right> {
        Right::ALL
            .into_iter()
            .filter(|right| self.allows(principal, destination, *right))
            .collect()
    }

    /// Most bytes of one object of this principal at a destination.
    pub fn max_size_of(&self, principal: &Principal, destination: &Destination) -> u64 {
        self.max_size_and_whose(principal, destination).0
    }

    /// The same, and whose limit it is: of several that are equal the one that comes first here.
    pub(super) fn max_size_and_whose(&self, principal: &Principal, destination: &Destination) -> (u64, RuleOf) {
        let name = &destination.name;
        let rule = self.limits_of(principal, name, Right::Upload);
        let limits = [
            (Some(destination.max_size), RuleOf::Destination(name.clone())),
            (rule.and_then(|limits| limits.max_size), RuleOf::Grant(name.clone())),
            (principal.ticket().and_then(|terms| terms.max_size), RuleOf::Ticket),
        ];
        let limits = limits.into_iter().map(|(max, whose)| (max.unwrap_or(u64::MAX), whose));
        limits
            .min_by_key(|(max, _)| *max)
            .unwrap_or((0, RuleOf::Destination(name.clone())))
    }

    /// Whether this principal has a right at a destination, by name.
    pub fn allows(&self, principal: &Principal, destination: &str, right: Right) -> bool {
        self.limits_of(principal, destination, right).is_some()
    }

    /// The limits of the first rule that gives this principal this right there, if any does and the credential may use it.
    pub fn limits_of(&self, principal: &Principal, destination: &str, right: Right) -> Option<RuleLimits> {
        if !principal.covers(right, destination) {
            return None;
        }
        let fits = |rule: &&Rule| {
            rule.may.contains(&right)
                && (rule.destinations.is_empty() || rule.destinations.iter().any(|name| name == destination))
                && rule.to.iter().any(|grantee| grantee.is(principal))
        };
        self.rules.iter().find(fits).map(|rule| rule.limits)
    }

    /// What becomes of an object that has the key of an upload. Where its destination is no longer there, nothing is lost.
    pub fn overwrites(&self, session: &Session) -> Overwrite {
        let destination = self.find_destination(Some(&session.destination));
        let by_ticket = session.owner.starts_with(TICKET_PREFIX);
        destination.map_or(Overwrite::Never, |destination| destination.overwrites(by_ticket))
    }

    /// How long the part URLs of an upload live.
    pub fn url_life(&self, session: &Session) -> Duration {
        let destination = self.find_destination(Some(&session.destination));
        destination.map_or(Duration::ZERO, |destination| destination.url_life)
    }

    /// Whether nobody but whom an upload counts for can upload to its key: the template sees to it, or it is by those whom nobody
    /// knows apart.
    pub fn keeps_apart(&self, session: &Session) -> bool {
        let destination = self.find_destination(Some(&session.destination));
        session.grantee == ANONYMOUS || destination.is_some_and(|destination| destination.key_template.keeps_apart())
    }

    /// Whether there is a rule by which whoever an upload counts for may upload to its destination. A rule for a role is taken to
    /// be for them: which ones they have is known only while they ask.
    pub fn may_still_upload(&self, session: &Session) -> bool {
        self.rules.iter().any(|rule| {
            rule.may.contains(&Right::Upload)
                && (rule.destinations.is_empty() || rule.destinations.contains(&session.destination))
                && rule.to.iter().any(|grantee| match grantee {
                    Grantee::Role(_) => true,
                    Grantee::Everybody => session.grantee != ANONYMOUS,
                    Grantee::Named(name) => *name == session.grantee,
                })
        })
    }

    /// Whether an upload becomes an object that runs out with all its parts stored.
    pub fn finishes_abandoned(&self, session: &Session) -> bool {
        let destination = self.find_destination(Some(&session.destination));
        destination.is_some_and(|destination| destination.finish_abandoned)
    }

    /// All buckets that uploads go to, each once.
    pub fn buckets(&self) -> Vec<&str> {
        let mut buckets: Vec<_> = self
            .destinations
            .iter()
            .map(|destination| destination.bucket.as_str())
            .collect();
        buckets.sort_unstable();
        buckets.dedup();
        buckets
    }

    /// Whether this principal may do this to this upload.
    ///
    /// # Errors
    /// [`ApiError::NoSuchUpload`] for one that is not theirs to see, [`ApiError::NotGranted`] for what their own allows no more.
    pub fn admit_touch(&self, principal: &Principal, session: &Session, touch: Touch) -> Result<(), ApiError> {
        let destination = session.destination.as_str();
        if session.owner != principal.name() {
            let seen = touch != Touch::GoOn && self.allows(principal, destination, Right::Admin);
            return if seen { Ok(()) } else { Err(ApiError::NoSuchUpload) };
        }
        let may = match touch {
            Touch::GoOn => self.allows(principal, destination, Right::Upload),
            // Also of an upload that was admitted by a rule of before.
            Touch::Look | Touch::End => principal.covers(Right::Upload, destination),
        };
        if may {
            Ok(())
        } else {
            Err(refused(principal, Some(destination), Right::Upload))
        }
    }
}

/// What a principal is told who lacks a right.
pub fn refused(principal: &Principal, destination: Option<&str>, right: Right) -> ApiError {
    ApiError::NotGranted {
        who: principal.name().to_owned(),
        right,
        destination: destination.map(str::to_owned),
    }
}
