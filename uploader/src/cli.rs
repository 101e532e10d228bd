//! Flags as typed, and what each command does with them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use shared::UploadId;
use uploader::{DEFAULT_BROKER, DEFAULT_CONCURRENCY, ErrorKind, PutOptions, RetryPolicy, UploadError, Uploader};

use crate::render::{Render, Screen};

const EXIT_SOME_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_AUTH: u8 = 3;
const EXIT_SOURCE_CHANGED: u8 = 4;
const EXIT_TEMPORARY: u8 = 75;
const EXIT_INTERRUPTED: u8 = 130;

/// Uploads files to an S3-compatible store by way of a broker, which alone holds the store's keys.
///
/// A file is cut into parts, which are hashed and sent several at a time, each by a URL that the broker has signed for
/// just those bytes. If a run ends early, for whatever reason, the same command continues where it ended: the broker
/// recognises the file, and parts that the store holds are compared with it and not sent again.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_long_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The broker's address
    #[arg(long, global = true, env = "UPLOADER_BROKER", hide_env_values = true, default_value = DEFAULT_BROKER, value_name = "URL")]
    broker: String,

    /// The token that shows the broker who asks; better given by the environment, where other users cannot see it
    #[arg(
        long,
        global = true,
        env = "UPLOADER_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: Option<Hidden>,

    /// Print JSON on standard output: for `put` one event a line, for the others the broker's answer
    #[arg(long, global = true)]
    json: bool,

    /// Show neither progress nor result; errors are still told on standard error
    #[arg(long, short, global = true, conflicts_with = "json")]
    quiet: bool,

    /// Tries of one part or one request before giving up, 1 to 20
    #[arg(long, global = true, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=20), value_name = "N")]
    tries: u32,
}

/// A token as it was typed. Its `Debug` hides it.
#[derive(Clone)]
struct Hidden(String);

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
enum Command {
    /// Upload files, or continue uploading them
    Put(Put),
    /// Show where an upload stands: its plan, and the parts that the store holds
    Status {
        /// As `put` named it
        id: UploadId,
    },
    /// Give an upload up, and have its parts removed
    Abort {
        /// As `put` named it
        id: UploadId,
    },
    /// Show who the broker takes you for, and what you may upload where
    Whoami,
}

#[derive(Debug, Args)]
#[command(after_long_help = PUT_HELP)]
struct Put {
    /// Files to upload; no directories, pipes or devices
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Name from which the destination makes the key; may hold `/` [default: the file's own name]
    #[arg(long)]
    name: Option<String>,

    /// Media type of the object [default: guessed from the name]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,

    /// Canned ACL, such as public-read; refused where the broker's policy does not grant it
    #[arg(long)]
    acl: Option<String>,

    /// User metadata of the object; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    meta: Vec<(String, String)>,

    /// One of the broker's destinations; `whoami` lists them [default: the first]
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,

    /// Bytes in every part but the last, 5 MiB to 5 GiB, such as 16MiB [default: chosen by the broker]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    part_size: Option<u64>,

    /// Parts on their way at once, 1 to 256; fewer are sent while the store says that it has too much to do
    #[arg(long, default_value_t = DEFAULT_CONCURRENCY, value_name = "N")]
    concurrency: usize,

    /// Seconds without a byte moving after which a part is sent anew
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    stall_timeout: u64,
}

const AFTER_HELP: &str = "\
Exit status:
  0    everything was done
  1    some of it failed
  2    the command line cannot be used
  3    the broker does not know the token, or does not allow what was asked (HTTP 401, 403)
  4    a file changed while it was being sent; no object was made of it
  75   broker or store could not be reached, or had too much to do: run the same command again later
  130  interrupted; the same command continues
With several files that fail in different ways it is 1.

Examples:
  uploader put backup.tar
  uploader put --name photos/2026/1.jpg --meta camera=x100 IMG_1.JPG
  UPLOADER_TOKEN=… uploader --broker https://uploads.example.org put *.tar
  uploader --json put backup.tar | jq -r 'select(.event == \"completed\").key'";

const PUT_HELP: &str = "\
Events printed with --json, one object a line, each with `event` and `file`, the path as it was given:
  started     upload_id, key, size, part_size, part_count, stored_parts
  part        number, size, kept: true where the store held it from an earlier run
  retry       what, after_seconds, attempt
  completing
  completed   upload_id, key, etag, size, version_id (on versioned buckets), location,
              sent_bytes, kept_bytes, seconds
  failed      code, exit_status, error
More kinds and fields may come. Sizes are bytes.

Exit status: see `uploader --help`.";

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

/// A number of bytes, with a binary unit if need be: `8388608`, `8M`, `8MiB`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err("write it in bytes or with KiB, MiB or GiB, such as 16MiB".into()),
    };
    let number = number.parse::<u64>().map_err(|_| "it must begin with a whole number")?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large".into())
}

