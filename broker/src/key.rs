//! Names that clients choose, and the object keys that a destination's template makes of them.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use shared::{ObjectKey, ids::ObjectKeyError};
use time::OffsetDateTime;
use time::macros::format_description;
use unicode_normalization::UnicodeNormalization;

use crate::principal::Principal;

/// A file's name as the client gave it, checked and in Unicode's normal form C. May hold `/` between its segments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UploadName(String);

/// Why a name is refused. `Display` finishes the sentence "the name …".
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// No text.
    #[error("is empty")]
    Empty,
    /// Longer than any key.
    #[error("has {0} bytes; at most 1024 are allowed")]
    TooLong(usize),
    /// A segment that file systems would not take back.
    #[error("has a segment of {0} bytes between slashes; at most 255 are allowed")]
    SegmentTooLong(usize),
    /// NUL, line breaks, escapes, bidirectional overrides: what hides in listings and logs.
    #[error("holds U+{0:04X}, a control, invisible or text-direction character")]
    Control(u32),
    /// The other systems' separator.
    #[error("holds a backslash; separate folders by /")]
    Backslash,
    /// Nothing that anybody can see; some SDKs refuse such keys.
    #[error("is only white space")]
    Blank,
    /// Would be absolute, or have no name between two slashes, or name a folder.
    #[error("begins or ends with /, or has // in it")]
    EmptySegment,
    /// HTTP clients resolve these before they send, so that the URL would name another object.
    #[error("has . or .. as a segment")]
    DotSegment,
}

impl UploadName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UploadName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 4 * ObjectKey::MAX_LEN {
            return Err(NameError::TooLong(text.len()));
        }
        let name: String = text.nfc().collect();
        if name.len() > ObjectKey::MAX_LEN {
            return Err(NameError::TooLong(name.len()));
        }
        for character in name.chars() {
            match character {
                '\\' => return Err(NameError::Backslash),
                '\u{ad}'
                | '\u{34f}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'
                | '\u{2029}'
                | '\u{feff}'
                | '\u{061c}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{ffa0}'
                | '\u{2800}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}' => {
                    return Err(NameError::Control(character.into()));
                }
                control if control.is_control() || is_noncharacter(control) => {
                    return Err(NameError::Control(control.into()));
                }
                _ => {}
            }
        }
        if name.trim().is_empty() {
            return Err(NameError::Blank);
        }
        for segment in name.split('/') {
            match segment {
                "" => return Err(NameError::EmptySegment),
                "." | ".." => return Err(NameError::DotSegment),
                _ if hides_dots(segment) => return Err(NameError::DotSegment),
                _ if segment.len() > 255 => return Err(NameError::SegmentTooLong(segment.len())),
                _ => {}
            }
        }
        Ok(Self(name))
    }
}

/// Whether a segment becomes one that is resolved where something on the way decodes once or twice too often.
fn hides_dots(segment: &str) -> bool {
    let mut text = segment.to_owned();
    for _ in 0..2 {
        if !text.contains('%') {
            return false;
        }
        text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if text.split(['/', '\\']).any(|part| matches!(part, "." | "..")) {
            return true;
        }
    }
    false
}

/// Code points that Unicode sets aside for no text at all (Unicode Standard section 23.7).
fn is_noncharacter(character: char) -> bool {
    let code = u32::from(character);
    code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code)
}

/// How a destination makes keys: text with `{name}`, `{principal}`, `{date}` (UTC, `YYYY-MM-DD`) and `{uuid}` in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyTemplate(String);

/// The text is no template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyTemplateError {
    /// Something in braces that is not known.
    #[error(
        "the key template {0:?} has an unknown or unclosed placeholder; known are {{name}}, {{principal}}, {{date}}, {{uuid}}"
    )]
    Unknown(String),
    /// Every upload would have one and the same key.
    #[error("the key template {0:?} has neither {{name}} nor {{uuid}}: every upload would overwrite the one before")]
    Constant(String),
    /// The text around the placeholders is not fit for a key.
    #[error("the key template {0:?} {1}")]
    Name(String, NameError),
}

const PLACEHOLDERS: [&str; 4] = ["{name}", "{principal}", "{date}", "{uuid}"];

