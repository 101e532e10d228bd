//! Flags as typed, with the words that `--help` shows.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use shared::{ObjectKey, UploadId};
use uploader::{DEFAULT_BROKER, DEFAULT_CONCURRENCY, MAX_CONCURRENCY};

use crate::help::{AFTER_HELP, GET_HELP, PUT_HELP};
use crate::schedule::Schedule;
use crate::timetable::RateLimit;

/// Uploads files to an S3-compatible store by way of a broker, which alone holds the store's keys.
///
/// A file is cut into parts, which are hashed and sent several at a time, each by a URL that the broker has signed for
/// just those bytes. If a run ends early, for whatever reason, the same command continues where it ended: the broker
/// recognises the file, and parts that the store holds are compared with it and not sent again.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_long_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The broker's address
    #[arg(long, global = true, env = "UPLOADER_BROKER", hide_env_values = true, default_value = DEFAULT_BROKER, value_name = "URL")]
    pub(crate) broker: String,

    /// Settings file [default: uploader/config.toml in $XDG_CONFIG_HOME or ~/.config, if there is one]
    #[arg(
        long,
        global = true,
        env = "UPLOADER_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) config: Option<PathBuf>,

    /// Profile of the settings file, a table [profiles.NAME]
    #[arg(
        long,
        global = true,
        env = "UPLOADER_PROFILE",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub(crate) profile: Option<String>,

    /// The token that shows the broker who asks; better given by the environment, where other users cannot see it
    #[arg(
        long,
        global = true,
        env = "UPLOADER_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub(crate) token: Option<Hidden>,

    /// File that has the token in it, and that others may not read
    #[arg(
        long,
        global = true,
        env = "UPLOADER_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) token_file: Option<PathBuf>,

    /// Certificates in PEM of authorities that may vouch for broker and store, beside those that the system trusts
    #[arg(
        long,
        global = true,
        env = "UPLOADER_CA_FILE",
        hide_env_values = true,
        value_name = "PEM"
    )]
    pub(crate) ca_file: Option<OsString>,

    /// Print JSON on standard output: for `put` and `get` one event a line, for listings one entry a line, for the others
    /// the broker's answer
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Show neither progress nor result; errors are still told on standard error
    #[arg(long, short, global = true, conflicts_with = "json")]
    pub(crate) quiet: bool,

    /// Tries of one part or one request before giving up, 1 to 20; a host that has never answered gets at most 4
    #[arg(long, global = true, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=20), value_name = "N")]
    pub(crate) tries: u32,
}

/// A token as it was typed. Its `Debug` hides it.
#[derive(Clone)]
pub(crate) struct Hidden(pub(crate) String);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Upload files, or continue uploading them
    Put(Box<Put>),
    /// Show where an upload stands: its plan, and the parts that the store holds
    Status {
        /// As `put` named it
        #[arg(allow_hyphen_values = true)]
        id: UploadId,
    },
    /// Give an upload up, and have its parts removed
    Abort {
        /// As `put` named it
        #[arg(allow_hyphen_values = true)]
        id: UploadId,
    },
    /// Download an object to a file, several ranges at a time, and compare it with its ETag
    Get(Get),
    /// List the objects that you may see
    Ls(Ls),
    /// List the uploads that you have open
    Uploads,
    /// Show who the broker takes you for, and what you may upload where
    Whoami,
    /// Have `put` run by itself for a profile of the settings file: print or write a systemd timer, or print a line for cron
    Schedule(Schedule),
    /// Print a script that has a shell complete this command line
    Completions {
        /// Which one
        shell: Shell,
    },
    /// Print the manual's page of the program or of one command, as in: uploader man put | man -l -
    Man {
        /// Which one [default: the program]
        command: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(after_long_help = PUT_HELP)]
pub(crate) struct Put {
    /// Files and directories to upload, links (http:// or https://), or - for standard input (needs
    /// --name); a directory with `/` at its end stands for its content, without its own name [default: the profile's]
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<PathBuf>,

    /// Name from which the destination makes the key; may hold `/`. For a directory, what to put in place of its own name
    /// [default: the source's own name; a link's is what its host says, or the end of its path]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Send nothing: tell of each file the name, parts and requests that it would take, and in the end which limit a larger
    /// one would meet first; with --if-changed, only of files that would be sent
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Show a line for each file also where there are many of them, and each retry
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Send only files that are not at the store as they are; see below. For files and directories
    #[arg(long)]
    pub(crate) if_changed: bool,

    /// Of directories, take only files that match; may be given several times. Globs are those of .gitignore files
    #[arg(long, value_name = "GLOB", help_heading = "Directories")]
    pub(crate) include: Vec<String>,

    /// Of directories, leave out files and directories that match; may be given several times, and wins over --include
    #[arg(long, value_name = "GLOB", help_heading = "Directories")]
    pub(crate) exclude: Vec<String>,

    /// Of directories, leave out what .gitignore and .ignore files say
    #[arg(long, help_heading = "Directories")]
    pub(crate) gitignore: bool,

    /// In directories, follow symbolic links rather than leave them out
    #[arg(long, help_heading = "Directories")]
    pub(crate) follow_links: bool,

    /// Of directories, leave out what is on other file systems. Pseudo file systems such as /proc and /sys are left out always,
    /// unless they are a SOURCE of their own
    #[arg(long, short = 'x', help_heading = "Directories")]
    pub(crate) one_file_system: bool,

