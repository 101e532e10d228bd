//! The command line: `uploader put FILE…`.

mod cli;
mod commands;
mod dry_run;
mod find;
mod log;
mod look;
mod manual;
mod put_all;
mod render;
mod sift;
mod throttle;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    commands::run(&cli::Cli::parse())
}
