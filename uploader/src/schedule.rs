//! `schedule`: what has to stand where, so that a profile is uploaded by itself.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tempfile::NamedTempFile;
use uploader::UploadError;

use crate::cli::Command;
use crate::screen::{Screen, visible};
use crate::settings::Settings;
use crate::units::{Job, MARK, When, in_shell};
use crate::xdg;

const SYSTEM_UNITS: &str = "/etc/systemd/system";
const DEFAULT_TIME: &str = "02:30";

#[derive(Debug, Args)]
#[command(after_long_help = SCHEDULE_HELP)]
pub(crate) struct Schedule {
    /// Time of every day at which to upload, such as 02:30
    #[arg(long, default_value = DEFAULT_TIME, value_parser = When::at, value_name = "HH:MM")]
    at: When,

    /// Upload every so many minutes (15m) or hours (6h), which are to divide an hour or a day
    #[arg(long, value_parser = When::every, conflicts_with = "at", value_name = "TIME")]
    every: Option<When>,

    /// Upload when systemd's calendar says, as in "Mon..Fri 22:00"; see man systemd.time
    #[arg(long, value_parser = When::calendar, conflicts_with_all = ["at", "every", "cron"], value_name = "SPEC")]
    on_calendar: Option<When>,

    /// Print a line for a crontab rather than units of systemd
    #[arg(long)]
    cron: bool,

    /// Make units of the system, which run as root, rather than your own
    #[arg(long, conflicts_with = "cron")]
    system: bool,

    /// Write the units to their place: your own, or with --system /etc/systemd/system. Of files that are there only those are
    /// replaced that this command has written
    #[arg(long, conflicts_with = "cron")]
    write: bool,
}

const SCHEDULE_HELP: &str = "\
What runs is `uploader --config FILE --profile NAME put`, with this program and this settings file
by their full paths. Nothing else that is said here reaches it, no flag and no variable: what it
needs stands in the profile, the token too (token, or token-file).

Times are this machine's. systemd makes up for a run that was missed while the machine was off,
tries again ten minutes after broker or store could not be reached (exit status 75), and never runs
one profile twice at once. Units of your own run while you are logged in, or always after
`loginctl enable-linger`. `journalctl --user -u uploader-NAME` shows what happened.

Examples:
  uploader --profile nightly schedule --write
  uploader --profile nightly schedule --every 6h
  uploader --profile nightly schedule --on-calendar 'Mon..Fri 22:00'
  (crontab -l; uploader --profile nightly schedule --cron) | crontab -";

impl Schedule {
    /// Shows or writes it, once the profile has proved to be one that can be uploaded.
    pub(crate) fn run(&self, profile: Option<&str>, settings: &Settings, screen: &Screen) -> Result<(), UploadError> {
        let job = self.job(profile, settings)?;
        for setting in &settings.only_here {
            screen.error(&format!(
                "{setting} is given here, and a run of its own will not have it: write it into the profile"
            ));
        }
        if self.cron {
            let line = job.cron_line()?;
            let about = format!("# The profile {}, uploaded by itself", visible(&job.profile));
            screen.tell(&json!({"crontab": line.trim_end()}), &format!("{about}\n{line}"));
            return Ok(());
        }
        // Measured on systemd 252: "Executable name contains special characters".
        if job.program.contains(|c: char| c.is_control() || "\"'\\".contains(c)) {
            return Err(UploadError::Settings(format!(
                "systemd runs no program whose path has a quotation mark or \\ in it: move {} to another place",
                job.program
            )));
        }
        let directory = self.directory()?;
        let units = [("service", job.service()), ("timer", job.timer())];
        let units = units.map(|(ending, text)| (directory.join(format!("{}.{ending}", job.unit())), text));
        if self.write {
            for (path, _) in &units {
                check_ours(path)?;
            }
            for (path, text) in &units {
                write(path, text)?;
            }
        }
        let whose = if self.system { "" } else { " --user" };
        let timer = in_shell(&format!("{}.timer", job.unit()));
        let enable = format!("systemctl{whose} daemon-reload && systemctl{whose} enable --now {timer}");
        let files = units.each_ref().map(|(path, text)| json!({"path": path, "text": text}));
        let json = json!({"files": files, "written": self.write, "enable": enable});
        let shown = units.each_ref().map(|(path, text)| {
            let path = visible(&path.display().to_string());
            if self.write {
                format!("wrote {path}\n")
            } else {
                format!("# {path}\n{text}\n")
            }
        });
        let then = if self.write {
            format!("now have it run: {enable}\n")
        } else {
            format!("# Nothing was written: --write does that. Then have it run:\n# {enable}\n")
        };
        screen.tell(&json, &(shown.concat() + &then));
        Ok(())
    }

    fn job(&self, profile: Option<&str>, settings: &Settings) -> Result<Job, UploadError> {
        let wrong = |why: String| UploadError::Settings(why);
        let (Some(profile), Some(config)) = (profile, &settings.file) else {
            return Err(wrong("name the profile that is to be uploaded: --profile NAME".into()));
        };
        let Command::Put(put) = settings.alone(&["uploader", "put"])?.command else {
            return Err(wrong("the profile cannot be used".into()));
        };
        let unusable = match put.unusable() {
            None if put.reads_stdin() => Some("nobody is there to give it standard input"),
            unusable => unusable,
        };
        if let Some(why) = unusable {
            return Err(wrong(format!(
                "the profile {profile:?} cannot be uploaded by itself: {why}"
            )));
        }
        let program = std::env::current_exe()
            .map_err(|error| wrong(format!("the path of this program cannot be found out: {error}")))?;
        let utf8 = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| {
                wrong(format!(
                    "the path {} is not UTF-8, which units have to be",
                    path.display()
                ))
            })
        };
        let when = self.on_calendar.as_ref().or(self.every.as_ref()).unwrap_or(&self.at);
        Ok(Job {
            program: utf8(&program)?,
            config: utf8(config)?,
            profile: profile.to_owned(),
            when: when.clone(),
            system: self.system,
        })
    }

    fn directory(&self) -> Result<PathBuf, UploadError> {
        if self.system {
            return Ok(SYSTEM_UNITS.into());
        }
        let home = xdg::config_home().map(|home| home.join("systemd/user"));
        home.ok_or_else(|| {
            UploadError::Settings("there is no home directory for your units: set HOME, or use --system".into())
        })
    }
}

/// Refuses to replace what somebody else has written.
fn check_ours(path: &Path) -> Result<(), UploadError> {
    let wrong = |why: String| Err(UploadError::Settings(why));
    match std::fs::read_to_string(path) {
        Ok(text) if text.starts_with(MARK) => Ok(()),
        Ok(_) => wrong(format!(
            "{} is there and was not written by `uploader schedule`: move it away first",
            path.display()
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => wrong(format!("{} is there and cannot be read: {error}", path.display())),
    }
}

/// Writes a unit that everybody may read, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), UploadError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let written = || {
        std::fs::create_dir_all(directory)?;
        let mut draft = NamedTempFile::new_in(directory)?;
        draft.write_all(text.as_bytes())?;
        draft.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
        draft.persist(path).map_err(std::io::Error::from).map(drop)
    };
    written().map_err(|error| UploadError::Settings(format!("{} cannot be written: {error}", path.display())))
}