    /// Media type of the object [default: guessed from the name, or what a link's host says]
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,

    /// Canned ACL, such as public-read; refused where the broker's policy does not grant it
    #[arg(long)]
    pub(crate) acl: Option<String>,

    /// User metadata of the object; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) meta: Vec<(String, String)>,

    /// One of the broker's destinations; `whoami` lists them [default: the first]
    #[arg(long, value_name = "NAME")]
    pub(crate) destination: Option<String>,

    /// Bytes in every part but the last, 5 MiB to 5 GiB, such as 16MiB [default: chosen by the broker; of standard input,
    /// parts that grow]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) part_size: Option<u64>,

    /// Parts on their way at once, 1 to 256; fewer are sent while the store says that it has too much to do
    #[arg(long, default_value_t = DEFAULT_CONCURRENCY, value_parser = concurrency, value_name = "N")]
    pub(crate) concurrency: usize,

    /// Most bytes a second, of all files and parts together, such as 500K or 10MiB; off or 0 for as many as the network takes; or
    /// a table by the time of the day: "08:00,1MiB 18:00,10MiB 23:00,off". While it runs, the signal USR1 halves the rate, and
    /// USR2 doubles it
    #[arg(long, env = "UPLOADER_LIMIT_RATE", hide_env_values = true, value_name = "RATE")]
    pub(crate) limit_rate: Option<RateLimit>,

    /// Also write what happens into a file for each day of UTC in this directory, uploader-YYYY-MM-DD.log
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,

    /// Directory for what the next run should know of this one
    /// [default: $XDG_STATE_HOME/uploader or ~/.local/state/uploader]
    #[arg(long, env = "UPLOADER_JOURNAL_DIR", hide_env_values = true, value_name = "DIR")]
    pub(crate) journal_dir: Option<PathBuf>,

    /// Leave nothing for the next run, and take nothing from the one before, wherever the journal is
    #[arg(long)]
    pub(crate) no_journal: bool,

    /// Seconds without a byte moving after which a part is sent anew
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    pub(crate) stall_timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_long_help = GET_HELP)]
pub(crate) struct Get {
    /// The object's key, as `put` and `ls` tell it
    pub(crate) key: ObjectKey,

    /// File to write, or a directory to put it into [default: the last segment of the key, in this directory]
    #[arg(value_parser = target_file)]
    pub(crate) target: Option<PathBuf>,

    /// Take the place of a file that is there
    #[arg(long)]
    pub(crate) overwrite: bool,

    /// One of the broker's destinations; `whoami` lists them [default: the first from which you may download]
    #[arg(long, value_name = "NAME")]
    pub(crate) destination: Option<String>,

    /// Ranges on their way at once, 1 to 256
    #[arg(long, default_value_t = DEFAULT_CONCURRENCY, value_parser = concurrency, value_name = "N")]
    pub(crate) concurrency: usize,

    /// Seconds without a byte moving after which a range is asked for anew
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    pub(crate) stall_timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// What the keys begin with [default: all that you may see]
    pub(crate) prefix: Option<String>,

    /// List what is in folders too, rather than the folders
    #[arg(long, short)]
    pub(crate) recursive: bool,

    /// One of the broker's destinations; `whoami` lists them [default: the first that you may list]
    #[arg(long, value_name = "NAME")]
    pub(crate) destination: Option<String>,
}

/// `-` is standard output to people, and what has been written there cannot be taken back if it proves wrong.
fn target_file(text: &str) -> Result<PathBuf, String> {
    if text == "-" {
        return Err("downloads go to files, so that nothing is left of one that proves wrong; name a file (./- if it is to have that name)".into());
    }
    Ok(text.into())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

fn concurrency(text: &str) -> Result<usize, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=MAX_CONCURRENCY).contains(number));
    number.ok_or_else(|| format!("it is a whole number of 1 to {MAX_CONCURRENCY}"))
}

/// A number of bytes, with a unit if need be, as GNU tools take them: `8388608`, `8M`, `8MiB`; `8MB` is of 1000.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => {
            return Err(
                "write it in bytes or with KiB, MiB or GiB (K, M, G for short), or with KB, MB or GB of 1000, such as 16MiB"
                    .into(),
            );
        }
    };
    let number = number.parse::<u64>().map_err(|_| "it must begin with a whole number")?;
    number.checked_mul(unit).ok_or_else(|| "it is too large".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit_as_gnu_tools_take_it() {
        for (text, bytes) in [
            ("5242880", 5 << 20),
            ("8M", 8 << 20),
            ("16MiB", 16 << 20),
            ("1 GiB", 1 << 30),
            ("7k", 7 << 10),
            ("8MB", 8_000_000),
            ("1kB", 1000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1.5G",
            "8 megabytes",
            "8Mb/s",
            "99999999999G",
            "99999999999999999999",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_is_key_and_value() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(key_value("a").is_err() && key_value("=b").is_err());
    }

    #[test]
    fn help_and_debug_never_show_the_token() {
        let cli = Cli::try_parse_from(["uploader", "--token", "very-secret", "whoami"]).unwrap();
        assert!(!format!("{cli:?}").contains("very-secret"));
        let error = Cli::try_parse_from(["uploader", "--token", "very-secret", "put", "--no"]).unwrap_err();
        assert!(!error.to_string().contains("very-secret"));
    }
}
