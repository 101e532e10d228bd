//! The command line: `broker` serves, `broker env` tells other S3 tools how to reach the store, the others are the operator's.

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches as _, Parser, Subcommand};

use crate::config::{Config, DEFAULT_DATA_DIR, EMBEDDED_BUCKET, Settings, StoreChoice};
use crate::embedded::{self, credentials_file};
use crate::log::{LogFormat, start_log};
use crate::operate::{SweepNow, Tickets, Tokens, Uploads, Webhooks};
use crate::policy::{Grantee, meeting};
use crate::principal::ANONYMOUS;
use crate::start::{DEFAULT_REGION, Running, make_data_dir, open, start};

const AFTER_HELP: &str = "\
Settings:
  A flag wins over the environment variable, that over broker.toml (--config), that over the default.
  A file named .env in the working directory counts as environment. In broker.toml the keys are the
  flags' names with _ for -, for example:  key_template = \"{principal}/{date}/{uuid}/{name}\"

Store:
  With neither --bucket nor an endpoint, the broker runs a store of its own in the data directory.
  With a bucket, credentials, region and endpoint come as AWS tools take them: AWS_ACCESS_KEY_ID,
  AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL_S3, AWS_PROFILE with ~/.aws,
  web identity, container and instance roles. No endpoint means Amazon S3.

Exit status:
  0  done; serving: ended by a signal, after requests in flight
  1  did not start, broke down, or could not do all; serving: a second signal cut requests off
  2  usage";
/// Of commands that end by themselves.
const EXIT_STATUS: &str = "\
Exit status:
  0  done   1  could not do it, or not all   2  usage";

/// Presigned multipart upload broker: clients upload straight to S3-compatible storage without holding its keys.
#[derive(Debug, Parser)]
#[command(name = "broker", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Settings file [default: broker.toml in the working directory, if there is one]
    #[arg(long, global = true, env = "BROKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the log is written to standard error
    #[arg(
        long,
        global = true,
        env = "BROKER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as broker=debug
    #[arg(
        long,
        global = true,
        env = "BROKER_LOG",
        value_name = "LEVEL",
        default_value = "info"
    )]
    log: String,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve uploads until a signal comes; what happens without a command
    Serve,
    /// Print the export lines with which any S3 tool reaches the store in use: eval "$(broker env)"
    Env,
    /// Say everything that is wrong with the settings, each with its file and line; or what they come to, if nothing is
    CheckConfig,
    /// Make, list or revoke API tokens
    Token(Tokens),
    /// Make, list or revoke tickets, by which others upload without a token
    Ticket(Tickets),
    /// List the open uploads of all principals: age, what the store holds of them, what that costs; or show one upload
    Uploads(Uploads),
    /// End now what has run out and clear what ended uploads left at the store, as a running broker does every minute
    Sweep(SweepNow),
    /// List what the webhook's receiver has not taken yet, or have it sent again
    Webhooks(Webhooks),
}

/// The command line as it is taken. Settings stand after what is a command's own, and only in the long help.
pub fn command() -> clap::Command {
    let settings = |argument: clap::Arg| {
        if argument.is_global_set() {
            return argument
                .hide_short_help(true)
                .help_heading("Settings (of the broker; the same for every command)");
        }
        argument
    };
    with_exit_status(Cli::command().mut_args(settings))
}

/// The same, and the commands below it tell how they end too.
fn with_exit_status(mut command: clap::Command) -> clap::Command {
    for below in command.get_subcommands_mut() {
        *below = with_exit_status(std::mem::take(below)).after_help(EXIT_STATUS);
    }
    command
}

