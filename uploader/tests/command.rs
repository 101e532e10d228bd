//! The command line as a script sees it: exit codes, where text goes, and what is never in it.

// A test ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod double;

use std::path::Path;
use std::process::{Command, Output};

use double::{Double, Reply, completed, file, problem, s3_error, sound, text};

fn uploader(broker: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_uploader"))
        .args(arguments)
        .env("UPLOADER_BROKER", broker)
        .env("UPLOADER_TOKEN", "very-secret-token")
        .env("XDG_CONFIG_HOME", "/no/settings/of/whoever/runs/this")
        .output()
        .unwrap()
}

#[test]
fn an_uploaded_file_is_told_with_key_size_etag_and_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "ünï cödé +&=%.bin");
    let double = sound();
    let output = uploader(&double.address, &["put", &file]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    for expected in ["key   key", "size  5 bytes", "etag  \"e-1\"", "time  "] {
        assert!(shown.contains(expected), "{shown}");
    }
    let create = &double.seen()[0];
    assert!(text(&create.body).contains(r#""name":"ünï cödé +&=%.bin""#));
    assert_eq!(create.headers["authorization"], "Bearer very-secret-token");
}

#[test]
fn json_is_one_event_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let output = uploader(&sound().address, &["--json", "put", &file(directory.path(), "a")]);
    let events: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["started", "part", "completing", "completed"]);
    assert_eq!(events[3]["key"], "key");
    assert!(output.stderr.is_empty());
}

