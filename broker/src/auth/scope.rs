//! What a token is good for, where that is less than its principal may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::policy::Right;

/// Rights, each everywhere or at one destination; no limit at all where there are none.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Scope(Vec<Entry>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    right: Right,
    destination: Option<String>,
}

/// The text is no scope.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the scope {0:?} is not RIGHT or RIGHT:DESTINATION, where RIGHT is upload, list, download, delete, tickets or admin"
)]
pub struct ScopeError(String);

impl Scope {
    /// Whether it has this right there.
    pub fn covers(&self, right: Right, destination: &str) -> bool {
        let fits =
            |entry: &Entry| entry.right == right && entry.destination.as_deref().is_none_or(|name| name == destination);
        self.0.is_empty() || self.0.iter().any(fits)
    }

    /// The destinations that it names.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|entry| entry.destination.as_deref())
    }
}

impl FromStr for Entry {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (right, destination) = match text.split_once(':') {
            Some((right, destination)) if !destination.is_empty() => (right, Some(destination.to_owned())),
            Some(_) => return Err(ScopeError(text.to_owned())),
            None => (text, None),
        };
        let right = Right::ALL.into_iter().find(|known| known.name() == right);
        let right = right.ok_or_else(|| ScopeError(text.to_owned()))?;
        Ok(Self { right, destination })
    }
}

impl TryFrom<Vec<String>> for Scope {
    type Error = ScopeError;

    fn try_from(texts: Vec<String>) -> Result<Self, Self::Error> {
        texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl From<Scope> for Vec<String> {
    fn from(scope: Scope) -> Self {
        scope.0.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.right.name())?;
        match &self.destination {
            Some(destination) => write!(f, ":{destination}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("all that its principal may do");
        }
        let words: Vec<String> = self.clone().into();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(texts: &[&str]) -> Result<Scope, ScopeError> {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
            .try_into()
    }

    #[test]
    fn a_scope_covers_what_it_names_and_an_empty_one_everything() {
        let narrow = scope(&["upload:photos", "list"]).unwrap();
        assert!(narrow.covers(Right::Upload, "photos") && !narrow.covers(Right::Upload, "films"));
        assert!(narrow.covers(Right::List, "films") && !narrow.covers(Right::Delete, "photos"));
        assert!(Scope::default().covers(Right::Admin, "films"));
        assert_eq!(narrow.to_string(), "upload:photos list");
    }

    #[test]
    fn what_is_no_right_is_no_scope() {
        for text in ["", "write", "upload:", ":photos", "Upload"] {
            assert!(scope(&[text]).is_err(), "{text}");
        }
    }
}
