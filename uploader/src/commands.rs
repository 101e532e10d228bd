//! What each command does, and the exit code it ends with.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use shared::UploadId;
use uploader::{Builder, DEFAULT_CONCURRENCY, ErrorKind, RetryPolicy, UploadError, Uploader};

use crate::cli::{Cli, Command, Common, Hidden};
use crate::look::{fetch, list, uploads};
use crate::manual;
use crate::put_all::put_all;
use crate::screen::{Screen, counted};
use crate::settings::{Settings, command_line};

pub(crate) const EXIT_SOME_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_AUTH: u8 = 3;
const EXIT_SOURCE_CHANGED: u8 = 4;
const EXIT_TEMPORARY: u8 = 75;
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Reads the command line and the settings file, and does what was asked.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    match command_line(arguments) {
        Ok((cli, settings)) => run(&cli, &settings),
        Err(error) => {
            Screen::new(false, true).failure(&error);
            exit_code(&error).into()
        }
    }
}

/// Does what was asked; what went wrong is told on standard error and shows in the exit code.
fn run(cli: &Cli, settings: &Settings) -> ExitCode {
    let screen = Screen::new(cli.common.json, cli.common.quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.error(&format!("could not start threads: {error}"));
            return EXIT_SOME_FAILED.into();
        }
    };
    let code = runtime.block_on(async {
        if let Command::Put(put) = &cli.command {
            // It has something to do when it is interrupted.
            return put_all(&cli.common, put, &screen).await;
        }
        tokio::select! {
            code = execute(cli, settings, &screen) => code,
            () = interrupted() => {
                screen.clear();
                screen.error(match cli.command {
                    Command::Get(_) => "interrupted; nothing is kept of it",
                    _ => "interrupted",
                });
                EXIT_INTERRUPTED
            }
        }
    });
    // Threads that still read or hash have nothing to finish.
    runtime.shutdown_background();
    code.into()
}

/// Ends at Ctrl-C, when the terminal is closed, or when the system asks the process to end.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
        (Ok(mut terminate), Ok(mut hangup)) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

async fn execute(cli: &Cli, settings: &Settings, screen: &Screen) -> u8 {
    let result = match &cli.command {
        Command::Put(put) => return put_all(&cli.common, put, screen).await,
        Command::Status { id } => status(&cli.common, id, screen).await,
        Command::Abort { id } => abort(&cli.common, id, screen).await,
        Command::Get(get) => fetch(&cli.common, get, screen).await,
        Command::Ls(ls) => list(&cli.common, ls, screen).await,
        Command::Uploads => uploads(&cli.common, screen).await,
        Command::Whoami => whoami(&cli.common, screen).await,
        Command::Schedule(schedule) => schedule.run(cli.common.profile.as_deref(), settings, screen),
        Command::Completions { shell } => {
            screen.print(&manual::completions(*shell));
            Ok(())
        }
        Command::Man { command } => manual::page(command.as_deref())
            .map(|page| screen.print(&page))
            .map_err(|error| UploadError::Settings(error.to_string())),
    };
    result.map_or_else(
        |error| {
            // A reader that has seen enough may go.
            if matches!(&error, UploadError::Target { cause, .. } if cause.kind() == std::io::ErrorKind::BrokenPipe) {
                return 0;
            }
            screen.failure(&error);
            exit_code(&error)
        },
        |()| 0,
    )
}

/// The exit code that tells of this failure.
pub(crate) fn exit_code(error: &UploadError) -> u8 {
    match error.kind() {
        ErrorKind::Usage => EXIT_USAGE,
        ErrorKind::Auth => EXIT_AUTH,
        ErrorKind::SourceChanged => EXIT_SOURCE_CHANGED,
        ErrorKind::Temporary => EXIT_TEMPORARY,
        _ => EXIT_SOME_FAILED,
    }
}

