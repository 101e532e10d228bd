//! Settings as they come together: flag, variable, profile, the rest of the file, default.

// A test ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod double;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use double::{Double, Reply, sound, text};

type Variables<'a> = &'a [(&'a str, &'a str)];

/// A home with what somebody would keep there.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Writes the settings file where it is looked for.
    fn settings(&self, text: &str) -> PathBuf {
        self.write(".config/uploader/config.toml", text, 0o600)
    }

    fn run(&self, variables: Variables<'_>, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_uploader"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.0.path())
            .envs(variables.iter().copied())
            // Not where the file is: its paths do not hang on this.
            .current_dir("/")
            .output()
            .unwrap()
    }
}

/// Refuses to tell, so that what matters is what it was asked with.
fn curious() -> Double {
    Double::start(|_| Reply::Answer(401, vec![], double::problem(401, "unauthenticated", &[])))
}

#[test]
fn a_flag_wins_over_its_variable_that_over_the_profile_that_over_the_rest_of_the_file() {
    let home = Home::new();
    let settings = "token = \"of-the-file\"\n[profiles.p]\ntoken = \"of-the-profile\"\n[profiles.none]\n";
    home.settings(settings);
    let double = curious();
    let (variable, flag) = (("UPLOADER_TOKEN", "of-the-variable"), ["--token", "of-the-flag"]);
    let (with_profile, without) = (["--profile", "p"], ["--profile", "none"]);
    let cases: [(Variables, Vec<&str>, &str); 6] = [
        (&[], vec![], "of-the-file"),
        (&[], without.to_vec(), "of-the-file"),
        (&[], with_profile.to_vec(), "of-the-profile"),
        (&[("UPLOADER_PROFILE", "p")], vec![], "of-the-profile"),
        (&[variable], with_profile.to_vec(), "of-the-variable"),
        (&[variable], [with_profile, flag].concat(), "of-the-flag"),
    ];
    for (variables, mut arguments, expected) in cases {
        arguments.extend(["--broker", &double.address, "whoami"]);
        home.run(variables, &arguments);
        let seen = double.seen();
        let authorization = &seen.last().unwrap().headers["authorization"];
        assert_eq!(
            authorization,
            &format!("Bearer {expected}"),
            "{variables:?} {arguments:?}"
        );
    }
    // How scripts leave a variable out.
    home.run(&[("UPLOADER_TOKEN", "")], &["--broker", &double.address, "whoami"]);
    assert_eq!(
        double.seen().last().unwrap().headers["authorization"],
        "Bearer of-the-file"
    );
}

