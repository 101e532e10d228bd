//! Tables and file names are compared with the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::StatusCode;

use crate::{ARCHITECTURE, AUTHENTICATION, DECISIONS, OPERATIONS, PROTOCOL, README, SECURITY};

/// The text of one section of level 2.
pub(crate) fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let after = document.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    after.split("\n## ").next().unwrap()
}

/// The cells of every row of the tables in `text` whose first cell is code.
pub(crate) fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
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
    let answers = table.split("StatusCode::").filter_map(|rest| {
        let (name, rest) = rest.split_once(",\"")?;
        Some((rest.split_once('"')?.0.to_owned(), status(name)))
    });
    let codes: BTreeMap<_, _> = answers.collect();

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
        let methods = between(rest, "web::", "()").filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase()));
        routes.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
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
    let tickets = include_str!("../../shared/src/api/tickets.rs");
    let form = include_str!("../../broker/src/handlers/form.rs");
    let fields = between(api, "    pub ", ": ")
        .chain(between(tickets, "    pub ", ": "))
        .map(|field| if field == "kind" { "type" } else { field });
    let names: Vec<_> = fields.chain(between(form, "named(\"", "\")")).collect();
    let untold: Vec<_> = names
        .iter()
        // Its fields stand beside it.
        .filter(|name| **name != "info")
        .filter(|name| !PROTOCOL.contains(&format!("`{name}`")))
        .collect();
    assert!(
        names.len() > 50,
        "read {names:?} from the sources: has their shape changed?"
    );
    assert_eq!(untold, [&""; 0]);
}

#[test]
fn the_tables_of_destinations_and_grants_have_every_key_of_the_settings_file_and_every_right() {
    let source = include_str!("../../broker/src/config/places.rs");
    let keys = |start| -> BTreeSet<_> {
        let fields = between(source, start, "\n}").next().unwrap();
        between(fields, "    pub ", ": ").map(str::to_owned).collect()
    };
    let mut known = keys("pub struct DestinationSettings {");
    known.extend(keys("pub struct GrantSettings {"));
    known.extend(broker::policy::Right::ALL.map(|right| right.name().to_owned()));
    let section = section(AUTHENTICATION, "Destinations and grants");
    let mut told: BTreeSet<_> = rows(section)
        .flat_map(|row| {
            row[0]
                .split(", ")
                .map(|name| name.trim_matches('`').to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    // The prose after the example.
    told.extend(["to", "destinations", "may"].map(str::to_owned));
    assert_eq!(told, known);
}

#[test]
fn every_threat_in_the_table_has_tests_that_are_there_by_their_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = String::new();
    let mut directories = vec![root.join("tests"), root.join("broker/src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let table = section(SECURITY, "Threats and tests");
    let threats: Vec<_> = table.lines().filter(|line| line.starts_with("| T")).collect();
    for row in &threats {
        let tests: Vec<_> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            let there = ["(", "{ "]
                .iter()
                .any(|after| sources.contains(&format!("fn {test}{after}")))
                || sources.contains(&format!("    {test}\n"));
            assert!(there, "there is no test {test}");
        }
    }
    let numbers: Vec<_> = threats
        .iter()
        .filter_map(|row| row.get(3..5)?.parse::<u8>().ok())
        .collect();
    let rows = (4..=9).chain([12]).chain(14..=32).chain([36]);
    let untold: Vec<_> = rows.filter(|number| !numbers.contains(number)).collect();
    assert!(untold.is_empty(), "no row for {untold:?}");
}

/// What can be compared by `==` can be guessed byte by byte, by the time that it takes.
#[test]
fn t18_no_type_that_holds_a_secret_can_be_compared_by_the_operator() {
    let sources = [
        (include_str!("../../broker/src/auth/bearer.rs"), "pub struct Bearer"),
        (
            include_str!("../../broker/src/auth/settings_token.rs"),
            "pub struct TokenDigest",
        ),
        (include_str!("../../broker/src/auth/identify.rs"), "struct Kept"),
        (
            include_str!("../../broker/src/ledger/credentials.rs"),
            "pub struct Token",
        ),
        (include_str!("../../broker/src/config.rs"), "pub struct Secret"),
        (include_str!("../../broker/src/webhook.rs"), "pub struct Webhook"),
    ];
    for (source, name) in sources {
        let before = source.split(name).next().filter(|before| before.len() < source.len());
        let before = before.unwrap_or_else(|| panic!("{name} is not where it was"));
        let derived = before.rsplit("#[derive(").next().unwrap().split(')').next().unwrap();
        assert!(!derived.contains("PartialEq"), "{name}: {derived}");
        let kind = name.rsplit(' ').next().unwrap();
        assert!(!source.contains(&format!("PartialEq for {kind}")), "{name}");
    }
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
        endings.iter().any(|ending| name.ends_with(ending)) && !name.contains([' ', '*', '{'])
            // What users write.
            && !["broker.toml", "~/.config/uploader/config.toml"].contains(&name)
    };
    for (document, text) in [
        ("README", README),
        ("PROTOCOL", PROTOCOL),
        ("ARCHITECTURE", ARCHITECTURE),
        ("DECISIONS", DECISIONS),
        ("OPERATIONS", OPERATIONS),
        ("AUTHENTICATION", AUTHENTICATION),
        ("SECURITY", SECURITY),
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
