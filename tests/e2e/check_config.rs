//! `broker check-config`: all that is wrong with the settings, at once.

use tests::{Program, in_time};

use crate::rules::TWO_PLACES;

const BROKER: Program = Program::at(env!("CARGO_BIN_EXE_broker-under-test"));

#[tokio::test]
async fn check_config_says_all_that_is_wrong_at_once_or_what_the_settings_come_to() {
    let directory = tempfile::tempdir().unwrap();
    let check = async |text: &str| {
        std::fs::write(directory.path().join("broker.toml"), text).unwrap();
        let output = BROKER
            .command(directory.path(), ["check-config"], &std::collections::BTreeMap::new())
            .output();
        let output = in_time(output).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, out, _) = check(TWO_PLACES).await;
    assert_eq!(code, 0);
    assert!(out.contains("grant to bob: upload, delete at photos"), "{out}");
    let (code, _, error) = check(
        "listen = \"0.0.0.0\"\nkey_template = \"{nmae}\"\ntokens = \"hunter2\"\n\n[[destination]]\nname = \"a b\"\n\n\
         [[grant]]\nto = []\nmay = [\"upload\"]\ndestinations = [\"b\"]\n",
    )
    .await;
    assert_eq!(code, 1);
    for expected in [
        "line 1",
        "listen",
        "line 2",
        "nmae",
        "line 3",
        "line 5",
        "a b",
        "line 8",
        "to is empty",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
    let (_, _, error) = check(
        "listen = \"localhost\"\nmax_size = 0\nacls = \"secret\"\nendpoint = \"http://me:hunter2@host/\"\n\
         ledger = \"postgres://me:hunter2@:x/db\"\ntls_cert = \"no.pem\"\ntls_key = \"no.pem\"\n\"a\\u001b[31m\" = 1\n\n\
         [[grant]]\nto = [\"role:\", \"a b\"]\nmay = [\"upload\"]\nbytes_per_day = 0\n\n\
         [[grant]]\nto = [1]\nmay = [\"downlod\"]\nmax = 3\n",
    )
    .await;
    for expected in [
        "line 1: listen: expected an address and a port",
        "--max-size 0 would let nothing through",
        "\"secret\" is no canned ACL",
        "…@host",
        "\"postgres://…\" is not a ledger",
        "no.pem",
        "line 8: a\\u{1b}[31m: there is no such key",
        "\"role:\" can be nobody",
        "\"a b\" can be nobody",
        "bytes_per_day 0 would let nothing through",
        "line 16: [[grant]] 2: to: ",
        "line 17: [[grant]] 2: may: ",
        "line 18: [[grant]] 2: max: ",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(!error.contains("hunter2") && !error.contains('\u{1b}'), "{error}");
    // Whom a proxy or another issuer names is asked for: nobody else is served, and nothing else is said.
    let (code, out, _) = check("[forward_auth]\npeers = [\"127.0.0.1\"]\n").await;
    assert!(
        code == 0 && out.contains("proxies 127.0.0.1/32") && !out.contains("anonymous"),
        "{out}"
    );
}
