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
    /// By key; of a table that is there several times, by `key 0`, `key 1` and so on; of what stands in a table, by the
    /// table's and its own, as `key 0: own`.
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

    /// Notes where the keys of a table stand.
    fn inside(&mut self, place: &str, table: &Keys, text: &str) {
        for key in table.keys() {
            let line = line_of(text, key.span().start);
            self.of.insert(format!("{place}: {}", key.get_ref()), line);
        }
    }

    /// All that is wrong with a setting that cannot be read; of a table, with each key in it.
    fn what_is_wrong_with(&self, key: &str, place: &str, one: &Table) -> Vec<(usize, String)> {
        let (inside, again): (_, fn(Table) -> Value) = match one.get(key) {
            Some(Value::Table(inside)) => (inside, Value::Table),
            Some(Value::Array(entries)) if entries.len() == 1 => match entries.first() {
                Some(Value::Table(inside)) => (inside, |table| Value::Array(vec![Value::Table(table)])),
                _ => return Vec::from_iter(self.tell(place, one)),
            },
            _ => return Vec::from_iter(self.tell(place, one)),
        };
        let (mut wrong, mut readable) = (Vec::new(), Table::new());
        for (name, value) in inside {
            let alone = Table::from_iter([(name.clone(), value.clone())]);
            let alone = Table::from_iter([(key.to_owned(), again(alone))]);
            // By itself a key lacks the others.
            match self.tell(&format!("{place}: {name}"), &alone) {
                Some((line, text)) if !text.contains(": missing field") => wrong.push((line, text)),
                _ => _ = readable.insert(name.clone(), value.clone()),
            }
        }
        // Nor is anything missing that is there, and wrong.
        let is_there = |text: &str| text.split('`').nth(1).is_some_and(|name| inside.contains_key(name));
        let missing = self.tell(place, &Table::from_iter([(key.to_owned(), again(readable))]));
        wrong.extend(missing.filter(|(_, text)| !is_there(text)));
        wrong
    }

    /// What cannot be read of this, and the line in which it stands.
    fn tell(&self, place: &str, one: &Table) -> Option<(usize, String)> {
        let error = Settings::deserialize(one.clone()).err()?;
        let line = self.of.get(place).copied().unwrap_or(1);
        let mut why = error.message().trim_end().to_owned();
        // The message may quote the value.
        if why.starts_with("invalid") && SECRETS.iter().any(|secret| place.contains(secret)) {
            "the value of a secret has to be a text in quotes".clone_into(&mut why);
        } else if why.starts_with("unknown field") {
            why = unknown(&why);
        } else if why == "invalid socket address syntax" {
            "expected an address and a port, such as 127.0.0.1:5000 or [::]:5000".clone_into(&mut why);
        } else if let Some((given, expected)) = why.rsplit_once(", expected ") {
            let expected = match expected {
                "u16" | "u32" | "u64" | "usize" => "a whole number",
                "a sequence" => "a list",
                other => other,
            };
            why = format!("{given}, expected {expected}");
        }
        Some((
            line,
            format!("the settings file {}, line {line}: {}: {why}", self.file, shown(place)),
        ))
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
        let tables: Tables = toml::from_str(&text).map_err(|error| {
            // The parser's message quotes the value.
            let line = line_of(&text, error.span().map_or(0, |span| span.start));
            ConfigError::one(format!(
                "the settings file {name}, line {line}: expected a table: [[destination]], [[grant]], [[jwt]] or [forward_auth]"
            ))
        })?;
        for (list, entries) in [
            ("destination", tables.destination),
            ("grant", tables.grant),
            ("jwt", tables.jwt),
        ] {
            for (index, entry) in entries.iter().enumerate() {
                let place = format!("{list} {index}");
                lines.of.insert(place.clone(), line_of(&text, entry.span().start));
                lines.inside(&place, entry.get_ref(), &text);
            }
        }
        lines.inside("forward_auth", &tables.forward_auth, &text);
        let (mut wrong, mut good) = (Vec::new(), Table::new());
        for (key, place, one) in single(&table) {
            if Self::deserialize(one.clone()).is_err() {
                wrong.extend(lines.what_is_wrong_with(&key, &place, &one));
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
        wrong.sort();
        lines.wrong = wrong.into_iter().map(|(_, text)| text).collect();
        settings.lines = lines;
        Ok(settings)
    }
}

/// Settings that are lists.
const COMMAS: [&str; 4] = ["acls", "content_types", "tokens", "trusted_proxies"];

/// What is said of a key that there is not, by serde's words for it: the key and then those that there are, each in backticks.
fn unknown(words: &str) -> String {
    let mut names = words.split('`').skip(1).step_by(2);
    let given = names.next().unwrap_or_default();
    let alike = |name: &str| strsim::jaro_winkler(given, name);
    let nearest = names.clone().max_by(|one, other| alike(one).total_cmp(&alike(other)));
    match nearest.filter(|name| alike(name) > 0.8) {
        Some(name) => format!("there is no such key; is {name} meant?"),
        None if names.clone().count() > 20 => "there is no such key; broker --help has all, with - for _".to_owned(),
        None => format!(
            "there is no such key; there are {}",
            names.collect::<Vec<_>>().join(", ")
        ),
    }
}

/// In the names of all keys whose values are not to be shown.
const SECRETS: [&str; 4] = ["secret", "tokens", "webhook_url", "jwt"];

/// Where the keys of a table stand.
type Keys = BTreeMap<Spanned<String>, Spanned<IgnoredAny>>;

/// The tables.
#[derive(Default, Deserialize)]
struct Tables {
    #[serde(default)]
    destination: Vec<Spanned<Keys>>,
    #[serde(default)]
    grant: Vec<Spanned<Keys>>,
    #[serde(default)]
    jwt: Vec<Spanned<Keys>>,
    #[serde(default)]
    forward_auth: Keys,
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
                let one = Table::from_iter([(key.clone(), joined(key, value))]);
                all.push((key.clone(), key.clone(), one));
            }
        }
    }
    all
}

