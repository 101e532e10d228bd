//! The examples are run, and print what is told.
//!
//! Blocks fenced as `sh` are run, those of a section in order in one process; a `text` block after one is what it prints,
//! with `…` for what differs from run to run. Commands that a reader types but no test can (a build, a server) are fenced
//! as `bash`.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use broker::config::Settings;
use tests::{Stack, StoreUnderTest, sha256_hex};
use tokio::process::Command;
use tokio::time::timeout;

use crate::{PROTOCOL, README};

/// What is called `uploader` in the examples.
const UPLOADER: &str = env!("CARGO_BIN_EXE_uploader-under-test");
/// Examples that take longer have hung.
const HUNG: Duration = Duration::from_mins(2);
/// Stands between the outputs of two blocks.
const BETWEEN: &str = "\n\u{1e}\n";

/// A fenced block.
struct Block {
    language: String,
    text: String,
    /// Where it begins in its document.
    line: usize,
}

/// A document's blocks by the heading of level 2 above them; those before the first heading are under "".
fn sections(document: &str) -> Vec<(&str, Vec<Block>)> {
    let mut sections: Vec<(&str, Vec<Block>)> = vec![("", Vec::new())];
    let mut open: Option<Block> = None;
    for (line, text) in (1..).zip(document.lines()) {
        match (&mut open, text.strip_prefix("```")) {
            (Some(_), Some(_)) => sections.last_mut().unwrap().1.extend(open.take()),
            (Some(block), None) => block.text.extend([text, "\n"]),
            (None, Some(language)) => {
                let (language, text) = (language.to_owned(), String::new());
                open = Some(Block { language, text, line });
            }
            (None, None) => sections.extend(text.strip_prefix("## ").map(|heading| (heading, Vec::new()))),
        }
    }
    assert!(open.is_none(), "a block is not closed");
    sections
}

/// Whether `printed` is `expected`, where `…` stands for anything.
fn is_as_told(expected: &str, printed: &str) -> bool {
    let (expected, mut rest) = (expected.trim(), printed.trim());
    let mut pieces: Vec<_> = expected.split('…').collect();
    let last = pieces.pop().unwrap();
    if pieces.is_empty() {
        return rest == last;
    }
    for (place, piece) in pieces.iter().enumerate() {
        match rest.find(piece) {
            Some(at) if at == 0 || place > 0 => rest = &rest[at + piece.len()..],
            _ => return false,
        }
    }
    rest.ends_with(last)
}

/// Runs every example of a document against a broker of its own, and compares what it prints with what is told.
async fn run_examples(name: &str, document: &str) {
    let missing = "for tool in curl python3 openssl; do command -v $tool >/dev/null || exit 1; done; curl --help all | grep -q -- --json";
    if !Command::new("bash")
        .args(["-c", missing])
        .status()
        .await
        .is_ok_and(|status| status.success())
    {
        // Not by a macro: what those print is shown only if a test fails.
        let skipped = format!("SKIPPED: the examples of {name}: they need bash, curl 7.82, python3, openssl");
        _ = writeln!(std::io::stderr(), "{skipped}");
        return;
    }
    let tokens = Some(format!("backup={}", sha256_hex("secret")));
    let settings = Settings {
        tokens,
        allow_anonymous: Some(true),
        // As for a broker on its own embedded store.
        downloads: Some(true),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let mut sections = sections(document).into_iter();
    let preamble: String = script(&sections.next().unwrap().1, "");
    for (heading, blocks) in sections {
        if !blocks.iter().any(|block| block.language == "sh") {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let run = Command::new("bash")
            .args([
                "-c",
                &format!(
                    "set -euo pipefail\nuploader() {{ '{UPLOADER}' \"$@\"; }}\n{preamble}{}",
                    script(&blocks, BETWEEN)
                ),
            ])
            .current_dir(&directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", directory.path())
            .env("BROKER", stack.broker.base())
            .env("TOKEN", "secret")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let run = timeout(HUNG, run).await.expect("the examples hang").unwrap();
        let (printed, complaints) = (
            String::from_utf8(run.stdout).unwrap(),
            String::from_utf8_lossy(&run.stderr),
        );
        let mut outputs = printed.split(BETWEEN);
        let mut output = "";
        for block in &blocks {
            let here = format!("{name}:{} ({heading})", block.line);
            match block.language.as_str() {
                "sh" => {
                    output = outputs
                        .next()
                        .unwrap_or_else(|| panic!("{here} was not reached: {complaints}"));
                }
                "text" => {
                    let told = is_as_told(&block.text, output);
                    assert!(
                        told,
                        "{here} tells\n{}\nbut this was printed:\n{output}\n{complaints}",
                        block.text
                    );
                }
                _ => {}
            }
        }
        // After each block that ended well something is printed, so that the last of these pieces is what came after all.
        assert!(
            run.status.success() && outputs.next().is_some(),
            "{name} ({heading}): {output}\n{complaints}"
        );
    }
}

/// The blocks to run, one after the other, with `end` printed after each.
fn script(blocks: &[Block], end: &str) -> String {
    let run = blocks.iter().filter(|block| block.language == "sh");
    run.flat_map(|block| [block.text.clone(), format!("\nprintf %s '{end}'\n")])
        .collect()
}

#[tokio::test]
async fn the_examples_of_the_protocols_print_what_is_told() {
    run_examples("docs/PROTOCOL.md", PROTOCOL).await;
}

#[tokio::test]
async fn the_examples_of_the_readme_print_what_is_told() {
    run_examples("README.md", README).await;
}

#[test]
fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
    for (expected, printed) in [
        ("a", "a\n"),
        ("a…c", "abc"),
        ("a…", "a"),
        ("…c", "c"),
        ("a…c…e", "a b c d e"),
    ] {
        assert!(is_as_told(expected, printed), "{expected:?} against {printed:?}");
    }
    for (expected, printed) in [
        ("a", "b"),
        ("a", ""),
        ("a…c", "xabc"),
        ("a…c", "abcx"),
        ("a…c…e", "a d e"),
        ("ab…ba", "aba"),
    ] {
        assert!(!is_as_told(expected, printed), "{expected:?} against {printed:?}");
    }
}