impl FromStr for KeyTemplate {
    type Err = KeyTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let filled = PLACEHOLDERS
            .iter()
            .fold(text.to_owned(), |text, placeholder| text.replace(placeholder, "x"));
        if filled.contains(['{', '}']) {
            return Err(KeyTemplateError::Unknown(text.to_owned()));
        }
        if !text.contains("{name}") && !text.contains("{uuid}") {
            return Err(KeyTemplateError::Constant(text.to_owned()));
        }
        match filled.parse::<UploadName>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(cause) => Err(KeyTemplateError::Name(text.to_owned(), cause)),
        }
    }
}

impl Default for KeyTemplate {
    /// `{name}`, as in the original protocol.
    fn default() -> Self {
        Self("{name}".to_owned())
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeyTemplate {
    /// Whether no two principals' uploads can have the same key.
    pub fn keeps_apart(&self) -> bool {
        let (folders, _) = self.folders();
        self.is_unique() || folders.contains("{principal}")
    }

    /// The whole folders before what differs from upload to upload, and what comes after them.
    fn folders(&self) -> (&str, &str) {
        let unknown = ["{name}", "{date}", "{uuid}"];
        let end = unknown.iter().filter_map(|placeholder| self.0.find(placeholder)).min();
        let known = self.0.get(..end.unwrap_or_default()).unwrap_or_default();
        let folders = known.rsplit_once('/').map_or("", |(folders, _)| folders);
        (folders, self.0.get(folders.len()..).unwrap_or_default())
    }

    /// What the keys of a principal's uploads all begin with, up to a `/` or nothing at all. Nobody else's begin with it where
    /// principals are told apart by it; nothing where they are told apart only further on.
    pub fn prefix(&self, principal: &Principal) -> Option<String> {
        let (folders, rest) = self.folders();
        if rest.contains("{principal}") && !folders.contains("{principal}") {
            return None;
        }
        let folder = if folders.is_empty() { "" } else { "/" };
        Some(format!(
            "{}{folder}",
            folders.replace("{principal}", principal.grantee())
        ))
    }

    /// What all keys begin with, up to a `/` or nothing at all.
    pub fn fixed_prefix(&self) -> String {
        let end = PLACEHOLDERS
            .iter()
            .filter_map(|placeholder| self.0.find(placeholder))
            .min();
        let known = self.0.get(..end.unwrap_or_default()).unwrap_or_default();
        known
            .rsplit_once('/')
            .map(|(folders, _)| format!("{folders}/"))
            .unwrap_or_default()
    }

    /// Whether no two uploads have the same key.
    pub fn is_unique(&self) -> bool {
        self.0.contains("{uuid}")
    }

    /// The key of one upload. `random` makes the `{uuid}`, version 4 of RFC 9562.
    ///
    /// # Errors
    /// The key has more than 1024 bytes.
    pub fn key(
        &self,
        name: &UploadName,
        principal: &Principal,
        now: OffsetDateTime,
        random: [u8; 16],
    ) -> Result<ObjectKey, ObjectKeyError> {
        // The name goes in last, so that braces in it stay what they are.
        self.0
            .replace("{principal}", principal.grantee())
            .replace(
                "{date}",
                &now.date()
                    .format(format_description!("[year]-[month]-[day]"))
                    .unwrap_or_default(),
            )
            .replace("{uuid}", &uuid_v4(random))
            .replace("{name}", name.as_str())
            .try_into()
    }
}

fn uuid_v4(random: [u8; 16]) -> String {
    let bits = (u128::from_be_bytes(random) & !(0xf000 << 64) & !(0xc000 << 48)) | (0x4000 << 64) | (0x8000 << 48);
    let hex = format!("{bits:032x}");
    let mut uuid = String::with_capacity(36);
    for (place, digit) in hex.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            uuid.push('-');
        }
        uuid.push(digit);
    }
    uuid
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_normalised_once() {
        let decomposed = "u\u{308}ni\u{308} co\u{308}de\u{301}d +&=%.bin";
        assert_eq!(decomposed.parse::<UploadName>().unwrap().as_str(), "ünï cödéd +&=%.bin");
    }