impl Common {
    /// An uploader to be, by these settings.
    pub(crate) fn builder(&self) -> Builder {
        let mut builder = Uploader::builder().broker(&self.broker);
        // An empty variable is how scripts leave one out.
        if let Some(Hidden(token)) = self.token.as_ref().filter(|Hidden(token)| !token.is_empty()) {
            builder = builder.token(token);
        }
        if let Some(path) = self.ca_file.as_ref().filter(|path| !path.is_empty()) {
            builder = builder.ca_file(path);
        }
        let retry = RetryPolicy {
            tries: self.tries,
            ..RetryPolicy::default()
        };
        builder.retry(retry)
    }

    /// An uploader by these settings.
    pub(crate) fn uploader(&self, concurrency: usize, stall: Duration) -> Result<Uploader, UploadError> {
        self.builder().concurrency(concurrency).stall_timeout(stall).build()
    }

    pub(crate) fn asking(&self) -> Result<Uploader, UploadError> {
        self.uploader(DEFAULT_CONCURRENCY, Duration::from_secs(30))
    }
}

async fn status(common: &Common, id: &UploadId, screen: &Screen) -> Result<(), UploadError> {
    let status = common.asking()?.status(id).await?;
    let held: u64 = status.parts.iter().map(|part| part.size).sum();
    let mut lines = vec![
        ("upload", status.upload_id.to_string()),
        ("state", format!("{:?}", status.state).to_lowercase()),
        ("name", status.name.clone()),
        ("key", status.key.to_string()),
    ];
    if let Some(size) = status.size {
        lines.push(("size", HumanBytes(size).to_string()));
    }
    if let (Some(part_size), Some(count)) = (status.part_size, status.part_count) {
        let parts = counted(count.into(), "part");
        lines.push(("plan", format!("{parts} of {}", HumanBytes(part_size))));
    }
    if let Some(object) = &status.object {
        lines.push(("etag", object.etag.to_string()));
    } else {
        let parts = counted(status.parts.len() as u64, "part");
        lines.push(("stored", format!("{parts}, {}", HumanBytes(held))));
    }
    screen.answer(&status, &lines);
    Ok(())
}

async fn abort(common: &Common, id: &UploadId, screen: &Screen) -> Result<(), UploadError> {
    common.asking()?.abort(id).await?;
    let answer = std::collections::BTreeMap::from([("aborted", id)]);
    screen.answer(&answer, &[("aborted", id.to_string())]);
    Ok(())
}

async fn whoami(common: &Common, screen: &Screen) -> Result<(), UploadError> {
    let me = common.asking()?.whoami().await?;
    let mut lines = vec![("principal", me.principal.clone())];
    for destination in &me.destinations {
        let acls = if destination.acls.is_empty() {
            "none".into()
        } else {
            destination.acls.join(", ")
        };
        let mut files = format!("up to {}", HumanBytes(destination.max_size));
        if let Some(uploads) = destination.open_uploads {
            files = format!("{files}, {uploads} at once");
        }
        if let Some(bytes) = destination.bytes_per_day {
            files = format!("{files}, {} a day", HumanBytes(bytes));
        }
        let types = if destination.content_types.is_empty() {
            "any".into()
        } else {
            destination.content_types.join(", ")
        };
        let reading = if destination.downloads {
            "allowed"
        } else {
            "not allowed"
        };
        lines.extend([
            ("destination", destination.name.clone()),
            ("  keys", destination.key_template.clone()),
            ("  files", files),
            ("  may", destination.may.join(", ")),
            ("  types", types),
            ("  ACLs", acls),
            ("  reading", format!("listing and downloading are {reading}")),
        ]);
    }
    let limits = &me.limits;
    let (least, most) = (HumanBytes(limits.min_part_size), HumanBytes(limits.max_part_size));
    let life = |seconds| HumanDuration(Duration::from_secs(seconds));
    lines.extend([
        ("parts", format!("up to {}, of {least} to {most}", limits.max_parts)),
        ("uploads", format!("stay open for {}", life(limits.upload_expires_in))),
        ("part URLs", format!("are good for {}", life(limits.url_expires_in))),
    ]);
    screen.answer(&me, &lines);
    Ok(())
}
