//! `schedule`: units that systemd takes, lines that cron takes, files that are nobody else's.

// A test ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A home with a settings file.
struct Home(tempfile::TempDir);

impl Home {
    fn with(settings: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join(".config/uploader");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("config.toml"), settings).unwrap();
        Self(home)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.0.path())
            .current_dir(self.0.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_uploader"));
        self.command(program, arguments).output().unwrap()
    }

    fn units(&self) -> PathBuf {
        self.0.path().join(".config/systemd/user")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const NIGHTLY: &str = "[profiles.nightly]\nsources = [\"data\"]\n";

#[test]
fn without_write_the_units_are_shown_and_nothing_is_written() {
    let home = Home::with(NIGHTLY);
    let output = home.run(&["--profile", "nightly", "schedule", "--at", "3:05"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    let config = home.0.path().join(".config/uploader/config.toml");
    for expected in [
        &format!("\"--config\" \"{}\" \"--profile=nightly\" \"put\"", config.display()),
        "OnCalendar=*-*-* 03:05:00",
        "systemctl --user daemon-reload && systemctl --user enable --now uploader-nightly.timer",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    assert!(!home.units().exists());
}

#[test]
fn write_puts_two_units_where_systemd_looks_and_replaces_only_its_own() {
    let home = Home::with(NIGHTLY);
    let write = |at| home.run(&["--profile", "nightly", "schedule", "--write", "--at", at]);
    assert_eq!(write("01:00").status.code(), Some(0));
    let (service, timer) = (
        home.units().join("uploader-nightly.service"),
        home.units().join("uploader-nightly.timer"),
    );
    assert!(std::fs::read_to_string(&service).unwrap().contains("ExecStart="));
    assert!(std::fs::read_to_string(&timer).unwrap().contains("01:00:00"));
    assert_eq!(write("02:00").status.code(), Some(0));
    assert!(std::fs::read_to_string(&timer).unwrap().contains("02:00:00"));

    std::fs::write(&timer, "[Timer]\n# mine\n").unwrap();
    let before = std::fs::read_to_string(&service).unwrap();
    std::fs::remove_file(&service).unwrap();
    let refused = write("03:00");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let errors = text(&refused.stderr);
    assert!(
        errors.contains("uploader-nightly.timer") && errors.contains("move it away"),
        "{errors}"
    );
    assert!(std::fs::read_to_string(&timer).unwrap().contains("# mine"));
    assert!(!service.exists(), "half of it was written: {before}");
}

#[test]
fn a_profile_that_could_not_be_uploaded_at_night_is_refused_by_day() {
    let settings = "[profiles.empty]\ntries = 3\n[profiles.two]\nsources = [\"a\", \"b\"]\nname = \"x\"\n\
        [profiles.stdin]\nsources = [\"-\"]\nname = \"x\"\n\
        [profiles.token]\nsources = [\"a\"]\ntoken-file = \"not there\"\n\
        [profiles.credential]\nsources = [\"a\"]\ntoken-file = \"/run/credentials/uploader-credential.service/token\"\n";
    let home = Home::with(settings);
    for (profile, expected) in [
        ("empty", "no source is named"),
        ("two", "--name is for one source"),
        ("stdin", "standard input"),
        ("token", "cannot be read"),
        ("nowhere", "credential, empty, stdin, token, two"),
    ] {
        let output = home.run(&["--profile", profile, "schedule", "--write"]);
        assert_eq!(output.status.code(), Some(2), "{profile}: {output:?}");
        let errors = text(&output.stderr);
        assert!(errors.contains(expected), "{profile}: {errors}");
    }
    assert_eq!(home.run(&["schedule"]).status.code(), Some(2));
    assert!(!home.units().exists());
    // It is there when the service runs.
    assert_eq!(
        home.run(&["--profile", "credential", "schedule"]).status.code(),
        Some(0)
    );
}

#[test]
fn what_a_run_of_its_own_would_not_have_is_told_and_no_secret_is_in_a_unit() {
    let home = Home::with(NIGHTLY);
    let program = Path::new(env!("CARGO_BIN_EXE_uploader"));
    let mut command = home.command(program, &["--profile", "nightly", "--tries", "3", "schedule"]);
    let output = command.env("UPLOADER_TOKEN", "very-secret").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let errors = text(&output.stderr);
    for expected in ["UPLOADER_TOKEN is given here", "--tries is given here"] {
        assert!(errors.contains(expected), "{errors}");
    }
    assert!(!(text(&output.stdout) + &errors).contains("very-secret"));
}

#[test]
fn a_program_whose_path_systemd_would_not_take_is_refused() {
    let home = Home::with(NIGHTLY);
    let program = home.0.path().join("it's");
    std::fs::copy(env!("CARGO_BIN_EXE_uploader"), &program).unwrap();
    let run = |arguments: &[&str]| {
        let arguments = [&["--profile", "nightly", "schedule"], arguments].concat();
        loop {
            match home.command(&program, &arguments).output() {
                // Another test's child was born while the copy was being written, and has not yet let go of it.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                output => return output.unwrap(),
            }
        }
    };
    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("it's"), "{refused:?}");
    // A shell takes any.
    assert_eq!(run(&["--cron"]).status.code(), Some(0));
}

/// systemd's own parser where there is one. Elsewhere the units' text is held to what its manual says by the unit tests of
/// `units.rs`.
#[test]
fn systemd_takes_the_units_whatever_program_file_and_profile_are_called() {
    let verify = |units: &[PathBuf]| Command::new("systemd-analyze").arg("verify").args(units).output();
    if verify(&[]).is_err() {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    }
    let home = Home::with("");
    let program = home.0.path().join("up loader$HOME 100%s");
    std::fs::copy(env!("CARGO_BIN_EXE_uploader"), &program).unwrap();
    let config = home.0.path().join("my \"set\\tings\" 50%h $HOME.toml");
    std::fs::write(&config, "[profiles.\"a b/../%n'\\\"\\n#\"]\nsources = [\"data\"]\n").unwrap();
    let profile = "a b/../%n'\"\n#";
    let place = tempfile::tempdir().unwrap();
    for when in [
        &["--at", "02:30"][..],
        &["--every", "15m"],
        &["--every", "6h"],
        &["--on-calendar", "Mon..Fri 22:00"],
        &["--system"],
    ] {
        let schedule = [
            "--json",
            "--config",
            config.to_str().unwrap(),
            "--profile",
            profile,
            "schedule",
        ];
        let output = home.command(&program, &[&schedule, when].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let files = answer["files"].as_array().unwrap().iter().map(|file| {
            let name = Path::new(file["path"].as_str().unwrap()).file_name().unwrap();
            let path = place.path().join(name);
            std::fs::write(&path, file["text"].as_str().unwrap()).unwrap();
            path
        });
        let files: Vec<_> = files.collect();
        assert_eq!(files.len(), 2, "{answer}");
        let verified = verify(&files).unwrap();
        let said = text(&verified.stderr);
        assert!(
            verified.status.success() && !said.contains("uploader-"),
            "{when:?}: {said}\n{answer}"
        );
    }
}
