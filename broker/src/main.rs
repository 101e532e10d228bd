//! The broker's program: everything is in the library, so that tests can run it too.

fn main() -> std::process::ExitCode {
    broker::cli::run()
}
