//! The settings file: read so that everything that is wrong with it is told at once, each with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::{Spanned, Table, Value};

use super::{ConfigError, Settings};

/// Where each key of the file stands, so that what is wrong with its meaning is told with the line too.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    file: String,
    /// By key; of a table that is there several times, by `key 0`, `key 1` and so on.
    of: BTreeMap<String, usize>,
    /// What is wrong with keys that cannot even be read.
    pub(super) wrong: Vec<String>,
    /// These keys: what depends on them cannot be judged.
    pub(super) unusable: BTreeSet<String>,
}

impl Lines {
    /// Another source has the say about this key.
    pub fn forget(&mut self, key: &str) {
        self.of.remove(key);
    }

    /// `text`, and after it where its key stands in the file, if it does.
    pub fn locate(&self, key: &str, text: String) -> String {
        match self.of.get(key) {
            Some(line) => format!("{text} ({}, line {line})", self.file),
            None => text,
        }
    }
}

impl Settings {
    /// Reads `broker.toml`.
    ///
    /// # Errors
    /// The file is not there or not readable, or no TOML. Keys that are unknown or of the wrong kind are left out, and what is
    /// wrong with them is told with what else is wrong, by [`Settings::resolve`].
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError::one(format!("the settings file {name} cannot be read: {error}")))?;
        let syntax = |error: toml::de::Error| {
            // The parser's message shows the line; a line with a secret in it must not be shown.
            let line = line_of(&text, error.span().map_or(0, |span| span.start));
            ConfigError::one(format!("the settings file {name}, line {line}: {}", error.message()))
        };
        let table: Table = toml::from_str(&text).map_err(syntax)?;
        let places: BTreeMap<Spanned<String>, Spanned<IgnoredAny>> = toml::from_str(&text).map_err(syntax)?;
        let mut lines = Lines {
            file: name.clone(),
            ..Lines::default()
        };
        for key in places.keys() {
            lines.of.insert(key.get_ref().clone(), line_of(&text, key.span().start));
        }
        for list in ["destination", "grant", "jwt"] {
            let entries: Entries = toml::from_str(&text).map_err(syntax)?;
            let of = match list {
                "destination" => entries.destination,
                "grant" => entries.grant,
                _ => entries.jwt,
            };
            for (index, entry) in of.iter().enumerate() {
                lines
                    .of
                    .insert(format!("{list} {index}"), line_of(&text, entry.span().start));
            }
        }
        let (mut wrong, mut good) = (Vec::new(), Table::new());
        for (key, place, one) in single(&table) {
            if let Err(error) = Self::deserialize(one.clone()) {
                let line = lines.of.get(&place).copied().unwrap_or(1);
                let mut why = error.message().trim_end().to_owned();
                // The message may quote the value.
                if why.starts_with("invalid") && SECRETS.iter().any(|secret| place.contains(secret)) {
                    "the value of a secret has to be a text in quotes".clone_into(&mut why);
                }
                wrong.push(format!("the settings file {name}, line {line}: {place}: {why}"));
                lines.unusable.insert(key);
                continue;
            }
            // What is left out counts no longer.
            if let (Some(Value::Array(before)), Some(line)) = (good.get(&key), lines.of.get(&place).copied()) {
                lines.of.insert(format!("{key} {}", before.len()), line);
            } else if let (Some((list, _)), Some(line)) = (place.split_once(' '), lines.of.get(&place).copied()) {
                lines.of.insert(format!("{list} 0"), line);
            }
            for (key, value) in one {
                match (good.get_mut(&key), value) {
                    (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
                    (_, value) => _ = good.insert(key, value),
                }
            }
        }
        let mut settings = Self::deserialize(good).map_err(syntax)?;
        lines.wrong = wrong;
        settings.lines = lines;
        Ok(settings)
    }
}

/// In the names of all keys whose values are not to be shown.
const SECRETS: [&str; 4] = ["secret", "tokens", "webhook_url", "jwt"];

/// The tables that may be there several times.
#[derive(Default, Deserialize)]
struct Entries {
    #[serde(default)]
    destination: Vec<Spanned<IgnoredAny>>,
    #[serde(default)]
    grant: Vec<Spanned<IgnoredAny>>,
    #[serde(default)]
    jwt: Vec<Spanned<IgnoredAny>>,
}

/// Every setting by itself, each entry of a list by itself, and where it stands.
fn single(table: &Table) -> Vec<(String, String, Table)> {
    let mut all = Vec::new();
    for (key, value) in table {
        match value {
            Value::Array(entries) if entries.iter().all(Value::is_table) && !entries.is_empty() => {
                for (index, entry) in entries.iter().enumerate() {
                    let one = Table::from_iter([(key.clone(), Value::Array(vec![entry.clone()]))]);
                    all.push((key.clone(), format!("{key} {index}"), one));
                }
            }
            _ => {
                let one = Table::from_iter([(key.clone(), value.clone())]);
                all.push((key.clone(), key.clone(), one));
            }
        }
    }
    all
}

/// The number, from 1, of the line that a byte is in.
fn line_of(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or_default().matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let settings = Settings::read(file.path()).map_err(|error| error.to_string())?;
        let wrong = settings.clone().resolve().err().map(|error| error.to_string());
        wrong.map_or(Ok(settings), Err)
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_its_line_and_no_secret() {
        let error = read(
            "bucket = \"b\"\nmax_size = \"much\"\nbuckett = \"b\"\nsecret_access_key = 12345678\n\n\
             [[destination]]\nname = \"a\"\n\n[[destination]]\nname = \"b\"\noverwrite = \"perhaps\"\n\n[[grant]]\nto = 1\n\n\
             [[destination]]\nname = \"c\"\nmax_parts = 20000\n",
        )
        .unwrap_err();
        for expected in [
            "line 2", "line 3", "buckett", "line 4", "line 9", "perhaps", "line 13", "line 16", "10000",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(!error.contains("line 6") && !error.contains("12345678"), "{error}");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line_and_without_the_line_itself() {
        let error = read("bucket = \"b\"\nsecret_access_key = hunter2\n").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_key_is_found_where_it_stands_unless_another_source_has_the_say() {
        let mut settings =
            read("bucket = \"b\"\n\nmax_size = 7\n[[grant]]\nto = [\"*\"]\nmay = [\"upload\"]\n").unwrap();
        assert!(settings.lines.locate("max_size", "x".into()).ends_with("line 3)"));
        assert!(settings.lines.locate("grant 0", "x".into()).ends_with("line 4)"));
        settings.lines.forget("max_size");
        assert_eq!(settings.lines.locate("max_size", "x".into()), "x");
    }
}
