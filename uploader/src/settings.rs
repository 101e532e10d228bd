//! The settings file: what it says stands in for what is said neither by a flag nor by the environment.
//!
//! There is no second list of settings: the file's keys are the flags of the command line, its values are read by the flags'
//! own parsers, and what it says becomes the flags' defaults. So a new flag is a key too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use uploader::UploadError;

use crate::cli::{Cli, Command as Asked};
use crate::private_file;
use crate::settings_file::File;
use crate::xdg;

/// Flags that are about one run, or about the file itself.
const NOT_IN_THE_FILE: [&str; 6] = ["config", "profile", "json", "quiet", "dry-run", "verbose"];
/// Largest file that is read.
const LARGEST_FILE: u64 = 1 << 20;

/// Values by their keys, each as its flag takes it, once for each time that it is given.
pub(crate) type Values = BTreeMap<String, Vec<OsString>>;

/// What the file says, for the profile that was chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The file, from the root; none if there is none.
    pub(crate) file: Option<PathBuf>,
    values: Values,
    /// Flags and variables that this run was given and another one of the same profile will not have.
    pub(crate) only_here: Vec<String>,
}

/// The command line, completed by the settings file. A command line that cannot be used ends the process here, as does
/// `--help`.
///
/// # Errors
/// The settings file cannot be read, or has something in it that cannot be used, or has not got the profile.
pub(crate) fn command_line(arguments: &[OsString]) -> Result<(Cli, Settings), UploadError> {
    let given = command()
        .try_get_matches_from(arguments)
        .unwrap_or_else(|error| error.exit());
    let mut cli = Cli::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    let mut settings = match cli.command {
        // They ask about the program, which a broken file does not change.
        Asked::Completions { .. } | Asked::Man { .. } => return Ok((cli, Settings::default())),
        _ => Settings::read(cli.common.config.as_deref(), cli.common.profile.as_deref())?,
    };
    settings.only_here = only_here(&given);
    let matches = command_with(&settings)
        .try_get_matches_from(arguments)
        .unwrap_or_else(|error| error.exit());
    cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    settle_token(&mut cli, &matches)?;
    Ok((cli, settings))
}

/// The command line as it is, but that a switch can be taken back (`--gitignore=false`), and that an empty variable is none,
/// which is how scripts leave one out.
pub(crate) fn command() -> Command {
    let amend = |argument: Arg| {
        let argument = match argument.get_env() {
            Some(name) if std::env::var_os(name).is_some_and(|value| value.is_empty()) => {
                argument.env(Resettable::Reset)
            }
            _ => argument,
        };
        if !is_key(&argument) || !matches!(argument.get_action(), ArgAction::SetTrue) {
            return argument;
        }
        argument
            .action(ArgAction::Set)
            .value_parser(clap::value_parser!(bool))
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL")
    };
    Cli::command()
        .mut_args(amend)
        .mut_subcommand("put", |put| put.mut_args(amend))
}

/// The same with what the file says as defaults.
fn command_with(settings: &Settings) -> Command {
    let fill = |argument: Arg| match settings.values.get(key_of(&argument)) {
        Some(values) if is_key(&argument) => argument.default_values_os(values.clone()).hide_default_value(true),
        _ => argument,
    };
    command()
        .mut_args(fill)
        .mut_subcommand("put", |put| put.mut_args(fill))
        .mut_subcommand("get", |get| get.mut_args(fill))
}

/// What the file calls it: the flag's name.
pub(crate) fn key_of(argument: &Arg) -> &str {
    argument.get_long().unwrap_or(argument.get_id().as_str())
}

/// Whether the file may say it, if it is an argument of `put` or of all commands.
fn is_key(argument: &Arg) -> bool {
    let key = key_of(argument);
    (argument.get_long().is_some() || key == "sources") && !NOT_IN_THE_FILE.contains(&key)
}

/// Every argument that the file may say.
pub(crate) fn keys(command: &Command) -> impl Iterator<Item = &Arg> {
    let put = command
        .find_subcommand("put")
        .into_iter()
        .flat_map(Command::get_arguments);
    command.get_arguments().chain(put).filter(|argument| is_key(argument))
}

