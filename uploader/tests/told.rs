//! What a person is told: on a terminal and elsewhere, of many files, and of what is not sent.

// A test ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod double;

use std::path::Path;
use std::process::{Command, Output};

use double::{Double, Reply, completed, file, s3_error, sound, text};

const UPLOADER: &str = env!("CARGO_BIN_EXE_uploader");

fn uploader(broker: &str, arguments: &[&str]) -> Output {
    run(Command::new(UPLOADER).args(arguments), broker)
}

/// On a terminal, where standard output and standard error are one.
fn on_a_terminal(broker: &str, arguments: &[&str]) -> Output {
    let words = arguments.iter().map(|word| format!(" '{word}'"));
    let line = format!("stty cols 80; '{UPLOADER}'{}", words.collect::<String>());
    run(Command::new("script").args(["-qec", &line, "/dev/null"]), broker)
}

fn run(command: &mut Command, broker: &str) -> Output {
    let command = command.env("UPLOADER_BROKER", broker);
    let command = command.env("XDG_CONFIG_HOME", "/no/settings/of/whoever/runs/this");
    command.output().unwrap()
}

#[test]
fn on_a_terminal_many_files_are_a_sum_and_few_named_ones_a_line_each() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (a, b) = (file(root, "a"), file(root, "b"));
    std::os::unix::fs::symlink("a", root.join("link")).unwrap();
    let all = root.to_str().unwrap();
    let double = sound();
    let lines = |output: &Output| {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let shown = text(&output.stdout);
        assert!(shown.contains("2 files, 10 B in"), "{shown}");
        let of_links = [&text(&output.stderr), &shown].map(|shown| shown.matches("left out: it is").count());
        (shown.matches(" -> key").count(), of_links.iter().sum::<usize>())
    };
    assert_eq!(lines(&on_a_terminal(&double.address, &["put", all])), (0, 0));
    assert_eq!(
        lines(&on_a_terminal(&double.address, &["put", "--verbose", all])),
        (2, 1)
    );
    assert_eq!(lines(&on_a_terminal(&double.address, &["put", &a, &b])), (2, 0));
    assert_eq!(lines(&uploader(&double.address, &["put", all])), (2, 0));
}

#[test]
fn of_two_files_with_one_name_the_second_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["one", "two"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    let files = [
        file(&root.join("one"), "a"),
        file(&root.join("two"), "a"),
        file(&root.join("two"), "b"),
    ];
    let arguments: Vec<&str> = ["put"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let output = uploader(&sound().address, &arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (shown, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(
        shown.contains("2 files, 10 B in") && shown.contains("; 1 FAILED"),
        "{shown}"
    );
    assert!(
        errors.contains(&format!(
            "{}: another file of this command has the name a too",
            files[1]
        )),
        "{errors}"
    );
}

#[test]
fn a_directory_with_nothing_to_send_is_told_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let (empty, excluded) = (directory.path().join("empty"), directory.path().join("excluded"));
    for path in [&empty, &excluded] {
        std::fs::create_dir(path).unwrap();
    }
    let beside = file(directory.path(), "beside");
    file(&excluded, "a.tmp");
    let directories = [empty.to_str().unwrap(), excluded.to_str().unwrap()];
    let put = ["put", "--exclude", "*.tmp", directories[0], directories[1]];
    for arguments in [&put[..], &[&put[..], &[beside.as_str()]].concat()] {
        let output = uploader(&sound().address, arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let errors = text(&output.stderr);
        for directory in directories {
            let told = format!("{directory}: there is no file in it to send");
            assert_eq!(errors.matches(&told).count(), 1, "{errors}");
        }
    }
    let output = uploader(&sound().address, &["--json", "put", directories[0]]);
    assert!(text(&output.stdout).contains(r#""event":"empty""#), "{output:?}");
}

#[test]
fn a_directory_that_may_not_be_read_is_named_and_the_rest_is_sent() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let directory = tempfile::tempdir().unwrap();
    let (files, locked) = (directory.path().join("files"), directory.path().join("files/locked"));
    std::fs::create_dir_all(&locked).unwrap();
    file(&files, "good");
    file(&locked, "unseen");
    let close = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    close(directory.path(), 0o755);
    close(&locked, 0o000);
    let double = sound();
    let mut command = Command::new(env!("CARGO_BIN_EXE_uploader"));
    command
        .args(["--broker", &double.address, "put", "--no-journal"])
        .arg(&files)
        .env("XDG_CONFIG_HOME", "/no/settings/of/whoever/runs/this");
    if std::fs::read_dir(&locked).is_ok() {
        // The superuser may read everything; "nobody" may not.
        command.uid(65534);
    }
    let output = command.output().unwrap();
    close(&locked, 0o755);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("1 file, 5 B in"), "{output:?}");
    let expected = format!("{}: this directory may not be read by this user", locked.display());
    assert!(text(&output.stderr).contains(&expected), "{output:?}");
}

#[test]
fn pseudo_file_systems_below_a_source_are_left_out_and_told_in_the_sum() {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    file(&files, "good");
    std::os::unix::fs::symlink("/proc", files.join("system")).unwrap();
    let files = files.to_str().unwrap();
    let output = uploader(&sound().address, &["put", "--follow-links", files]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    assert!(
        shown.contains("1 file, 5 B in") && shown.contains("; 1 left out"),
        "{shown}"
    );
    let told = format!("left out: a pseudo file system (proc): {files}/system");
    assert!(shown.contains(&told), "{shown}");
}

#[test]
fn what_keeps_many_files_waiting_is_told_once_and_each_retry_with_verbose() {
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..6).map(|number| number.to_string()).collect();
    for name in &names {
        file(directory.path(), name);
    }
    let files = directory.path().to_str().unwrap();
    // On a machine that is slow enough, the same is told again after a while.
    for (verbose, lines) in [(&[][..], 1..=3), (&["--verbose"], 6..=6)] {
        let mut refused = 0;
        let double = Double::start(move |request| match request.part() {
            Some(_) if refused < 6 => {
                refused += 1;
                Reply::Answer(503, vec![("Retry-After", "0".into())], s3_error("SlowDown"))
            }
            _ if request.path.ends_with("/complete") => Reply::Answer(200, vec![], completed(5)),
            _ => Reply::Normal,
        });
        let output = uploader(&double.address, &[&["put"], verbose, &[files]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let errors = text(&output.stderr);
        assert!(lines.contains(&errors.matches("HTTP 503 SlowDown").count()), "{errors}");
    }
}
