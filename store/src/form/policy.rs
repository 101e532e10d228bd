//! What the signer of a form allows it to hold, and until when. Pure: a policy, fields and a time -> bounds of the file's size,
//! or what does not fit.
//!
//! S3 API, "POST policy".

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use s3s::{S3Error, S3Result, s3_error};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fields::Fields;

/// Largest object of one request (S3 User Guide, "Uploading objects").
const MAX_SIZE: u64 = 5 * shared::GIB;

/// A policy, understood.
#[derive(Debug)]
pub(super) struct Policy {
    expires_at: OffsetDateTime,
    conditions: Vec<Condition>,
}

#[derive(Debug)]
struct Condition {
    rule: Rule,
    /// As the policy has it: what a refusal tells.
    text: String,
}

/// Fields' names are in lower case.
#[derive(Debug)]
enum Rule {
    Is { field: String, value: String },
    StartsWith { field: String, prefix: String },
    Size(RangeInclusive<u64>),
}

impl Policy {
    /// Reads a policy as a form carries it.
    pub(super) fn parse(base64: &str) -> S3Result<Self> {
        let text: String = base64.split_ascii_whitespace().collect();
        let json = BASE64.decode(text).map_err(|_| invalid("invalid Base64 encoding."))?;
        let Ok(Value::Object(members)) = serde_json::from_slice(&json) else {
            return Err(invalid("Invalid JSON."));
        };
        if let Some(name) = members
            .keys()
            .find(|name| !["expiration", "conditions"].contains(&name.as_str()))
        {
            return Err(invalid(&format!("Unexpected: '{name}'")));
        }
        let expiration = members.get("expiration");
        let expiration = expiration.ok_or_else(|| invalid("Policy missing expiration."))?;
        let conditions = match members.get("conditions") {
            Some(Value::Array(conditions)) => conditions,
            Some(_) => return Err(invalid("Invalid 'conditions' value: must be a List.")),
            None => return Err(invalid("Policy missing conditions.")),
        };
        Ok(Self {
            expires_at: date(expiration)
                .ok_or_else(|| invalid(&format!("Invalid 'expiration' value: {expiration}")))?,
            conditions: conditions.iter().map(Condition::parse).collect::<S3Result<_>>()?,
        })
    }

    /// How large the file may be, if all else is as the policy says.
    pub(super) fn check(&self, fields: &Fields, bucket: &str, now: OffsetDateTime) -> S3Result<RangeInclusive<u64>> {
        if now >= self.expires_at {
            return Err(against("Policy expired."));
        }
        // The bucket is the one that the form was posted to, whatever a field of that name says.
        let value = |field: &str| match field {
            "bucket" => Some(bucket),
            _ => fields.get(field),
        };
        let (mut least, mut most) = (0, MAX_SIZE);
        for condition in &self.conditions {
            let holds = match &condition.rule {
                Rule::Is { field, value: expected } => value(field) == Some(expected),
                Rule::StartsWith { field, prefix } => {
                    value(field).is_some_and(|value| starts_with(field, value, prefix))
                }
                Rule::Size(range) => {
                    (least, most) = (least.max(*range.start()), most.min(*range.end()));
                    true
                }
            };
            if !holds {
                return Err(against(&format!("Policy Condition failed: {}", condition.text)));
            }
        }
        let covered = |name: &str| self.conditions.iter().any(|condition| condition.names(name));
        let mut named = fields.iter().map(|(name, _)| name).chain(["bucket"]);
        match named.find(|name| !is_free(name) && !covered(name)) {
            Some(name) => Err(against(&format!("Extra input fields: {name}"))),
            None => Ok(least..=most),
        }
    }
}

#[cfg(fuzzing)]
impl Policy {
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.conditions.iter().any(|condition| condition.names(name))
    }

    pub(super) fn never_ends(&self) -> bool {
        self.expires_at > time::macros::datetime!(9999-12-31 23:59:59 UTC)
    }
}

/// Fields that no condition has to name. Checksums are among them for another reason than the rest: they are of the file, which
/// the signer does not know, and can only have it refused.
fn is_free(name: &str) -> bool {
    ["policy", "x-amz-signature", "signature", "awsaccesskeyid", "file"].contains(&name)
        || name.starts_with("x-ignore-")
        || name.starts_with("x-amz-checksum-")
}

/// A list of content types has to fit one by one.
fn starts_with(field: &str, value: &str, prefix: &str) -> bool {
    match field {
        "content-type" => value.split(',').all(|kind| kind.trim_start().starts_with(prefix)),
        _ => value.starts_with(prefix),
    }
}

impl Condition {
    fn parse(condition: &Value) -> S3Result<Self> {
        match condition {
            Value::Object(members) => Self::simple(members),
            Value::Array(items) => Self::list(items),
            _ => Err(invalid("Invalid condition: must be a List or Object.")),
        }
    }

