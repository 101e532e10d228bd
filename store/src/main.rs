//! `store serve DIR`: the store by itself, for development and small sites. `store check DIR`: what is wrong in it.

mod check;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use store::{Credentials, DEFAULT_REGION, Store, StoreConfig, StoreError};
use tracing_subscriber::EnvFilter;

/// An S3-compatible store in one process and one directory.
///
/// Objects, multipart uploads and an index of them live in files below DIR, written so that a crash or a power cut leaves
/// every object old or new, and every upload open or completed. Requests are signed with AWS Signature Version 4 or 2, in
/// headers or in presigned URLs; objects created with the canned ACL public-read can be read by anybody.
#[derive(Debug, Parser)]
#[command(name = "store", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a directory until interrupted.
    #[command(after_long_help = SERVE_HELP)]
    Serve(Serve),
    /// Compare all data in a directory with their records.
    #[command(after_long_help = check::CHECK_HELP)]
    Check(check::Check),
}

#[derive(Debug, Args)]
struct Serve {
    /// Directory of the data; created if absent. One process at a time may serve it.
    dir: PathBuf,

    /// Address to listen on; port 0 takes a free one. Without TLS: put a proxy in front before leaving loopback.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5001", env = "STORE_LISTEN")]
    listen: SocketAddr,

    /// Region that V4 signatures must name.
    #[arg(long, default_value = DEFAULT_REGION, env = "STORE_REGION")]
    region: String,

    /// Bucket to create if absent; may be given several times.
    #[arg(long = "bucket", value_name = "NAME")]
    buckets: Vec<String>,

    /// JSON file with access_key_id and secret_access_key; made with random ones if absent [default: DIR/credentials.json]
    #[arg(long, value_name = "FILE", env = "STORE_CREDENTIALS_FILE")]
    credentials_file: Option<PathBuf>,

    /// Answer before data are on the disk: faster, but a power cut can take what was answered 200, or the whole index.
    #[arg(long)]
    no_sync: bool,
}

const SERVE_HELP: &str = "\
Output:
  On standard output, once requests are served: the lines that let any S3 tool reach the store, ready for a shell's
  eval. They hold the secret key. The log goes to standard error; RUST_LOG sets what it tells (default: info).

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
    let file = serve
        .credentials_file
        .unwrap_or_else(|| serve.dir.join("credentials.json"));
    let credentials = Credentials::load_or_create(&file)?;
    let config = StoreConfig {
        listen: serve.listen,
        region: serve.region.clone(),
        buckets: serve.buckets,
        sync: !serve.no_sync,
        ..StoreConfig::new(serve.dir, credentials.clone())
    };
    let store = Store::start(config).await?;
    tell_environment(&store.endpoint(), &serve.region, &credentials);
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
