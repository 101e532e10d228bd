//! A settings file: its tables become values as the flags take them, or an error names the line.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use uploader::{Link, UploadError, check_broker};

use crate::find::STDIN;
use crate::settings::{Values, command, key_of, keys, without_variables};
use crate::timetable::RateLimit;
use crate::xdg;

/// The table of profiles.
const PROFILES: &str = "profiles";
/// Two ways to say one thing: where a profile has one of them, the other above it does not count.
const TOKEN: [&str; 2] = ["token", "token-file"];

/// A settings file as it was read.
pub(crate) struct File<'a> {
    /// From the root.
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

impl File<'_> {
    /// An error that names the line. No value is ever shown: it may be secret.
    fn wrong(&self, at: usize, what: impl Display) -> UploadError {
        let line = self.text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        UploadError::Settings(format!(
            "the settings file {}, line {line}: {what}",
            self.path.display()
        ))
    }

    fn table(&self) -> Result<DeTable<'_>, UploadError> {
        DeTable::parse(self.text)
            .map(Spanned::into_inner)
            .map_err(|error| self.wrong(error.span().map_or(0, |span| span.start), error.message()))
    }

    /// The profiles by their names, each checked to be a table.
    fn profiles<'t>(&self, top: &'t DeTable<'_>) -> Result<BTreeMap<&'t str, &'t DeTable<'t>>, UploadError> {
        let Some(profiles) = top.get(PROFILES) else {
            return Ok(BTreeMap::new());
        };
        let not_a_table = |at| self.wrong(at, "profiles are tables, as in [profiles.nightly]");
        let all = profiles
            .get_ref()
            .as_table()
            .ok_or_else(|| not_a_table(profiles.span().start))?;
        let table = |(name, profile): (&'t Spanned<_>, &'t Spanned<DeValue<'t>>)| {
            let name: &'t std::borrow::Cow<'t, str> = name.get_ref();
            let table = profile
                .get_ref()
                .as_table()
                .ok_or_else(|| not_a_table(profile.span().start))?;
            Ok((name.as_ref(), table))
        };
        all.iter().map(table).collect()
    }

    /// Whether there is a token anywhere in it.
    pub(crate) fn has_token(&self) -> Result<bool, UploadError> {
        let top = self.table()?;
        let profiles = self.profiles(&top)?;
        let mut tables = std::iter::once(&top).chain(profiles.into_values());
        Ok(tables.any(|table| table.contains_key("token")))
    }

    /// The values of the file with those of the profile above them. Every profile is checked, so that a slip shows when it is
    /// made and not in the night.
    pub(crate) fn values(&self, profile: Option<&str>) -> Result<Values, UploadError> {
        let top = self.table()?;
        let command = without_variables(command());
        let mut values = self.checked(&top, &command, true)?;
        let profiles = self.profiles(&top)?;
        let mut chosen = None;
        for (name, table) in &profiles {
            let own = self.checked(table, &command, false)?;
            if profile == Some(name) {
                chosen = Some(own);
            }
        }
        match (profile, chosen) {
            (Some(name), None) => {
                let there = if profiles.is_empty() {
                    "has no profiles".to_owned()
                } else {
                    format!("has these: {}", profiles.keys().copied().collect::<Vec<_>>().join(", "))
                };
                let path = self.path.display();
                let what = format!("there is no profile {name:?}: the settings file {path} {there}");
                return Err(UploadError::Settings(what));
            }
            (_, chosen) => {
                let own = chosen.unwrap_or_default();
                if TOKEN.iter().any(|key| own.contains_key(*key)) {
                    values.retain(|key, _| !TOKEN.contains(&key.as_str()));
                }
                values.extend(own);
            }
        }
        Ok(values)
    }

    /// The values of one table, each as its flag takes it. The one at the top has the profiles too.
    fn checked(&self, table: &DeTable<'_>, command: &Command, at_top: bool) -> Result<Values, UploadError> {
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let (name, at): (&str, _) = (key.get_ref(), key.span().start);
            if at_top && name == PROFILES {
                continue;
            }
            let Some(argument) = keys(command).find(|argument| key_of(argument) == name) else {
                let all: Vec<_> = keys(command).map(key_of).collect();
                let what = format!("there is no setting {name:?}; there are {}", all.join(", "));
                return Err(self.wrong(at, what));
            };
            let kind = Kind::of(argument);
            let mut names = value.get_ref().as_table().into_iter().flat_map(DeTable::keys);
            if let Some(split) = names.find(|name| name.get_ref().contains('=')) {
                // The flag would take the rest of it for a part of the value.
                return Err(self.wrong(split.span().start, format!("{name} has a name with `=` in it")));
            }
            let Some(texts) = kind.texts(value.get_ref()) else {
                let found = value.get_ref().type_str();
                return Err(self.wrong(
                    at,
                    format!("{name} is to be {}, and is of the type {found}", kind.words()),
                ));
            };
            let texts: Vec<OsString> = match argument.get_value_parser().type_id() {
                id if id == TypeId::of::<PathBuf>() || id == TypeId::of::<OsString>() => {
                    texts.iter().map(|text| self.located(text)).collect()
                }
                _ => texts.into_iter().map(OsString::from).collect(),
            };
            if let Some(why) = refusal(command, argument, &texts) {
                return Err(self.wrong(at, format!("{name} cannot be used: {why}")));
            }
            values.insert(name.to_owned(), texts);
        }
        match TOKEN.map(|name| table.get_key_value(name)) {
            [Some(_), Some((key, _))] => {
                Err(self.wrong(key.span().start, "there is both token and token-file: leave one out"))
            }
            _ => Ok(values),
        }
    }

    /// A path is meant from the file's directory, and `~` is the home directory. Links and standard input stay as they are.
    fn located(&self, text: &str) -> OsString {
        if text.is_empty() || text == STDIN || Link::is_meant(text) {
            return text.into();
        }
        let below_home = text
            .strip_prefix('~')
            .filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let home = below_home.and_then(|rest| Some(xdg::home()?.join(rest.trim_start_matches('/'))));
        let beside = || self.path.parent().unwrap_or(Path::new("/")).join(text);
        home.unwrap_or_else(beside).into()
    }
}

