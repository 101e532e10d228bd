//! What `/metrics` prints, read by other code than printed it.

use std::collections::BTreeMap;

/// One line of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it is at, a number.
    pub value: String,
}

/// Every series of a text in Prometheus's format; fails the test where a line is none.
pub fn series(text: &str) -> Vec<Series> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
            let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
                let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
                (name.to_owned(), value.trim_matches('"').to_owned())
            });
            Series {
                name: name.to_owned(),
                labels: labels.collect(),
                value: value.to_owned(),
            }
        })
        .collect()
}
