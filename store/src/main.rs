//! `store serve DIR`: the store by itself, for development and small sites. `store check DIR`: what is wrong in it.

mod check;

use std::error::Error;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use store::{Credentials, DEFAULT_REGION, Keys, Store, StoreConfig, StoreError};
use tracing_subscriber::EnvFilter;

/// An S3-compatible store in one process and one directory.
///
/// Objects, multipart uploads and an index of them live in files below DIR, written so that a crash or a power cut leaves
/// every object old or new, and every upload open or completed. Requests are signed with AWS Signature Version 4 or 2, in
/// headers, in presigned URLs or in HTML forms; objects created with the canned ACL public-read can be read by anybody.
// Without `Debug`, which would show the secret.
#[derive(Parser)]
#[command(name = "store", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a directory until interrupted.
    #[command(after_long_help = SERVE_HELP)]
    Serve(Serve),
    /// Compare all data in a directory with their records.
    #[command(after_long_help = check::CHECK_HELP)]
    Check(check::Check),
}

#[derive(Args)]
struct Serve {
    /// Directory of the data; created if absent. One process at a time may serve it.
    dir: PathBuf,

    /// Address to listen on; port 0 takes a free one. Without TLS: put a proxy in front before leaving loopback.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5001", env = "STORE_LISTEN", value_parser = address)]
    listen: SocketAddr,

    /// Region that V4 signatures must name.
    #[arg(long, default_value = DEFAULT_REGION, env = "STORE_REGION")]
    region: String,

    /// Bucket to create if absent; may be given several times.
    #[arg(long = "bucket", value_name = "NAME")]
    buckets: Vec<String>,

    /// JSON file of the keys, as below; made with one random pair if absent [default: DIR/credentials.json]
    #[arg(long, value_name = "FILE", env = "STORE_CREDENTIALS_FILE")]
    credentials_file: Option<PathBuf>,

    /// The one key, rather than a file of them; may do everything.
    #[arg(
        long,
        value_name = "ID",
        env = "STORE_ACCESS_KEY_ID",
        requires = "secret_key",
        conflicts_with = "credentials_file"
    )]
    access_key: Option<String>,

    /// Secret of --access-key; a flag shows in process lists, so prefer the environment or the file.
    #[arg(
        long,
        value_name = "SECRET",
        env = "STORE_SECRET_ACCESS_KEY",
        hide_env_values = true,
        requires = "access_key"
    )]
    secret_key: Option<String>,

    /// Answer before data are on the disk: faster, but a power cut can take what was answered 200, or the whole index.
    #[arg(long)]
    no_sync: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let what = "expected an IP address and a port, as in 127.0.0.1:5001 or [::1]:5001";
    text.parse().map_err(|_| what.to_owned())
}

const SERVE_HELP: &str = "\
Credentials file:
  One pair, which may do everything:
    {\"access_key_id\": \"...\", \"secret_access_key\": \"...\"}
  or a list of such objects. The first is the one that may do everything; the others may have besides
    rights   full, read-only (get, head, list) or write-only (put objects and uploads: no reads, copies, lists, deletes)
    buckets  list of the buckets it is for; all, if left out
    prefix   what the keys of its objects begin with
  An id has 3 to 128 of A-Z, a-z and 0-9, a secret 8 or more of those and / + = _ - .

Output:
  On standard output, once requests are served: the lines that let any S3 tool reach the store, ready for a shell's
  eval. They hold the secret of the first key. The log goes to standard error; RUST_LOG sets what it tells (default: info).

Signals:
  SIGINT and SIGTERM stop the store; requests under way get ten seconds.

Exit status:
  0  stopped by a signal
  1  could not start: the message says why and what to do
  2  the command line is wrong

Examples:
  store serve ./data --bucket uploads
  store serve ./data --bucket uploads >env & sleep 1; . ./env
  aws s3 cp FILE s3://uploads/";

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let done = match command {
        Command::Serve(serve) => run(serve).await.map(|()| true),
        Command::Check(check) => tokio::task::block_in_place(|| check::run(&check)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell_error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(serve: Serve) -> Result<(), StoreError> {
    // Before the keys, which would be looked for below the file.
    if serve.dir.metadata().is_ok_and(|found| !found.is_dir()) {
        return Err(StoreError::NotADirectory { path: serve.dir });
    }
    let keys = if let (Some(id), Some(secret)) = (serve.access_key, serve.secret_key) {
        Credentials::new(id, secret)?.into()
    } else {
        let file = serve.credentials_file;
        Keys::load_or_create(&file.unwrap_or_else(|| serve.dir.join("credentials.json")))?
    };
    let owner = keys.owner().clone();
    let config = StoreConfig {
        listen: serve.listen,
        region: serve.region.clone(),
        buckets: serve.buckets,
        sync: !serve.no_sync,
        ..StoreConfig::new(serve.dir, keys)
    };
    let store = Store::start(config).await?;
    tell_environment(&store.endpoint(), &serve.region, &owner);
    stop_signal().await;
    tracing::info!("stopping");
    store.stop().await;
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupted => (),
                _ = terminate.recv() => (),
            }
        }
        Err(_) => {
            let _ = interrupted.await;
        }
    }
}

/// The one place where the secret is told: to the person who started the store.
#[allow(clippy::print_stdout)]
fn tell_environment(endpoint: &str, region: &str, credentials: &Credentials) {
    println!("export AWS_ENDPOINT_URL_S3={endpoint}");
    println!("export AWS_REGION={region}");
    println!("export AWS_ACCESS_KEY_ID={}", credentials.access_key_id);
    println!("export AWS_SECRET_ACCESS_KEY={}", credentials.secret_access_key);
    // By this name the aws command of version 1 and boto3 know the region.
    println!("export AWS_DEFAULT_REGION={region}");
}

#[allow(clippy::print_stderr)]
fn tell_error(error: &StoreError) {
    eprintln!("store: {error}");
    let mut cause = error.source();
    while let Some(next) = cause {
        eprintln!("  because: {next}");
        cause = next.source();
    }
}
