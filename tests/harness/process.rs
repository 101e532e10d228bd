//! Our programs as real processes: their exit codes, what they print, and what is left after `kill -9`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::{Api, StoreUnderTest, in_time};

/// A program that Cargo built for the suite: `Program::at(env!("CARGO_BIN_EXE_…"))`.
#[derive(Clone, Copy, Debug)]
pub struct Program(&'static str);

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; nothing if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Program {
    /// The program at this path.
    pub const fn at(path: &'static str) -> Self {
        Self(path)
    }

    /// The program with these arguments, run in `directory` with no other environment than the one given: what the person at
    /// this machine has set does not reach it.
    pub fn command(
        self,
        directory: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: &BTreeMap<&str, OsString>,
    ) -> Command {
        let mut command = Command::new(self.0);
        command
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", directory)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(
        self,
        directory: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: &BTreeMap<&str, OsString>,
    ) -> Finished {
        let ended = self.command(directory, arguments, environment).output();
        in_time(ended).await.unwrap().into()
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A broker in a process of its own, so that it can be killed; killed too when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    /// Kept open: a broker whose standard output is gone could not be told from one that has stopped talking.
    _stdout: Lines<BufReader<ChildStdout>>,
    base: String,
    admin: Option<String>,
}

impl BrokerProcess {
    /// Starts one that keeps its ledger in `directory` and speaks to `store`, on `port` (0 for a free one), and returns once it
    /// has said where it listens.
    pub async fn start(program: Program, directory: &Path, store: &StoreUnderTest, port: u16) -> Self {
        Self::start_with(program, directory, store, port, &[]).await
    }

    /// The same with more in its environment.
    pub async fn start_with(
        program: Program,
        directory: &Path,
        store: &StoreUnderTest,
        port: u16,
        more: &[(&'static str, &str)],
    ) -> Self {
        Self::start_logging(program, directory, Some(store), port, more, Stdio::inherit()).await
    }

    /// The same with its log somewhere else; and where no store is given, on one of its own.
    pub async fn start_logging(
        program: Program,
        directory: &Path,
        store: Option<&StoreUnderTest>,
        port: u16,
        more: &[(&'static str, &str)],
        log: Stdio,
    ) -> Self {
        let listen = format!("127.0.0.1:{port}");
        let mut arguments = vec!["--listen", &listen, "--data-dir", "data"];
        let mut environment = BTreeMap::new();
        match store {
            Some(store) => {
                arguments.extend(["--bucket", &store.bucket, "--profile", store.kind.name()]);
                environment = store.environment();
            }
            None => arguments.extend(["--store-listen", "127.0.0.1:0"]),
        }
        environment.insert("BROKER_LOG", "warn".into());
        environment.extend(more.iter().map(|(name, value)| (*name, value.into())));
        let mut command = program.command(directory, arguments, &environment);
        let mut child = command.stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let base = in_time(address_in(&mut stdout)).await;
        let admin = if environment.contains_key("BROKER_ADMIN_LISTEN") {
            Some(in_time(address_in(&mut stdout)).await)
        } else {
            None
        };
        Self {
            child,
            _stdout: stdout,
            base,
            admin,
        }
    }

    /// Requests to its operator's address, where it has one.
    pub fn admin(&self) -> Api {
        Api::at(self.admin.clone().unwrap())
    }

    /// Its port, for another one to take over.
    pub fn port(&self) -> u16 {
        self.base.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// `http://ADDRESS:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Requests to it.
    pub fn api(&self) -> Api {
        Api::at(&self.base)
    }

    /// `kill -TERM`, as whoever runs it stops it.
    pub fn terminate(&self) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// How it ended, once it has.
    pub async fn ended(mut self) -> std::process::ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The next address that it prints: its own comes first, its operator's second.
async fn address_in(stdout: &mut Lines<BufReader<ChildStdout>>) -> String {
    while let Some(line) = stdout.next_line().await.unwrap() {
        if let Some(at) = line.find("http://127.0.0.1:") {
            let address = line[at..].split_whitespace().next().unwrap();
            return address.trim_end_matches('/').to_owned();
        }
    }
    panic!("the broker ended before it said where it listens");
}