    /// `{"field": "value"}`
    fn simple(members: &Map<String, Value>) -> S3Result<Self> {
        let mut all = members.iter();
        let (Some((field, value)), None) = (all.next(), all.next()) else {
            return Err(invalid(
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.",
            ));
        };
        let value = value.as_str();
        let value = value.ok_or_else(|| invalid("Invalid Simple-Condition: value must be a string."))?;
        Ok(Self {
            text: told(&[json!("eq"), json!(format!("${field}")), json!(value)]),
            rule: Rule::Is {
                field: field.to_ascii_lowercase(),
                value: value.to_owned(),
            },
        })
    }

    /// `["eq", "$field", "value"]`, `["starts-with", "$field", "prefix"]`, `["content-length-range", least, most]`
    fn list(items: &[Value]) -> S3Result<Self> {
        let operation = items.first().and_then(Value::as_str);
        let operation = operation.ok_or_else(|| invalid("Invalid Condition: missing operation identifier."))?;
        let [_, first, second] = items else {
            return Err(invalid(&format!("Invalid {operation}: wrong number of arguments.")));
        };
        let strings = || match (first.as_str(), second.as_str()) {
            (Some(field), Some(value)) => {
                let field = field.strip_prefix('$').map(str::to_ascii_lowercase);
                let field = field.ok_or_else(|| invalid(&format!("Invalid {operation}: the field has no $.")))?;
                Ok((field, value.to_owned()))
            }
            _ => Err(invalid(&format!("Invalid {operation}: the arguments must be strings."))),
        };
        let rule = match operation.to_ascii_lowercase().as_str() {
            "eq" => strings().map(|(field, value)| Rule::Is { field, value })?,
            "starts-with" => strings().map(|(field, prefix)| Rule::StartsWith { field, prefix })?,
            "content-length-range" => match (size(first), size(second)) {
                (Some(least), Some(most)) => Rule::Size(least..=most),
                _ => {
                    return Err(invalid(
                        "Invalid content-length-range: the bounds must be numbers of bytes.",
                    ));
                }
            },
            _ => return Err(invalid(&format!("Invalid Condition: unknown operation '{operation}'."))),
        };
        Ok(Self {
            rule,
            text: told(items),
        })
    }

    fn names(&self, name: &str) -> bool {
        match &self.rule {
            Rule::Is { field, .. } | Rule::StartsWith { field, .. } => field == name,
            Rule::Size(_) => false,
        }
    }
}

fn told(items: &[Value]) -> String {
    let items: Vec<_> = items.iter().map(Value::to_string).collect();
    format!("[{}]", items.join(", "))
}

