//! By way of a proxy, as the environment names it.

// A test ends where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod double;

use std::process::{Command, Output};

use double::{Double, Reply, completed};

/// Neither exists: whoever looks it up gets nowhere.
const BROKER: &str = "http://broker.invalid";
const SECURE_BROKER: &str = "https://broker.invalid";

/// A proxy that answers as broker and store would, for whichever host it is asked, and tunnels to nobody.
fn proxy() -> Double {
    Double::start(|request| match request.method.as_str() {
        "CONNECT" => Reply::Answer(403, vec![], String::new()),
        _ if request.path.ends_with("/complete") => Reply::Answer(200, vec![], completed(5)),
        _ => Reply::Normal,
    })
}

fn uploader(broker: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a"), "hello").unwrap();
    Command::new(env!("CARGO_BIN_EXE_uploader"))
        .args(["--tries", "1", "--broker", broker])
        .args(arguments)
        .current_dir(&directory)
        .env_clear()
        .env("HOME", directory.path())
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// What a proxy is asked for: the whole URL, or the host to which to tunnel (RFC 9112 sections 3.2.2 and 3.2.3).
fn asked_of(proxy: &Double) -> Vec<String> {
    proxy.seen().into_iter().map(|request| request.path).collect()
}

#[test]
fn requests_to_broker_and_store_go_through_the_proxy_that_the_environment_names() {
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let proxy = proxy();
        let output = uploader(BROKER, &[(variable, &proxy.address)], &["put", "a"]);
        assert_eq!(output.status.code(), Some(0), "{variable}: {output:?}");
        let asked = asked_of(&proxy);
        assert!(asked[0].starts_with(&format!("{BROKER}/v1/")), "{variable}: {asked:?}");
        let part = asked.iter().find(|url| url.contains("partNumber=")).unwrap();
        assert!(
            part.starts_with(&format!("{}/bucket/key", proxy.address)),
            "{variable}: {part}"
        );
    }
}

#[test]
fn https_goes_through_a_tunnel_of_the_proxy() {
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let proxy = proxy();
        let output = uploader(SECURE_BROKER, &[(variable, &proxy.address)], &["whoami"]);
        assert_eq!(output.status.code(), Some(75), "{variable}: {output:?}");
        let seen = proxy.seen();
        assert_eq!(
            (seen[0].method.as_str(), seen[0].path.as_str()),
            ("CONNECT", "broker.invalid:443"),
            "{variable}"
        );
    }
}

#[test]
fn no_proxy_names_hosts_that_are_reached_without_it() {
    for variable in ["NO_PROXY", "no_proxy"] {
        let (proxy, direct) = (proxy(), proxy());
        let variables = [
            ("HTTP_PROXY", proxy.address.as_str()),
            (variable, "example.org,127.0.0.0/8"),
        ];
        let output = uploader(&direct.address, &variables, &["put", "a"]);
        assert_eq!(output.status.code(), Some(0), "{variable}: {output:?}");
        assert_eq!(asked_of(&proxy), [""; 0], "{variable}");
        assert!(
            asked_of(&direct)[0].starts_with("/v1/"),
            "{variable}: {:?}",
            asked_of(&direct)
        );
    }
}

#[test]
fn a_proxys_password_reaches_the_proxy_and_no_message() {
    let proxy = Double::start(|_| Reply::Answer(407, vec![], String::new()));
    let address = proxy.address.replace("http://", "http://alice:very-secret@");
    for broker in [BROKER, SECURE_BROKER] {
        let output = uploader(broker, &[("ALL_PROXY", &address)], &["whoami"]);
        assert_ne!(output.status.code(), Some(0), "{output:?}");
        let shown = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(
            shown.contains("broker.invalid") && !shown.contains("very-secret"),
            "{shown}"
        );
    }
    // base64 of alice:very-secret
    let basic = "Basic YWxpY2U6dmVyeS1zZWNyZXQ=";
    let seen = proxy.seen();
    assert!(
        seen.len() >= 2
            && seen
                .iter()
                .all(|request| request.headers["proxy-authorization"] == basic),
        "{seen:?}"
    );
}
