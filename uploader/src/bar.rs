//! A file's bar, as wide as the terminal allows.

use console::{Term, measure_text_width};
use indicatif::{ProgressBar, ProgressStyle};

use crate::screen::hidden;

/// On a narrower terminal there is no room for a bar beside name and numbers.
const LEAST_FOR_BAR: usize = 64;
/// Columns for bytes and the time that is left, and the spaces between.
const NUMBERS: usize = 30;

/// A bar that is not drawn yet; of what has no size, a count of bytes.
pub(crate) fn bar(size: Option<u64>) -> ProgressBar {
    let template = match size {
        None => "{spinner} {msg} {bytes} {binary_bytes_per_sec} {elapsed}",
        Some(_) if columns() < LEAST_FOR_BAR => "{msg} {bytes}/{total_bytes} {eta}",
        Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    hidden(size).with_style(style)
}

/// What stands beside it: the file's name, of which the end is kept where not all fits, and what is being done with it.
pub(crate) fn message(file: &str, doing: Option<&str>) -> String {
    let doing = doing.map(|doing| format!(" ({doing})")).unwrap_or_default();
    let columns = columns();
    let room = if columns < LEAST_FOR_BAR {
        columns.saturating_sub(NUMBERS)
    } else {
        columns / 3
    };
    let room = room.saturating_sub(measure_text_width(&doing));
    shortened(file, room) + &doing
}

fn columns() -> usize {
    Term::stderr().size().1.into()
}

/// The end of the text, if all of it is wider than `room`.
fn shortened(text: &str, room: usize) -> String {
    let mut rest = text;
    let mut cut = "";
    while measure_text_width(rest) + measure_text_width(cut) > room {
        let mut characters = rest.chars();
        if characters.next().is_none() {
            break;
        }
        (rest, cut) = (characters.as_str(), "…");
    }
    format!("{cut}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_name_the_end_is_kept() {
        for (room, expected) in [
            (20, "photos/2026/1.jpg"),
            (17, "photos/2026/1.jpg"),
            (8, "…6/1.jpg"),
            (0, "…"),
        ] {
            assert_eq!(shortened("photos/2026/1.jpg", room), expected);
        }
        assert_eq!(shortened("写真.jpg", 7), "…真.jpg");
    }
}