/// Runs the program and answers its exit status.
#[expect(
    clippy::print_stderr,
    reason = "this is where a failure is told to the person who typed the command"
)]
pub fn run() -> ExitCode {
    // Before anything reads the environment. A missing file is the normal case, a broken one is not.
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        eprintln!("broker: the file .env cannot be read: line format is NAME=value");
        return ExitCode::from(2);
    }
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broker: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> Result<(), Box<dyn Error>> {
    let config = cli.settings.or(file_settings(cli.config.as_deref())?).resolve()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            start_log(cli.log_format, &cli.log)?;
            runtime.block_on(serve(config))
        }
        Command::CheckConfig => {
            describe(&config);
            Ok(())
        }
        Command::Env => runtime.block_on(print_env(&config)),
        Command::Uploads(uploads) => {
            start_log(cli.log_format, &cli.log)?;
            runtime.block_on(async { uploads.run(&*open(&config).await?).await })
        }
        Command::Token(tokens) => {
            start_log(cli.log_format, &cli.log)?;
            // Tokens may well be made before the broker has ever run.
            make_data_dir(&config.data_dir)?;
            runtime.block_on(async { tokens.run(&open(&config).await?).await })
        }
        Command::Ticket(tickets) => {
            start_log(cli.log_format, &cli.log)?;
            runtime.block_on(async { tickets.run(&open(&config).await?).await })
        }
        Command::Webhooks(webhooks) => {
            start_log(cli.log_format, &cli.log)?;
            runtime.block_on(async { webhooks.run(&*open(&config).await?).await })
        }
        Command::Sweep(sweep) => {
            start_log(cli.log_format, &cli.log)?;
            runtime.block_on(async { sweep.run(&open(&config).await?).await })
        }
    }
}