/// Does what was asked; what went wrong is told on standard error and shows in the exit code.
pub(crate) fn run(cli: &Cli) -> ExitCode {
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
        tokio::select! {
            code = execute(cli, &screen) => code,
            () = interrupted() => {
                screen.clear();
                screen.error("interrupted; what arrived is kept, and the same command continues");
                EXIT_INTERRUPTED
            }
        }
    });
    // Threads that still read or hash have nothing to finish.
    runtime.shutdown_background();
    code.into()
}

/// Ends at Ctrl-C or when the system asks the process to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => std::future::pending().await,
    }
}

async fn execute(cli: &Cli, screen: &Screen) -> u8 {
    let result = match &cli.command {
        Command::Put(put) => return put_all(&cli.common, put, screen).await,
        Command::Status { id } => status(&cli.common, id, screen).await,
        Command::Abort { id } => abort(&cli.common, id, screen).await,
        Command::Whoami => whoami(&cli.common, screen).await,
    };
    result.map_or_else(
        |error| {
            screen.failure(&error);
            exit_code(&error)
        },
        |()| 0,
    )
}

fn exit_code(error: &UploadError) -> u8 {
    match error.kind() {
        ErrorKind::Usage => EXIT_USAGE,
        ErrorKind::Auth => EXIT_AUTH,
        ErrorKind::SourceChanged => EXIT_SOURCE_CHANGED,
        ErrorKind::Temporary => EXIT_TEMPORARY,
        _ => EXIT_SOME_FAILED,
    }
}

impl Common {
    fn uploader(&self, concurrency: usize, stall: Duration) -> Result<Uploader, UploadError> {
        let mut builder = Uploader::builder().broker(&self.broker);
        // An empty variable is how scripts leave one out.
        if let Some(Hidden(token)) = self.token.as_ref().filter(|Hidden(token)| !token.is_empty()) {
            builder = builder.token(token);
        }
        let retry = RetryPolicy {
            tries: self.tries,
            ..RetryPolicy::default()
        };
        builder
            .concurrency(concurrency)
            .retry(retry)
            .stall_timeout(stall)
            .build()
    }

    fn asking(&self) -> Result<Uploader, UploadError> {
        self.uploader(DEFAULT_CONCURRENCY, Duration::from_secs(30))
    }
}

async fn put_all(common: &Common, put: &Put, screen: &Screen) -> u8 {
    let checked = match put.name {
        Some(_) if put.files.len() > 1 => {
            let why = "--name names one object, and there are several files; upload them one by one";
            Err(UploadError::Settings(why.into()))
        }
        _ => common.uploader(put.concurrency, Duration::from_secs(put.stall_timeout)),
    };
    let uploader = match checked {
        Ok(uploader) => uploader,
        Err(error) => {
            screen.failure(&error);
            return exit_code(&error);
        }
    };
    let options = PutOptions {
        name: put.name.clone(),
        content_type: put.content_type.clone(),
        acl: put.acl.clone(),
        metadata: put.meta.iter().cloned().collect(),
        destination: put.destination.clone(),
        part_size: put.part_size,
    };
    let mut codes = Vec::new();
    for (done, file) in put.files.iter().enumerate() {
        let render = Arc::new(Render::new(screen.clone(), file));
        let Err(error) = uploader.put(file, &options, render.clone()).await else {
            continue;
        };
        let code = exit_code(&error);
        render.failed(&error, code);
        codes.push(code);
        // What stands in the way of one file stands in the way of all.
        let left = put.files.len() - done - 1;
        if left > 0 && concerns_all(&error) {
            screen.error(&format!("{left} more files were not tried for the same reason"));
            break;
        }
    }
    match codes.split_first() {
        None => 0,
        Some((first, others)) if others.iter().all(|code| code == first) => *first,
        Some(_) => EXIT_SOME_FAILED,
    }
}

fn concerns_all(error: &UploadError) -> bool {
    match error {
        UploadError::BrokerUnreachable { .. } | UploadError::NotABroker { .. } => true,
        UploadError::Refused { problem, .. } => problem.status == 401,
        _ => false,
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
        lines.push(("size", format!("{size} bytes")));
    }
    if let (Some(part_size), Some(count)) = (status.part_size, status.part_count) {
        lines.push(("plan", format!("{count} parts of {part_size} bytes")));
    }
    match &status.object {
        Some(object) => lines.push(("etag", object.etag.to_string())),
        None => lines.push(("stored", format!("{} parts, {held} bytes", status.parts.len()))),
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
        let text = format!(
            "{}: keys {}, files up to {} bytes, ACLs {acls}",
            destination.name, destination.key_template, destination.max_size
        );
        lines.push(("destination", text));
    }
    screen.answer(&me, &lines);
    Ok(())
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
    fn sizes_are_bytes_or_have_a_binary_unit() {
        for (text, bytes) in [
            ("5242880", 5 << 20),
            ("8M", 8 << 20),
            ("16MiB", 16 << 20),
            ("1 GiB", 1 << 30),
            ("7k", 7 << 10),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "-1", "1.5G", "8MB", "99999999999G", "99999999999999999999"] {
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
        let error = Cli::try_parse_from(["uploader", "--token", "very-secret", "put"]).unwrap_err();
        assert!(!error.to_string().contains("very-secret"));
    }
}