/// A number of bytes, which some clients write as a string.
fn size(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// ISO 8601 in GMT, with `T` and `Z`.
fn date(value: &Value) -> Option<OffsetDateTime> {
    let text = value
        .as_str()
        .filter(|text| text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z'))?;
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

fn invalid(what: &str) -> S3Error {
    s3_error!(InvalidPolicyDocument, "Invalid Policy: {what}")
}

fn against(what: &str) -> S3Error {
    s3_error!(AccessDenied, "Invalid according to Policy: {what}")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-02 00:00 UTC);

    fn parse(policy: &str) -> S3Result<Policy> {
        Policy::parse(&BASE64.encode(policy))
    }

    fn of(conditions: &str) -> Policy {
        let policy =
            format!(r#"{{"expiration": "2026-01-02T00:00:01Z", "conditions": [{{"bucket": "b"}}, {conditions}]}}"#);
        parse(&policy).unwrap()
    }

    fn checked<const N: usize>(conditions: &str, fields: [(&str, &str); N]) -> Result<RangeInclusive<u64>, String> {
        let checked = of(conditions).check(&fields.into(), "b", NOW);
        checked.map_err(|error| error.message().unwrap().replace("Invalid according to Policy: ", ""))
    }

    #[test]
    fn every_kind_of_condition_holds_or_is_told() {
        for (condition, good, bad) in [
            (r#"{"KEY": "a"}"#, "a", "A"),
            (r#"["eq", "$key", "a"]"#, "a", "ab"),
            (r#"["EQ", "$kEy", "a"]"#, "a", ""),
            (r#"["starts-with", "$key", "a/"]"#, "a/b", "b"),
            (r#"["StArTs-WiTh", "$key", "\\$a"]"#, "\\$ab", "$ab"),
        ] {
            assert_eq!(checked(condition, [("key", good)]), Ok(0..=MAX_SIZE), "{condition}");
            let failed = checked(condition, [("key", bad)]).unwrap_err();
            assert!(
                failed.starts_with("Policy Condition failed: [\""),
                "{condition}: {failed}"
            );
        }
        assert_eq!(
            checked(r#"{"key": "a"}"#, [("key", "b")]).unwrap_err(),
            r#"Policy Condition failed: ["eq", "$key", "a"]"#
        );
        assert!(checked(r#"["starts-with", "$key", ""]"#, [("key", "anything")]).is_ok());
        assert!(
            checked(r#"["starts-with", "$key", ""]"#, []).is_err(),
            "a field that is not there begins with nothing"
        );
    }

    #[test]
    fn of_a_list_of_content_types_each_has_to_fit() {
        let images = r#"["starts-with", "$Content-Type", "image/"]"#;
        assert!(checked(images, [("Content-Type", "image/jpg,image/png, image/gif")]).is_ok());
        assert!(checked(images, [("Content-Type", "image/jpg,text/plain")]).is_err());
    }

    #[test]
    fn fields_that_no_condition_names_are_refused_but_for_those_that_need_none() {
        let key = r#"{"key": "a"}"#;
        let free = [
            ("key", "a"),
            ("policy", ""),
            ("signature", ""),
            ("x-amz-signature", ""),
            ("AWSAccessKeyId", ""),
            ("x-ignore-me", ""),
            ("x-amz-checksum-sha256", ""),
        ];
        assert!(checked(key, free).is_ok());
        for name in [
            "acl",
            "Content-Type",
            "x-amz-meta-a",
            "x-amz-date",
            "submit",
            "success_action_status",
        ] {
            let refused = checked(key, [("key", "a"), (name, "")]).unwrap_err();
            assert_eq!(refused, format!("Extra input fields: {}", name.to_ascii_lowercase()));
        }
        let no_bucket = parse(r#"{"expiration": "2026-01-02T00:00:01Z", "conditions": [{"key": "a"}]}"#).unwrap();
        assert!(no_bucket.check(&[("key", "a")].into(), "b", NOW).is_err());
    }

    #[test]
    fn the_bucket_is_the_one_posted_to() {
        let policy = of(r#"{"key": "a"}"#);
        let fields = [("key", "a"), ("bucket", "b")].into();
        assert!(policy.check(&fields, "b", NOW).is_ok());
        assert!(policy.check(&fields, "other", NOW).is_err());
    }

    #[test]
    fn several_ranges_hold_together() {
        let ranges = r#"["content-length-range", 5, 20], ["content-length-range", "0", "10"]"#;
        assert_eq!(checked(ranges, []), Ok(5..=10));
    }

    #[test]
    fn a_policy_ends_with_its_expiration() {
        let policy = of(r#"{"key": "a"}"#);
        let fields = [("key", "a")].into();
        assert!(policy.check(&fields, "b", datetime!(2026-01-02 00:00:00.9 UTC)).is_ok());
        let late = policy
            .check(&fields, "b", datetime!(2026-01-02 00:00:01 UTC))
            .unwrap_err();
        assert_eq!(late.message(), Some("Invalid according to Policy: Policy expired."));
    }

    #[test]
    fn what_is_not_a_policy_is_told() {
        let expiration = r#""expiration": "2026-01-02T00:00:01.000Z""#;
        for policy in [
            "",
            "[]",
            "{",
            r#"{"conditions": []}"#,
            &format!("{{{expiration}}}"),
            &format!(r#"{{{expiration}, "CONDITIONS": []}}"#),
            &format!(r#"{{{expiration}, "conditions": {{}}}}"#),
            r#"{"EXPIRATION": "2026-01-02T00:00:01Z", "conditions": []}"#,
            r#"{"expiration": "2026-01-02 00:00:01+00:00", "conditions": []}"#,
            r#"{"expiration": "2026-01-02 00:00:01Z", "conditions": []}"#,
            r#"{"expiration": 1767312001, "conditions": []}"#,
        ] {
            assert_eq!(
                parse(policy).unwrap_err().code().as_str(),
                "InvalidPolicyDocument",
                "{policy}"
            );
        }
        for condition in [
            "{}",
            "[]",
            "7",
            r#"{"key": 1}"#,
            r#"{"key": "a", "acl": "private"}"#,
            r#"["eq", "key", "a"]"#,
            r#"["eq", "$key"]"#,
            r#"["ends-with", "$key", "a"]"#,
            r#"["content-length-range", 0]"#,
            r#"["content-length-range", -1, 0]"#,
            r#"["content-length-range", 0, 512.5]"#,
        ] {
            let policy = format!(r#"{{{expiration}, "conditions": [{condition}]}}"#);
            assert_eq!(
                parse(&policy).unwrap_err().code().as_str(),
                "InvalidPolicyDocument",
                "{condition}"
            );
        }
        assert_eq!(
            Policy::parse("no base64").unwrap_err().code().as_str(),
            "InvalidPolicyDocument"
        );
    }
}
