//! What is logged, and what never is: libraries that write whole requests when asked for detail are not asked for it, whatever
//! the operator's filter says.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

/// How the log is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("--log: this filter cannot be read")]
    Filter(#[from] ParseError),
    /// There is one already.
    #[error("the log does not start")]
    Start(#[from] TryInitError),
}

/// Libraries by the beginning of their names, and the most that is logged of them. At more, these write signatures, credentials or
/// URLs with either; a filter for a module of theirs would win over one for the whole, so this is none of the operator's.
const QUIET: [(&str, LevelFilter); 10] = [
    ("aws_", LevelFilter::WARN),
    ("s3s", LevelFilter::WARN),
    ("sqlx", LevelFilter::WARN),
    // What it calls errors are its clients' requests that are no HTTP: nobody could mend them, and anybody fill a disk with them.
    ("actix_http", LevelFilter::OFF),
    ("actix_", LevelFilter::WARN),
    ("reqwest", LevelFilter::WARN),
    ("hyper", LevelFilter::INFO),
    ("h2", LevelFilter::WARN),
    ("rustls", LevelFilter::INFO),
    ("mio", LevelFilter::INFO),
];

/// Whether anything at this level of this library may be logged.
fn may_be_logged(target: &str, level: Level) -> bool {
    QUIET
        .iter()
        .all(|(library, most)| !target.starts_with(library) || level <= *most)
}

/// Logs to standard error from now on what the filter lets through, panics included.
///
/// # Errors
/// The filter cannot be read.
pub fn start_log(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(filter)?;
    // Nobody reading the log is no reason to stop serving.
    let lines = fmt::layer()
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    registry()
        .with(filter_fn(|metadata| {
            may_be_logged(metadata.target(), *metadata.level())
        }))
        .with(filter)
        .with(lines)
        .try_init()?;
    // By itself it would write lines that are no JSON.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let words = panic.payload_as_str().unwrap_or("no words");
        tracing::error!(place, "this should not have happened, please report it: {words}");
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t17_no_module_of_a_library_that_writes_signatures_is_let_through() {
        for target in [
            "aws_sigv4::http_request::sign",
            "aws_smithy_runtime::client::orchestrator",
            "aws_sdk_s3::operation",
            "s3s::ops",
            "sqlx::query",
            "actix_server::worker",
            "reqwest::connect",
        ] {
            assert!(
                !may_be_logged(target, Level::DEBUG) && !may_be_logged(target, Level::INFO),
                "{target}"
            );
            assert!(may_be_logged(target, Level::WARN), "{target}");
        }
        assert!(!may_be_logged("actix_http::h1::dispatcher", Level::ERROR));
        assert!(may_be_logged("broker::app", Level::TRACE) && may_be_logged("store::front", Level::TRACE));
    }
}
