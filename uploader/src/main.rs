//! The command line: `uploader put FILE…`.

mod cli;
mod render;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::run(&cli::Cli::parse())
}