/// What the person at this machine has said in ways that another run would not know of.
fn only_here(given: &ArgMatches) -> Vec<String> {
    let command = command();
    let variables = keys(&command).filter_map(|argument| {
        let name = argument.get_env()?;
        std::env::var_os(name).map(|_| name.to_string_lossy().into_owned())
    });
    let typed = |argument: &&Arg| {
        given.try_contains_id(argument.get_id().as_str()).unwrap_or(false)
            && given.value_source(argument.get_id().as_str()) == Some(clap::parser::ValueSource::CommandLine)
    };
    let flags = command
        .get_arguments()
        .filter(|argument| is_key(argument))
        .filter(typed);
    let flags = flags.map(|argument| format!("--{}", key_of(argument)));
    flags.chain(variables).collect()
}

/// The token, from the nearest that names one: flags before variables before the file.
fn settle_token(cli: &mut Cli, matches: &ArgMatches) -> Result<(), UploadError> {
    let Some(path) = cli.common.token_file.take() else {
        return Ok(());
    };
    let distance = |id| match matches.value_source(id) {
        Some(clap::parser::ValueSource::CommandLine) => 0,
        Some(clap::parser::ValueSource::EnvVariable) => 1,
        _ => 2,
    };
    if cli.common.token.is_some() {
        match distance("token").cmp(&distance("token_file")) {
            std::cmp::Ordering::Less => return Ok(()),
            std::cmp::Ordering::Equal => {
                let why = "both a token and a file of one are given (--token, --token-file and their variables): leave one out";
                return Err(UploadError::Settings(why.into()));
            }
            std::cmp::Ordering::Greater => {}
        }
    }
    // Who makes a service is not that service.
    if !(matches!(cli.command, Asked::Schedule(_)) && private_file::is_credential(&path)) {
        cli.common.token = Some(private_file::token(&path)?.into());
    }
    Ok(())
}

impl Settings {
    /// The file that is named, or the usual one if it is there.
    fn read(named: Option<&Path>, profile: Option<&str>) -> Result<Self, UploadError> {
        let wrong = |text: String| Err(UploadError::Settings(text));
        let path = match (named, usual_file()) {
            (Some(path), _) => Some(path.to_owned()),
            // One that cannot be looked at is not taken for one that is not there.
            (None, Some(usual)) if is_there(&usual) => Some(usual),
            (None, usual) => {
                return match (profile, usual) {
                    (None, _) => Ok(Self::default()),
                    (Some(name), Some(usual)) => wrong(format!(
                        "there is no profile {name:?}, since there is no settings file {}: write it, or name another with --config",
                        usual.display()
                    )),
                    (Some(name), None) => wrong(format!(
                        "there is no profile {name:?}: name the settings file with --config"
                    )),
                };
            }
        };
        let Some(path) = path.and_then(|path| std::path::absolute(path).ok()) else {
            return wrong("--config is empty: name the settings file".into());
        };
        let (text, remedy) = private_file::read(&path, LARGEST_FILE)
            .map_err(|why| UploadError::Settings(format!("the settings file {} {why}", path.display())))?;
        let file = File {
            path: &path,
            text: &text,
        };
        let values = file.values(profile)?;
        if let (true, Some(remedy)) = (file.has_token()?, remedy) {
            return wrong(format!(
                "the settings file {} has a token in it, and {remedy}",
                path.display()
            ));
        }
        Ok(Self {
            file: Some(path),
            values,
            only_here: Vec::new(),
        })
    }

    /// What these arguments mean with this file and nothing else: no variable counts.
    pub(crate) fn alone(&self, arguments: &[&str]) -> Result<Cli, UploadError> {
        let parsed = without_variables(command_with(self)).try_get_matches_from(arguments);
        let cli = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
        cli.map_err(|error| UploadError::Settings(error.to_string()))
    }
}

pub(crate) fn without_variables(command: Command) -> Command {
    let forget = |argument: Arg| argument.env(Resettable::Reset);
    command
        .mut_args(forget)
        .mut_subcommand("put", |put| put.mut_args(forget))
}

/// Whether something has that name, if only a link that leads nowhere.
fn is_there(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

/// `$XDG_CONFIG_HOME/uploader/config.toml`
fn usual_file() -> Option<PathBuf> {
    xdg::config_home().map(|directory| directory.join("uploader/config.toml"))
}
