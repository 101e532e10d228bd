//! The command line: `uploader put FILE…`.

mod cli;
mod commands;
mod look;
mod put_all;
mod render;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    commands::run(&cli::Cli::parse())
}