fn file_settings(named: Option<&Path>) -> Result<Settings, Box<dyn Error>> {
    let usual = Path::new("broker.toml");
    match named {
        Some(file) => Ok(Settings::read(file)?),
        None if usual.exists() => Ok(Settings::read(usual)?),
        None => Ok(Settings::default()),
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let greeting = config.clone();
    let running = start(config).await?;
    greet(&greeting, &running);
    wait_for_signal().await?;
    tracing::info!("stopping: requests in flight are finished first; a second signal ends at once");
    tokio::select! {
        () = running.stop() => Ok(()),
        signalled = wait_for_signal() => {
            signalled?;
            Err("a second signal came: requests in flight were cut off".into())
        }
    }
}

async fn wait_for_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// What a newcomer needs: commands that can be pasted as they are.
#[expect(clippy::print_stdout, reason = "the greeting is for the person at the terminal")]
fn greet(config: &Config, running: &Running) {
    let address = running.address();
    let host = match address.ip() {
        any if any.is_unspecified() => "THIS-HOST".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let broker = format!("{}://{host}:{}", config.scheme(), address.port());
    let put = if broker == "http://127.0.0.1:5000" {
        "put FILE".to_owned()
    } else {
        format!("put --broker {broker} FILE")
    };
    let token = if running.state().principals.allow_anonymous() {
        ""
    } else {
        "UPLOADER_TOKEN=… "
    };
    println!("broker   {broker}");
    if let Some(admin) = running.admin_address() {
        println!("admin    http://{admin}  (/metrics, /healthz, /readyz)");
    }
    match (&config.store, running.embedded_endpoint()) {
        (StoreChoice::Embedded { .. }, Some(endpoint)) => {
            let mut env = "env".to_owned();
            if config.data_dir != Path::new(DEFAULT_DATA_DIR) {
                env = format!(
                    "{env} --data-dir {}",
                    shell_quoted(&config.data_dir.display().to_string())
                );
            }
            let (uploader, program) = if is_in_its_sources() {
                ("cargo run --release -p uploader --", "cargo run --release --")
            } else {
                ("uploader", "broker")
            };
            println!(
                "store    {endpoint}  (embedded, bucket {EMBEDDED_BUCKET}, in {})\n\n\
                 Upload   {token}{uploader} {put}\n\
                 Look in  (eval \"$({program} {env})\" && aws s3 ls s3://{EMBEDDED_BUCKET})\n\
                 Stop     Ctrl-C; start again to go on with what is here",
                config.data_dir.display()
            );
        }
        _ => println!(
            "store    {}  (bucket {})\n\nUpload   {token}uploader {put}\nStop     Ctrl-C",
            running.state().signing.endpoint,
            config.buckets.join(", ")
        ),
    }
    if !address.ip().is_loopback() {
        if config.tls.is_none() {
            tracing::info!("serving other machines: put a proxy with TLS in front, tokens travel in clear otherwise");
        }
        let store = &running.state().signing.endpoint;
        if store.is_loopback() {
            tracing::warn!(
                "part URLs name {store}, which other machines cannot reach: name the store's address for them with \
                 --public-endpoint, and let the embedded store listen there with --store-listen"
            );
        }
    }
}

/// Whether the program runs where it was built, as whoever tries it for the first time has it.
fn is_in_its_sources() -> bool {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().any(|directory| directory.ends_with("target"))
}

#[expect(clippy::print_stdout, reason = "the lines are the command's result")]
fn describe(config: &Config) {
    println!("nothing is wrong with the settings");
    println!("broker: {}://{}", config.scheme(), config.listen);
    if let Some(admin) = config.admin_listen {
        println!("operator: http://{admin}");
    }
    match &config.store {
        StoreChoice::Embedded { listen } => println!("store: embedded, http://{listen}"),
        StoreChoice::External { endpoint, .. } => println!(
            "store: {}",
            endpoint
                .as_deref()
                .unwrap_or("as the AWS configuration says, or else Amazon S3")
        ),
    }
    println!("ledger: {}", without_password(&config.ledger));
    for (issuer, audience) in config.auth.issuers() {
        println!("tokens of {issuer:?} for {audience:?}");
    }
    if let Some(peers) = config.auth.forward_peers() {
        println!("callers named by the proxies {peers}");
    }
    for destination in &config.destinations {
        println!(
            "destination {:?}: bucket {:?}, keys {}, overwrite {}, by tickets {}",
            destination.name,
            destination.bucket,
            destination.key_template,
            destination.overwrites(false).name(),
            destination.overwrites(true).name()
        );
    }
    for (one, other) in meeting(&config.destinations) {
        println!(
            "beware: keys of {one:?} and {other:?} can meet in one bucket, and what is granted at one then reaches the other's \
             objects; begin each key template with a folder of its own"
        );
    }
    for rule in &config.rules {
        let serves_nobody =
            |to: &&Grantee| **to == Grantee::Named(ANONYMOUS.to_owned()) && !config.may_serve_anonymous();
        let to: Vec<_> = rule
            .to
            .iter()
            .filter(|to| !serves_nobody(to))
            .map(ToString::to_string)
            .collect();
        if to.is_empty() {
            continue;
        }
        let may: Vec<_> = rule.may.iter().map(|right| right.name()).collect();
        let places = if rule.destinations.is_empty() {
            "all destinations".to_owned()
        } else {
            rule.destinations.join(", ")
        };
        println!("grant to {}: {} at {places}", to.join(", "), may.join(", "));
    }
}

/// A URL as it may be shown.
fn without_password(url: &str) -> String {
    match url.split_once("://").zip(url.rsplit_once('@')) {
        Some(((scheme, _), (_, host))) => format!("{scheme}://…@{host}"),
        None => url.to_owned(),
    }
}

#[expect(clippy::print_stdout, reason = "the lines are the command's result")]
async fn print_env(config: &Config) -> Result<(), Box<dyn Error>> {
    let export = |name: &str, value: &str| println!("export {name}={}", shell_quoted(value));
    match &config.store {
        StoreChoice::Embedded { listen } => {
            let file = credentials_file(&config.data_dir);
            if !file.exists() {
                return Err(format!(
                    "there is no embedded store in {} yet; start the broker once",
                    config.data_dir.display()
                )
                .into());
            }
            let keys = embedded::keys(&config.data_dir)?;
            let credentials = keys.owner();
            export("AWS_ENDPOINT_URL_S3", &embedded::endpoint(config, *listen));
            export("AWS_REGION", DEFAULT_REGION);
            export("AWS_ACCESS_KEY_ID", &credentials.access_key_id);
            export("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key);
        }
        StoreChoice::External { endpoint, .. } => {
            let sdk = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
            if let Some(endpoint) = endpoint.as_deref().or(sdk.endpoint_url()) {
                export("AWS_ENDPOINT_URL_S3", endpoint);
            }
            let region = config.region.clone().or_else(|| sdk.region().map(ToString::to_string));
            export("AWS_REGION", region.as_deref().unwrap_or(DEFAULT_REGION));
        }
    }
    export(
        "S3_BUCKET",
        config.buckets.first().map_or(EMBEDDED_BUCKET, String::as_str),
    );
    Ok(())
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The error and its causes in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exported_values_survive_the_shell() {
        assert_eq!(shell_quoted("a'b $c"), r"'a'\''b $c'");
    }
}