    #[test]
    fn names_that_hide_or_climb_are_refused() {
        for (bad, why) in [
            ("", NameError::Empty),
            ("/etc/passwd", NameError::EmptySegment),
            ("a//b", NameError::EmptySegment),
            ("folder/", NameError::EmptySegment),
            ("a/../b", NameError::DotSegment),
            ("./a", NameError::DotSegment),
            ("a\\b", NameError::Backslash),
            ("a\0b", NameError::Control(0)),
            ("a\nb", NameError::Control(10)),
            ("a\u{202e}b", NameError::Control(0x202e)),
            ("a\u{85}b", NameError::Control(0x85)),
            ("a\u{2028}b", NameError::Control(0x2028)),
            ("a\u{fffe}b", NameError::Control(0xfffe)),
            (" \u{3000}", NameError::Blank),
        ] {
            assert_eq!(bad.parse::<UploadName>(), Err(why), "{bad:?}");
        }
        assert_eq!(
            "x".repeat(256).parse::<UploadName>(),
            Err(NameError::SegmentTooLong(256))
        );
        assert_eq!("x/".repeat(600).parse::<UploadName>(), Err(NameError::TooLong(1200)));
    }

    #[test]
    fn a_template_fills_each_placeholder_once() {
        let template: KeyTemplate = "in/{principal}/{date}/{uuid}/{name}".parse().unwrap();
        let name: UploadName = "{uuid}.txt".parse().unwrap();
        let key = template
            .key(
                &name,
                &Principal::named("alice"),
                OffsetDateTime::UNIX_EPOCH,
                [0xff; 16],
            )
            .unwrap();
        assert_eq!(
            key.as_str(),
            "in/alice/1970-01-01/ffffffff-ffff-4fff-bfff-ffffffffffff/{uuid}.txt"
        );
    }

    #[test]
    fn a_principals_prefix_is_whole_folders_and_nobody_elses() {
        for (template, prefix) in [
            ("{name}", Some("")),
            ("in/{name}", Some("in/")),
            ("in/x-{name}", Some("in/")),
            ("{principal}/{date}/{name}", Some("a/")),
            ("in/{principal}/{uuid}", Some("in/a/")),
            ("in/{principal}-{name}", None),
            ("{date}/{principal}/{name}", None),
            ("{principal}/{date}/{principal}/{name}", Some("a/")),
        ] {
            let template: KeyTemplate = template.parse().unwrap();
            assert_eq!(template.prefix(&Principal::named("a")).as_deref(), prefix, "{template}");
        }
    }

    #[test]
    fn t05_what_climbs_after_one_decoding_too_many_is_refused_and_other_percents_are_not() {
        for bad in [
            "%2e%2e/a",
            "a/%2E./b",
            "..%2fa",
            "x/%252e%252e",
            "%2e",
            "a%2f..%2fb",
            "..%5ca",
        ] {
            assert_eq!(bad.parse::<UploadName>(), Err(NameError::DotSegment), "{bad}");
        }
        for good in ["100%", "100%.pdf", "a%2fb", "%2e%2e%2e", "50%25", "..a%20"] {
            assert!(good.parse::<UploadName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn a_template_that_cannot_work_is_refused_at_start() {
        for bad in ["", "{nam}", "fixed", "/{name}", "{name", "../{name}", "a//{name}"] {
            assert!(
                bad.parse::<KeyTemplate>().is_err(),
                "{bad:?} was taken as a key template"
            );
        }
    }

    proptest! {
        #[test]
        fn t05_whatever_the_client_says_the_key_stays_under_its_prefix_after_decoding_too(
            text in prop_oneof![any::<String>(), "(%2[eEfF]|%25|[./%]|2e|a|\\\\){0,12}"],
        ) {
            let Ok(name) = text.parse::<UploadName>() else { return Ok(()) };
            let template: KeyTemplate = "in/{principal}/{name}".parse().unwrap();
            let Ok(key) = template.key(&name, &Principal::named("p"), OffsetDateTime::UNIX_EPOCH, [0; 16]) else { return Ok(()) };
            prop_assert!(key.as_str().starts_with("in/p/"));
            prop_assert!(!key.as_str().split('/').any(|segment| matches!(segment, "" | "." | "..")));
            let mut decoded = key.as_str().to_owned();
            for _ in 0..2 {
                decoded = percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
                prop_assert!(!decoded.split('/').any(|segment| matches!(segment, "." | "..")), "{}", decoded);
            }
        }
    }
}
