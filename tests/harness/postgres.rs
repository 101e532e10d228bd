//! A PostgreSQL for tests: one server a test process, started when first asked for, gone with the process however it ends; and
//! a database of its own for each test.
//!
//! With `DATABASE_URL` (a role that may create databases) that server is used instead. Also part of the broker's own tests,
//! so it uses nothing else of this package.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _};

/// Who runs the server where the tests are run by root, as whom PostgreSQL refuses to run: `nobody`.
const NOBODY: u32 = 65534;

/// A server that takes longer does not start.
const STARTS_WITHIN: Duration = Duration::from_mins(1);

/// The URL of a new database, for this test alone.
#[allow(unreachable_pub, reason = "in the broker's tests this is a private module")]
pub async fn postgres_database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = match env::var("DATABASE_URL") {
        Ok(url) => url,
        Err(_) => tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start).url.clone())
            .await
            .unwrap(),
    };
    let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    sqlx::any::install_default_drivers();
    let began = Instant::now();
    let mut connection = loop {
        match AnyConnection::connect(&server).await {
            Ok(connection) => break connection,
            // It listens before it is ready.
            Err(_) if began.elapsed() < STARTS_WITHIN => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("PostgreSQL does not answer: {error}"),
        }
    };
    connection
        .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .unwrap();
    connection.close().await.unwrap();
    let (start, query) = server.split_once('?').unwrap_or((&server, ""));
    let host = start.rsplit_once('/').map_or(start, |(host, _)| host);
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{query}")
    };
    format!("{host}/{name}{query}")
}

/// A running server. Its process watches a pipe from this one, and ends with it.
struct Server {
    url: String,
    _watched: Child,
}

impl Server {
    fn start() -> Self {
        let programs = programs();
        let home = tempfile::tempdir().unwrap().keep();
        let data = home.join("data");
        // The one who made the directory; another one only where that is root.
        let as_root = fs::metadata(&home).unwrap().uid() == 0;
        if as_root {
            chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&home).env_remove("PGDATA").env("LC_ALL", "C");
            if as_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let made = command(&programs.join("initdb"))
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );

        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let watched = command(Path::new("/bin/sh"))
            // Standard input ends when this process does, even by kill -9.
            .args([
                "-c",
                r#"home=$1; shift; "$@" & cat; kill -QUIT $!; wait; rm -rf "$home""#,
                "sh",
            ])
            .arg(&home)
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""])
            // What the tests are about is not whether PostgreSQL survives a power cut.
            .args([
                "-c",
                "fsync=off",
                "-c",
                "max_connections=300",
                "-c",
                "shared_buffers=32MB",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(home.join("log")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < STARTS_WITHIN,
                "PostgreSQL did not start: {}",
                fs::read_to_string(home.join("log")).unwrap_or_default()
            );
            sleep(Duration::from_millis(20));
        }
        Self {
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            _watched: watched,
        }
    }
}

/// Where `initdb` and `postgres` are: on the PATH, or where Debian keeps them, which it leaves out of the PATH.
fn programs() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    env::split_paths(&path)
        .chain(versions.into_iter().rev())
        .find(|directory| directory.join("initdb").exists() && directory.join("postgres").exists())
        .expect(
            "these tests need PostgreSQL's programs initdb and postgres (Debian: apt-get install postgresql), or a running \
             server in DATABASE_URL, as a role that may create databases",
        )
}