/// Why the flag would not take these values, in words that do not repeat them.
fn refusal(command: &Command, argument: &Arg, values: &[OsString]) -> Option<String> {
    if argument.get_long() == Some("broker") {
        // The flag's parser takes any text, since its errors would show what is secret in it.
        return values
            .iter()
            .find_map(|url| Some(check_broker(url.to_str()?).err()?.to_string()));
    }
    let mut line: Vec<OsString> = vec!["uploader".into(), "put".into()];
    for value in values {
        match argument.get_long() {
            Some(flag) => {
                let mut text = OsString::from(format!("--{flag}="));
                text.push(value);
                line.push(text);
            }
            None => line.extend(["--".into(), value.clone()]),
        }
    }
    let error = command.clone().try_get_matches_from(line).err()?;
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let why = error.source().map(ToString::to_string);
            Some(why.unwrap_or_else(|| "the flag of that name does not take it either".into()))
        }
        _ => None,
    }
}

/// How a setting is written in the file.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Switch,
    List,
    Table,
}

impl Kind {
    fn of(argument: &Arg) -> Self {
        let type_id = argument.get_value_parser().type_id();
        let is = |types: &[TypeId]| types.iter().any(|id| type_id == *id);
        let numbers = [
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<RateLimit>(),
        ];
        match argument.get_action() {
            _ if is(&[TypeId::of::<(String, String)>()]) => Self::Table,
            _ if is(&[TypeId::of::<bool>()]) => Self::Switch,
            ArgAction::Append => Self::List,
            _ if is(&numbers) => Self::Number,
            _ => Self::Text,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => "text in quotes",
            Self::Number => "a number, or in quotes what the flag of that name takes",
            Self::Switch => "true or false",
            Self::List => "a list, as in [\"one\", \"two\"]",
            Self::Table => "a table, as in { one = \"1\", two = \"2\" }",
        }
    }