/// A place as people count: `[[grant]] 1: may` for `grant 0: may`.
fn shown(place: &str) -> String {
    let (table, key) = place
        .split_once(": ")
        .map_or((place, None), |(table, key)| (table, Some(key)));
    let table = match table
        .split_once(' ')
        .map(|(list, index)| (list, index.parse::<usize>()))
    {
        Some((list, Ok(index))) => format!("[[{list}]] {}", index + 1),
        _ => table.to_owned(),
    };
    key.map_or(table.clone(), |key| format!("{table}: {key}"))
}

/// A list, where flags have commas between its entries, as they have it.
fn joined(key: &str, value: &Value) -> Value {
    let texts = match value {
        Value::Array(entries) if COMMAS.contains(&key) => entries.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    texts.map_or_else(|| value.clone(), |texts| Value::String(texts.join(",")))
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
             [[destination]]\nname = \"a\"\n\n[[destination]]\nnam = \"b\"\noverwrite = \"perhaps\"\nmax_size = true\n\n[[grant]]\nto = 1\n\n\
             [[destination]]\nname = \"c\"\nmax_parts = 20000\n",
        )
        .unwrap_err();
        for expected in [
            "line 2: max_size: invalid type: string \"much\", expected a whole number",
            "line 3: buckett: there is no such key; is bucket meant?",
            "line 4: secret_access_key: ",
            "line 11: [[destination]] 2: overwrite: unknown variant `perhaps`",
            "line 12: [[destination]] 2: max_size: ",
            "line 9: [[destination]] 2: missing field `name`",
            "line 15: [[grant]] 1: to: ",
            "line 17)",
            "10000",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
        assert!(!error.contains("line 6") && !error.contains("12345678"), "{error}");
        assert!(!error.contains("missing field `to`"), "it is there, and wrong: {error}");
    }

    #[test]
    fn what_flags_have_with_commas_may_be_a_list() {
        let settings = read("trusted_proxies = [\"10.0.0.1\", \"10.1.0.0/16\"]\nacls = [\"private\"]\n").unwrap();
        assert_eq!(settings.trusted_proxies.as_deref(), Some("10.0.0.1,10.1.0.0/16"));
        let error = read("trusted_proxies = [\"10.0.0.1\", 7]\n").unwrap_err();
        assert!(error.contains("line 1"), "{error}");
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
