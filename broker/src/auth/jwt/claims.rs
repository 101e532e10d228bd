//! What a token's claims say, once its signature holds: the principal's name, and rules about values.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::JwtError;
use crate::principal::is_name;

/// The claims of a token.
pub type Claims = Map<String, Value>;

/// One value or several, of which one has to be met. Numbers and booleans are meant as their text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "OneOrMany")]
pub struct Values(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(i64),
    Truth(bool),
}

impl From<OneOrMany> for Values {
    fn from(given: OneOrMany) -> Self {
        let list = match given {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(values) => values,
        };
        let text = |value| match value {
            Scalar::Text(text) => text,
            Scalar::Number(number) => number.to_string(),
            Scalar::Truth(truth) => truth.to_string(),
        };
        Self(list.into_iter().map(text).collect())
    }
}

/// What values claims must have, by claim.
pub type Rules = BTreeMap<String, Values>;

/// The text of a claim that has one. Fractions have none: one number can be written in many ways, and large ones are rounded.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether the claim is one of these, or a list with one of them in it.
pub fn meets(claims: &Claims, claim: &str, values: &Values) -> bool {
    let is_one = |value: &Value| text_of(value).is_some_and(|text| values.0.contains(&text));
    match claims.get(claim) {
        Some(Value::Array(list)) => list.iter().any(is_one),
        Some(value) => is_one(value),
        None => false,
    }
}

/// Whether one of these stands anywhere in the claim, however deep: for what is to be refused.
pub fn mentions(claims: &Claims, claim: &str, values: &Values) -> bool {
    fn inside(value: &Value, values: &Values) -> bool {
        match value {
            Value::Array(list) => list.iter().any(|value| inside(value, values)),
            Value::Object(map) => map.values().any(|value| inside(value, values)),
            _ => text_of(value).is_some_and(|text| values.0.contains(&text)),
        }
    }
    claims.get(claim).is_some_and(|value| inside(value, values))
}

/// The roles that a claim names: one, several between spaces, or a list.
pub fn named_roles(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// How a principal is named after claims: `gh:{repository_id}`.
#[derive(Clone, Debug)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(String),
    Claim(String),
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, after) = rest.split_once('{').map_or((rest, None), |(a, b)| (a, Some(b)));
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            } else if matches!(pieces.last(), Some(Piece::Claim(_))) {
                return Err(format!(
                    "{text:?} has two claims side by side, so that two different pairs would be one name; put a character between them"
                ));
            }
            rest = "";
            if let Some(after) = after {
                let (claim, after) = after
                    .split_once('}')
                    .filter(|(claim, _)| !claim.is_empty() && !claim.contains('{'))
                    .ok_or_else(|| format!("{text:?} has a {{ without a claim's name and }} after it"))?;
                pieces.push(Piece::Claim(claim.to_owned()));
                rest = after;
            }
        }
        let template = Self(pieces);
        if !is_name(&template.sample()) {
            return Err(format!(
                "{text:?} can make no name: expected claims in braces among at most 64 letters, digits and . - _ : @, \
                 not beginning with ticket: or role:"
            ));
        }
        Ok(template)
    }

    /// The shortest name that it could make.
    fn sample(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Claim(_) => "x".to_owned(),
        };
        self.0.iter().map(piece).collect()
    }

    /// The name by these claims. No character is left out or replaced: two callers would become one.
    ///
    /// # Errors
    /// [`JwtError::Name`], with the claim at fault.
    pub fn name(&self, claims: &Claims) -> Result<String, JwtError> {
        let mut name = String::new();
        let mut named = Vec::new();
        let mut pieces = self.0.iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Claim(claim) => {
                    let refuse = || JwtError::Name(claim.clone());
                    let value = claims.get(claim).and_then(text_of).ok_or_else(refuse)?;
                    // The character after it ends it: with that inside, `a:b` and `c` would be as `a` and `b:c`.
                    let ends_early = match pieces.peek() {
                        Some(Piece::Text(text)) => text.chars().next().is_some_and(|end| value.contains(end)),
                        _ => false,
                    };
                    if value.is_empty() || ends_early {
                        return Err(refuse());
                    }
                    name.push_str(&value);
                    // Only what it is made of: its length, and names that nobody may have, are judged in the whole.
                    if !value.chars().all(|one| is_name(&format!("x{one}"))) {
                        return Err(refuse());
                    }
                    named.push(claim.as_str());
                }
            }
        }
        if is_name(&name) {
            Ok(name)
        } else {
            Err(JwtError::Name(named.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(template: &str, claims: &Value) -> Result<String, String> {
        let template = Template::read(template)?;
        template
            .name(claims.as_object().unwrap())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_principal_is_named_after_claims_as_they_are_or_not_at_all() {
        let claims = json!({
            "sub": "alice", "id": 7, "ok": true, "both": "a:b", "space": "a b", "umlaut": "ä", "long": "a".repeat(65),
            "path": "a/../b", "dots": "..", "nobody": "anonymous", "ticket": "ticket:1", "list": ["a"], "half": 1.5, "none": null, "empty": "",
        });
        assert_eq!(name("{sub}", &claims).unwrap(), "alice");
        assert_eq!(name("gh:{id}:{sub}", &claims).unwrap(), "gh:7:alice");
        assert_eq!(name("{ok}.{both}", &claims).unwrap(), "true.a:b");
        assert_eq!(name("ci", &claims).unwrap(), "ci");
        for claim in [
            "space", "umlaut", "long", "path", "dots", "nobody", "ticket", "list", "half", "none", "empty", "absent",
        ] {
            let error = name(&format!("{{{claim}}}"), &claims).unwrap_err();
            assert!(
                error.contains(claim) && !error.contains("a b") && !error.contains("ä"),
                "{claim}: {error}"
            );
        }
    }

    #[test]
    fn two_different_pairs_of_claims_are_never_one_name() {
        assert!(
            name("{a}{b}", &json!({"a": "x", "b": "y"}))
                .unwrap_err()
                .contains("side by side")
        );
        assert_eq!(name("{a}:{b}", &json!({"a": "x", "b": "y:z"})).unwrap(), "x:y:z");
        assert!(name("{a}:{b}", &json!({"a": "x:y", "b": "z"})).is_err());
    }

    #[test]
    fn what_can_make_no_name_is_no_template() {
        for bad in [
            "",
            "{",
            "{}",
            "{a",
            "a}",
            "a b",
            "ä{sub}",
            "ticket:{sub}",
            "role:{sub}",
            "anonymous",
            "..",
            "{{a}}",
        ] {
            assert!(Template::read(bad).is_err(), "{bad}");
        }
    }
}