#[test]
fn a_profile_with_sources_is_uploaded_by_its_name_alone() {
    let home = Home::new();
    let double = sound();
    for name in ["docs/a.txt", "docs/b.tmp", ".config/uploader/c"] {
        home.write(name, "hello", 0o644);
    }
    let settings = format!(
        "broker = \"{}\"\n[profiles.nightly]\nsources = [\"~/docs\", \"c\"]\nexclude = [\"*.tmp\"]\n\
         meta = {{ host = \"h7\" }}\ncontent-type = \"text/x\"\n",
        double.address
    );
    home.settings(&settings);

    let output = home.run(&[], &["--profile", "nightly", "put"]);

    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let creates = double
        .seen()
        .into_iter()
        .filter(|request| request.path == "/v1/uploads");
    let mut asked: Vec<serde_json::Value> = creates
        .map(|create| serde_json::from_slice(&create.body).unwrap())
        .collect();
    asked.sort_by_key(|create| create["name"].to_string());
    let names: Vec<_> = asked.iter().map(|create| create["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c", "docs/a.txt"]);
    for create in asked {
        assert_eq!(
            (&create["content_type"], &create["metadata"]["host"]),
            (&"text/x".into(), &"h7".into())
        );
    }

    // A source that is given takes the place of the list, a switch is taken back, and so is what a flag says anew.
    let only = home.path("docs/b.tmp");
    let output = home.run(
        &[],
        &[
            "--profile",
            "nightly",
            "put",
            "--content-type",
            "text/y",
            only.to_str().unwrap(),
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let seen = double.seen();
    let last = seen.iter().rfind(|request| request.path == "/v1/uploads").unwrap();
    assert!(
        text(&last.body).contains("\"b.tmp\"") && text(&last.body).contains("text/y"),
        "{}",
        text(&last.body)
    );
    assert_eq!(
        home.run(&[], &["put"]).status.code(),
        Some(2),
        "nothing is named to upload"
    );
}

#[test]
fn a_switch_that_a_profile_turns_on_is_taken_back_on_the_command_line() {
    let home = Home::new();
    let double = sound();
    // Five bytes, as all that the double takes.
    home.write("docs/.gitignore", "a\n#a\n", 0o644);
    home.write("docs/a", "hello", 0o644);
    home.write("docs/b", "hello", 0o644);
    home.settings(&format!("broker = \"{}\"\ngitignore = true\n", double.address));
    let docs = home.path("docs");
    let docs = docs.to_str().unwrap();
    for (arguments, expected) in [
        (vec!["put", docs], false),
        (vec!["put", "--gitignore=false", docs], true),
    ] {
        let output = home.run(&[], &arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(text(&output.stdout).contains("docs/a -> "), expected, "{output:?}");
    }
}

#[test]
fn a_settings_file_or_profile_that_was_named_and_is_not_there_is_an_error_and_the_usual_one_may_be_missing() {
    let home = Home::new();
    let double = curious();
    let ask = |variables: &[(&str, &str)], arguments: &[&str]| {
        let output = home.run(
            variables,
            &[arguments, &["--broker", &double.address, "whoami"]].concat(),
        );
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(ask(&[], &[]).0, Some(3), "it asked the broker");
    let (code, errors) = ask(&[], &["--profile", "x"]);
    assert!(
        code == Some(2) && errors.contains(".config/uploader/config.toml"),
        "{errors}"
    );
    for (variables, arguments) in [
        (&[][..], &["--config", "/no/such.toml"][..]),
        (&[("UPLOADER_CONFIG", "/no/such.toml")], &[]),
    ] {
        let (code, errors) = ask(variables, arguments);
        assert!(
            code == Some(2) && errors.contains("/no/such.toml cannot be read"),
            "{errors}"
        );
    }
    let other = home.write("other/uploader/config.toml", "[profiles.a]\n[profiles.b]\n", 0o644);
    for (variables, arguments) in [
        (
            &[("XDG_CONFIG_HOME", home.path("other").to_str().unwrap())][..],
            &[][..],
        ),
        (&[], &["--config", other.to_str().unwrap()]),
    ] {
        assert_eq!(ask(variables, &[arguments, &["--profile", "a"]].concat()).0, Some(3));
        let (code, errors) = ask(variables, &[arguments, &["--profile", "x"]].concat());
        assert!(code == Some(2) && errors.contains("has these: a, b"), "{errors}");
    }
    // Completions and help do not depend on it.
    home.settings("nonsense");
    for arguments in [&["completions", "bash"][..], &["man"], &["--help"], &["put", "--help"]] {
        assert_eq!(home.run(&[], arguments).status.code(), Some(0), "{arguments:?}");
    }
    let (code, errors) = ask(&[], &[]);
    assert!(code == Some(2) && errors.contains("config.toml, line 1: "), "{errors}");
}

#[test]
fn without_a_variable_that_names_the_home_directory_the_system_is_asked_for_journals_as_for_settings() {
    let put = |variables: Variables<'_>| {
        let output = Command::new(env!("CARGO_BIN_EXE_uploader"))
            .args(["put", "/no/such/file"])
            .env_clear()
            .env("XDG_CONFIG_HOME", "/no/settings/of/whoever/runs/this")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        text(&output.stderr)
    };
    for variables in [&[][..], &[("XDG_STATE_HOME", "relative")]] {
        let errors = put(variables);
        assert!(
            errors.contains("no such file") && !errors.contains("no journal"),
            "{errors}"
        );
    }
    let errors = put(&[("HOME", "relative")]);
    assert!(
        errors.contains("no journal is kept: neither XDG_STATE_HOME nor HOME says where"),
        "{errors}"
    );
}

#[test]
fn a_token_that_others_could_read_is_not_used() {
    let home = Home::new();
    let double = curious();
    let settings = home.settings("token = \"very-secret\"\n");
    let file = home.write("token", "very-secret\n", 0o600);
    let ask = |arguments: &[&str]| {
        let output = home.run(&[], &[arguments, &["--broker", &double.address, "whoami"]].concat());
        let errors = text(&output.stderr);
        assert!(!errors.contains("very-secret"), "{errors}");
        (output.status.code(), errors)
    };
    let by_file = ["--token-file", file.to_str().unwrap()];
    assert_eq!(
        (ask(&[]).0, ask(&by_file).0),
        (Some(3), Some(3)),
        "the broker was asked"
    );
    let asked = double.seen().len();

    let refused = |path: &Path, arguments: &[&str]| {
        std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        let (code, errors) = ask(arguments);
        let remedy = format!("chmod 600 {}", path.display());
        assert!(code == Some(2) && errors.contains(&remedy), "{errors}");
    };
    refused(&settings, &[]);
    std::fs::set_permissions(&settings, Permissions::from_mode(0o600)).unwrap();
    refused(&file, &by_file);
    assert_eq!(double.seen().len(), asked);
    // Without a token it may be read by anybody.
    home.settings("[profiles.p]\ntries = 1\n");
    std::fs::set_permissions(&settings, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(ask(&["--profile", "p"]).0, Some(3));
}

#[test]
fn a_token_has_one_source_the_nearest() {
    let home = Home::new();
    let double = curious();
    let file = home.write("token", "of-the-token-file\n", 0o600);
    let file = file.to_str().unwrap();
    home.settings("token = \"of-the-file\"\n");
    let cases: [(Variables, &[&str], &str); 3] = [
        (&[("UPLOADER_TOKEN_FILE", file)], &[], "of-the-token-file"),
        (
            &[("UPLOADER_TOKEN", "of-the-variable")],
            &["--token-file", file],
            "of-the-token-file",
        ),
        (
            &[("UPLOADER_TOKEN_FILE", file)],
            &["--token", "of-the-flag"],
            "of-the-flag",
        ),
    ];
    for (variables, arguments, expected) in cases {
        home.run(
            variables,
            &[arguments, &["--broker", &double.address, "whoami"]].concat(),
        );
        let seen = double.seen();
        assert_eq!(
            seen.last().unwrap().headers["authorization"],
            format!("Bearer {expected}")
        );
    }
    let both = home.run(&[], &["--token", "x", "--token-file", file, "whoami"]);
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}

/// In zones half a day apart, whatever the time, one is in the first half of its day and the other in the second.
#[test]
fn the_times_of_a_rates_table_are_those_of_the_zone() {
    let home = Home::new();
    let double = Double::start(|_| Reply::Answer(200, vec![], me()));
    let file = home.write("a", "hello", 0o644);
    let rates = ["--limit-rate", "00:00,1MiB 12:00,2MiB", file.to_str().unwrap()];
    let is_morning = |zone: &str| {
        let put = ["--broker", &double.address, "put", "--dry-run"];
        let output = home.run(&[("TZ", zone)], &[&put[..], &rates].concat());
        let shown = text(&output.stdout);
        let (first, second) = (shown.contains("at 1.00 MiB/s"), shown.contains("at 2.00 MiB/s"));
        assert!(first != second, "{output:?}");
        first
    };
    // Asked again where noon came in between.
    let (here, there) = loop {
        let (before, there, after) = (is_morning("UTC0"), is_morning("XXX-12"), is_morning("UTC0"));
        if before == after {
            break (before, there);
        }
    };
    assert_ne!(here, there);
}

/// The answer to `GET /v1/me`.
fn me() -> String {
    serde_json::json!({
        "principal": "alice", "server_time": "2026-01-01T00:00:00Z",
        "destinations": [{"name": "default", "key_template": "{name}", "max_size": 1 << 30, "acls": []}],
        "limits": {"max_parts_per_sign": 1000, "max_parts": 10_000, "min_part_size": 5 << 20,
            "max_part_size": 5_u64 << 30, "url_expires_in": 900, "upload_expires_in": 86_400},
    })
    .to_string()
}