#[test]
fn quiet_is_silent_when_all_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let output = uploader(&sound().address, &["put", "--quiet", &file(directory.path(), "a")]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn files_that_cannot_be_sent_do_not_stop_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let good = file(directory.path(), "good");
    let output = uploader(&sound().address, &["put", "/no/such/file", "/dev/null", &good]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors = text(&output.stderr);
    for expected in ["there is no such file", "is not a regular file"] {
        assert!(errors.contains(expected), "{errors}");
    }
    let shown = text(&output.stdout);
    assert!(shown.contains("good -> key"), "{shown}");
    assert!(
        shown.contains("1 file, 5 B in ") && shown.contains("; 2 FAILED"),
        "{shown}"
    );
}

#[test]
fn a_directory_is_sent_file_by_file_and_summed_up() {
    let directory = tempfile::tempdir().unwrap();
    let photos = directory.path().join("photos");
    std::fs::create_dir_all(photos.join("2026")).unwrap();
    for name in ["a", "2026/b", "2026/c.tmp", ".DS_Store"] {
        std::fs::write(photos.join(name), "hello").unwrap();
    }
    std::os::unix::fs::symlink("a", photos.join("link")).unwrap();
    let double = sound();
    let photos = photos.to_str().unwrap();
    let output = uploader(&double.address, &["--json", "put", "--exclude", "*.tmp", photos]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let seen = double.seen();
    let creates = seen.iter().filter(|request| request.path == "/v1/uploads");
    let mut names: Vec<String> = creates
        .map(|create| serde_json::from_slice::<serde_json::Value>(&create.body).unwrap()["name"].to_string())
        .collect();
    names.sort();
    assert_eq!(names, [r#""photos/2026/b""#, r#""photos/a""#]);

    let shown = text(&output.stdout);
    let events: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let skipped: Vec<_> = events.iter().filter(|event| event["event"] == "skipped").collect();
    assert_eq!(skipped.len(), 1, "{shown}");
    assert_eq!(skipped[0]["what"], "a symbolic link");
    let last = events.last().unwrap();
    assert_eq!(last["event"], "summary", "{shown}");
    for (field, expected) in [
        ("files", 2),
        ("bytes", 10),
        ("failed", 0),
        ("skipped", 1),
        ("untried", 0),
    ] {
        assert_eq!(last[field], expected, "{field} in {last}");
    }
}

#[test]
fn what_stands_in_the_way_of_every_file_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..40 {
        file(directory.path(), &number.to_string());
    }
    let double = Double::start(|_| Reply::Answer(401, vec![], problem(401, "unauthenticated", &[])));
    let output = uploader(&double.address, &["put", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("[unauthenticated").count(), 1, "{errors}");
    assert!(errors.contains("the other files were not tried"), "{errors}");
    assert!(double.seen().len() < 40);
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = uploader(&format!("http://{closed}"), &["put", "--tries", "1", &file]);
    assert_eq!(output.status.code(), Some(75));
    let errors = text(&output.stderr);
    assert!(
        errors.contains("Is it running?") && errors.contains(&closed.to_string()),
        "{errors}"
    );

    let double = Double::start(|_| Reply::Answer(401, vec![], problem(401, "unauthorized", &[])));
    assert_eq!(uploader(&double.address, &["put", &file]).status.code(), Some(3));
    assert_eq!(uploader(&double.address, &["whoami"]).status.code(), Some(3));
    for usage in [
        &["put"][..],
        &["put", "--part-size", "8XB", &file],
        &["put", "--concurrency", "0", &file],
        &["put", "--name", "x", &file, &file],
        &["put", "--broker", "nonsense", &file],
        &["status", "not-an-id"],
    ] {
        assert_eq!(uploader(&double.address, usage).status.code(), Some(2), "{usage:?}");
    }
}

#[test]
fn neither_help_nor_errors_show_the_token() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for arguments in [
        &["--help"][..],
        &["put", "--help"],
        &["put"],
        &["whoami", "--tries", "1"],
        &["--broker", "nonsense", "whoami"],
    ] {
        let output = uploader(&format!("http://{closed}"), arguments);
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(
            !shown.is_empty() && !shown.contains("very-secret"),
            "{arguments:?}: {shown}"
        );
    }
}

#[test]
fn signals_halve_and_double_the_rate_while_files_are_sent_be_it_of_a_table_or_not() {
    use std::io::BufRead as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    std::fs::write(&path, vec![7; 64 << 10]).unwrap();
    let double = sound();
    for rate in ["1k", "00:00,1k"] {
        let mut put = Command::new(env!("CARGO_BIN_EXE_uploader"))
            .args(["--broker", &double.address, "put", "--limit-rate", rate])
            .env("XDG_CONFIG_HOME", "/no/settings/of/whoever/runs/this")
            .arg(&path)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(put.stderr.take().unwrap()).lines();
        let mut said = |expected: &str| {
            let line = lines.next().unwrap().unwrap();
            assert!(line.contains(expected), "{line}");
        };
        let signal = |name: &str| {
            let id = put.id().to_string();
            assert!(
                Command::new("kill")
                    .args([name, id.as_str()])
                    .status()
                    .unwrap()
                    .success()
            );
        };

        said("sending 64.00 KiB");
        signal("-USR1");
        said("at most 512 B/s");
        signal("-USR2");
        said("at most 1.00 KiB/s");
        signal("-USR2");
        said("at most 2.00 KiB/s");

        put.kill().unwrap();
        put.wait().unwrap();
    }
}

#[test]
fn what_is_interrupted_while_it_is_completed_is_told_to_be_open_and_is_not_given_up() {
    use std::io::Write as _;
    let (asked, until_asked) = std::sync::mpsc::channel();
    let double = Double::start(move |request| {
        if request.path.ends_with("/complete") {
            asked.send(()).unwrap();
            return Reply::Silence;
        }
        Reply::Normal
    });
    let mut put = Command::new(env!("CARGO_BIN_EXE_uploader"))
        .args([
            "--broker",
            &double.address,
            "put",
            "--no-journal",
            "--name",
            "stream",
            "-",
        ])
        .env("XDG_CONFIG_HOME", "/no/settings/of/whoever/runs/this")
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    put.stdin.take().unwrap().write_all(b"bytes").unwrap();
    until_asked.recv().unwrap();
    let id = put.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ended = put.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(
        said.contains("`uploader status AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA` tells"),
        "{said}"
    );
    assert!(!said.contains("given up"), "{said}");
    assert_eq!(double.asked("DELETE", ""), 0);
}

/// The answer to `GET /v1/me`, of a broker that takes files of up to `max_size` bytes.
fn me(max_size: u64) -> String {
    serde_json::json!({
        "principal": "alice", "server_time": "2026-01-01T00:00:00Z",
        "destinations": [{"name": "default", "key_template": "{date}/{name}", "max_size": max_size, "acls": []}],
        "limits": {"max_parts_per_sign": 1000, "max_parts": 10_000, "min_part_size": 5 << 20,
            "max_part_size": 5_u64 << 30, "url_expires_in": 900, "upload_expires_in": 86_400},
    })
    .to_string()
}

#[test]
fn a_dry_run_asks_who_this_is_and_tells_the_rest_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let photos = directory.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for (name, size) in [("a", 20 << 20), ("b", 0), ("too large", 30 << 20)] {
        let file = std::fs::File::create(photos.join(name)).unwrap();
        file.set_len(size).unwrap();
    }
    let double = Double::start(|_| Reply::Answer(200, vec![], me(25 << 20)));
    let photos = photos.to_str().unwrap();
    let arguments = [
        "--json",
        "put",
        "--dry-run",
        "--limit-rate",
        "1MiB",
        photos,
        "/no/such/file",
    ];
    let output = uploader(&double.address, &arguments);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let asked: Vec<_> = double.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(asked, ["/v1/me"]);
    let shown = text(&output.stdout);
    let events: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let a = events.iter().find(|event| event["name"] == "photos/a").unwrap();
    for (field, expected) in [
        ("event", "planned".into()),
        ("key_template", "{date}/{name}".into()),
        ("size", (20 << 20).into()),
        ("part_count", 3.into()),
        ("broker_requests", serde_json::Value::from(3)),
        ("store_requests", 3.into()),
    ] {
        assert_eq!(a[field], expected, "{field} in {a}");
    }
    let failed: Vec<_> = events.iter().filter(|event| event["event"] == "failed").collect();
    let mut codes: Vec<_> = failed.iter().map(|event| event["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["file_too_large", "source_unusable"]);
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["dry_run"]), (&"summary".into(), &true.into()));
    for (field, expected) in [
        ("files", 2),
        ("bytes", 20 << 20),
        ("parts", 3),
        ("failed", 2),
        ("seconds", 20),
    ] {
        assert_eq!(last[field], expected, "{field} in {last}");
    }
    assert_eq!(last["limit"], serde_json::json!({"by": "max_size", "bytes": 25 << 20}));

    let output = uploader(&double.address, &["put", "--dry-run", "--exclude", "too*", photos]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    for expected in [
        "photos/a as photos/a: 20.00 MiB in 3 parts of 8.00 MiB; 3 requests to the broker, 3 to the store",
        "2 files, 20.00 MiB in 3 parts; 5 requests to the broker, 3 to the store",
        "largest file: 25.00 MiB, which is all that the destination takes",
        "nothing was sent",
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
}

#[test]
fn completions_and_manual_need_no_broker_and_know_put() {
    for arguments in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["man"],
        &["man", "put"],
    ] {
        let output = uploader("nonsense", arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let shown = text(&output.stdout);
        assert!(
            shown.contains("put") && !shown.contains("very-secret"),
            "{arguments:?}: {shown}"
        );
    }
    assert_eq!(uploader("nonsense", &["man", "fly"]).status.code(), Some(2));
    assert_eq!(uploader("nonsense", &["completions", "fly"]).status.code(), Some(2));
}

#[test]
fn the_log_has_what_happened_to_every_file_and_nothing_secret() {
    let directory = tempfile::tempdir().unwrap();
    let (files, logs) = (directory.path().join("files"), directory.path().join("logs"));
    std::fs::create_dir(&files).unwrap();
    let steers = "b\u{1b}[2J\nfailed x";
    for name in ["a", steers] {
        std::fs::write(files.join(name), "hello").unwrap();
    }
    std::os::unix::fs::symlink("a", files.join("link")).unwrap();
    let mut slow_down = true;
    let double = Double::start(move |request| {
        if request.part().is_some() && std::mem::take(&mut slow_down) {
            Reply::Answer(503, vec![("Retry-After", "0".into())], s3_error("SlowDown"))
        } else if request.path.ends_with("/complete") {
            Reply::Answer(200, vec![], completed(5))
        } else {
            Reply::Normal
        }
    });
    let put = ["put", "--quiet", "--log-dir", logs.to_str().unwrap()];
    let arguments = [&put[..], &[files.to_str().unwrap(), "/no/such/file"]].concat();

    std::fs::write(&logs, "a file in its place").unwrap();
    let unusable = uploader(&double.address, &arguments);
    assert_eq!(unusable.status.code(), Some(2), "{unusable:?}");
    assert!(double.seen().is_empty(), "something was sent before the log was there");
    // A directory that is not there is made.
    std::fs::remove_file(&logs).unwrap();
    let output = uploader(&double.address, &arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    let mut log = String::new();
    for entry in std::fs::read_dir(&logs).unwrap() {
        log += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    for (kind, times) in [
        ("started", 2),
        ("retried", 1),
        ("completed", 2),
        ("failed", 1),
        ("skipped", 1),
        ("summary", 1),
    ] {
        let told = log.lines().filter(|line| line.split(' ').nth(1) == Some(kind)).count();
        assert_eq!(told, times, "{kind} in {log}");
    }
    assert!(log.contains("summary files=2 bytes=10 "), "{log}");
    for secret in ["very-secret", "X-Sig", "\u{1b}"] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// Runs `mkfifo`: a pipe that nobody writes to, so that whoever opens it waits for ever.
fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn what_is_no_regular_file_is_told_as_that_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let good = file(&files, "good");
    pipe(&files.join("pipe"));
    let named = files.join("pipe");
    let named = named.to_str().unwrap();
    // That of /sys says that it has 4096 bytes.
    for special in [
        named,
        "/proc/self/status",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ] {
        if !Path::new(special).exists() {
            continue;
        }
        let output = uploader(&sound().address, &["put", special]);
        assert_eq!(output.status.code(), Some(1), "{special}: {output:?}");
        let errors = text(&output.stderr);
        assert!(
            errors.contains(special) && errors.contains("is not a regular file"),
            "{errors}"
        );
    }
    let output = uploader(&sound().address, &["put", files.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains(&format!("{good} -> key")), "{output:?}");
    let told = format!("left out: a pipe, a socket or a device: {named}");
    assert!(text(&output.stdout).contains(&told), "{output:?}");
}

#[test]
fn a_name_that_is_no_text_fails_alone_and_can_be_given_another() {
    use std::os::unix::ffi::OsStrExt as _;
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    file(&files, "good");
    let odd = files.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::write(&odd, "hello").unwrap();

    let output = uploader(&sound().address, &["put", files.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("good -> key"), "{output:?}");
    assert!(text(&output.stderr).contains("its name is not UTF-8"), "{output:?}");

    let double = sound();
    let output = Command::new(env!("CARGO_BIN_EXE_uploader"))
        .args(["--broker", &double.address, "put", "--name", "café"])
        .arg(&odd)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_full_disk_costs_the_log_and_not_the_upload() {
    let directory = tempfile::tempdir().unwrap();
    let (good, logs) = (file(directory.path(), "good"), directory.path().join("logs"));
    std::fs::create_dir(&logs).unwrap();
    let today = time::OffsetDateTime::now_utc().date();
    // Midnight may come while this runs.
    for day in [today, today.next_day().unwrap()] {
        std::os::unix::fs::symlink("/dev/full", logs.join(format!("uploader-{day}.log"))).unwrap();
    }
    let arguments = ["put", "--log-dir", logs.to_str().unwrap(), &good];
    let output = uploader(&sound().address, &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("No space left on device").count(), 1, "{errors}");
}
