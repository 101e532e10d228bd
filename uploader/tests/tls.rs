//! A broker behind TLS, with a certificate that only a file of authorities vouches for. Done where `openssl` is there.

// A test ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const ME: &str = r#"{"principal": "alice", "destinations": [], "server_time": "2026-01-01T00:00:00Z", "limits":
    {"max_parts_per_sign": 1, "max_parts": 1, "min_part_size": 1, "max_part_size": 1, "url_expires_in": 1,
    "upload_expires_in": 1}}"#;

fn openssl(directory: &Path, arguments: &str) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// An authority, what it vouches for, and a server that has nothing but `/v1/me`.
fn start(directory: &Path) -> (Child, String) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    let authority = format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem");
    let server = format!(
        "{new} -CA ca.pem -CAkey ca.key -subj /CN=server -addext subjectAltName=IP:127.0.0.1 \
         -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.pem"
    );
    for arguments in [authority, server] {
        assert!(openssl(directory, &arguments).status().unwrap().success());
    }
    std::fs::create_dir(directory.join("v1")).unwrap();
    let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{ME}");
    std::fs::write(directory.join("v1/me"), answer).unwrap();
    let serve = "s_server -HTTP -accept 127.0.0.1:0 -cert server.pem -key server.key";
    let mut server = openssl(directory, serve).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = lines
        .find_map(|line| Some(line.unwrap().strip_prefix("ACCEPT ")?.to_owned()))
        .unwrap();
    // Its words are read on, lest it wait for a reader.
    std::thread::spawn(move || lines.count());
    (server, address)
}

#[test]
fn a_broker_that_only_a_file_of_authorities_vouches_for_is_believed_with_it_and_not_without() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: there is no openssl here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut server, address) = start(directory.path());
    let whoami = |variables: &[(&str, &str)]| -> Output {
        Command::new(env!("CARGO_BIN_EXE_uploader"))
            .args(["--tries", "9", "--broker", &format!("https://{address}"), "whoami"])
            .env("XDG_CONFIG_HOME", directory.path())
            .envs(variables.iter().copied())
            .current_dir(directory.path())
            .output()
            .unwrap()
    };

    let with = whoami(&[("UPLOADER_CA_FILE", "ca.pem")]);
    let without = whoami(&[("UPLOADER_CA_FILE", "")]);
    let garbage = whoami(&[("UPLOADER_CA_FILE", "server.key")]);
    server.kill().unwrap();
    server.wait().unwrap();

    assert_eq!(with.status.code(), Some(0), "{with:?}");
    assert!(String::from_utf8_lossy(&with.stdout).contains("alice"), "{with:?}");
    assert_eq!(without.status.code(), Some(75), "{without:?}");
    let errors = String::from_utf8_lossy(&without.stderr);
    assert!(errors.to_lowercase().contains("certificate"), "{errors}");
    assert!(
        errors.contains("--ca-file") && !errors.contains("Is it running"),
        "{errors}"
    );
    assert_eq!(garbage.status.code(), Some(2), "{garbage:?}");
    let errors = String::from_utf8_lossy(&garbage.stderr);
    assert!(errors.contains("server.key"), "{errors}");
}
