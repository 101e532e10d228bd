//! What the documents say, held to the code: examples are run, tables and file names compared with the sources.
//!
//! Blocks fenced as `sh` are run, those of a section in order in one process; a `text` block after one is what it prints, with
//! `…` for what differs from run to run. Commands that a reader types but no test can (a build, a server) are fenced as `bash`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use broker::config::Settings;
use reqwest::StatusCode;
use tests::{Stack, StoreUnderTest, sha256_hex};
use tokio::process::Command;
use tokio::time::timeout;

const README: &str = include_str!("../../README.md");
const PROTOCOL: &str = include_str!("../../docs/PROTOCOL.md");
const ARCHITECTURE: &str = include_str!("../../docs/ARCHITECTURE.md");
const DECISIONS: &str = include_str!("../../docs/DECISIONS.md");

/// Examples that take longer have hung.
const HUNG: Duration = Duration::from_secs(120);
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
        writeln!(
            std::io::stderr(),
            "SKIPPED: the examples of {name}: they need bash, curl 7.82, python3, openssl"
        )
        .unwrap();
        return;
    }
    let tokens = Some(format!("backup={}", sha256_hex("secret")));
    let settings = Settings {
        tokens,
        allow_anonymous: Some(true),
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
                &format!("set -euo pipefail\n{preamble}{}", script(&blocks, BETWEEN)),
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
                        .unwrap_or_else(|| panic!("{here} was not reached: {complaints}"))
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
    run.map(|block| format!("{}\nprintf %s '{end}'\n", block.text))
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

/// The text of one section of level 2.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let after = document.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    after.split("\n## ").next().unwrap()
}

/// The cells of every row of the tables in `text` whose first cell is code.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

/// What stands between `start` and the next `end`, wherever `start` is.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start)
        .skip(1)
        .filter_map(move |rest| rest.split_once(end).map(|(inside, _)| inside))
}

#[test]
fn the_table_of_problems_has_every_code_with_its_status_and_no_other() {
    let source = include_str!("../../broker/src/error.rs");
    let table = between(source, "fn answer(&self)", "pub fn code").next().unwrap();
    let table: String = table.split_whitespace().collect();
    let status = |name: &str| {
        let named = |status: &StatusCode| {
            let reason = status.canonical_reason().unwrap_or_default();
            reason.to_uppercase().replace([' ', '-'], "_") == name
        };
        let all = (100..600).filter_map(|number| StatusCode::from_u16(number).ok());
        all.into_iter()
            .find(named)
            .unwrap_or_else(|| panic!("StatusCode::{name}"))
            .as_u16()
    };
    let coded = table.split("StatusCode::").filter_map(|rest| {
        let (name, rest) = rest.split_once(",\"")?;
        Some((rest.split_once('"')?.0.to_owned(), status(name)))
    });
    let codes: BTreeMap<_, _> = coded.collect();

    let told = rows(section(PROTOCOL, "Problems")).filter_map(|row| Some((row[0], row.get(1)?.parse().ok()?)));
    let told: BTreeMap<_, _> = told
        .map(|(code, status): (&str, u16)| (code.trim_matches('`').to_owned(), status))
        .collect();

    assert!(
        codes.len() > 30,
        "read {} codes from the source: has its shape changed?",
        codes.len()
    );
    assert_eq!(told, codes);
}

#[test]
fn the_table_of_routes_is_the_brokers() {
    let source = include_str!("../../broker/src/app.rs");
    let table = between(source, "pub fn routes", "fn resource").next().unwrap();
    let mut routes = BTreeSet::new();
    for route in table.split("resource(\"").skip(1) {
        let (path, rest) = route.split_once('"').unwrap();
        routes.extend(between(rest, "web::", "()").map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let told: BTreeSet<_> = rows(section(PROTOCOL, "Routes"))
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    assert!(
        routes.len() > 5,
        "read {routes:?} from the source: has its shape changed?"
    );
    assert_eq!(told, routes);
}

#[test]
fn every_field_of_the_json_protocol_and_every_header_of_the_form_protocol_is_told() {
    let api = include_str!("../../shared/src/api.rs")
        .split("#[cfg(test)]")
        .next()
        .unwrap();
    let form = include_str!("../../broker/src/handlers/form.rs");
    let fields = between(api, "    pub ", ": ").map(|field| if field == "kind" { "type" } else { field });
    let names: Vec<_> = fields.chain(between(form, "named(\"", "\")")).collect();
    let untold: Vec<_> = names
        .iter()
        .filter(|name| !PROTOCOL.contains(&format!("`{name}`")))
        .collect();
    assert!(
        names.len() > 50,
        "read {names:?} from the sources: has their shape changed?"
    );
    assert_eq!(untold, [&""; 0]);
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let below = [
        "",
        "docs",
        "broker/src",
        "uploader/src",
        "store/src",
        "shared/src",
        "tests",
    ];
    let is_file = |name: &str| {
        let endings = [".rs", ".sh", ".py", ".md", ".yml", ".sql", ".toml"];
        endings.iter().any(|ending| name.ends_with(ending)) && !name.contains([' ', '*', '{']) && name != "broker.toml"
    };
    for (document, text) in [
        ("README", README),
        ("PROTOCOL", PROTOCOL),
        ("ARCHITECTURE", ARCHITECTURE),
        ("DECISIONS", DECISIONS),
    ] {
        let prose = text.split("```").step_by(2);
        let quoted = prose.clone().flat_map(|text| text.split('`').skip(1).step_by(2));
        let linked = prose
            .flat_map(|text| between(text, "](", ")"))
            .map(|link| link.split('#').next().unwrap());
        for name in quoted.chain(linked).filter(|name| is_file(name)) {
            let found = below.iter().any(|folder| root.join(folder).join(name).is_file());
            assert!(found, "{document}.md names {name}, which is not there");
        }
    }
}
