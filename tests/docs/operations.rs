//! What operators are told is what a running broker prints and takes.

use std::collections::{BTreeMap, BTreeSet};

use broker::config::Settings;
use serde_json::Value;
use tests::{Series, Stack, StoreUnderTest, certificate, series};

use crate::OPERATIONS;
use crate::tables::{rows, section};

const ALERTS: &str = include_str!("../../docs/operations/alerts.yml");
const TESTED: &str = include_str!("../operations/alerts.yml");
const DASHBOARD: &str = include_str!("../../docs/operations/grafana-dashboard.json");

/// What a broker prints that has had every kind of thing to count.
async fn printed() -> String {
    let settings = Settings {
        admin_listen: Some(([127, 0, 0, 1], 0).into()),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    stack.api.upload("a", b"b").await;
    stack.api.get("/nowhere").await.problem(404);
    let mut printed = stack.broker.admin().get("/metrics").await.text();
    printed.push_str(&of_tls().await);
    printed
}

/// What a broker prints besides that speaks TLS itself.
async fn of_tls() -> String {
    let directory = tempfile::tempdir().unwrap();
    let files = certificate(directory.path(), 1).expect("openssl is needed for this test");
    let settings = Settings {
        admin_listen: Some(([127, 0, 0, 1], 0).into()),
        tls_cert: Some(files.certificates),
        tls_key: Some(files.key),
        ..Settings::default()
    };
    let stack = Stack::with(StoreUnderTest::embedded().await, settings).await;
    let printed = stack.broker.admin().get("/metrics").await.text();
    let lines = printed.lines().filter(|line| line.contains("certificate"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Each family by its name, and its kind.
fn families(printed: &str) -> BTreeMap<&str, &str> {
    let kinds = printed.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    kinds.filter_map(|kind| kind.split_once(' ')).collect()
}

/// A series' family: a histogram is printed as three.
fn family<'a>(name: &'a str, families: &BTreeMap<&str, &str>) -> Option<&'a str> {
    let whole = ["", "_bucket", "_count", "_sum"].into_iter().filter_map(|end| {
        let family = name.strip_suffix(end)?;
        let kind = families.get(family)?;
        (end.is_empty() != (*kind == "histogram")).then_some(family)
    });
    whole.into_iter().next()
}

/// The words of a text that could be a series of ours.
fn of_ours(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("broker_") || word.starts_with("process_"))
}

/// The labels of each family.
fn labels(all: &[Series], families: &BTreeMap<&str, &str>) -> BTreeMap<String, BTreeSet<String>> {
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in all {
        let family = family(&one.name, families).unwrap_or_else(|| panic!("{} has no # TYPE", one.name));
        let names = one.labels.keys().filter(|label| *label != "le").cloned();
        labels.entry(family.to_owned()).or_default().extend(names);
    }
    labels
}

#[tokio::test]
async fn the_table_of_series_is_what_a_running_broker_prints() {
    let printed = printed().await;
    let families = families(&printed);
    let labels = labels(&series(&printed), &families);

    let code = |cell: &str| cell.trim_matches('`').to_owned();
    let told: BTreeMap<_, _> = rows(section(OPERATIONS, "What the operator sees"))
        .filter(|row| row[0].starts_with("`broker_") || row[0].starts_with("`process_"))
        .map(|row| {
            let labels = row[2].split(", ").filter(|label| !label.is_empty()).map(code);
            (code(row[0]), (row[1].to_owned(), labels.collect::<BTreeSet<_>>()))
        })
        .collect();

    let is: BTreeMap<_, _> = families
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), ((*kind).to_owned(), labels[*name].clone())))
        .collect();
    assert!(is.len() > 15, "{printed}");
    assert_eq!(told, is);
}