    /// The value as its flag takes it, once for each time that it is given; nothing where it is of another type.
    fn texts(self, value: &DeValue<'_>) -> Option<Vec<String>> {
        let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        match self {
            Self::Text => Some(vec![text(value)?]),
            Self::Number => match value {
                DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                    .ok()
                    .map(|number| vec![number.to_string()]),
                other => Some(vec![text(other)?]),
            },
            Self::Switch => Some(vec![value.as_bool()?.to_string()]),
            Self::List => value.as_array()?.iter().map(|item| text(item.get_ref())).collect(),
            Self::Table => {
                let pairs = value.as_table()?.iter();
                pairs
                    .map(|(key, value)| Some(format!("{}={}", key.get_ref(), text(value.get_ref())?)))
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, profile: Option<&str>) -> Result<Values, String> {
        let path = Path::new("/etc/uploader.toml");
        File { path, text }.values(profile).map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_of_put_and_of_all_commands_is_a_key_or_about_one_run() {
        let command = command();
        let there: Vec<_> = keys(&command).map(key_of).collect();
        for key in [
            "broker",
            "token",
            "token-file",
            "tries",
            "sources",
            "exclude",
            "limit-rate",
            "log-dir",
            "gitignore",
        ] {
            assert!(there.contains(&key), "{key} among {there:?}");
        }
        for key in [
            "config", "profile", "json", "quiet", "dry-run", "help", "version", "command",
        ] {
            assert!(!there.contains(&key), "{key} among {there:?}");
        }
    }

    #[test]
    fn a_profile_wins_over_the_rest_and_its_values_are_as_flags_take_them() {
        let text = "tries = 2\ntoken = \"a\"\nbroker = \"http://h\"\n[profiles.x]\ntries = 0x3\ntoken-file = \"t\"\n\
            part-size = \"16MiB\"\nmeta = { a = \"1\", b = \"=2\" }\ngitignore = true\nexclude = [\"*.a\", \"b/\"]\n\
            sources = [\"d/\", \"/abs\", \"-\", \"https://h/x?y\"]\n[profiles.y]\n";
        let x = values(text, Some("x")).unwrap();
        let expected: &[(&str, &[&str])] = &[
            ("broker", &["http://h"]),
            ("exclude", &["*.a", "b/"]),
            ("gitignore", &["true"]),
            ("meta", &["a=1", "b==2"]),
            ("part-size", &["16MiB"]),
            ("sources", &["/etc/d/", "/abs", "-", "https://h/x?y"]),
            ("token-file", &["/etc/t"]),
            ("tries", &["3"]),
        ];
        let told: Vec<_> = x.iter().map(|(key, values)| (key.as_str(), values.clone())).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(key, values)| (*key, values.iter().map(OsString::from).collect::<Vec<_>>()))
            .collect();
        assert_eq!(told, expected);
        let y = values(text, Some("y")).unwrap();
        assert_eq!(y.keys().collect::<Vec<_>>(), ["broker", "token", "tries"]);
    }

    #[test]
    fn a_tilde_is_the_home_directory_and_what_only_begins_with_one_is_not() {
        let home = xdg::home().unwrap();
        let sources = values("sources = [\"~\", \"~/\", \"~/a\", \"~//a\", \"~a\", \"a/~\"]", None).unwrap();
        let beside = |name| Path::new("/etc").join(name);
        let expected = [
            home.clone(),
            home.clone(),
            home.join("a"),
            home.join("a"),
            beside("~a"),
            beside("a/~"),
        ];
        let told: Vec<_> = sources["sources"].iter().map(Path::new).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_cannot_be_used_is_told_with_file_line_and_key_and_without_the_value() {
        for (text, line, expected) in [
            (
                "\nbrokr = \"very-secret\"\n",
                2,
                "there is no setting \"brokr\"; there are broker, token,",
            ),
            ("json = true", 1, "there is no setting \"json\""),
            ("tries = true", 1, "tries is to be a number, or in quotes"),
            ("tries = 99", 1, "tries cannot be used: 99 is not in 1..=20"),
            ("broker = 7", 1, "broker is to be text in quotes"),
            (
                "broker = \"http://u:very-secret@h\"",
                1,
                "broker cannot be used: the broker's address has a user",
            ),
            ("a = 1\n[profiles]\nx = 1", 1, "there is no setting \"a\""),
            ("[profiles]\nx = 1", 2, "profiles are tables"),
            ("profiles = 1", 1, "profiles are tables"),
            (
                "[profiles.x]\ngitignore = \"yes\"",
                2,
                "gitignore is to be true or false",
            ),
            (
                "[profiles.x]\n\nsources = \"very-secret\"",
                3,
                "sources is to be a list",
            ),
            ("[profiles.x]\nsources = [1]", 2, "sources is to be a list"),
            ("meta = [\"a=b\"]", 1, "meta is to be a table"),
            (
                "meta = { a = \"1\", \"a=b\" = \"very-secret\" }",
                1,
                "meta has a name with `=` in it",
            ),
            (
                "[profiles.x]\n[profiles.x.profiles.y]\ntries = 2",
                2,
                "there is no setting \"profiles\"; there are broker, token,",
            ),
            (
                "part-size = \"8XB\"",
                1,
                "part-size cannot be used: write it in bytes or with KiB",
            ),
            ("limit-rate = \"08:00,fast\"", 1, "limit-rate cannot be used"),
            (
                "concurrency = 257",
                1,
                "concurrency cannot be used: it is a whole number of 1 to 256",
            ),
            ("tries = 1\ntries = 2", 2, "duplicate key"),
            ("token = very-secret", 1, "the settings file"),
            (
                "token = \"very-secret\"\ntoken-file = \"x\"",
                2,
                "there is both token and token-file",
            ),
        ] {
            // Also a profile that was not chosen: a slip is to show when it is made.
            let error = values(text, None).unwrap_err();
            let place = format!("/etc/uploader.toml, line {line}: ");
            assert!(error.contains(&place) && error.contains(expected), "{text}: {error}");
            assert!(!error.contains("very-secret"), "{error}");
        }
    }

    #[test]
    fn a_profile_that_is_not_there_is_told_with_those_that_are() {
        let error = values("[profiles.b]\n[profiles.a]\n", Some("c")).unwrap_err();
        assert!(error.contains("\"c\"") && error.contains("has these: a, b"), "{error}");
        assert!(values("", Some("c")).unwrap_err().contains("has no profiles"));
    }
}
