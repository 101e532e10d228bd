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
}