#[tokio::test]
async fn alerts_dashboard_and_words_name_only_series_that_are_printed() {
    let printed = printed().await;
    let families = families(&printed);
    let labels = labels(&series(&printed), &families);
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let shown: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(
        shown.len() > 15 && shown.iter().all(|shown| of_ours(shown).next().is_some()),
        "{shown:?}"
    );

    for name in of_ours(OPERATIONS) {
        let printed = families.contains_key(name) || family(name, &families).is_some();
        assert!(printed, "{name} is told of, and not printed");
    }
    let mut seen = 0;
    for text in [ALERTS].into_iter().chain(shown) {
        for name in of_ours(text) {
            assert!(family(name, &families).is_some(), "{name} is not printed, in {text}");
            seen += 1;
        }
        // What stands between braces after a name is asked of its labels.
        for (before, asked) in text.match_indices('{').map(|(at, _)| text.split_at(at)) {
            let Some(name) = of_ours(before).last().filter(|name| before.ends_with(name)) else {
                continue;
            };
            let of_family = &labels[family(name, &families).unwrap()];
            let asked = asked[1..].split('}').next().unwrap();
            for label in asked.split(',').filter_map(|one| one.split(['=', '!']).next()) {
                let known = ["instance", "job"].contains(&label) || of_family.contains(label);
                assert!(known, "{name} has no label {label}, in {text}");
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn every_alert_names_its_remedy_and_has_its_words() {
    let alerts: BTreeMap<_, _> = ALERTS
        .split("- alert: ")
        .skip(1)
        .map(|alert| alert.split_once('\n').unwrap())
        .collect();
    for (name, alert) in &alerts {
        for field in ["expr: ", "for: ", "severity: ", "summary: \"", "remedy: \""] {
            assert!(alert.contains(&format!(" {field}")), "{name} has no {field}");
        }
        let remedy = alert.split("remedy: \"").nth(1).unwrap();
        assert!(
            remedy.split('"').next().unwrap().split(' ').count() > 7,
            "{name}: {remedy}"
        );
    }
    for name in alerts.keys() {
        assert!(
            TESTED.contains(&format!("alertname=\"{name}\"")),
            "{name} is not held to a bad day in tests/operations/alerts.yml"
        );
    }
    let words = section(OPERATIONS, "What each alert means");
    let told: Vec<_> = words
        .split("\n**")
        .skip(1)
        .map(|told| told.split(".**").next().unwrap())
        .collect();
    let mut sorted = told.clone();
    sorted.sort_unstable();
    assert!(alerts.len() > 10);
    assert_eq!(sorted, alerts.keys().copied().collect::<Vec<_>>());
}

/// The keys that `broker.toml` may have: the parser names them to whoever takes another.
fn keys_of_the_file() -> BTreeSet<String> {
    let error = toml::from_str::<Settings>("no_such_key = 1").unwrap_err().to_string();
    let expected = error.split("expected one of").nth(1).unwrap();
    let keys: BTreeSet<_> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(keys.len() > 20, "{error}");
    keys
}

#[test]
fn the_table_of_settings_is_what_the_broker_takes() {
    let mut keys = keys_of_the_file();
    let command = broker::cli::command();
    let code = |text: String| format!("`{text}`");
    let none = || "–".to_owned();
    let mut rows = Vec::new();
    for setting in command.get_arguments().filter(|setting| setting.get_env().is_some()) {
        let help = setting.get_help().unwrap().to_string();
        let (meaning, default) = if let Some((meaning, default)) = help.split_once(" [default: ") {
            (meaning.to_owned(), default.trim_end_matches(']').to_owned())
        } else {
            let values = setting.get_default_values();
            let value = values.first().map(|value| value.to_string_lossy().into_owned());
            (help, value.unwrap_or_else(none))
        };
        let key = keys.take(setting.get_id().as_str());
        rows.push(format!(
            "| {} | {} | {} | {} | {} |",
            code(format!("--{}", setting.get_long().unwrap())),
            code(setting.get_env().unwrap().to_string_lossy().into_owned()),
            key.map_or_else(none, code),
            default,
            meaning.replace('|', "\\|")
        ));
    }
    let section = section(OPERATIONS, "Settings");
    let told: Vec<_> = section.lines().filter(|line| line.starts_with("| `--")).collect();
    assert_eq!(told, rows, "the table should be\n{}", rows.join("\n"));

    // What only the file can say.
    let told: BTreeSet<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| – | – | `"))
        .map(|rest| rest.split('`').next().unwrap().to_owned())
        .collect();
    assert_eq!(told, keys);
}
