//! The command line: `uploader put FILE…`.

mod bar;
mod cli;
mod commands;
mod dry_run;
mod find;
mod help;
mod log;
mod look;
mod manual;
mod private_file;
mod put_all;
mod render;
mod schedule;
mod screen;
mod sending;
mod settings;
mod settings_file;
mod sift;
mod sum;
mod throttle;
mod timetable;
mod trouble;
mod units;
mod xdg;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    commands::main(&arguments)
}
