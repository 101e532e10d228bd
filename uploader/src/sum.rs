//! What came of all files, in numbers and in words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use uploader::Uploaded;

use crate::screen::{at_rate, visible};

/// What came of all files.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sum {
    /// Files that became objects.
    pub(crate) files: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
    /// Bytes that this run sent.
    pub(crate) sent_bytes: u64,
    /// Bytes that an earlier run had sent.
    pub(crate) kept_bytes: u64,
    /// Files that were at the store already.
    pub(crate) unchanged: u64,
    /// Files, and directories, that failed.
    pub(crate) failed: u64,
    /// What was left out.
    #[serde(rename = "skipped")]
    pub(crate) left_out: LeftOut,
    /// Files given up, or not begun, because nothing could be sent any more; there may be more of them than are known.
    pub(crate) untried: u64,
}

/// What was left out, by what it is: how often, and the first of it. As JSON just how much of it all.
#[derive(Debug, Default)]
pub(crate) struct LeftOut(BTreeMap<&'static str, (u64, PathBuf)>);

impl Sum {
    pub(crate) fn add(&mut self, uploaded: &Uploaded) {
        self.files += 1;
        self.bytes += uploaded.object.size;
        self.sent_bytes += uploaded.sent_bytes;
        self.kept_bytes += uploaded.kept_bytes;
    }

    /// In words, and below them what was left out.
    pub(crate) fn told(&self, elapsed: Duration) -> String {
        let mut told = vec![if self.files + self.unchanged + self.failed == 0 {
            "no file was found to send".to_owned()
        } else {
            let files = if self.files == 1 { "file" } else { "files" };
            let (bytes, in_time) = (HumanBytes(self.bytes), at_rate(self.sent_bytes, elapsed));
            format!("{} {files}, {bytes} in {in_time}", HumanCount(self.files))
        }];
        if self.kept_bytes > 0 {
            told.push(format!("{} sent by an earlier run", HumanBytes(self.kept_bytes)));
        }
        for (count, what) in [
            (self.unchanged, "unchanged"),
            (self.left_out.count(), "left out"),
            (self.failed, "FAILED"),
            (self.untried, "not tried"),
        ] {
            if count > 0 {
                told.push(format!("{} {what}", HumanCount(count)));
            }
        }
        format!("{}\n{}", told.join("; "), self.left_out.told())
    }
}

impl LeftOut {
    pub(crate) fn add(&mut self, path: &Path, what: &'static str) {
        self.0.entry(what).or_insert_with(|| (0, path.to_owned())).0 += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.values().map(|(count, _)| count).sum()
    }

    /// A line for each kind of it.
    pub(crate) fn told(&self) -> String {
        let line = |(what, (count, first)): (&&str, &(u64, PathBuf))| {
            let first = visible(&first.display().to_string());
            match count {
                1 => format!("  left out: {what}: {first}\n"),
                _ => format!("  left out: {what}, {} times, such as {first}\n", HumanCount(*count)),
            }
        };
        self.0.iter().map(line).collect()
    }
}

impl Serialize for LeftOut {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_says_what_was_left_out_and_where() {
        let mut sum = Sum::default();
        let told = |sum: &Sum| sum.told(Duration::ZERO);
        assert_eq!(told(&sum), "no file was found to send\n");
        for path in ["a/link", "b/link"] {
            sum.left_out.add(Path::new(path), "a symbolic link");
        }
        sum.left_out.add(Path::new("/proc"), "a pseudo file system (proc)");
        (sum.files, sum.bytes, sum.failed) = (1, 5, 1);
        assert_eq!(
            told(&sum),
            "1 file, 5 B in 0.00 s; 3 left out; 1 FAILED\n  left out: a pseudo file system (proc): /proc\n  left out: a symbolic link, \
             2 times, such as a/link\n"
        );
        assert_eq!(serde_json::json!(sum)["skipped"], 3);
    }
}
